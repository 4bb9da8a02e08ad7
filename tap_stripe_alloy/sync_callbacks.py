"""What readers tell the sync that they are part of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stripe_alloy.api.errors import MissingPermissionError
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import Step


@dataclass(frozen=True)
class SyncCallbacks:
    """What a reader tells the sync."""

    refused: Callable[[Sequence[StreamPartition], MissingPermissionError], None]
    """The key may not read these."""
    stale: Callable[[Sequence[StreamPartition], float, float], Sequence[StreamPartition]]
    """Which were last read longer ago than Stripe keeps events, at this time on its clock, if the
    events are needed from another time on."""
    relist: Callable[[Sequence[StreamPartition]], Iterator[Step]]
    """List these again from the beginning."""
    listed: Callable[[Sequence[StreamPartition]], None]
    """The lists of these were read to their end."""
