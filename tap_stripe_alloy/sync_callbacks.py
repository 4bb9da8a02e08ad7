"""What readers tell the sync that they are part of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stripe_alloy.api.errors import PermissionMissing
from tap_stripe_alloy.records.partitions import Output
from tap_stripe_alloy.scheduler import Step


@dataclass(frozen=True)
class SyncCallbacks:
    """What a reader tells the sync."""

    refused: Callable[[Sequence[Output], PermissionMissing], None]
    """The key may not read these."""
    stale: Callable[[Sequence[Output], float, float], Sequence[Output]]
    """Which were last read longer ago than Stripe keeps events, at this time on its clock, if the
    events are needed from another time on."""
    relist: Callable[[Sequence[Output]], Iterator[Step]]
    """List these again from the beginning."""
    listed: Callable[[Sequence[Output]], None]
    """The lists of these were read to their end."""
