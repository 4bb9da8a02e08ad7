# Tap, target, Airbyte source, receiver and tools in one image. In the project's folder:
#   docker build -t stripe-alloy .                                  the commands
#   docker build -t source-stripe-alloy --target airbyte .          a source for Airbyte
#   docker build -t stripe-alloy-listen --target listen .           the receiver of webhooks
# Configuration, states, journal and inbox belong on a volume at /data.
# The digest is what the tag python:3.13-slim named in September 2026; renew both together.
FROM docker.io/library/python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS stripe-alloy
WORKDIR /app
COPY locks/image.txt ./
RUN pip install --no-cache-dir --require-hashes -r image.txt
COPY pyproject.toml README.md LICENSE ./
COPY source_stripe_alloy source_stripe_alloy
COPY stripe_alloy stripe_alloy
COPY stripe_alloy_cli stripe_alloy_cli
COPY tap_stripe_alloy tap_stripe_alloy
COPY target_stripe_alloy target_stripe_alloy
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
RUN useradd --create-home --uid 10001 alloy && mkdir /data && chown alloy /data
USER 10001
WORKDIR /data
VOLUME /data

FROM stripe-alloy AS airbyte
ENV AIRBYTE_ENTRYPOINT="source-stripe-alloy"
ENTRYPOINT ["source-stripe-alloy"]

FROM stripe-alloy AS listen
EXPOSE 8042
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8042/healthz')"]
ENTRYPOINT ["stripe-alloy", "listen", "--host", "0.0.0.0", "--config", "/data/config.json", "--secret-file", "/data/secrets"]

FROM stripe-alloy
CMD ["stripe-alloy", "--help"]
