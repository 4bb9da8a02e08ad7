"""What an answer must be before anything is concluded from it.

A proxy, a cache or a bad day may answer in Stripe's place. What is not the object or the page that
was asked for is a broken answer, to be asked for again; so is a page after which a list would
never end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Protocol

from stripe_alloy.api.errors import ErrorDetails

MISSING = "resource_missing"
"""The code of Stripe's own word that an object does not exist."""
MAX_RESTARTS = 100
"""Cursors of one list that may get lost before it is not begun again."""
MAX_MEETINGS = 8
"""Cursors that may come back, if a second answer goes on, before no page of a list is believed."""
_NO_SUCH = re.compile(r"^No such [^:]*: (.*)", re.DOTALL)


class Expected(Protocol):
    """An answer that was asked for."""

    def problem(self, body: Any) -> str | None:
        """Say why a body is not that answer; None if it is."""

    def denies(self, failure: ErrorDetails) -> bool:
        """Whether a 404 is Stripe's word on what was asked for, and on nothing else."""


@dataclass(frozen=True)
class OneObject:
    """One object, or that it was deleted."""

    object: str
    id: str | None = None
    """None where the path names no id."""

    def problem(self, body: Any) -> str | None:
        """Say which other object came."""
        if not isinstance(body, dict) or body.get("object") != self.object:
            return f"no {self.object}"
        found = body.get("id")
        if isinstance(found, str) and self.id in (None, found):
            return None
        return f"another {self.object} than {self.id!r}"

    def denies(self, failure: ErrorDetails) -> bool:
        """Whether it says `resource_missing`, of this id if it names one."""
        if self.id is None:
            return failure.stripes_own  # there may be no such endpoint
        if failure.code != MISSING:
            return False
        named = _NO_SUCH.match(failure.message)
        return not named or self.id in named[1]


@dataclass
class Trail:
    """The cursors of one list that is read page after page: they never come back.

    Only one of them is kept, later and later ones (Brent's algorithm): however long a circle is,
    it is noticed after few turns of it.
    """

    restarts: int = 0
    _meetings: int = 0
    _kept: str | None = None
    _steps: int = 0
    _limit: int = 1

    def meets(self, cursor: str) -> bool:
        """Whether a page's last id was a cursor before; else it is the next one."""
        if cursor == self._kept or self._meetings >= MAX_MEETINGS:
            self._meetings += 1
            return True
        self._steps += 1
        if self._steps == self._limit:
            self._kept, self._steps, self._limit = cursor, 0, 2 * self._limit
        return False

    def restart(self) -> bool:
        """Begin anew, as the cursor's object is gone; False if that happened too often."""
        self.restarts += 1
        self._kept, self._steps, self._limit = None, 0, 1
        return self.restarts <= MAX_RESTARTS


@dataclass(frozen=True)
class OnePage:
    """A page of a list, after a cursor."""

    after: str | None = None
    trail: Trail = field(default_factory=Trail)
    some_lack_ids: bool = False
    """Whether whoever asked names and leaves out single objects that have no id."""

    def problem(self, body: Any) -> str | None:
        """Say what is wrong with the page, or that no page after it would ever be the last."""
        if isinstance(body, dict):
            shown, rows, more = body.get("object"), body.get("data"), body.get("has_more")
            if shown != "list" or not isinstance(rows, list) or not isinstance(more, bool):
                return "no list"
            ids = [row.get("id") if isinstance(row, dict) else None for row in rows]
            if self.some_lack_ids and any(ids):
                ids = [found for found, row in zip(ids, rows, strict=True) if _has_id(row)]
            if not all(isinstance(found, str) for found in ids):
                return "a list of something else than objects"
            last = ids[-1] if ids else None
        else:  # decoded by a type that saw to this
            more, last = body.has_more, body.data[-1].id if body.data else None
        return self._loop(last) if more else None

    def _loop(self, last: str | None) -> str | None:
        if last is None:
            return "an empty page that is said not to be the last"
        if last == self.after or self.trail.meets(last):
            return f"a page that ends with {last!r}, as one before it did"
        return None

    def denies(self, failure: ErrorDetails) -> bool:  # noqa: ARG002 - a list's parent, or the list
        """Any: what it means is up to whoever asked."""
        return True


def _has_id(row: Any) -> bool:
    """Whether a row is anything but an object without an id."""
    return not isinstance(row, dict) or bool(row.get("id"))
