"""Billing periods: months keep their day of the month, as far as the month has it."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta, timezone

_FIXED = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


def after(start: int, interval: str, count: int = 1, anchor: int | None = None) -> int:
    """Return the end of the period that starts at `start`, in Unix seconds."""
    begun = datetime.fromtimestamp(start, timezone.utc)
    if interval in _FIXED:
        return int((begun + timedelta(days=_FIXED[interval] * count)).timestamp())
    day = begun.day if anchor is None else datetime.fromtimestamp(anchor, timezone.utc).day
    months = begun.year * 12 + begun.month - 1 + _MONTHS[interval] * count
    year, month = divmod(months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return int(begun.replace(year=year, month=month + 1, day=min(day, last)).timestamp())


def day(moment: int) -> str:
    """Return a date as in descriptions."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%b %d, %Y")
