"""Table versions: with ACTIVATE_VERSION a target removes rows that a full listing did not contain.

The state of a stream contains `"table": {"version": 1795460000, "pending": true}`: the version of
its records (Unix seconds, as in the SDK), and whether ACTIVATE_VERSION has not been sent yet. Each
account's bookmark stores the version for which its list was last read. Once the lists of all
accounts were read for the newest version, it is activated. An account that was not read meanwhile
has an older version when it returns. Its rows may have been removed, so it is listed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.row_settings import is_begun


class TableVersion:
    """The table version in the state of one stream."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    @property
    def number(self) -> int | None:
        """Return the version of the records; None before the first listing."""
        found: int | None = self._state.get("table", {}).get("version")
        return found

    @property
    def pending(self) -> bool:
        """Whether ACTIVATE_VERSION has not been sent for it yet."""
        return bool(self._state.get("table", {}).get("pending"))

    def start_new(self, now: float) -> None:
        """Start a new version: rows listed from now on replace all older ones.

        `now` is Stripe's time (Unix seconds).
        """
        self._state["table"] = {"version": max(int(now), (self.number or 0) + 1), "pending": True}

    def needs_renewal_for(self, bookmark: Bookmark) -> bool:
        """Whether listing again needs a new version, because rows may have this one already."""
        return not self.pending or bookmark.version == self.number

    def ensure(
        self, bookmarks: Sequence[Bookmark], now: float, *, kept_from: float, whole: bool
    ) -> None:
        """Set a version, and reset bookmarks if their rows may have been removed from the table.

        `now` is Stripe's time and `kept_from` the oldest time of which it has events (Unix
        seconds). `whole`: whether this listing replaces the complete table, including rows of
        accounts that are no longer read.
        """
        started = sum(is_begun(part) for part in self._parts())
        if whole:
            started = sum(bool(mark.listed or mark.backfill) for mark in bookmarks)
        if not started or any(_began_before(mark, kept_from) for mark in bookmarks):
            self.start_new(now)
        elif self.number is None:  # a state from before versions existed: replace nothing
            self._state["table"] = {"version": int(now)}
            for bookmark in bookmarks:
                bookmark.note_version(int(now))
        for bookmark in bookmarks:
            if self._lacks_rows_of(bookmark):
                bookmark.forget()

    def left_out(self, bookmarks: Sequence[Bookmark]) -> bool:
        """Whether the table may contain rows of accounts that have none of these bookmarks."""
        return sum(is_begun(part) for part in self._parts()) > len(bookmarks)

    def _parts(self) -> Sequence[Mapping[str, Any]]:
        """Return the bookmarks of all accounts that were ever read."""
        return (self._state, *(self._state.get("partitions") or ()))

    def _lacks_rows_of(self, bookmark: Bookmark) -> bool:
        """Whether rows of an account were, or will be, removed with an older version."""
        if not (bookmark.listed or bookmark.backfill) or bookmark.version == self.number:
            return False
        # Bookmarks from before versions existed have none. If no account has the current version,
        # that is true of all of them, and nothing was removed.
        one_has_it = any(part.get("version") == self.number for part in self._parts())
        return self.pending or bookmark.version is not None or one_has_it

    def is_complete(self, bookmarks: Sequence[Bookmark]) -> bool:
        """Whether the lists of all accounts were read for it, so that it can be activated."""
        return self.pending and all(
            bookmark.listed and bookmark.version == self.number for bookmark in bookmarks
        )

    def mark_activated(self) -> None:
        """Note that ACTIVATE_VERSION was sent."""
        self._state["table"] = {"version": self.number}


def _began_before(bookmark: Bookmark, kept_from: float) -> bool:
    """Whether the first attempt is so old that Stripe has no events of deletions since then."""
    attempted = None if bookmark.listed or bookmark.backfill else bookmark.first_attempt_at
    return attempted is not None and attempted < kept_from
