"""Backfills lists that must be read once per value of a parameter to be complete.

`/v1/prices` returns only active prices unless `active=false` is given. The variants are read
concurrently, each in its own windows; together they are one backfill. The state stores the
remaining windows of the first variant as for any backfill, and those of the others beside it:
`"others": [[[low, high, cursor], …], …]`. Backfills from before variants existed have no `others`:
these variants are then read from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint
from stripe_alloy.api.requests import Gather
from tap_stripe_alloy.listing.list_backfill import Completed, ListBackfill
from tap_stripe_alloy.listing.windows import RemainingWindow
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import TapReader

OTHERS = "others"
NOTHING: RemainingWindow = (0, 1, None)
"""Placeholder for a finished first variant: a backfill without windows would count as finished."""


def read_variants(
    partitions: Sequence[StreamPartition], listed: ListEndpoint, *, start: int, completed: Completed
) -> TapReader[bool]:
    """Read all variants of a list; return False if the backfill is outdated."""
    left = _remaining_windows(partitions[0], len(listed.variants), start)
    parts = [
        _Part(
            partitions,
            replace(listed, params=(*listed.params, *params), variants=()),
            start=start,
            completed=completed,
            remaining=remaining,
        )
        for params, remaining in zip(listed.variants, left, strict=True)
    ]
    for part in parts:
        part.siblings = parts
    yield Gather([part.read() for part in parts])
    return not any(part.outdated for part in parts)


class _Part(ListBackfill):
    """The list for one value of the parameter; the backfill ends when all variants are read."""

    siblings: Sequence[_Part]

    @override
    def read(self) -> TapReader[bool]:
        if self._resumed and not any(part._planner.remaining() for part in self.siblings):  # noqa: SLF001 - same class
            self.siblings[0].end()
        yield self
        return not self.outdated

    def end(self) -> None:
        """End the backfill, once, if its state contains no remaining windows."""
        if any(partition.bookmark.backfill is not None for partition in self.partitions):
            self._save_remaining(())

    @override
    def begin(self, first: Response) -> None:
        if not self._started:
            super().begin(first)
            for part in self.siblings:
                part._started = True  # noqa: SLF001 - same class
            self._note_others()

    @override
    def stop(self) -> None:
        for part in self.siblings:
            part.abandoned = True

    @override
    def _save_remaining(self, remaining: Sequence[RemainingWindow]) -> None:
        left = [part._planner.remaining() for part in self.siblings]  # noqa: SLF001 - same class
        if any(left):
            super()._save_remaining(left[0] or [NOTHING])
            self._note_others()
        else:
            super()._save_remaining([])

    def _note_others(self) -> None:
        others = [part._planner.remaining() for part in self.siblings[1:]]  # noqa: SLF001 - same class
        for partition in self.partitions:
            if partition.bookmark.backfill is not None:
                partition.bookmark.backfill[OTHERS] = [
                    [list(window) for window in windows] for windows in others
                ]


def _remaining_windows(
    partition: StreamPartition, count: int, start: int
) -> list[list[RemainingWindow] | None]:
    """Return the remaining windows of each variant; None for each if no backfill was started."""
    first = partition.bookmark.remaining
    if first is None:
        return [None] * count
    others: Any = (partition.bookmark.backfill or {}).get(OTHERS)
    try:
        read = [[(int(low), int(high), at) for low, high, at in windows] for windows in others]
    except (TypeError, ValueError):
        read = []
    if len(read) != count - 1:
        read = [[(start, NO_UPPER_BOUND, None)]] * (count - 1)
    return [first, *read]
