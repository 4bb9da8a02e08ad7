"""Requests as values: a reader yields requests and receives responses.

A reader is a generator. It yields a `GetRequest`, or several readers in a `Gather`; a `StripeError`
is raised at the `yield`. `run` sends one request after the other; the tap's scheduler sends many
concurrently.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from stripe_alloy.api.client import Decode, Params, Response, StripeClient
from stripe_alloy.api.errors import AccountAccessError, InvalidRequestError, StripeError
from stripe_alloy.api.responses import OneObject, OnePage, Trail

T = TypeVar("T")


@dataclass(frozen=True)
class GetRequest:
    """A GET request for a page of a list or for one object."""

    path: str
    params: Params = ()
    account: str | None = None
    """Connected account to read; None for the key's own."""
    decode: Decode | None = None
    of: OneObject | None = None
    """The requested object; None for a page of a list."""
    trail: Trail | None = None
    """The cursors of the list so far."""
    streams: Sequence[str] = ()
    """Streams that the request is for; its errors name them."""
    some_lack_ids: bool = False
    """Whether objects without an ID are reported and skipped instead of failing the page."""
    all_lack_ids: bool = False
    """Whether even pages without a single ID are accepted: a short list may have no other entry."""
    timed: bool = False
    """Whether bookmarks depend on the time of the response."""

    def send(self, transport: StripeClient) -> Response:
        """Send it; raises `StripeError`, which names the streams, the object and the account."""
        try:
            answer = transport.get(
                self.path,
                self.params,
                account=self.account,
                decode=self.decode,
                expected=self.of or self._page(),
            )
        except AccountAccessError as error:
            of_object = self.account is None and self.path.startswith("/v1/accounts/")
            refused = InvalidRequestError(error.failure) if of_object else error
            refused.about = self._about() if self.streams else None
            raise refused from None
        except StripeError as error:
            error.about = self._about() if self.streams else None
            raise
        return transport.timed(answer) if self.timed else answer

    def _about(self) -> str:
        """Return the streams, the object and the account for a message."""
        found = [f"Stream{'s' if len(self.streams) > 1 else ''} {', '.join(self.streams)}"]
        if self.of:
            found.append(f"{self.of.object} {self.of.id!r}")
        if self.account:
            found.append(f"account {self.account}")
        return ", ".join(found)

    def _page(self) -> OnePage:
        after = next((value for name, value in self.params if name == "starting_after"), None)
        return OnePage(after, self.trail or Trail(), self.some_lack_ids, self.all_lack_ids)


@dataclass(frozen=True)
class Gather:
    """Readers to run concurrently; their results are returned in this order."""

    readers: Sequence[Generator[Any, Any, Any]]


Reader = Generator[GetRequest | Gather, Any, T]


def run(reader: Reader[T], send: Callable[[GetRequest], Response]) -> T:
    """Run a reader with one request after the other and return its result."""
    outcome: Any = None
    while True:
        try:
            if isinstance(outcome, StripeError):
                wanted = reader.throw(outcome)
            else:
                wanted = reader.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            if isinstance(wanted, Gather):
                outcome = [run(part, send) for part in wanted.readers]
            else:
                outcome = send(wanted)
        except StripeError as error:
            outcome = error
