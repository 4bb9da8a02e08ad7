"""Checks that a response is what was requested before it is used.

A proxy or a cache may answer in Stripe's place. A response that is not the requested object or page
is broken and retried; so is a page after which a list would never end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stripe_alloy.api.errors import ErrorDetails

MISSING = "resource_missing"
"""Code of Stripe's own statement that an object does not exist."""
MAX_RESTARTS = 100
"""Number of lost cursors after which a list is not restarted again."""
MAX_MEETINGS = 8
"""Number of repeated cursors, confirmed by a second response, after which a list is refused."""
_NO_SUCH = re.compile(r"^No such [^:]*: (.*)", re.DOTALL)


class Expected(Protocol):
    """What a response must be."""

    def problem(self, body: Any) -> str | None:
        """Return why a body is not the expected response; None if it is."""

    def denies(self, failure: ErrorDetails) -> bool:
        """Whether a 404 is Stripe's statement about exactly the requested object."""


@dataclass(frozen=True)
class OneObject:
    """Expects one object, or the statement that it was deleted."""

    object: str
    id: str | None = None
    """The object's ID; None if the path has none."""

    def problem(self, body: Any) -> str | None:
        """Return which other object the body contains."""
        if not isinstance(body, dict) or body.get("object") != self.object:
            return f"no {self.object}"
        found = body.get("id")
        if isinstance(found, str) and self.id in (None, found):
            return None
        return f"another {self.object} than {self.id!r}"

    def denies(self, failure: ErrorDetails) -> bool:
        """Whether it is `resource_missing`, and about this ID if it names one."""
        if self.id is None:
            return failure.stripes_own  # there may be no such endpoint
        if failure.code != MISSING:
            return False
        named = _NO_SUCH.match(failure.message)
        return not named or self.id in named[1]


@dataclass
class Trail:
    """Cursors of a list that is read page by page; none may be repeated.

    Only one of them is kept, at growing distances (Brent's algorithm), so that a cycle of any
    length is detected after a few rounds.
    """

    restarts: int = 0
    _meetings: int = 0
    _kept: str | None = None
    _steps: int = 0
    _limit: int = 1

    def meets(self, cursor: str) -> bool:
        """Whether a page's last ID was a cursor before; otherwise it is the next one."""
        if cursor == self._kept or self._meetings >= MAX_MEETINGS:
            self._meetings += 1
            return True
        self._steps += 1
        if self._steps == self._limit:
            self._kept, self._steps, self._limit = cursor, 0, 2 * self._limit
        return False

    def restart(self) -> bool:
        """Restart the list since its cursor's object is gone; False if it happened too often."""
        self.restarts += 1
        self._kept, self._steps, self._limit = None, 0, 1
        return self.restarts <= MAX_RESTARTS


@dataclass(frozen=True)
class OnePage:
    """Expects a page of a list, after a cursor."""

    after: str | None = None
    trail: Trail = field(default_factory=Trail)
    some_lack_ids: bool = False
    """Whether the caller reports and skips objects without an ID."""
    all_lack_ids: bool = False
    """Whether that goes for pages without a single ID, too: the list may be that short."""

    def problem(self, body: Any) -> str | None:
        """Return what is wrong with the page, or that the list would never end."""
        if isinstance(body, dict):
            shown, rows, more = body.get("object"), body.get("data"), body.get("has_more")
            if shown != "list" or not isinstance(rows, list) or not isinstance(more, bool):
                return "no list"
            ids = [row.get("id") if isinstance(row, dict) else None for row in rows]
            if (self.some_lack_ids and any(ids)) or (self.all_lack_ids and _are_objects(rows)):
                ids = [found for found, row in zip(ids, rows, strict=True) if _has_id(row)]
            if not all(isinstance(found, str) for found in ids):
                return "a list whose entries are not objects"
            last = ids[-1] if ids else None
        else:  # decoded by a type that saw to this
            more, last = body.has_more, body.data[-1].id if body.data else None
        return self._loop(last) if more else None

    def _loop(self, last: str | None) -> str | None:
        if last is None:
            return "an empty page with `has_more`"
        if last == self.after or self.trail.meets(last):
            return f"a page that ends with {last!r}, as one before it did"
        return None

    def denies(self, failure: ErrorDetails) -> bool:  # noqa: ARG002 - a list's parent, or the list
        """True: the caller interprets the 404."""
        return True


def _are_objects(rows: Sequence[Any]) -> bool:
    """Whether all are Stripe's objects, with or without an ID."""
    return all(isinstance(row, dict) and isinstance(row.get("object"), str) for row in rows)


def _has_id(row: Any) -> bool:
    """False for an object without an ID."""
    return not isinstance(row, dict) or bool(row.get("id"))
