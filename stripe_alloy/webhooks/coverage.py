"""Pure: which periods the inbox covers, and which events must still be fetched.

Times are Unix seconds. An interval is half-open, [low, high).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_EVENT_DELAY = 300
"""Maximum delay of an event, in Stripe's list or in its delivery, in seconds."""
HEARTBEAT_TTL = 10.0
"""Seconds after its last heartbeat in which a receiver counts as up."""

Interval = tuple[float, float]
FOREVER = float("inf")


@dataclass(frozen=True)
class Uptime:
    """A period in which a receiver was up; `until` is its last heartbeat."""

    started: float
    until: float


@dataclass(frozen=True)
class Fetched:
    """A period of which the events were listed, at `at`."""

    low: float
    high: float
    at: float


def covered_by_uptime(uptime: Uptime, *, proven: float, now: float) -> Interval:
    """Return what a receiver's uptime covers, given the time of its first event.

    Before the first delivery it is unknown whether the endpoint was registered. Events from right
    before the end may not have been delivered; a receiver that is up will still get them.
    """
    low = max(uptime.started, proven)
    if uptime.until >= now - HEARTBEAT_TTL:
        return low, FOREVER
    return low, uptime.until - MAX_EVENT_DELAY


def covered_by_list(fetched: Fetched, *, now: float) -> Interval:
    """Return what a listing covers; its end is listed again once late events have arrived."""
    if now < fetched.high + MAX_EVENT_DELAY:
        return fetched.low, fetched.high
    return fetched.low, min(fetched.high, fetched.at - MAX_EVENT_DELAY)


def gaps(need: Interval, covered: Iterable[Interval]) -> list[Interval]:
    """Return the parts of `need` that are not covered, oldest first.

    >>> gaps((0, 10), [(2, 4), (3, 6), (9, 20)])
    [(0, 2), (6, 9)]
    """
    found = []
    reached, end = need
    for low, high in sorted(interval for interval in covered if interval[0] < interval[1]):
        if reached >= end:
            break
        if low > reached:
            found.append((reached, min(low, end)))
        reached = max(reached, high)
    if reached < end:
        found.append((reached, end))
    return found


def merge_ranges(entries: Iterable[Fetched], *, now: float) -> list[Fetched]:
    """Return the same coverage in fewer intervals; those that may still change are kept."""
    entries = list(entries)
    settled = sorted((entry.low, min(entry.high, entry.at - MAX_EVENT_DELAY)) for entry in entries)
    found: list[Interval] = []
    for low, high in settled:
        if high <= low:
            continue
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    open_ended = [
        Fetched(max(entry.low, entry.at - MAX_EVENT_DELAY), entry.high, entry.at)
        for entry in entries
        if entry.at < entry.high + MAX_EVENT_DELAY and now < entry.high + MAX_EVENT_DELAY
    ]
    return [Fetched(low, high, high + MAX_EVENT_DELAY) for low, high in found] + open_ended
