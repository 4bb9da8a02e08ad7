"""Versions of a destination's table: a target may drop what a complete listing did not bring.

The state of a stream says `"table": {"version": 1795460000, "pending": true}`: the number that its
records carry, in Unix seconds as the SDK's are, and whether ACTIVATE_VERSION is still to come. Each
account's bookmark notes the version that its list was last read for; once all of a stream's have
been read for the newest one, it is activated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tap_stripe_alloy.bookmarks import Bookmark


class Version:
    """The version of one stream's table, as its writable state has it."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    @property
    def number(self) -> int | None:
        """What records carry; None before the first listing."""
        found: int | None = self._state.get("table", {}).get("version")
        return found

    @property
    def pending(self) -> bool:
        """Whether it is not yet activated."""
        return bool(self._state.get("table", {}).get("pending"))

    def renew(self, now: float) -> None:
        """Begin a new one: what is listed from now on replaces all there was."""
        self._state["table"] = {"version": max(int(now), (self.number or 0) + 1), "pending": True}

    def used_by(self, bookmark: Bookmark) -> bool:
        """Whether rows of this number may be gone already, and so need a new one to be dropped."""
        return not self.pending or bookmark.version == self.number

    def prepare(self, bookmarks: Sequence[Bookmark], now: float) -> None:
        """See that there is a number, and what else is to be listed for a pending one."""
        if not any(bookmark.listed or bookmark.backfill for bookmark in bookmarks):
            self.renew(now)
        elif self.number is None:  # a state from before there were versions: nothing is replaced
            self._state["table"] = {"version": int(now)}
        elif self.pending:
            for bookmark in bookmarks:
                if bookmark.listed and bookmark.version != self.number:
                    bookmark.forget()

    def complete(self, bookmarks: Sequence[Bookmark]) -> bool:
        """Whether all accounts' lists were read for it, so that it can be activated."""
        return self.pending and all(
            bookmark.listed and bookmark.version == self.number for bookmark in bookmarks
        )

    def activated(self) -> None:
        """Note that ACTIVATE_VERSION was written."""
        self._state["table"] = {"version": self.number}
