"""What the state says of one stream and account: what is left to list, or since when to look.

Before the first record: `{"begun": …}`. While the list is read: `{"backfill": {"anchor": …,
"missing": [[low, high, cursor], …]}}`.
From then on: `{"replication_key": …, "replication_key_value": …, "seen": [event ids]}`, and
`events_until` where no event tells of the stream's objects. Where changes come from a webhook
inbox, also `{"inbox": {"id": …, "reader": …, "seq": …, "from": …}}`: which inbox, who reads it, up
to which number all is written, and since when (Unix seconds) it was read without a break.
`{"read_before": …}` stays once a list was begun anew: up to when changes had been read before.
`{"test_clocks": true}` says that what is on test clocks was listed as well.
`shape` names the settings that its rows were made with (row_settings.py), `start` is the earliest
`start_date` that was listed from; `{"again": {"missing": …}}` is what is left to list once more
because one of them changed, while changes go on being read.
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
    INBOX,
    CLOCKS,
    "version",
)


class Bookmark:
    """A view of the writable state; every change is at once in the next STATE message."""

    def __init__(self, state: dict[str, Any], *, stream: str, replication_key: str) -> None:
        self._state = state
        self._stream = stream
        self._replication_key = replication_key

    @property
    def listed(self) -> bool:
        """Whether the whole list was read, so that only changes are left."""
        return self.backfill is None and self._state.get("replication_key_value") is not None

    @property
    def backfill(self) -> dict[str, Any] | None:
        """The open backfill: `anchor`, `missing` and what its source keeps there."""
        found: dict[str, Any] | None = self._state.get("backfill")
        return found

    @property
    def remaining(self) -> list[RemainingWindow] | None:
        """What an interrupted backfill left to read; None if none was begun."""
        if self.backfill is None:
            return None
        return self._windows(self.backfill, "backfill")

    def _windows(self, noted: Any, where: str) -> list[RemainingWindow]:
        try:
            return [_window(*window) for window in noted["missing"]]
        except (KeyError, TypeError, ValueError):
            raise self._unreadable(where) from None

    @property
    def since(self) -> int:
        """Unix seconds from which changes are still to be read, the overlap not counted."""
        try:
            return unix_seconds(self._state["replication_key_value"])
        except (AttributeError, TypeError, ValueError):
            raise self._unreadable("replication_key_value") from None

    @property
    def anchor(self) -> int:
        """Unix seconds from which changes will be read once the open backfill is done."""
        try:
            return unix_seconds((self.backfill or {})["anchor"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._unreadable("backfill.anchor") from None

    def check(self) -> None:
        """Raise `SettingsError` if it cannot be read."""
        if self.listed:
            _ = self.events_until, self.to_list_again, self.start
            if self.inbox and not all(isinstance(self.inbox.get(k), int) for k in ("seq", "from")):
                raise self._unreadable(INBOX)
        elif self.backfill:
            _ = self.anchor, self.remaining
        else:
            _ = self.first_attempt_at

    @property
    def changes_from(self) -> int:
        """Unix seconds from which changes are or will be needed."""
        return self.since if self.listed else self.anchor

    @property
    def latest(self) -> int:
        """The latest time that it names, in Unix seconds; 0 if it names none."""
        if self.listed:
            return self.events_until
        return self.anchor if self.backfill else self.first_attempt_at or 0

    @property
    def seen(self) -> frozenset[str]:
        """Ids already read in the overlap before `since`."""
        return frozenset(self._state.get("seen") or ())

    @property
    def events_until(self) -> int:
        """Unix seconds up to which the account's events were known when this was last read."""
        noted = self._state.get(EVENTS_UNTIL)
        try:
            return max(self.since, unix_seconds(noted)) if noted else self.since
        except (AttributeError, TypeError, ValueError):
            raise self._unreadable(EVENTS_UNTIL) from None

    def note_events(self, until: int) -> None:
        """Note up to when the account's events are known (Unix seconds)."""
        self._state[EVENTS_UNTIL] = rfc3339(until)

    @property
    def inbox(self) -> dict[str, Any] | None:
        """How far the webhook inbox was read."""
        found: dict[str, Any] | None = self._state.get(INBOX)
        return found

    def note_inbox(self, inbox: dict[str, Any] | None) -> None:
        """Note how far the webhook inbox was read."""
        self._state.pop(INBOX, None)
        if inbox:
            self._state[INBOX] = inbox

    @property
    def test_clocks_listed(self) -> bool:
        """Whether what is on test clocks was listed; its changes come with all others."""
        return bool(self._state.get(CLOCKS))

    def note_clocks(self, *, listed: bool) -> None:
        """Note whether what is on test clocks was listed."""
        self._state.pop(CLOCKS, None)
        if listed:
            self._state[CLOCKS] = True

    @property
    def may_repeat(self) -> bool:
        """Whether rows may have been given before the open backfill was begun."""
        return READ_BEFORE in self._state

    @property
    def version(self) -> int | None:
        """The version of the table that the list was last read for."""
        found: int | None = self._state.get("version")
        return found

    def note_version(self, number: int) -> None:
        """Note the version of the table that its rows belong to."""
        self._state["version"] = number

    def note_first_attempt(self, at: int) -> None:
        """Note when a first backfill is tried, if none was tried before (Unix seconds)."""
        if not self.listed and self.backfill is None:
            self._state.setdefault(BEGUN, rfc3339(at))

    @property
    def first_attempt_at(self) -> int | None:
        """When a first backfill was tried, of which nothing else may be known (Unix seconds)."""
        noted = self._state.get(BEGUN)
        try:
            return unix_seconds(noted) if noted else None
        except (AttributeError, TypeError, ValueError):
            raise self._unreadable(BEGUN) from None

    def start_backfill(
        self, anchor: int, remaining: Iterable[RemainingWindow], version: int | None = None
    ) -> None:
        """Start a backfill; changes will be read from `anchor` (Unix seconds)."""
        self.forget()
        if version:
            self._state["version"] = version
        self.restart(anchor, remaining)

    def restart(self, anchor: int, remaining: Iterable[RemainingWindow]) -> None:
        """Begin the list again, with the changes still to be read from `anchor` (Unix seconds)."""
        windows = list(remaining)
        self._state["backfill"] = {"anchor": rfc3339(anchor)}
        self.note_start(min((low for low, _, _ in windows), default=0))
        self.set_remaining(windows)

    def set_remaining(self, remaining: Iterable[RemainingWindow]) -> None:
        """Note what of the backfill is left."""
        if self.backfill is not None:
            self.backfill["missing"] = [list(window) for window in remaining]

    def finish(self) -> None:
        """End the backfill: from now on changes count."""
        self.advance(self.anchor, ())
        self._state.pop("backfill", None)

    def advance(self, since: int, seen: Iterable[str]) -> None:
        """Note that all changes before `since` were written, and these ids after it."""
        self._state["replication_key"] = self._replication_key
        self._state["replication_key_value"] = rfc3339(since)
        self._state["seen"] = sorted(seen)

    @property
    def to_list_again(self) -> list[RemainingWindow]:
        """What is left to list once more while changes are read; empty if nothing is."""
        noted = self._state.get(AGAIN)
        return [] if noted is None else self._windows(noted, AGAIN)

    @property
    def again_before(self) -> int:
        """Of what is listed once more, only what was created before it is wanted (Unix seconds).

        0 if all is; lists that Stripe filters by `created` have windows instead.
        """
        return int((self._state.get(AGAIN) or {}).get("before", 0))

    def list_again(self, remaining: Iterable[RemainingWindow], *, before: int = 0) -> None:
        """Note what is to be listed once more, in the place of what was."""
        self._state[AGAIN] = {"missing": [list(window) for window in remaining]}
        if before:
            self._state[AGAIN]["before"] = before

    def in_second_listing(self) -> SecondListingBookmark:
        """The same bookmark as the listing sees it that is done once more."""
        return SecondListingBookmark(
            self._state, stream=self._stream, replication_key=self._replication_key
        )

    @property
    def shape(self) -> str | None:
        """The name of the settings that its rows were made with; None if nobody noted them."""
        found: str | None = self._state.get(SHAPE)
        return found

    def note_shape(self, name: str) -> None:
        """Note the settings that its rows are made with from now on."""
        self._state[SHAPE] = name

    @property
    def start(self) -> int:
        """The earliest `created` that was listed from, in Unix seconds; 0 for the beginning."""
        noted = self._state.get(START)
        try:
            return unix_seconds(noted) if noted else 0
        except (AttributeError, TypeError, ValueError):
            raise self._unreadable(START) from None

    def listed_from(self, start: int) -> int:
        """The earliest `created` that its list is read from: `start` if it was not begun yet.

        What is left of a list goes as far back as what was read of it, whatever the settings say
        meanwhile. Unix seconds; 0 for the beginning.
        """
        return self.start if self.listed or self.backfill is not None else start

    def note_start(self, start: int) -> None:
        """Note the earliest `created` that is listed from (Unix seconds)."""
        self._state.pop(START, None)
        if start:
            self._state[START] = rfc3339(start)

    def forget(self) -> None:
        """Start over: the next thing to do is list everything."""
        read_until = self._read_until()
        for key in KEYS:
            self._state.pop(key, None)
        if read_until is not None:
            self._state[READ_BEFORE] = rfc3339(read_until)

    def _read_until(self) -> int | None:
        """Unix seconds up to which changes were read; None if nothing readable says so."""
        try:
            return self.changes_from if self.listed or self.backfill else None
        except SettingsError:
            return None

    def _unreadable(self, what: str) -> SettingsError:
        return SettingsError(
            f"The state of stream {self._stream!r} cannot be read: {what!r} is missing or "
            "malformed. Give the state file that this tap wrote last, or none to read all anew."
        )


class SecondListingBookmark(Bookmark):
    """A bookmark whose list is read once more: what of that is left takes the backfill's place."""

    @property
    @override
    def backfill(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._state.get(AGAIN)
        return found

    @property
    @override
    def changes_from(self) -> int:
        """Nothing is too old for it: changes are read beside it."""
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
