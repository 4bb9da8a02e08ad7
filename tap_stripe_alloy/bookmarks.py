"""The bookmark of one stream and account: windows left to backfill, or the time of the last change.

Keys in the state:

- `begun`: before the first record, the time of the first backfill attempt.
- `backfill`: during a backfill, `{"anchor": …, "missing": [[low, high, cursor], …]}`. `anchor` is
  the time from which changes are read afterwards, `missing` are the remaining windows. `refused` is
  true if Stripe refused a list inside an object.
- `replication_key`, `replication_key_value`, `seen`: after the backfill, the time up to which
  changes are written, and the ids of events already processed in the overlap.
- `created`: for streams whose new objects emit no event, `{"replication_key_value": …, "seen": …}`:
  the time up to which new objects are written, and the ids in the overlap.
- `listed_at`: for streams that are listed again regularly, the time of the last complete list.
- `events_until`: for streams without events, the time up to which the account's events were known.
- `inbox`: if changes come from a webhook inbox, `{"id": …, "reader": …, "seq": …, "from": …}`: the
  inbox, its reader, the sequence number up to which all events are written, and the time (Unix
  seconds) since which the inbox has been read without a gap.
- `read_before`: after a backfill was restarted, the time up to which changes had been read before.
- `test_clocks`: true once objects on test clocks were listed as well.
- `shape`: the name of the settings that the rows were made with (row_settings.py).
- `start`: the earliest `start_date` of a listing.
- `again`: `{"missing": …}`, the windows left of a second listing because one of these settings
  changed. Changes are read meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import override

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from stripe_alloy.api.timestamps import rfc3339, unix_seconds
from tap_stripe_alloy.listing.windows import RemainingWindow

EVENTS_UNTIL = "events_until"
CREATED = "created"
LISTED_AT = "listed_at"
INBOX = "inbox"
CLOCKS = "test_clocks"
BEGUN = "begun"
AGAIN = "again"
SHAPE = "shape"
START = "start"
READ_BEFORE = "read_before"
KEYS = (
    BEGUN,
    AGAIN,
    "backfill",
    "replication_key",
    "replication_key_value",
    "seen",
    EVENTS_UNTIL,
    CREATED,
    LISTED_AT,
    INBOX,
    CLOCKS,
    "version",
)


class Bookmark:
    """A view of the Singer state: changes take effect in the next STATE message.

    Properties raise `SettingsError` if the state is malformed.
    """

    def __init__(self, state: dict[str, Any], *, stream: str, replication_key: str) -> None:
        self._state = state
        self._stream = stream
        self._replication_key = replication_key

    @property
    def listed(self) -> bool:
        """Whether the backfill is complete, so that only changes are left to read."""
        return self.backfill is None and self._state.get("replication_key_value") is not None

    @property
    def backfill(self) -> dict[str, Any] | None:
        """Return the open backfill, with `anchor`, `missing` and its reader's keys; else None."""
        found: dict[str, Any] | None = self._state.get("backfill")
        return found

    @property
    def remaining(self) -> list[RemainingWindow] | None:
        """Return the remaining windows of the open backfill; None without one."""
        if self.backfill is None:
            return None
        return self._windows(self.backfill, "backfill")

    def _windows(self, value: Any, where: str) -> list[RemainingWindow]:
        try:
            return [_window(*window) for window in value["missing"]]
        except (KeyError, TypeError, ValueError):
            raise self._unreadable(where) from None

    @property
    def since(self) -> int:
        """Return the time from which changes are to be read, without the overlap (Unix seconds)."""
        try:
            return unix_seconds(self._state["replication_key_value"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._unreadable("replication_key_value") from None

    @property
    def anchor(self) -> int:
        """Return the time from which changes are read after the open backfill (Unix seconds)."""
        try:
            return unix_seconds((self.backfill or {})["anchor"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._unreadable("backfill.anchor") from None

    def check(self) -> None:
        """Raise `SettingsError` if the bookmark is malformed."""
        _ = self.latest, self.seen
        if self.listed:
            _ = self.to_list_again, self.start
            if self.inbox and not all(isinstance(self.inbox.get(k), int) for k in ("seq", "from")):
                raise self._unreadable(INBOX)
        elif self.backfill:
            _ = self.remaining

    @property
    def changes_from(self) -> int:
        """Return the time from which changes are, or will be, needed (Unix seconds)."""
        return self.since if self.listed else self.anchor

    @property
    def latest(self) -> int:
        """Return the latest time in the bookmark (Unix seconds); 0 if it has none."""
        created = self.of_new_objects().since if CREATED in self._state else 0
        return max(self._latest_change, self.listed_at, created)

    @property
    def _latest_change(self) -> int:
        if self.listed:
            return self.events_until
        return self.anchor if self.backfill else self.first_attempt_at or 0

    @property
    def seen(self) -> frozenset[str]:
        """Return the ids already processed in the overlap before `since`."""
        found = self._state.get("seen") or ()
        if not isinstance(found, list | tuple) or not all(isinstance(i, str) for i in found):
            raise self._unreadable("seen")
        return frozenset(found)

    @property
    def events_until(self) -> int:
        """Return the time up to which events were known at the last read (Unix seconds)."""
        return max(self.since, self._time(EVENTS_UNTIL) or 0)

    def note_events(self, until: int) -> None:
        """Set the time up to which the account's events are known (Unix seconds)."""
        self._state[EVENTS_UNTIL] = rfc3339(until)

    def of_new_objects(self) -> Bookmark:
        """Return the bookmark of new objects, if these emit no event; it starts at this one."""
        state = self._state.setdefault(
            CREATED, {"replication_key_value": self._state.get("replication_key_value")}
        )
        return Bookmark(state, stream=self._stream, replication_key="created")

    @property
    def listed_at(self) -> int:
        """Return the time of the last complete list (Unix seconds); 0 if unknown."""
        return self._time(LISTED_AT) or 0

    def note_listed_at(self, at: int) -> None:
        """Set the time of the last complete list (Unix seconds)."""
        self._state[LISTED_AT] = rfc3339(at)

    @property
    def inbox(self) -> dict[str, Any] | None:
        """Return the position in the webhook inbox; None if the inbox was not used."""
        found: dict[str, Any] | None = self._state.get(INBOX)
        return found

    def note_inbox(self, inbox: dict[str, Any] | None) -> None:
        """Set the position in the webhook inbox; None to remove it."""
        self._state.pop(INBOX, None)
        if inbox:
            self._state[INBOX] = inbox

    @property
    def test_clocks_listed(self) -> bool:
        """Whether objects on test clocks were listed; their changes are read with all others."""
        return bool(self._state.get(CLOCKS))

    def note_clocks(self, *, listed: bool) -> None:
        """Set whether objects on test clocks were listed."""
        self._state.pop(CLOCKS, None)
        if listed:
            self._state[CLOCKS] = True

    @property
    def may_repeat(self) -> bool:
        """Whether rows may have been emitted before the open backfill started."""
        return READ_BEFORE in self._state

    @property
    def version(self) -> int | None:
        """Return the table version for which the list was last read; None before the first."""
        found: int | None = self._state.get("version")
        return found

    def note_version(self, number: int) -> None:
        """Set the table version of the rows."""
        self._state["version"] = number

    def note_first_attempt(self, at: int) -> None:
        """Set the time of the first backfill attempt (Unix seconds), unless it is set already."""
        if not self.listed and self.backfill is None:
            self._state.setdefault(BEGUN, rfc3339(at))

    @property
    def first_attempt_at(self) -> int | None:
        """Return the time of the first backfill attempt (Unix seconds); None if not attempted."""
        return self._time(BEGUN)

    def start_backfill(
        self, anchor: int, remaining: Iterable[RemainingWindow], version: int | None = None
    ) -> None:
        """Start a backfill; changes will be read from `anchor` (Unix seconds)."""
        self.forget()
        if version:
            self._state["version"] = version
        self.restart(anchor, remaining)

    def restart(self, anchor: int, remaining: Iterable[RemainingWindow]) -> None:
        """Restart the list; changes will be read from `anchor` (Unix seconds)."""
        windows = list(remaining)
        self._state["backfill"] = {"anchor": rfc3339(anchor)}
        self.note_start(min((low for low, _, _ in windows), default=0))
        self.set_remaining(windows)

    def set_remaining(self, remaining: Iterable[RemainingWindow]) -> None:
        """Set the remaining windows of the backfill."""
        if self.backfill is not None:
            self.backfill["missing"] = [list(window) for window in remaining]

    @property
    def refused(self) -> bool:
        """Whether Stripe refused a list inside an object during the open backfill."""
        return bool((self.backfill or {}).get("refused"))

    def note_refused(self) -> None:
        """Note that Stripe refused a list inside an object."""
        if self.backfill is not None:
            self.backfill["refused"] = True

    def finish(self) -> None:
        """End the backfill: from now on only changes are read."""
        self.advance(self.anchor, ())
        self._state.pop("backfill", None)

    def advance(self, since: int, seen: Iterable[str]) -> None:
        """Set the time up to which changes are written (Unix seconds) and ids in the overlap."""
        self._state["replication_key"] = self._replication_key
        self._state["replication_key_value"] = rfc3339(since)
        self._state["seen"] = sorted(seen)

    @property
    def to_list_again(self) -> list[RemainingWindow]:
        """Return the remaining windows of the second listing; empty if there is none."""
        noted = self._state.get(AGAIN)
        return [] if noted is None else self._windows(noted, AGAIN)

    @property
    def again_before(self) -> int:
        """Return the time before which objects are emitted in the second listing (Unix seconds).

        0 for all objects. Lists that Stripe filters by `created` use windows instead.
        """
        return int((self._state.get(AGAIN) or {}).get("before", 0))

    def list_again(self, remaining: Iterable[RemainingWindow], *, before: int = 0) -> None:
        """Start a second listing of these windows, instead of one that may be left.

        `before`: emit only objects created before it (Unix seconds); 0 for all.
        """
        self._state[AGAIN] = {"missing": [list(window) for window in remaining]}
        if before:
            self._state[AGAIN]["before"] = before

    def in_second_listing(self) -> SecondListingBookmark:
        """Return a view of this bookmark in which the second listing is the backfill."""
        return SecondListingBookmark(
            self._state, stream=self._stream, replication_key=self._replication_key
        )

    @property
    def shape(self) -> str | None:
        """Return the name of the settings that the rows were made with; None if unknown."""
        found: str | None = self._state.get(SHAPE)
        return found

    def note_shape(self, name: str) -> None:
        """Set the name of the settings that rows are made with from now on."""
        self._state[SHAPE] = name

    @property
    def start(self) -> int:
        """Return the earliest `created` that was listed (Unix seconds); 0 for the full history."""
        return self._time(START) or 0

    def listed_from(self, start: int) -> int:
        """Return the earliest `created` to list: `start` if the list was not started yet.

        A list that was started keeps its start date, even if the setting changes. Unix seconds; 0
        for the full history.
        """
        return self.start if self.listed or self.backfill is not None else start

    def note_start(self, start: int) -> None:
        """Set the earliest `created` that is listed (Unix seconds)."""
        self._state.pop(START, None)
        if start:
            self._state[START] = rfc3339(start)

    def forget(self) -> None:
        """Reset the bookmark, so that the stream is backfilled again."""
        read_until = self._read_until()
        for key in KEYS:
            self._state.pop(key, None)
        if read_until is not None:
            self._state[READ_BEFORE] = rfc3339(read_until)

    def _read_until(self) -> int | None:
        """Return the time up to which changes were read (Unix seconds); None if unknown."""
        try:
            return self.changes_from if self.listed or self.backfill else None
        except SettingsError:
            return None

    def _time(self, key: str) -> int | None:
        """Return a time in the state (Unix seconds); None if it has none."""
        noted = self._state.get(key)
        try:
            return unix_seconds(noted) if noted else None
        except (AttributeError, TypeError, ValueError):
            raise self._unreadable(key) from None

    def _unreadable(self, what: str) -> SettingsError:
        return SettingsError(
            f"The state of stream {self._stream!r} cannot be read: {what!r} is missing or "
            "malformed. Pass the last state that this tap wrote, or no state to start over."
        )


class SecondListingBookmark(Bookmark):
    """A view of a bookmark in which the second listing takes the place of the backfill."""

    @property
    @override
    def backfill(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._state.get(AGAIN)
        return found

    @property
    @override
    def changes_from(self) -> int:
        """Return a time that never expires: changes are read by the first listing's bookmark."""
        return NO_UPPER_BOUND

    @property
    @override
    def may_repeat(self) -> bool:
        return True

    @override
    def finish(self) -> None:
        self._state.pop(AGAIN, None)


def _window(low: Any, high: Any, cursor: Any) -> RemainingWindow:
    if not (type(low) is type(high) is int and (cursor is None or isinstance(cursor, str))):
        raise TypeError(low)
    return low, high, cursor
