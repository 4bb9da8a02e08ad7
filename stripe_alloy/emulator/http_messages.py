"""HTTP requests and responses, and the log of requests."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from urllib.parse import parse_qs

LOG_SIZE = 200_000


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request; header names in lower case."""

    method: str
    path: str  # as it was sent, percent-encoded
    query: str
    headers: dict[str, str]
    body: bytes
    peer: str = "127.0.0.1"  # the other side's address

    @property
    def form(self) -> str:
        """Return the form-encoded parameters of the query and the body."""
        return "&".join(part for part in (self.query, self.body.decode(errors="replace")) if part)

    @property
    def key(self) -> str | None:
        """Return the API key: a bearer token, or the user of basic authentication."""
        scheme, _, rest = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return rest.strip()
        if scheme.lower() != "basic":
            return None
        try:
            return b64decode(rest).decode().partition(":")[0]
        except (NotBase64, UnicodeDecodeError):
            return None


@dataclass
class HttpResponse:
    """An HTTP response; `cut` is the part of it that is withheld."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut: str = ""  # "all": the connection closes; "half": it closes within the body


@dataclass(frozen=True)
class Request:
    """A request in the log."""

    method: str
    path: str
    params: dict[str, list[str]]
    account: str | None
    status: int
    stripe_version: str | None
    idempotency_key: str | None
    request_id: str


class RequestLog:
    """The answered requests, oldest first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: deque[Request] = deque(maxlen=LOG_SIZE)

    def add(self, incoming: HttpRequest, status: int, request_id: str) -> None:
        """Log a request; status 0 means that the connection was closed."""
        headers = incoming.headers
        params = parse_qs(incoming.form, keep_blank_values=True)
        noted = Request(
            incoming.method,
            incoming.path,
            params,
            headers.get("stripe-account"),
            status,
            headers.get("stripe-version"),
            headers.get("idempotency-key"),
            request_id,
        )
        with self._lock:
            self._requests.append(noted)

    def all(self) -> list[Request]:
        """Return a copy of the log."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Clear the log."""
        with self._lock:
            self._requests.clear()
