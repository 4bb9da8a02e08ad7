"""Completes lists inside objects: Stripe gives the first ten entries and where the rest is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stripe_alloy.errors import NotFound, StripeError
from stripe_alloy.transport import Answer
from tap_stripe_alloy.backfill import PAGE_SIZE
from tap_stripe_alloy.fetch import Get, Step
from tap_stripe_alloy.lists import cut_short
from tap_stripe_alloy.records import Object


class Completion:
    """Fills up the lists of some objects, then goes on with what was to be done with them.

    `then` gets the objects that still exist: one that was deleted meanwhile is left out, its
    deletion comes with the events.
    """

    def __init__(
        self,
        objects: Sequence[Object],
        *,
        nested: Sequence[tuple[str, ...]],
        expand: Sequence[str],
        account: str | None,
        then: Callable[[Sequence[Object]], Iterable[Step]],
    ) -> None:
        self._objects = list(objects)
        self._nested = nested
        self._expand = expand
        self._account = account
        self._then = then
        self._open = 0

    def steps(self) -> Iterator[Step]:
        """Yield the requests for what is cut short, or what follows if nothing is."""
        gets = [
            get
            for path in self._nested
            for source in self._objects
            if (cut := cut_short(source, path))
            for get in self._rest(source, cut, ".".join(path))
        ]
        self._open = len(gets)
        yield from gets or self._then(self._objects)

    def _rest(self, source: Object, cut: dict[str, Any], path: str) -> Iterator[Get]:
        url = urlsplit(cut["url"])
        params = [*parse_qsl(url.query), ("limit", str(PAGE_SIZE))]
        if cut["data"]:
            params.append(("starting_after", cut["data"][-1]["id"]))
        inside = f"{path}.data."
        params += [
            ("expand[]", "data." + wanted.removeprefix(inside))
            for wanted in self._expand
            if wanted.startswith(inside)
        ]
        yield Get(
            url.path,
            params,
            self._account,
            partial(self._more, source, cut, path),
            partial(self._gone, source),
        )

    def _more(
        self, source: Object, cut: dict[str, Any], path: str, answer: Answer
    ) -> Iterator[Step]:
        cut["data"] += answer.body["data"]
        cut["has_more"] = answer.body["has_more"]
        if cut["has_more"]:
            yield from self._rest(source, cut, path)
        else:
            yield from self._one_done()

    def _gone(self, source: Object, error: StripeError) -> Iterator[Step]:
        if not isinstance(error, NotFound):
            raise error
        self._objects = [kept for kept in self._objects if kept is not source]
        yield from self._one_done()

    def _one_done(self) -> Iterator[Step]:
        self._open -= 1
        if not self._open:
            yield from self._then(self._objects)
