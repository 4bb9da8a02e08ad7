"""Pure: which periods the inbox covers, and which events must still be fetched.

Times are Unix seconds. An interval is half-open, [low, high).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LATE = 300
"""Maximum delay of an event, in Stripe's list or in its delivery, in seconds."""
ALIVE = 10.0
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
    """A period whose events were listed, at `at`."""

    low: float
    high: float
    at: float


def covered_by_uptime(uptime: Uptime, *, proven: float, now: float) -> Interval:
    """Return what a receiver's uptime covers, given the time of its first event.

    Before the first delivery, nobody knows whether the endpoint was registered. Events from right
    before the end may not have been delivered; a receiver that is up will still get them.
    """
    low = max(uptime.started, proven)
    if uptime.until >= now - ALIVE:
        return low, FOREVER
    return low, uptime.until - LATE


def covered_by_list(fetched: Fetched, *, now: float) -> Interval:
    """Return what a listing covers; its end is listed again once late events have arrived."""
    if now < fetched.high + LATE:
        return fetched.low, fetched.high
    return fetched.low, min(fetched.high, fetched.at - LATE)


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


def merged(entries: Iterable[Fetched], *, now: float) -> list[Fetched]:
    """Return the same coverage in fewer intervals; those that may still change are kept."""
    entries = list(entries)
    settled = sorted((entry.low, min(entry.high, entry.at - LATE)) for entry in entries)
    found: list[Interval] = []
    for low, high in settled:
        if high <= low:
            continue
        if found and low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    open_ended = [
        Fetched(max(entry.low, entry.at - LATE), entry.high, entry.at)
        for entry in entries
        if entry.at < entry.high + LATE and now < entry.high + LATE
    ]
    return [Fetched(low, high, high + LATE) for low, high in found] + open_ended
