"""Reads objects on Stripe test clocks, which list endpoints omit unless filtered by clock.

A clock has a few customers with a few subscriptions each, so all of them are read in one pass. An
interrupted pass starts over. The `created` of these objects is the clock's time, which may be years
ahead. Their `updated` is therefore the time at which they were read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import MissingPermissionError, StripeError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import ListEndpoint
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.object_types import test_clock_hops
from stripe_alloy.api.requests import Gather, GetRequest
from stripe_alloy.api.responses import Trail
from tap_stripe_alloy.records.partitions import (
    StreamPartition,
    group_by_partition,
    names_of,
    records_of,
)
from tap_stripe_alloy.scheduler import TapReader, Write

Filter = tuple[tuple[str, str], ...]
"""The parameter that filters a list by one clock, or by one customer on it."""


class TestClockReader:
    """Follows lists from the test clocks to their objects, for the streams of one list endpoint."""

    def __init__(
        self,
        partitions: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        start: int,
        begin: Callable[[Response], None] = lambda _: None,
    ) -> None:
        self._partitions = partitions
        self._streams = names_of(partitions)
        self._hops = test_clock_hops(partitions[0].stream.object_type)
        self._lists = [
            *(ListEndpoint(hop.path, by_created=False) for hop in self._hops[:-1]),
            listed,
        ]
        self._start = start
        self._leave_out_without_id = partitions[0].stream.leave_out_without_id
        self._begin = begin
        """Called with each response: the first one starts the backfill."""

    def read(self) -> TapReader[None]:
        """Read and write all objects on test clocks, and note it in the bookmarks."""
        yield from self._read_list(0, ())
        for partition in self._partitions:
            partition.bookmark.note_clocks(listed=True)

    def _read_list(self, hop: int, filtered_by: Filter) -> TapReader[None]:
        trail, cursor, more = Trail(), "", True
        while more:
            try:
                answer: Response = yield self._page(hop, filtered_by, cursor, trail)
            except StripeError as error:
                if not self._should_retry(error, hop, filtered_by, trail):
                    return
                cursor = ""  # its object was deleted: start over
                continue
            self._begin(answer)
            found, more = self._with_ids(answer.body["data"]), answer.body["has_more"]
            cursor = found[-1]["id"] if more else ""
            yield from self._follow(hop, found, int(answer.sent_at))

    def _page(self, hop: int, filtered_by: Filter, cursor: str, trail: Trail) -> GetRequest:
        listed, account = self._lists[hop], self._partitions[0].account
        params = [*filtered_by, *listed.page(self._start, cursor=cursor)]
        return GetRequest(
            listed.path,
            params,
            account,
            trail=trail,
            streams=self._streams,
            all_lack_ids=True,
            timed=not hop,
        )

    def _with_ids(self, found: list[JSON]) -> list[JSON]:
        return [source for source in found if source.get("id") or self._leave_out_without_id()]

    def _follow(self, hop: int, found: list[JSON], at: int) -> TapReader[None]:
        """Read the next list for each object; at the last list, write the objects."""
        listed = self._lists[hop]
        if listed is not self._lists[-1]:
            param = self._hops[hop + 1].param or ""
            filters = [((param, source["id"]),) for source in found]
            yield Gather([self._read_list(hop + 1, filtered_by) for filtered_by in filters])
            return
        account = self._partitions[0].account
        lists = NestedLists(listed, account, self._streams, self._leave_out_without_id)
        objects = yield from lists.complete(found)
        records = [pair for source in objects for pair in records_of(source, self._partitions, at)]
        yield Write(group_by_partition(records))

    def _should_retry(
        self, error: StripeError, hop: int, filtered_by: Filter, trail: Trail
    ) -> bool:
        """Whether to read the list again; False if the clock or customer was deleted meanwhile."""
        if isinstance(error, MissingPermissionError):
            error.needs = self._hops[hop].permission
        cursor_gone = error.missing and error.failure.param == "starting_after"
        if cursor_gone and trail.restart():
            return True
        if cursor_gone or not (error.missing and filtered_by):
            raise error
        return False
