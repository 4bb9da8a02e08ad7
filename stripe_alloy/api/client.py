"""HTTP client for Stripe: authentication, versions, rate limits, retries, typed errors."""

from __future__ import annotations

import contextlib
import email.utils
import logging
import os
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from stripe_alloy.api import errors
from stripe_alloy.api import lenient_json as lenient
from stripe_alloy.api.deadlines import Watch
from stripe_alloy.api.errors import ErrorDetails, StripeError
from stripe_alloy.api.rate_limiter import RateLimiter
from stripe_alloy.api.responses import Expected, OnePage, Trail
from stripe_alloy.api.timestamps import DAY

_logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
"""Maximum number of attempts per request, the first one included."""
BASE_DELAY = 0.5
"""Initial upper bound of the retry delay in seconds; it doubles (full jitter)."""
MAX_DELAY = 16.0
MAX_ELAPSED = 180.0
"""Seconds after which no further attempt of a request starts."""
TIMEOUT = Timeout(connect=10.0, read=80.0)
"""Seconds to connect, and without a byte; Stripe's own libraries wait 80."""
ANSWER_TIMEOUT = 100.0
"""Seconds until a response must be complete, however slowly its bytes arrive."""

STOP_POLL_INTERVAL = 0.1
"""Seconds between checks of the waiting main thread whether it is to stop."""

PAGE_SIZE = 100
"""Objects per page; Stripe's maximum: docs.stripe.com/api/pagination."""

LOCK_TIMEOUT = "lock_timeout"
"""Code of a 429 that is not about the rate: two requests met on one object."""

ACCOUNT_INVALID = "account_invalid"

CLOCK_AHEAD = DAY
"""Seconds that Stripe's clock may be ahead of ours before a second response must confirm it.

A smaller value only makes bookmarks lag.
"""
CLOCK_PATH = "/v1/account"
"""Path that is requested to read Stripe's clock; an error response has the time too."""
PREVIEW_PATH = "/v1/invoices/create_preview"
"""Path where Stripe computes an invoice without creating one: a POST that only reads."""

_ID = re.compile(r"^(/v1/(?:test_helpers/\w+|(?!test_helpers/)\w+)/)[^/]+")
"""The part of a path before an ID, and the ID."""

Params = Sequence[tuple[str, str]]
"""Form or query parameters, as sent: `[("expand[]", "data.customer")]`."""


Decode = Callable[[bytes], Any]
"""Parses a body; if it raises `msgspec.ValidationError`, the body becomes a dict."""


@dataclass(frozen=True)
class Response:
    """A 2xx response."""

    body: Any
    """A dict, or the result of the caller's `decode`."""
    request_id: str | None
    sent_at: float
    """Unix seconds on Stripe's clock: no later than the time when Stripe read the data."""
    safe_at: float
    """The same, or the local clock if only one response says that it is behind."""
    seconds: float
    """Duration of the request, without rate-limit waits."""
    replayed: bool = False
    """Whether Stripe replayed the response to an earlier request with this idempotency key."""
    tries: int = 1
    """Number of attempts; a second one may be answered with the effect of the first."""


@dataclass(frozen=True)
class _ApiCall:
    """A request and its expected response."""

    method: str
    path: str
    params: Params | str
    account: str | None
    decode: Decode | None
    expected: Expected | None


def endpoint_of(method: str, path: str) -> str:
    """Return the operation that shares a rate limit, whatever the IDs.

    >>> endpoint_of("GET", "/v1/invoices/in_1/lines")
    'GET /v1/invoices/:id/lines'
    """
    return f"{method} {path}" if path == PREVIEW_PATH else method + " " + _ID.sub(r"\1:id", path)


def _bundle(verify: bool | str | None) -> bool | str | None:
    """Return the certificate authorities to trust: a path, or the library's own.

    Requests reads REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE; SSL_CERT_FILE and SSL_CERT_DIR are those
    of OpenSSL and most other programs. Raises `OSError` if the path does not exist.
    """
    if verify is True:
        verify = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or True
    if isinstance(verify, str) and not Path(verify).exists():
        raise OSError(
            f"no certificates at {verify!r}, which REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, "
            "SSL_CERT_FILE or SSL_CERT_DIR names"
        )
    return verify


class _ConnectionPool:
    """Connections to one host.

    Requests resolves the environment's proxies and certificates once. Its pool is then used
    directly, which halves the time of a request.
    """

    def __init__(self, api_url: str, headers: Mapping[str, str], max_concurrency: int) -> None:
        self._headers = dict(headers)
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max_concurrency)
        with requests.Session() as session:
            found = session.merge_environment_settings(api_url, {}, None, None, None)
        try:
            sample = requests.Request("GET", api_url).prepare()
            pool: Any = self._adapter.get_connection_with_tls_context(
                sample, _bundle(found["verify"]), proxies=found["proxies"], cert=found["cert"]
            )
        except ValueError:  # InvalidURL and MissingSchema are some
            raise errors.SettingsError("`api_url` is not a valid URL") from None
        except OSError as error:  # such as a bundle of certificates that is not there
            why = error.strerror or str(error)
            raise errors.SettingsError(f"No connection to `api_url`: {why}") from None
        self._watch = Watch(ANSWER_TIMEOUT)
        pool.ConnectionCls = self._watch.over(pool.ConnectionCls)
        self._pool = pool
        # A proxy of plain HTTP wants the whole URL.
        proxied = self._adapter.request_url(sample, found["proxies"]).startswith("http")
        self._prefix = api_url if proxied else urlsplit(api_url).path

    def send(
        self, method: str, path: str, params: Params | str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        """Send a request and read the complete response; raises urllib3's `HTTPError`."""
        form = params if isinstance(params, str) else urlencode(params)
        target, body = self._prefix + path, None
        headers = {**self._headers, **headers}
        if method == "POST":
            body = form
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif form:
            target = f"{target}?{form}"
        try:
            response: BaseHTTPResponse = self._pool.urlopen(
                method,
                target,
                body,
                headers,
                retries=False,
                redirect=False,  # the key must not travel to another host
                assert_same_host=False,  # which that of a proxy is not
                timeout=TIMEOUT,
            )
        except HTTPError:
            self._end()
            raise
        self._end()
        return response

    def _end(self) -> None:
        """End a request; raises `HTTPError` if its response was not complete in time."""
        if self._watch.ended():
            raise HTTPError(f"no complete response within {ANSWER_TIMEOUT:g} s")

    def close(self) -> None:
        """Close the connections."""
        self._watch.close()
        self._adapter.close()


class StripeClient:
    """Sends requests; thread-safe.

    With `read_only`, it refuses everything except GET requests and previews of invoices before
    anything is sent.
    """

    def __init__(
        self,
        *,
        api_key: str,
        api_url: str,
        api_version: str,
        budget: RateLimiter,
        max_concurrency: int,
        read_only: bool = False,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self.budget = budget
        self.requests_sent: Counter[str] = Counter()
        """Number of requests by endpoint, retries included."""
        self.rate_limited = 0
        self._read_only = read_only
        self._lock = threading.Lock()
        self._skew: float | None = None
        self._dates = 0
        self._passed = 0.0
        self.answered_at = 0.0
        """Stripe's time of the latest response (Unix seconds); 0 before the first."""
        self._closed = threading.Event()
        self._sleep = sleep or self._wait_unless_closed
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_retry),
            wait=_wait,
            stop=tenacity.stop_after_attempt(MAX_ATTEMPTS)
            | tenacity.stop_before_delay(MAX_ELAPSED)
            | tenacity.stop_when_event_set(self._closed),
            sleep=self._sleep,
            before_sleep=_log_retry,
            reraise=True,
        )
        headers = {
            "Accept-Encoding": "gzip, deflate",
            "Authorization": f"Bearer {api_key}",
            "Stripe-Version": api_version,
            "User-Agent": "stripe-alloy",
        }
        self._connections = _ConnectionPool(self.api_url, headers, max_concurrency)

    def stop(self) -> None:
        """Abandon waiting retries, and requests of the main thread."""
        self._closed.set()

    def close(self) -> None:
        """Close the connections; waiting retries are abandoned."""
        self.stop()
        self._connections.close()

    def _wait_unless_closed(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def now(self) -> float:
        """Return Unix seconds on Stripe's clock; the local clock until the first response."""
        return time.time() + (self._skew or 0.0)

    def note_passed(self, at: float) -> None:
        """Note a time that Stripe's clock has passed (Unix seconds).

        If the local clock has not passed it, it is behind, and Stripe's responses are trusted from
        the first one on.
        """
        self._passed = max(self._passed, at)

    def get(
        self,
        path: str,
        params: Params = (),
        *,
        account: str | None = None,
        decode: Decode | None = None,
        expected: Expected | None = None,
    ) -> Response:
        """GET `path`; raises `StripeError` if it fails or the response is not `expected`."""
        return self.request("GET", path, params, account=account, decode=decode, expected=expected)

    def paginate(
        self, path: str, params: Params = (), *, account: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list, page by page."""
        after: list[tuple[str, str]] = []
        trail = Trail()
        while True:
            page_params = [*params, ("limit", str(PAGE_SIZE)), *after]
            expected = OnePage(after[0][1] if after else None, trail)
            page = self.get(path, page_params, account=account, expected=expected).body
            yield from page["data"]
            if not page["has_more"]:
                return
            after = [("starting_after", page["data"][-1]["id"])]

    def request(
        self,
        method: str,
        path: str,
        params: Params | str = (),
        *,
        account: str | None = None,
        idempotency_key: str | None = None,
        decode: Decode | None = None,
        expected: Expected | None = None,
    ) -> Response:
        """Send with retries; `params` given as a string are sent verbatim.

        A POST is retried only with an `idempotency_key`, because otherwise it would be unknown
        whether the first attempt had worked. A preview changes nothing and is retried. Raises
        `StripeError`.
        """
        preview = (method, path) == ("POST", PREVIEW_PATH)
        if self._read_only and method != "GET" and not preview:
            raise errors.SettingsError(f"{method} {path} refused: this run only reads")
        call = _ApiCall(method, path, params, account, decode, expected)
        headers = {"Stripe-Account": account} if account else {}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        if method == "POST" and not idempotency_key and not preview:
            return self._send(call, headers)
        if self._read_only and threading.current_thread() is threading.main_thread():
            return self._beside(lambda: self._retry(call, headers))
        return self._retry(call, headers)

    def _beside(self, send: Callable[[], Response]) -> Response:
        """Send from another thread, so that this one can react to signals."""
        outcome: SimpleQueue[Response | BaseException] = SimpleQueue()

        def run() -> None:
            try:
                outcome.put(send())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                outcome.put(error)

        threading.Thread(target=run, name="stripe", daemon=True).start()
        while True:
            try:
                found = outcome.get(timeout=STOP_POLL_INTERVAL)
            except Empty:
                if self._closed.is_set():
                    raise errors.StripeUnavailable(ErrorDetails("The run was stopped")) from None
                continue
            if isinstance(found, BaseException):
                raise found
            return found

    def _retry(self, call: _ApiCall, headers: Mapping[str, str]) -> Response:
        tries = 0

        def send() -> Response:
            nonlocal tries
            tries += 1
            return self._send(call, headers)

        answer = self._retrying(send)
        return answer if tries == 1 else replace(answer, tries=tries)

    def _send(self, call: _ApiCall, headers: Mapping[str, str]) -> Response:
        try:
            return self._send_once(call, headers)
        except StripeError as error:
            error.failure = replace(error.failure, operation=f"{call.method} {call.path}")
            raise

    def _send_once(self, call: _ApiCall, headers: Mapping[str, str]) -> Response:
        account, endpoint = call.account, endpoint_of(call.method, call.path)
        wait = self.budget.reserve(account, endpoint, time.monotonic())
        if wait > 0:
            self._sleep(wait)
        if self._closed.is_set():
            raise errors.StripeUnavailable(ErrorDetails("The run was stopped"))
        with self._lock:
            self.requests_sent[endpoint] += 1
        sent_at = time.time()
        response = self._exchange(call.method, call.path, call.params, headers)
        received_at = time.time()
        self._read_clock(response, received_at)  # error responses have the time, too
        try:
            body = self._read(response, call)
        except errors.RateLimited as error:
            self._slow_down(account, endpoint, error.failure)
            raise
        except errors.NotFoundError as error:
            if call.expected and not call.expected.denies(error.failure):
                what = f"answered 404 without Stripe's `resource_missing`: {error.failure.message}"
                raise self._broken(response, what) from None
            raise
        request_id = response.headers.get("Request-Id")
        skew = self._skew or 0.0
        behind = self._dates > 1 or self._passed > received_at
        return Response(
            body,
            request_id,
            sent_at=sent_at + skew,
            safe_at=sent_at + (skew if behind else min(0.0, skew)),
            seconds=received_at - sent_at,
            replayed=_replayed(response),
        )

    def _exchange(
        self, method: str, path: str, params: Params | str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        try:
            return self._connections.send(method, path, params, headers)
        except HTTPError as error:
            if _distrusts_certificate(error):
                raise errors.SettingsError(
                    _CERTIFICATE.format(self.api_url, _reason(error))
                ) from None
            failure = ErrorDetails(f"No response from {self.api_url}: {_reason(error)}")
            raise errors.StripeUnavailable(failure, retry=True) from None
        except OSError as error:
            raise errors.SettingsError(f"No connection to {self.api_url}: {error}") from None

    def _read(self, response: BaseHTTPResponse, call: _ApiCall) -> Any:
        body = self._parse(response, call.decode)
        problem = call.expected.problem(body) if call.expected else None
        if problem:
            raise self._broken(response, f"answered with {problem}")
        return body

    def _parse(self, response: BaseHTTPResponse, decode: Decode | None) -> Any:
        good = response.status < HTTPStatus.MULTIPLE_CHOICES
        if decode and good:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                return decode(response.data)
        body = _parsed(response.data)
        if good and body and isinstance(body.get("object"), str):
            return body
        raise _error(response, None if good else body, self.api_url)

    def _broken(self, response: BaseHTTPResponse, what: str) -> StripeError:
        """Return the error for a response that is not what was requested; it can be retried."""
        failure = ErrorDetails(
            f"{self.api_url} {what}",
            status=response.status,
            request_id=response.headers.get("Request-Id"),
        )
        return errors.StripeUnavailable(failure, retry=not _replayed(response))

    def _slow_down(self, account: str | None, endpoint: str, failure: ErrorDetails) -> None:
        with self._lock:
            self.rate_limited += 1
        if failure.code != LOCK_TIMEOUT:
            self.budget.slow_down(account, endpoint, failure.reason, time.monotonic())

    def timed(self, answer: Response) -> Response:
        """Read the time from a second response if the first one puts our clock behind by days."""
        if answer.sent_at - answer.safe_at <= CLOCK_AHEAD:
            return answer
        sent_at = answer.sent_at - (self._skew or 0.0)
        with contextlib.suppress(StripeError):
            self.get(CLOCK_PATH)
        if self._dates < 2:
            return answer
        skew = self._skew or 0.0
        return replace(answer, sent_at=sent_at + skew, safe_at=sent_at + skew)

    def _read_clock(self, response: BaseHTTPResponse, received_at: float) -> None:
        date = response.headers.get("Date")
        if not date:
            return
        try:
            at = email.utils.parsedate_to_datetime(date).timestamp()
            skew = at - received_at
        except (ValueError, OverflowError):
            _logger.debug("No date: %r", date)
            return
        with self._lock:  # one answer may be wrong: of several the earliest counts
            self._skew = skew if self._skew is None else min(skew, self._skew)
            self._dates += 1
            self.answered_at = at


_CERTIFICATE = (
    "The certificate of {} is not trusted: {}. Where a proxy of your network puts its own in its "
    "place, name a file with that proxy's certificate authority in REQUESTS_CA_BUNDLE or "
    "SSL_CERT_FILE; where one of these is set, see that it is the right file."
)


def _distrusts_certificate(error: BaseException) -> bool:
    """Whether an untrusted certificate is the cause: a retry would not help."""
    cause: Any = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        if isinstance(cause, ssl.SSLError) and cause.library in ("X509", "PEM"):
            return True  # no certificates are in the file that is named
        inner = next((one for one in cause.args if isinstance(one, BaseException)), None)
        cause = inner or cause.__cause__ or cause.__context__
    return False


def _parsed(content: bytes) -> dict[str, Any] | None:
    body: Any
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            body = lenient.decode(content)
        except (ValueError, RecursionError):
            body = None
    return body if isinstance(body, dict) else None


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, StripeError) and error.retry


def _log_retry(state: tenacity.RetryCallState) -> None:
    """Log retries from the second failure on."""
    error = state.outcome.exception() if state.outcome else None
    if state.attempt_number > 1 and isinstance(error, StripeError):
        wait = state.upcoming_sleep
        _logger.warning("%s Try %d in %.1f s.", error.failure, state.attempt_number + 1, wait)


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the delay in seconds: full jitter, but never less than Stripe's `Retry-After`."""
    delay = tenacity.wait_random_exponential(multiplier=BASE_DELAY, max=MAX_DELAY)(state)
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.failure.retry_after if isinstance(error, StripeError) else None
    return max(delay, retry_after or 0.0)


def _reason(error: Exception) -> str:
    """Return the innermost cause, without the objects that the HTTP library adds."""
    cause: Any = error
    while getattr(cause, "args", None) and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    text = str(getattr(cause, "reason", None) or cause)
    return re.sub(r"<[^>]*>(, |: )?", "", text).strip(" (')")


def _error(response: BaseHTTPResponse, body: dict[str, Any] | None, url: str) -> StripeError:
    status = response.status
    failure = _failure(response, body, url)
    if status < HTTPStatus.BAD_REQUEST or _is_from_proxy(failure):
        kind: type[StripeError] = errors.StripeUnavailable
    elif failure.code == ACCOUNT_INVALID:
        kind = errors.AccountAccessError
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = errors.StripeUnavailable
    else:
        kind = _KINDS.get(status, errors.InvalidRequestError)
    return kind(failure, retry=_retry(response, body, failure))


_KINDS: Mapping[int, type[StripeError]] = {
    401: errors.AuthenticationError,
    403: errors.MissingPermissionError,
    404: errors.NotFoundError,
    409: errors.ConcurrentRequestError,
    429: errors.RateLimited,
}


_DENIALS = frozenset({403, 404})
"""Statuses that say something about the account, so they must come from Stripe."""


def _replayed(response: BaseHTTPResponse) -> bool:
    return response.headers.get("Idempotent-Replayed") == "true"


def _is_from_proxy(failure: ErrorDetails) -> bool:
    """Whether a proxy denied the request in Stripe's place, such as an empty 404."""
    return failure.status in _DENIALS and not failure.stripes_own


def _retry(response: BaseHTTPResponse, body: dict[str, Any] | None, failure: ErrorDetails) -> bool:
    """Whether to retry: as `Stripe-Should-Retry` says, otherwise after transient failures."""
    if _replayed(response):
        return False  # the same key gets the same response for a day
    should_retry = response.headers.get("Stripe-Should-Retry")
    if should_retry in ("true", "false"):
        return should_retry == "true"
    status = response.status
    broken = status < HTTPStatus.MULTIPLE_CHOICES and body is None
    broken = broken or _is_from_proxy(failure)
    return broken or status in (409, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _failure(response: BaseHTTPResponse, body: dict[str, Any] | None, url: str) -> ErrorDetails:
    error = (body or {}).get("error")
    if not isinstance(error, dict):
        error = {}
    return ErrorDetails(
        message=str(error.get("message") or _unexplained(response, body, url)),
        status=response.status,
        type=_text(error.get("type")),
        code=_text(error.get("code")),
        param=_text(error.get("param")),
        request_id=response.headers.get("Request-Id"),
        retry_after=_seconds(response.headers.get("Retry-After")),
        reason=response.headers.get("Stripe-Rate-Limited-Reason"),
        replayed=_replayed(response),
    )


def _unexplained(response: BaseHTTPResponse, body: dict[str, Any] | None, url: str) -> str:
    what = "not an object from Stripe" if body is None else "not an error from Stripe"
    return f"{url} answered {response.status} with {what}."


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(text: str | None) -> float | None:
    try:
        return min(float(text), MAX_ELAPSED) if text else None
    except ValueError:
        return None
