"""Cuts a long time into spans of events that can be read oldest first, from a list that cannot.

Stripe lists events newest first. A bookmark may move only once everything before it is written,
so a list that is longer than a run lasts would never be done. What was read of its newest end is
kept, and what is left is read from its old end, in spans that hold about as many events.

Pure: no clock, no network. `Spans` says what to ask; its caller asks and hands back the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stripe_alloy.api.events import Event
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from tap_stripe_alloy.listing.windows import RemainingWindow

FIRST = 500
"""Events that are read in a row, and kept, before a time is cut for the first time."""
MOST = 1_000
"""Events that are read in a row later on, so that few pages are partly filled."""
AIM = 0.7
"""The share of these that the next span is to have: one that has more is cut again."""
FAR = 4
"""How many times as many a time must be likely to have to be cut before that many were read."""
WIDER = 8
"""How many times as long the next span may be as the one before, if that had few events."""


@dataclass
class _Stretch:
    """`created` in [low, high): what was read of it, newest first."""

    low: int
    high: int
    events: list[Event] = field(default_factory=list)
    whole: bool = False


class Spans:
    """The events of `created` in [low, high), oldest span first."""

    def __init__(self, low: int, high: int = NO_UPPER_BOUND) -> None:
        self._stack = [_Stretch(low, high)]
        """The oldest last; all but that one are whole, or not begun."""
        self._kept = FIRST
        self._cursor: str | None = None
        self._seconds = 0
        """How long the next span is to be; 0 as long as nothing was cut."""

    def page(self) -> RemainingWindow | None:
        """Return what to ask for: `created` in [low, high), after a cursor; None if nothing."""
        if not self._stack or self._stack[-1].whole:
            return None
        self._narrow()
        top = self._stack[-1]
        return top.low, top.high, self._cursor

    def add(self, events: Sequence[Event], *, whole: bool) -> None:
        """Take a page of what was asked for; `whole` if no page follows."""
        top = self._stack[-1]
        top.events += events
        top.whole = whole
        self._cursor = None if whole else events[-1]["id"]
        if not whole and max(len(top.events), _likely(top) / FAR) >= self._kept:
            self._cut(top)
        elif whole and self._seconds:
            self._kept = min(2 * self._kept, MOST)
            wider = min(WIDER, AIM * self._kept / max(1, len(top.events)))
            self._seconds = max(1, int(self._seconds * wider))

    @property
    def ready(self) -> bool:
        """Whether the oldest events are there to be taken."""
        return bool(self._stack) and self._stack[-1].whole

    def take(self, most: int | None = None) -> tuple[Sequence[Event], bool]:
        """Give the oldest events, `most` of them or those of a second, and whether that is all."""
        top = self._stack[-1]
        older = len(top.events) if most is None else _oldest(top.events, most)
        if older < len(top.events):
            at = len(top.events) - older
            taken, top.events = top.events[at:], top.events[:at]
            return taken, False
        self._stack.pop()
        return top.events, not self._stack

    def _cut(self, top: _Stretch) -> None:
        """Keep what was read of a stretch; what is older is read from its beginning."""
        oldest, newest = top.events[-1]["created"], top.events[0]["created"]
        kept = [event for event in top.events if event["created"] > oldest]
        if not kept or oldest <= top.low:
            return
        self._stack[-1:] = [
            _Stretch(oldest + 1, top.high, kept, whole=True),
            _Stretch(top.low, oldest + 1),
        ]
        self._cursor = None
        self._seconds = max(1, int(AIM * (newest - oldest)))

    def _narrow(self) -> None:
        """Cut the next span off a stretch that is not begun, if it is likely to be long."""
        top = self._stack[-1]
        if not self._seconds or self._cursor or top.high - top.low <= self._seconds:
            return
        middle = top.low + self._seconds
        self._stack[-1:] = [_Stretch(middle, top.high), _Stretch(top.low, middle)]


def _likely(stretch: _Stretch) -> float:
    """How many events there are if the older ones are as dense as those that were read."""
    oldest, newest = int(stretch.events[-1]["created"]), int(stretch.events[0]["created"])
    return len(stretch.events) * (newest - stretch.low) / max(1, newest - oldest)


def _oldest(events: Sequence[Event], most: int) -> int:
    """How many of the oldest events are `most` at most and whole seconds, but one second at least.

    >>> _oldest([{"created": 3}, {"created": 2}, {"created": 2}, {"created": 1}], 2)
    1
    >>> _oldest([{"created": 3}, {"created": 2}, {"created": 2}], 1)
    2
    """
    if len(events) <= most:
        return len(events)
    first: int = events[-most - 1]["created"]  # the first that does not fit
    times = [int(event["created"]) for event in events]
    return sum(at < first for at in times) or times.count(first)
