"""Versions of a destination's table: a target may drop what a complete listing did not bring.

The state of a stream says `"table": {"version": 1795460000, "pending": true}`: the number that its
records carry, in Unix seconds as the SDK's are, and whether ACTIVATE_VERSION is still to come. Each
account's bookmark notes the version that its list was last read for; once all of a stream's have
been read for the newest one, it is activated. An account that was left out meanwhile has an older
one when it returns: its rows may have been dropped, so it is listed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.row_settings import is_begun


class TableVersion:
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

    def start_new(self, now: float) -> None:
        """Begin a new one: what is listed from now on replaces all there was."""
        self._state["table"] = {"version": max(int(now), (self.number or 0) + 1), "pending": True}

    def needs_renewal_for(self, bookmark: Bookmark) -> bool:
        """Whether rows of this number may be gone already, and so need a new one to be dropped."""
        return not self.pending or bookmark.version == self.number

    def ensure(
        self, bookmarks: Sequence[Bookmark], now: float, *, kept_from: float, whole: bool
    ) -> None:
        """See that there is a number, and that all is listed (again) whose rows may be gone.

        Events before `kept_from` (Unix seconds) are gone. With `whole` the listing that begins now
        replaces the table, rows of accounts that are no longer read included.
        """
        begun = sum(is_begun(part) for part in self._parts())
        if whole:
            begun = sum(bool(mark.listed or mark.backfill) for mark in bookmarks)
        if not begun or any(_began_before(mark, kept_from) for mark in bookmarks):
            self.start_new(now)
        elif self.number is None:  # a state from before there were versions: nothing is replaced
            self._state["table"] = {"version": int(now)}
            for bookmark in bookmarks:
                bookmark.note_version(int(now))
        for bookmark in bookmarks:
            if self._lacks_rows_of(bookmark):
                bookmark.forget()

    def left_out(self, bookmarks: Sequence[Bookmark]) -> bool:
        """Whether the table may hold rows of accounts other than those of these bookmarks."""
        return sum(is_begun(part) for part in self._parts()) > len(bookmarks)

    def _parts(self) -> Sequence[Mapping[str, Any]]:
        """The bookmarks of all accounts that were ever read."""
        return (self._state, *(self._state.get("partitions") or ()))

    def _lacks_rows_of(self, bookmark: Bookmark) -> bool:
        """Whether rows of an account were, or will be, dropped from the table with its version."""
        if not (bookmark.listed or bookmark.backfill) or bookmark.version == self.number:
            return False
        # Bookmarks from before there were versions have none; so had the others then.
        one_has_it = any(part.get("version") == self.number for part in self._parts())
        return self.pending or bookmark.version is not None or one_has_it

    def is_complete(self, bookmarks: Sequence[Bookmark]) -> bool:
        """Whether all accounts' lists were read for it, so that it can be activated."""
        return self.pending and all(
            bookmark.listed and bookmark.version == self.number for bookmark in bookmarks
        )

    def mark_activated(self) -> None:
        """Note that ACTIVATE_VERSION was written."""
        self._state["table"] = {"version": self.number}


def _began_before(bookmark: Bookmark, kept_from: float) -> bool:
    """Whether a first listing was tried so long ago that what was deleted since cannot be known."""
    begun = None if bookmark.listed or bookmark.backfill else bookmark.first_attempt_at
    return begun is not None and begun < kept_from
