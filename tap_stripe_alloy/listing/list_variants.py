"""Lists that show all there is only if they are read once for each value of a parameter.

`/v1/prices` shows active prices unless it is asked for inactive ones. The parts are read side by
side, each in windows of its own; together they are one backfill. What is left of the first part
stands where that of any backfill does, what is left of the others beside it: `"others": [[[low,
high, cursor], …], …]`. A backfill from before there were parts has none: the others are read whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import MissingPermissionError
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint
from tap_stripe_alloy.listing.list_backfill import ListBackfill
from tap_stripe_alloy.listing.windows import RemainingWindow
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import Get, LocalRead
from tap_stripe_alloy.sync_callbacks import SyncCallbacks

OTHERS = "others"
NOTHING: RemainingWindow = (0, 1, None)
"""Noted as left of a part that was read: a backfill with nothing left would be at its end."""


class _Part(ListBackfill):
    """The list for one value of the parameter. The backfill as a whole is up to all its parts."""

    def __init__(self, *args: Any, resumed: bool, **more: Any) -> None:
        super().__init__(*args, **more)
        self._resumed = resumed
        self.siblings: Sequence[_Part] = (self,)

    def left_here(self) -> list[RemainingWindow]:
        """What is left to read of this part."""
        return self._slices.missing()

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
        if any(part.left_here() for part in self.siblings):
            super()._note_left(self.siblings[0].left_here() or [NOTHING])
            self._note_others()
        else:
            super()._note_left([])

    def _note_others(self) -> None:
        others = [part.left_here() for part in self.siblings[1:]]
        for output in self.outputs:
            if output.bookmark.backfill is not None:
                output.bookmark.backfill[OTHERS] = [
                    [list(window) for window in windows] for windows in others
                ]


class VariantListing:
    """A backfill over a list that has several parts."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        account: str | None,
        start: int,
        run: SyncCallbacks,
    ) -> None:
        self.account = account
        self.streams = [output.stream.name for output in outputs]
        self._outputs = outputs
        self._run = run
        kept = _kept(outputs[0], len(listed.variants), start)
        self._parts = [
            _Part(
                outputs,
                replace(listed, params=(*listed.params, *params), variants=()),
                account=account,
                start=start,
                run=run,
                missing=missing,
                resumed=missing is not None,
            )
            for params, missing in zip(listed.variants, kept, strict=True)
        ]
        for part in self._parts:
            part.siblings = self._parts

    def next(self) -> Get | LocalRead | None:
        """Return the next page to ask for."""
        return next((get for part in self._parts if (get := part.next())), None)

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        pages = [part.left() for part in self._parts]
        return {stream: sum(part[stream] for part in pages) for stream in pages[0]}

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read this list."""
        self._run.refused(self._outputs, error)


def _kept(output: StreamPartition, count: int, start: int) -> list[list[RemainingWindow] | None]:
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
