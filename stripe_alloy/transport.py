"""One HTTP session with Stripe: key, version, account, budget, retries, typed errors."""

from __future__ import annotations

import contextlib
import email.utils
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
import tenacity
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError

from stripe_alloy import errors, lenient
from stripe_alloy.errors import Failure, StripeError
from stripe_alloy.limits import Budget

_logger = logging.getLogger(__name__)

ATTEMPTS = 8
"""Sends of one request, the first included."""
BASE_DELAY = 0.5
"""Seconds; the delay's upper bound doubles from here (full jitter)."""
MAX_DELAY = 16.0
PATIENCE = 180.0
"""Seconds after which no further try of one request starts."""
TIMEOUT = Timeout(connect=10.0, read=80.0)
"""Seconds to connect, and without a byte; 80 is what Stripe's own libraries wait."""

PAGE_SIZE = 100
"""Objects of a list's page, Stripe's ceiling: docs.stripe.com/api/pagination."""

LOCK_TIMEOUT = "lock_timeout"
"""The code of a 429 that says nothing of our pace: two requests met on one object."""

ACCOUNT_INVALID = "account_invalid"

PREVIEW_PATH = "/v1/invoices/create_preview"
"""Where Stripe computes an invoice without making one: a POST that only reads."""

_ID = re.compile(r"^(/v1/(?:test_helpers/\w+|(?!test_helpers/)\w+)/)[^/]+")
"""What comes before an id in a path, and the id."""

Params = Sequence[tuple[str, str]]
"""Form or query parameters, as sent: `[("expand[]", "data.customer")]`."""


Decode = Callable[[bytes], Any]
"""Parses a body its own way; where it raises msgspec.ValidationError the body becomes a dict."""


@dataclass(frozen=True)
class Answer:
    """A 2xx from Stripe."""

    body: Any
    """A dict, or what the caller's `decode` made of it."""
    request_id: str | None
    sent_at: float
    """On Stripe's clock, Unix seconds: no later than when Stripe read the data."""
    seconds: float
    """From sending to the last byte, without waiting for a turn."""
    replayed: bool = False
    """Whether Stripe gave the stored answer to an earlier request with the same idempotency key."""
    tries: int = 1
    """Sends that it took; a second one may be answered with what the first one did."""


def endpoint_of(method: str, path: str) -> str:
    """The operation that shares a rate limit, whatever the ids.

    >>> endpoint_of("GET", "/v1/invoices/in_1/lines")
    'GET /v1/invoices/:id/lines'
    """
    return f"{method} {path}" if path == PREVIEW_PATH else method + " " + _ID.sub(r"\1:id", path)


class _Wire:
    """Connections to one host.

    Requests finds the proxies and certificates that the environment names, once; the pool that it
    makes of them is then used as it is, which takes half the time of a request.
    """

    def __init__(self, api_url: str, headers: Mapping[str, str], max_concurrency: int) -> None:
        self._headers = dict(headers)
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=max_concurrency)
        with requests.Session() as session:
            found = session.merge_environment_settings(api_url, {}, None, None, None)
        try:
            sample = requests.Request("GET", api_url).prepare()
            self._pool: Any = self._adapter.get_connection_with_tls_context(
                sample, found["verify"], proxies=found["proxies"], cert=found["cert"]
            )
        except ValueError:  # InvalidURL and MissingSchema are some
            raise errors.SettingsError("`api_url` is no URL that can be called") from None
        except OSError as error:  # such as a bundle of certificates that is not there
            why = error.strerror or str(error)
            raise errors.SettingsError(f"No connection to `api_url`: {why}") from None
        # A proxy of plain HTTP wants the whole URL.
        proxied = self._adapter.request_url(sample, found["proxies"]).startswith("http")
        self._prefix = api_url if proxied else urlsplit(api_url).path

    def send(
        self, method: str, path: str, params: Params | str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        """Send and read the answer whole; raises urllib3's HTTPError."""
        form = params if isinstance(params, str) else urlencode(params)
        target, body = self._prefix + path, None
        headers = {**self._headers, **headers}
        if method == "POST":
            body = form
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif form:
            target = f"{target}?{form}"
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
        return response

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()


class Transport:
    """Sends requests; safe to use from several threads.

    With `read_only` it refuses, before anything is sent, whatever is neither a GET nor the request
    for a preview of an invoice.
    """

    def __init__(
        self,
        *,
        api_key: str,
        api_url: str,
        api_version: str,
        budget: Budget,
        max_concurrency: int,
        read_only: bool = False,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self.budget = budget
        self.requests_sent: Counter[str] = Counter()
        """Requests by endpoint, retries included."""
        self.rate_limited = 0
        self._read_only = read_only
        self._lock = threading.Lock()
        self._skew = 0.0
        self._closed = threading.Event()
        self._sleep = sleep or self._wait_unless_closed
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_retry),
            wait=_wait,
            stop=tenacity.stop_after_attempt(ATTEMPTS)
            | tenacity.stop_before_delay(PATIENCE)
            | tenacity.stop_when_event_set(self._closed),
            sleep=self._sleep,
            before_sleep=_tell,
            reraise=True,
        )
        headers = {
            "Accept-Encoding": "gzip, deflate",
            "Authorization": f"Bearer {api_key}",
            "Stripe-Version": api_version,
            "User-Agent": "stripe-alloy",
        }
        self._wire = _Wire(self.api_url, headers, max_concurrency)

    def close(self) -> None:
        """Close the connections; a waiting retry gives up."""
        self._closed.set()
        self._wire.close()

    def _wait_unless_closed(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def now(self) -> float:
        """Unix seconds on Stripe's clock, as its last answer told; ours until then."""
        return time.time() + self._skew

    def get(
        self,
        path: str,
        params: Params = (),
        *,
        account: str | None = None,
        decode: Decode | None = None,
    ) -> Answer:
        """GET `path`; raises a `StripeError` when it cannot be had."""
        return self.request("GET", path, params, account=account, decode=decode)

    def walk(
        self, path: str, params: Params = (), *, account: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The objects of a list, page by page: `has_more` says whether, the last id from where."""
        after: list[tuple[str, str]] = []
        while True:
            asked = [*params, ("limit", str(PAGE_SIZE)), *after]
            page = self.get(path, asked, account=account).body
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
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
    ) -> Answer:
        """Send until answered, refused or out of patience; `params` as text goes out as it is.

        A POST is sent again only with an `idempotency_key`: without one, nobody could tell
        whether the first had worked. A preview changes nothing, and is sent again.
        """
        preview = (method, path) == ("POST", PREVIEW_PATH)
        if self._read_only and method != "GET" and not preview:
            raise errors.SettingsError(f"{method} {path} refused: this run only reads")
        headers = {"Stripe-Account": account} if account else {}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        if method == "POST" and not idempotency_key and not preview:
            return self._send(method, path, params, headers, account, decode)
        tries = 0

        def send() -> Answer:
            nonlocal tries
            tries += 1
            return self._send(method, path, params, headers, account, decode)

        answer = self._retrying(send)
        return answer if tries == 1 else replace(answer, tries=tries)

    def _send(
        self,
        method: str,
        path: str,
        params: Params | str,
        headers: Mapping[str, str],
        account: str | None,
        decode: Decode | None,
    ) -> Answer:
        endpoint = endpoint_of(method, path)
        wait = self.budget.reserve(account, endpoint, time.monotonic())
        if wait > 0:
            self._sleep(wait)
        if self._closed.is_set():
            raise errors.StripeUnavailable(Failure("The run was stopped"))
        with self._lock:
            self.requests_sent[endpoint] += 1
        sent_at = time.time()
        response = self._exchange(method, path, params, headers)
        received_at = time.time()
        self._read_clock(response, received_at)  # a refusal tells the time as well
        try:
            body = self._read(response, decode)
        except errors.RateLimited as error:
            self._slow_down(account, endpoint, error.failure)
            raise
        request_id = response.headers.get("Request-Id")
        seconds = received_at - sent_at
        return Answer(body, request_id, sent_at + self._skew, seconds, _replayed(response))

    def _exchange(
        self, method: str, path: str, params: Params | str, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        try:
            return self._wire.send(method, path, params, headers)
        except HTTPError as error:
            failure = Failure(f"No answer from {self.api_url}: {_reason(error)}")
            raise errors.StripeUnavailable(failure, retry=True) from None
        except OSError as error:
            raise errors.SettingsError(f"No connection to {self.api_url}: {error}") from None

    def _read(self, response: BaseHTTPResponse, decode: Decode | None) -> Any:
        good = response.status < HTTPStatus.MULTIPLE_CHOICES
        if decode and good:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                return decode(response.data)
        body = _parsed(response.data)
        if good and body and isinstance(body.get("object"), str):
            return body
        raise _error(response, None if good else body, self.api_url)

    def _slow_down(self, account: str | None, endpoint: str, failure: Failure) -> None:
        with self._lock:
            self.rate_limited += 1
        if failure.code != LOCK_TIMEOUT:
            self.budget.slow_down(account, endpoint, failure.reason, time.monotonic())

    def _read_clock(self, response: BaseHTTPResponse, received_at: float) -> None:
        date = response.headers.get("Date")
        if not date:
            return
        try:
            self._skew = email.utils.parsedate_to_datetime(date).timestamp() - received_at
        except ValueError:
            _logger.debug("No date: %r", date)


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


def _tell(state: tenacity.RetryCallState) -> None:
    """Say that something keeps us waiting: from the second failure on, one may pass unseen."""
    error = state.outcome.exception() if state.outcome else None
    if state.attempt_number > 1 and isinstance(error, StripeError):
        wait = state.upcoming_sleep
        _logger.warning("%s Try %d in %.1f s.", error.failure, state.attempt_number + 1, wait)


def _wait(state: tenacity.RetryCallState) -> float:
    """Full jitter, but never sooner than Stripe's `Retry-After`."""
    delay = tenacity.wait_random_exponential(multiplier=BASE_DELAY, max=MAX_DELAY)(state)
    error = state.outcome.exception() if state.outcome else None
    asked = error.failure.retry_after if isinstance(error, StripeError) else None
    return max(delay, asked or 0.0)


def _reason(error: Exception) -> str:
    """The innermost cause, without the objects that the HTTP library wraps around it."""
    cause: Any = error
    while getattr(cause, "args", None) and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    text = str(getattr(cause, "reason", None) or cause)
    return re.sub(r"<[^>]*>(, |: )?", "", text).strip(" (')")


def _error(response: BaseHTTPResponse, body: dict[str, Any] | None, url: str) -> StripeError:
    status = response.status
    failure = _failure(response, body, url)
    if status < HTTPStatus.BAD_REQUEST:
        kind: type[StripeError] = errors.StripeUnavailable
    elif failure.code == ACCOUNT_INVALID:
        kind = errors.AccountRejected
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = errors.StripeUnavailable
    else:
        kind = _KINDS.get(status, errors.RequestRefused)
    return kind(failure, retry=_retry(response, body))


_KINDS: Mapping[int, type[StripeError]] = {
    401: errors.KeyRejected,
    403: errors.PermissionMissing,
    404: errors.NotFound,
    409: errors.Conflict,
    429: errors.RateLimited,
}


def _replayed(response: BaseHTTPResponse) -> bool:
    return response.headers.get("Idempotent-Replayed") == "true"


def _retry(response: BaseHTTPResponse, body: dict[str, Any] | None) -> bool:
    """Stripe's own word first; else what a second try can mend."""
    if _replayed(response):
        return False  # the same key gets the same answer, a whole day long
    word = response.headers.get("Stripe-Should-Retry")
    if word in ("true", "false"):
        return word == "true"
    status = response.status
    broken = status < HTTPStatus.MULTIPLE_CHOICES and body is None
    return broken or status in (409, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _failure(response: BaseHTTPResponse, body: dict[str, Any] | None, url: str) -> Failure:
    error = (body or {}).get("error")
    if not isinstance(error, dict):
        error = {}
    return Failure(
        message=str(error.get("message") or _unexplained(response, body, url)),
        status=response.status,
        type=error.get("type"),
        code=error.get("code"),
        param=error.get("param"),
        request_id=response.headers.get("Request-Id"),
        retry_after=_seconds(response.headers.get("Retry-After")),
        reason=response.headers.get("Stripe-Rate-Limited-Reason"),
        replayed=_replayed(response),
    )


def _unexplained(response: BaseHTTPResponse, body: dict[str, Any] | None, url: str) -> str:
    what = "no object of Stripe's" if body is None else "no error of Stripe's"
    return f"{url} answered {response.status} with {what}."


def _seconds(text: str | None) -> float | None:
    try:
        return min(float(text), PATIENCE) if text else None
    except ValueError:
        return None
