"""Lists that show all there is only if they are read once for each value of a parameter.

`/v1/prices` shows active prices unless it is asked for inactive ones. The parts are read side by
side, each in windows of its own; together they are one backfill. What is left of the first part
stands where that of any backfill does, what is left of the others beside it: `"others": [[[low,
high, cursor], …], …]`. A backfill from before there were parts has none: the others are read whole.
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
"""Noted as left of a part that was read: a backfill with nothing left would be at its end."""


def read_variants(
    outputs: Sequence[StreamPartition], listed: ListEndpoint, *, start: int, completed: Completed
) -> TapReader[bool]:
    """Read all parts of a list; False if the backfill is outdated."""
    left = _left_of_parts(outputs[0], len(listed.variants), start)
    parts = [
        _Part(
            outputs,
            replace(listed, params=(*listed.params, *params), variants=()),
            start=start,
            completed=completed,
            missing=missing,
        )
        for params, missing in zip(listed.variants, left, strict=True)
    ]
    for part in parts:
        part.siblings = parts
    yield Gather([part.read() for part in parts])
    return not any(part.outdated for part in parts)


class _Part(ListBackfill):
    """The list for one value of the parameter. The backfill as a whole is up to all its parts."""

    siblings: Sequence[_Part]

    @override
    def read(self) -> TapReader[bool]:
        yield self
        return not self.outdated

    @override
    def begin(self, first: Response) -> None:
        if not self._begun:
            super().begin(first)
            for part in self.siblings:
                part._begun = True  # noqa: SLF001 - another of its kind
            self._note_others()

    @override
    def stop(self) -> None:
        for part in self.siblings:
            part.over = True

    @override
    def _note_left(self, missing: Sequence[RemainingWindow]) -> None:
        left = [part._planner.missing() for part in self.siblings]  # noqa: SLF001 - of its kind
        if any(left):
            super()._note_left(left[0] or [NOTHING])
            self._note_others()
        else:
            super()._note_left([])

    def _note_others(self) -> None:
        others = [part._planner.missing() for part in self.siblings[1:]]  # noqa: SLF001 - of its kind
        for output in self.outputs:
            if output.bookmark.backfill is not None:
                output.bookmark.backfill[OTHERS] = [
                    [list(window) for window in windows] for windows in others
                ]


def _left_of_parts(
    output: StreamPartition, count: int, start: int
) -> list[list[RemainingWindow] | None]:
    """What an interrupted backfill left of each part; None for all if none was begun."""
    first = output.bookmark.missing
    if first is None:
        return [None] * count
    others: Any = (output.bookmark.backfill or {}).get(OTHERS)
    try:
        read = [[(int(low), int(high), at) for low, high, at in windows] for windows in others]
    except (TypeError, ValueError):
        read = []
    if len(read) != count - 1:
        read = [[(start, NO_UPPER_BOUND, None)]] * (count - 1)
    return [first, *read]
