"""Pure: which part of the past the inbox holds all events of, and which must still be fetched.

Times are Unix seconds. An interval is half-open, [low, high).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LATE = 300
"""Seconds by which an event may come late: into Stripe's own list, or from Stripe to us."""
ALIVE = 10.0
"""Seconds after its last sign of life that a receiver is taken to be up."""

Interval = tuple[float, float]
FOREVER = float("inf")


@dataclass(frozen=True)
class Uptime:
    """A time in which a receiver was up; `until` is its last sign of life."""

    started: float
    until: float


@dataclass(frozen=True)
class Fetched:
    """A time whose events were listed, at `at`."""

    low: float
    high: float
    at: float


def covered_by_uptime(uptime: Uptime, *, proven: float, now: float) -> Interval:
    """What a receiver's uptime covers, given when it had its first event.

    Before the first delivery nobody knows whether Stripe was told of the receiver. What happened
    right before the end may not have been delivered, but a receiver that is up is still to get it.
    """
    low = max(uptime.started, proven)
    if uptime.until >= now - ALIVE:
        return low, FOREVER
    return low, uptime.until - LATE


def covered_by_list(fetched: Fetched, *, now: float) -> Interval:
    """What a listing covers: once the late ones have come, its end is to be looked at again."""
    if now < fetched.high + LATE:
        return fetched.low, fetched.high
    return fetched.low, min(fetched.high, fetched.at - LATE)


def gaps(need: Interval, covered: Iterable[Interval]) -> list[Interval]:
    """What of `need` is not covered, oldest first.

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
    """The same coverage in few intervals: what is settled is joined, what may change is kept."""
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
