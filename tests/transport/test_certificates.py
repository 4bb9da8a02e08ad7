"""A certificate that is not trusted: named at once, with what to set."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stripe_alloy.api import errors
from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.rate_limiter import RateLimiter

NAMES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Empty(BaseHTTPRequestHandler):
    """A list with nothing in it."""

    def do_GET(self) -> None:
        body = b'{"object": "list", "data": [], "has_more": false}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *PROXIES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with a certificate of its own, and that certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no certificate can be made here: openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with HTTPServer(("localhost", 0), Empty) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}", cert
        server.shutdown()


def get(url: str) -> None:
    client = StripeClient(
        api_key="sk_test_x",
        api_url=url,
        api_version="2026-01-01",
        budget=RateLimiter(None),
        max_concurrency=1,
        read_only=True,
    )
    try:
        client.get("/v1/charges")
    finally:
        assert client.requests_sent["GET /v1/charges"] <= 1
        client.close()


def test_a_certificate_that_is_not_trusted_is_named_at_once(secured: tuple[str, Path]) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        get(secured[0])
    for said in ("certificate", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", secured[0]):
        assert said in str(caught.value)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_bundle_that_the_environment_names_is_trusted(
    secured: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(secured[1]))
    get(secured[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_that_is_not_there_is_named(
    secured: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/nowhere/bundle.pem")
    with pytest.raises(errors.SettingsError, match=r"/nowhere/bundle\.pem"):
        get(secured[0])


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_bundle_without_certificates_is_named(
    secured: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    (tmp_path / "bundle.pem").write_text("nothing of the kind")
    monkeypatch.setenv(name, str(tmp_path / "bundle.pem"))
    with pytest.raises(errors.SettingsError):
        get(secured[0])
