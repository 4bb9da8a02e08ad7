"""Idempotency keys: a repeated request gets the same response."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stripe_alloy.emulator.store import Store

KEPT_FOR = DAY  # docs.stripe.com/api/idempotent_requests: "at least 24 hours"
MAX_LENGTH = 255


class Stored(NamedTuple):
    """A stored response."""

    status: int
    body: bytes
    request_id: str


class Answers:
    """The stored responses by key, and the keys of requests in progress."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._running: set[tuple[str, str]] = set()

    @contextmanager
    def reserve(self, account: str, key: str) -> Iterator[None]:
        """Reserve a key for one request at a time."""
        if len(key) > MAX_LENGTH:
            raise ApiError(400, f"Idempotency keys can have up to {MAX_LENGTH} characters.")
        with self._lock:
            if (account, key) in self._running:
                raise ApiError(
                    409,
                    "There is currently another in-progress request using this Idempotent Key "
                    f"(that probably means you submitted twice, and the other request is still "
                    f"going through): {key}",
                    kind="idempotency_error",
                    code="idempotency_key_in_use",
                    headers={"Stripe-Should-Retry": "true"},
                )
            self._running.add((account, key))
        try:
            yield
        finally:
            with self._lock:
                self._running.discard((account, key))

    def recall(self, account: str, key: str, request_digest: str, now: float) -> Stored | None:
        """Return the response of a key younger than a day; other parameters are an error."""
        rows = self._store.execute(
            "SELECT digest, status, body, request_id FROM answers "
            "WHERE account = ? AND key = ? AND created > ?",
            account,
            key,
            now - KEPT_FOR,
        )
        if not rows:
            return None
        digest, status, body, request_id = rows[0]
        if digest != request_digest:
            raise ApiError(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. Try using a key other than '{key}' if you meant to execute a "
                "different request.",
                kind="idempotency_error",
            )
        return Stored(status, body, request_id)

    def remember(
        self, account: str, key: str, request_digest: str, stored: Stored, now: float
    ) -> None:
        """Store the response."""
        self._store.execute(
            "INSERT OR REPLACE INTO answers (account, key, digest, status, body, request_id, "
            "created) VALUES (?, ?, ?, ?, ?, ?, ?)",
            account,
            key,
            request_digest,
            *stored,
            now,
        )


def digest(method: str, path: str, fields: list[tuple[str, str]]) -> str:
    """Return a digest that is equal for repeated requests."""
    text = repr((method, path, sorted(fields)))
    return hashlib.sha256(text.encode()).hexdigest()
