"""Splits a long period into spans of events, so that they can be read oldest first.

Stripe lists events newest first. A bookmark may advance only once every older change is written,
so a list that takes longer than a run would never be finished. Therefore the newest events read
are kept, and the rest is read from its oldest end, in spans of about equal numbers of events.

Pure: no clock, no network. `Spans` returns the window to request; its caller sends the request and
passes the events back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stripe_alloy.api.events import Event
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from tap_stripe_alloy.listing.windows import RemainingWindow

FIRST = 500
"""Events to read, and keep in memory, before a period is split for the first time."""
MOST = 1_000
"""Events to read before later splits: larger, so that few pages are partly filled."""
TARGET_SHARE = 0.7
"""Target size of the next span as a share of that number: a span over it is split again."""
EARLY_SPLIT_FACTOR = 4
"""Split early if the period probably has this many times that number of events."""
MAX_GROWTH = 8
"""The next span may be at most this many times as long as one with few events."""


@dataclass
class _Period:
    """The events read so far with `created` in [low, high), newest first."""

    low: int
    high: int
    events: list[Event] = field(default_factory=list)
    whole: bool = False


class Spans:
    """The events with `created` in [low, high), oldest span first."""

    def __init__(self, low: int, high: int = NO_UPPER_BOUND) -> None:
        self._stack = [_Period(low, high)]
        """The oldest last; all others are either complete or not started."""
        self._kept = FIRST
        self._cursor: str | None = None
        self._seconds = 0
        """Target length of the next span (seconds); 0 before the first split."""

    def page(self) -> RemainingWindow | None:
        """Return the window to request: (low, high, cursor); None if nothing is to be read now."""
        if not self._stack or self._stack[-1].whole:
            return None
        self._split_off_span()
        top = self._stack[-1]
        return top.low, top.high, self._cursor

    def add(self, events: Sequence[Event], *, cursor: str | None) -> None:
        """Add a page of the requested window; `cursor` is its last ID, None if no page follows."""
        top = self._stack[-1]
        top.events += events
        top.whole = whole = cursor is None
        self._cursor = cursor
        if (
            not whole
            and top.events
            and max(len(top.events), _estimated_count(top) / EARLY_SPLIT_FACTOR) >= self._kept
        ):
            self._split(top)
        elif whole and self._seconds:
            self._kept = min(2 * self._kept, MOST)
            wider = min(MAX_GROWTH, TARGET_SHARE * self._kept / max(1, len(top.events)))
            self._seconds = max(1, int(self._seconds * wider))

    @property
    def ready(self) -> bool:
        """Whether the oldest span is complete, so that `take` can return its events."""
        return bool(self._stack) and self._stack[-1].whole

    def take(self, most: int | None = None) -> tuple[Sequence[Event], bool]:
        """Return the oldest events and whether they are the last ones.

        At most `most` events, but at least one second of them; None for the complete span.
        """
        top = self._stack[-1]
        older = len(top.events) if most is None else _count_to_take(top.events, most)
        if older < len(top.events):
            at = len(top.events) - older
            taken, top.events = top.events[at:], top.events[:at]
            return taken, False
        self._stack.pop()
        return top.events, not self._stack

    def _split(self, top: _Period) -> None:
        """Split a period: keep the events read so far, and read the rest from its oldest end."""
        oldest, newest = top.events[-1]["created"], top.events[0]["created"]
        kept = [event for event in top.events if event["created"] > oldest]
        if not kept or oldest <= top.low:
            return
        self._stack[-1:] = [
            _Period(oldest + 1, top.high, kept, whole=True),
            _Period(top.low, oldest + 1),
        ]
        self._cursor = None
        self._seconds = max(1, int(TARGET_SHARE * (newest - oldest)))

    def _split_off_span(self) -> None:
        """Split the next span off a period that is not started, if it is longer than the target."""
        top = self._stack[-1]
        if not self._seconds or self._cursor or top.high - top.low <= self._seconds:
            return
        middle = top.low + self._seconds
        self._stack[-1:] = [_Period(middle, top.high), _Period(top.low, middle)]


def _estimated_count(period: _Period) -> float:
    """Estimate the number of events, assuming that the rest is as dense as the part read."""
    oldest, newest = int(period.events[-1]["created"]), int(period.events[0]["created"])
    return len(period.events) * (newest - period.low) / max(1, newest - oldest)


def _count_to_take(events: Sequence[Event], most: int) -> int:
    """Return how many of the oldest events to take: complete seconds, up to `most` events.

    At least one second, even if it has more events.

    >>> _count_to_take([{"created": 3}, {"created": 2}, {"created": 2}, {"created": 1}], 2)
    1
    >>> _count_to_take([{"created": 3}, {"created": 2}, {"created": 2}], 1)
    2
    """
    if len(events) <= most:
        return len(events)
    first: int = events[-most - 1]["created"]  # the first that does not fit
    times = [int(event["created"]) for event in events]
    return sum(at < first for at in times) or times.count(first)
