"""Lists once more what was listed with other settings, while changes go on being read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stripe_alloy.api.errors import MissingPermissionError
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import Get, Source

if TYPE_CHECKING:
    from tap_stripe_alloy.events.event_reader import EventReader


class SecondListing:
    """One list, once more, for streams that have the same part of it left.

    It waits for the account's changes, whose snapshots may be older than what the list shows.
    """

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        *,
        account: str | None,
        walk: EventReader | None,
        listing: Callable[[Sequence[StreamPartition]], Source],
    ) -> None:
        self.account = account
        self.streams = [output.stream.name for output in outputs]
        self._outputs = outputs
        self._walk = walk
        self._make = listing
        self._listing: Source | None = None

    def next(self) -> Get | None:
        """Return the next page to ask for."""
        if self._listing is None:
            if self._walk and not self._walk.ended:
                return None
            if not all(
                output.bookmark.listed and output.bookmark.to_list_again for output in self._outputs
            ):
                return None  # they turned out to be too old, and are listed from the beginning
            self._listing = self._make([self._once_more(output) for output in self._outputs])
        found = self._listing.next()
        assert found is None or isinstance(found, Get)  # noqa: S101 - lists come from Stripe
        return found

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        return self._listing.left() if self._listing else {}

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read this list."""
        if self._listing:
            self._listing.refused(error)

    def _once_more(self, output: StreamPartition) -> StreamPartition:
        return replace(
            output,
            bookmark=output.bookmark.in_second_listing(),
            passes_through=False,
            created_before=output.bookmark.again_before,
        )
