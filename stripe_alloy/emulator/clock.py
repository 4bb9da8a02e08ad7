"""The emulator's clock."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SEED_END = 1_793_491_200  # 2026-11-01T00:00:00Z: the last day of the seeded business


class Clock:
    """A clock that can be advanced."""

    def __init__(self, source: Callable[[], float] | None = None) -> None:
        self._source = source or time.time
        self._offset = 0.0

    def __call__(self) -> float:
        """Return the time in Unix seconds."""
        return self._source() + self._offset

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._offset += seconds

    def http_date(self) -> str:
        """Return the time for a Date header."""
        return formatdate(self(), usegmt=True)
