"""Conversion between Stripe's Unix seconds and RFC 3339."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

HOUR = 3_600
DAY = 24 * HOUR
LAST = 253_402_300_799
"""Last second of the year 9999 in Unix seconds, the latest time of RFC 3339."""
NO_SUCH_TIME = (OverflowError, ValueError, OSError)
"""Errors that `rfc3339` raises if a time cannot be written."""


def rfc3339(unix: int) -> str:
    """Convert Unix seconds to RFC 3339 in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00Z'
    """
    day, second = divmod(unix, DAY)
    return _date(day) + _time_of_day(second)


@lru_cache(maxsize=1 << 14)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, timezone.utc).date().isoformat()


@lru_cache(maxsize=DAY)
def _time_of_day(second: int) -> str:
    return f"T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def moment(value: Any) -> int | None:
    """Return a timestamp (Unix seconds) if something can have happened at it, otherwise None."""
    return value if type(value) is int and 0 <= value <= LAST else None


def rfc3339_if_possible(unix: int) -> str | int:
    """Convert Unix seconds to RFC 3339 in UTC; return times that cannot be written unchanged."""
    try:
        return rfc3339(unix)
    except NO_SUCH_TIME:
        return unix


def unix_seconds(text: str) -> int:
    """Convert RFC 3339 to Unix seconds; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp())
