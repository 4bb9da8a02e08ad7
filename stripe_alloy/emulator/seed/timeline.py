"""Runs planned steps in the order of their time; a step may plan further ones."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from stripe_alloy.emulator.session import Session


class Timeline:
    """The planned steps; the session's clock follows them."""

    def __init__(self, session: Session, end: int) -> None:
        self._session = session
        self._end = end
        self._steps: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, moment: int, step: Callable[..., Any], *arguments: Any) -> None:
        """Plan a step, unless it is after the end."""
        self._count += 1
        if moment <= self._end:
            heapq.heappush(self._steps, (moment, self._count, step, arguments))

    def run(self) -> None:
        """Run all steps."""
        while self._steps:
            moment, _, step, arguments = heapq.heappop(self._steps)
            self._session.now = moment
            step(*arguments)
