"""What is on Stripe's test clocks: its lists leave that out unless they are asked for a clock.

A clock has a few customers with a few subscriptions each, so all of it is read in one go: what was
interrupted is read again from the beginning. Its objects' `created` is the clock's time, which may
lie years ahead; `updated` is therefore the time at which they were read.
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
"""The parameter that narrows a list to one clock, or to one customer on it."""


class TestClockReader:
    """Goes from the clocks, list by list, to what is on them, for the streams of one list."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        start: int,
        begin: Callable[[Response], None] = lambda _: None,
    ) -> None:
        self._outputs = outputs
        self._streams = names_of(outputs)
        self._hops = test_clock_hops(outputs[0].stream.object_type)
        self._lists = [
            *(ListEndpoint(hop.path, by_created=False) for hop in self._hops[:-1]),
            listed,
        ]
        self._start = start
        self._begin = begin
        """Takes each response: the backfill that it is part of begins with the first."""

    def read(self) -> TapReader[None]:
        """Read all, and note in the bookmarks that it was."""
        yield from self._read_list(0, ())
        for output in self._outputs:
            output.bookmark.note_clocks(listed=True)

    def _read_list(self, hop: int, narrowed: Filter) -> TapReader[None]:
        trail, cursor, more = Trail(), "", True
        while more:
            try:
                answer: Response = yield self._page(hop, narrowed, cursor, trail)
            except StripeError as error:
                if not self._goes_on(error, hop, narrowed, trail):
                    return
                cursor = ""  # its object was deleted: begin again
                continue
            self._begin(answer)
            found, more = answer.body["data"], answer.body["has_more"]
            cursor = found[-1]["id"] if more else ""
            yield from self._follow(hop, found, int(answer.sent_at))

    def _page(self, hop: int, narrowed: Filter, cursor: str, trail: Trail) -> GetRequest:
        listed, account = self._lists[hop], self._outputs[0].account
        params = [*narrowed, *listed.page(self._start, cursor=cursor)]
        return GetRequest(
            listed.path, params, account, trail=trail, streams=self._streams, timed=not hop
        )

    def _follow(self, hop: int, found: list[JSON], at: int) -> TapReader[None]:
        """Read the lists that objects lead to; at the last list, write the objects."""
        listed = self._lists[hop]
        if listed is not self._lists[-1]:
            param = self._hops[hop + 1].param or ""
            filters = [((param, source["id"]),) for source in found]
            yield Gather([self._read_list(hop + 1, narrowed) for narrowed in filters])
            return
        lists = NestedLists(listed, self._outputs[0].account, self._streams)
        objects = yield from lists.complete(found)
        records = [pair for source in objects for pair in records_of(source, self._outputs, at)]
        yield Write(group_by_partition(records))

    def _goes_on(self, error: StripeError, hop: int, narrowed: Filter, trail: Trail) -> bool:
        """Whether to begin the list again; False if the clock or customer is gone meanwhile."""
        if isinstance(error, MissingPermissionError):
            error.needs = self._hops[hop].permission
        cursor_gone = error.missing and error.failure.param == "starting_after"
        if cursor_gone and trail.restart():
            return True
        if cursor_gone or not (error.missing and narrowed):
            raise error
        return False
