"""Completes lists inside objects: Stripe gives the first ten entries and where the rest is."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stripe_alloy.api.errors import NotFound, PermissionMissing, StripeError
from stripe_alloy.api.responses import OneObject, Trail
from stripe_alloy.api.paths import encoded_in, item_path
from stripe_alloy.api.client import PAGE_SIZE, Answer
from tap_stripe_alloy.scheduler import Get, Step
from tap_stripe_alloy.listing.list_endpoint import Listed, lists_cut_short
from tap_stripe_alloy.records.conversion import Object

_logger = logging.getLogger(__name__)


class Completion:
    """Fills up the lists of some objects, then goes on with what was to be done with them.

    `then` gets the objects that still exist: one that was deleted meanwhile is left out, its
    deletion comes with the events. `refused` is asked what follows a missing permission.
    """

    def __init__(
        self,
        objects: Sequence[Object],
        listed: Listed,
        *,
        account: str | None,
        then: Callable[[Sequence[Object]], Iterable[Step]],
        refused: Callable[[StripeError], Iterable[Step]] | None = None,
        stream: str | None = None,
    ) -> None:
        self._stream = stream
        self._objects = list(objects)
        self._listed = listed
        self._account = account
        self._then = then
        self._refused = refused
        self._open = 0
        self._trails: defaultdict[int, Trail] = defaultdict(Trail)

    def steps(self) -> Iterator[Step]:
        """Yield the requests for what is cut short, or what follows if nothing is."""
        gets = [
            self._rest(source, cut, path)
            for source in self._objects
            for path, cut in lists_cut_short(source, self._listed)
        ]
        self._open = len(gets)
        yield from gets or self._then(self._objects)

    def _rest(self, source: Object, cut: dict[str, Any], path: str) -> Get:
        url = urlsplit(encoded_in(cut["url"], str(source.get("id"))))
        params = [*parse_qsl(url.query), ("limit", str(PAGE_SIZE))]
        if cut["data"]:
            params.append(("starting_after", cut["data"][-1]["id"]))
        inside = f"{path}.data."
        params += [
            ("expand[]", "data." + wanted.removeprefix(inside))
            for wanted in self._listed.expand
            if wanted.startswith(inside)
        ]
        return Get(
            url.path,
            params,
            self._account,
            partial(self._more, source, cut, path),
            partial(self._not_more, source, cut, path),
            trail=self._trails[id(cut)],
            stream=self._stream,
        )

    def _more(
        self, source: Object, cut: dict[str, Any], path: str, answer: Answer
    ) -> Iterator[Step]:
        new = answer.body["data"]
        cut["data"] += new
        cut["has_more"] = answer.body["has_more"]
        if self._listed.expand:
            for entry in new:
                for inner, also_cut in lists_cut_short(entry, self._listed):
                    self._open += 1
                    yield self._rest(source, also_cut, f"{path}.data.{inner}")
        if cut["has_more"]:
            yield self._rest(source, cut, path)
        else:
            yield from self._one_done()

    def _not_more(
        self, source: Object, cut: dict[str, Any], path: str, error: StripeError
    ) -> Iterator[Step]:
        if isinstance(error, PermissionMissing) and self._refused and self._open:
            self._open = 0  # what is still under way no longer matters
            yield from self._refused(error)
        elif self._cursor_gone(error, cut) and self._trails[id(cut)].restart():
            # The entry that the cursor named is gone: read this list from its beginning.
            cut["data"].clear()
            yield self._rest(source, cut, path)
        elif isinstance(error, NotFound) and source.get("id"):
            yield Get(
                item_path(self._listed.path, source["id"]),
                (),
                self._account,
                partial(self._still_there, source, error),
                partial(self._gone, source),
                of=OneObject(str(source.get("object")), source["id"]),
                stream=self._stream,
            )
        elif error.of_one_object and not isinstance(error, NotFound) and source.get("id"):
            _logger.warning("%s %s of %s stays cut short.", error, path, source["id"])
            yield from self._one_done()
        else:
            raise error

    @staticmethod
    def _cursor_gone(error: StripeError, cut: dict[str, Any]) -> bool:
        return error.missing and error.failure.param == "starting_after" and bool(cut["data"])

    def _still_there(self, source: Object, error: StripeError, answer: Answer) -> Iterator[Step]:
        if not answer.body.get("deleted"):
            raise error
        yield from self._gone(source, error)

    def _gone(self, source: Object, error: StripeError) -> Iterator[Step]:
        if not isinstance(error, NotFound):
            raise error
        _logger.info("%s was deleted while it was read", source["id"])
        self._objects = [kept for kept in self._objects if kept is not source]
        yield from self._one_done()

    def _one_done(self) -> Iterator[Step]:
        self._open -= 1
        if self._open == 0:
            yield from self._then(self._objects)
