"""Rate limits log lines that anybody can cause: one per minute and kind."""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable

EVERY_SECONDS = 60.0
MAX_KINDS = 500
"""Maximum number of kinds that are remembered; the oldest is forgotten first."""
_NUMBER = re.compile(r"\d+")


class Complaints:
    """Decides which message is logged: the first of a kind, then one per minute.

    Messages that differ only in numbers are of one kind.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: OrderedDict[str, float] = OrderedDict()

    def is_due(self, text: str) -> bool:
        """Count a message; return whether it should be logged."""
        kind, now = _NUMBER.sub("0", text), self._clock()
        logged_at = self._logged.get(kind)
        if logged_at is not None and now - logged_at < EVERY_SECONDS:
            return False
        self._logged[kind] = now
        self._logged.move_to_end(kind)
        if len(self._logged) > MAX_KINDS:
            self._logged.popitem(last=False)
        return True


class ComplaintFilter(logging.Filter):
    """Passes one record per minute and kind, from any logger."""

    def __init__(self) -> None:
        super().__init__()
        self._complaints = Complaints()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; those marked `limited` were counted by their logger."""
        if getattr(record, "limited", False):
            return True
        return self._complaints.is_due(f"{record.name} {record.getMessage()}")
