"""Completes truncated lists inside objects, which contain only the first ten entries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stripe_alloy.api.client import PAGE_SIZE
from stripe_alloy.api.errors import NotFoundError, StripeError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import ListEndpoint, TruncatedList, truncated_lists
from stripe_alloy.api.paths import encoded_in, item_path
from stripe_alloy.api.requests import Gather, GetRequest, Reader
from stripe_alloy.api.responses import OneObject, Trail

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NestedLists:
    """Completes the nested lists of a list's objects."""

    listed: ListEndpoint
    account: str | None
    streams: Sequence[str] = ()
    """Streams named in errors."""
    lacks_id: Callable[[], object] | None = None
    """Called for each entry without an ID, which is left out; if None, such a page is refused."""
    on_refused: Callable[[], None] = lambda: None
    """Called if Stripe refuses a list, so that entries are missing."""

    def complete(self, objects: Sequence[JSON]) -> Reader[list[JSON]]:
        """Return the objects with their lists complete, without those deleted in the meantime."""
        if self.listed.child_list:
            objects = [self.listed.with_children(parent) for parent in objects]
        cut = [list(truncated_lists(source, self.listed)) for source in objects]
        if not any(cut):
            return list(objects)
        found = yield Gather([self._complete(*pair) for pair in zip(objects, cut, strict=True)])
        return [source for source in found if source is not None]

    def _complete(self, source: JSON, cut: Sequence[TruncatedList]) -> Reader[JSON | None]:
        try:
            yield Gather([self._fill(source, found) for found in cut])
        except NotFoundError:
            if not source.get("id") or not (yield from self._is_deleted(source)):
                raise
            _logger.info("%s was deleted while it was read", source["id"])
            return None
        return source

    def _fill(self, source: JSON, found: TruncatedList) -> Reader[None]:
        trail, truncated = Trail(), found.content
        truncated["data"] = self._with_ids(truncated["data"])
        while truncated["has_more"]:
            try:
                page = (yield self._next_page(found, trail)).body
            except StripeError as error:
                if _cursor_gone(error, truncated) and trail.restart():
                    truncated["data"].clear()  # read it from the beginning
                    continue
                if (
                    not error.of_one_object
                    or isinstance(error, NotFoundError)
                    or not source.get("id")
                ):
                    raise
                _logger.warning("%s %s of %s stays truncated.", error, found.path, source["id"])
                self.on_refused()
                return
            entries = self._with_ids(page["data"])
            truncated["data"] += entries
            truncated["has_more"] = page["has_more"]
            yield from self._fill_inside(source, found, entries)

    def _with_ids(self, entries: Sequence[Any]) -> list[JSON]:
        """Return the entries that have an ID: a list is continued after one of them."""
        with_ids = [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]
        if len(with_ids) < len(entries):
            (self.lacks_id or _name_entry)()
        return with_ids

    def _fill_inside(
        self, source: JSON, outer: TruncatedList, entries: Sequence[JSON]
    ) -> Reader[None]:
        """Complete lists inside new entries of a list; only expanded entries have any."""
        if self.listed.expand:
            yield Gather(
                [
                    self._fill(source, _within(outer, inner))
                    for entry in entries
                    for inner in truncated_lists(entry, self.listed)
                ]
            )

    def _next_page(self, found: TruncatedList, trail: Trail) -> GetRequest:
        truncated = found.content
        url = urlsplit(encoded_in(truncated["url"], found.inside))
        params = [*parse_qsl(url.query), ("limit", str(PAGE_SIZE))]
        if truncated["data"]:
            params.append(("starting_after", truncated["data"][-1]["id"]))
        inside = f"{found.path}.data."
        params += [
            ("expand[]", "data." + wanted.removeprefix(inside))
            for wanted in self.listed.expand
            if wanted.startswith(inside)
        ]
        return GetRequest(
            url.path,
            params,
            self.account,
            trail=trail,
            streams=self.streams,
            all_lack_ids=self.lacks_id is not None,
        )

    def _is_deleted(self, source: JSON) -> Reader[bool]:
        try:
            answer = yield GetRequest(
                item_path(self.listed.path, source["id"]),
                account=self.account,
                of=OneObject(str(source.get("object")), source["id"]),
                streams=self.streams,
            )
        except NotFoundError:
            return True
        return bool(answer.body.get("deleted"))


def _name_entry() -> None:
    _logger.warning("A list inside an object has an entry without `id`, which is left out.")


def _within(outer: TruncatedList, inner: TruncatedList) -> TruncatedList:
    """Return a list inside an entry of another list, as seen from the object that has both."""
    further = [found for found in outer.inside if found not in inner.inside]
    return replace(inner, path=f"{outer.path}.data.{inner.path}", inside=(*inner.inside, *further))


def _cursor_gone(error: StripeError, truncated: dict[str, Any]) -> bool:
    return error.missing and error.failure.param == "starting_after" and bool(truncated["data"])
