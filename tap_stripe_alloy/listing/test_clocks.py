"""What is on Stripe's test clocks: its lists leave that out unless they are asked for a clock.

A clock has a few customers with a few subscriptions each, so all of it is read in one go: what was
cut short is read again from the beginning. Its objects' `created` is the clock's time, which may
lie years ahead; `updated` is therefore the time at which they were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import MissingPermissionError, StripeError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import ListEndpoint
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.object_types import test_clock_hops
from stripe_alloy.api.requests import GetRequest
from stripe_alloy.api.responses import Trail
from tap_stripe_alloy.listing.list_backfill import ListBackfill
from tap_stripe_alloy.records.partitions import StreamPartition, group_by_partition, records_of
from tap_stripe_alloy.scheduler import Batch, Get, LocalRead, Step, no_op, steps_of
from tap_stripe_alloy.sync_callbacks import SyncCallbacks

if TYPE_CHECKING:
    from tap_stripe_alloy.events.event_reader import EventReader


class TestClockReader:
    """Goes from the clocks, list by list, to what is on them, for the streams of one list.

    Where these streams follow a walk it waits for that, whose snapshots may be older.
    """

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        account: str | None,
        start: int,
        run: SyncCallbacks,
        walk: EventReader | None = None,
        begin: Callable[[Response], None] | None = None,
    ) -> None:
        self._outputs = outputs
        self.streams = [output.stream.name for output in outputs]
        self._ways = test_clock_hops(outputs[0].stream.object_type)
        self._lists = [
            *(ListEndpoint(way.path, by_created=False) for way in self._ways[:-1]),
            listed,
        ]
        self.account = account
        self._start = start
        self._run = run
        self._walk = walk
        self._begin = begin
        self._begun = False
        self._open = 0

    @property
    def ended(self) -> bool:
        """Whether all was read, if not yet written."""
        return self._begun and not self._open

    def next(self) -> Get | LocalRead | None:
        """Return the first page of clocks; what they lead to follows from that."""
        if self._begun or (self._walk and not self._may_follow(self._walk)):
            return None
        self._begun = True
        return self._page(0, ())

    def left(self) -> Mapping[str, float]:
        """Stream → requests under way: how many will follow, nobody knows."""
        return dict.fromkeys((output.stream.name for output in self._outputs), float(self._open))

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read a list on the way."""
        self._run.refused(self._outputs, error)

    def _may_follow(self, walk: EventReader) -> bool:
        """Streams that the walk found to be out of date are listed anew, clocks and all."""
        marks = [output.bookmark for output in self._outputs]
        return walk.ended and all(mark.listed and not mark.clocks for mark in marks)

    def _page(
        self,
        step: int,
        narrowed: tuple[tuple[str, str], ...],
        cursor: str = "",
        trail: Trail | None = None,
    ) -> Get:
        self._open += 1
        trail = trail or Trail()
        listed = self._lists[step]
        params = [*narrowed, *listed.page(self._start, cursor=cursor)]
        return Get(
            GetRequest(listed.path, params, self.account, trail=trail),
            partial(self._answered, step, narrowed, trail),
            partial(self._not_answered, step, narrowed, trail),
        )

    def _answered(
        self, step: int, narrowed: tuple[tuple[str, str], ...], trail: Trail, answer: Response
    ) -> Iterator[Step]:
        if self._begin:
            self._begin(answer)
        found: list[JSON] = answer.body["data"]
        if answer.body["has_more"]:
            yield self._page(step, narrowed, found[-1]["id"], trail)
        listed = self._lists[step]
        if listed is self._lists[-1]:
            then = partial(self._read, int(answer.sent_at))
            yield from steps_of(NestedLists(listed, self.account).complete(found), then)
            return
        param = self._ways[step + 1].param or ""
        for source in found:
            yield self._page(step + 1, ((param, source["id"]),))
        yield from self._read(int(answer.sent_at), ())

    def _not_answered(
        self, step: int, narrowed: tuple[tuple[str, str], ...], trail: Trail, error: StripeError
    ) -> Iterator[Step]:
        """Go on where a clock, or a customer on it, was deleted meanwhile."""
        if isinstance(error, MissingPermissionError):
            error.needs = self._ways[step].permission
        cursor_gone = error.missing and error.failure.param == "starting_after"
        if not (error.missing and narrowed) or (cursor_gone and not trail.restart()):
            raise error
        if cursor_gone:  # the object that it names is: begin again
            yield self._page(step, narrowed, trail=trail)
        yield from self._read(0, ())

    def _read(self, at: int, objects: Sequence[JSON]) -> Iterator[Step]:
        self._open -= 1
        records = [pair for source in objects for pair in records_of(source, self._outputs, at)]
        yield Batch(group_by_partition(records), no_op if self._open else self._note)

    def _note(self) -> None:
        for output in self._outputs:
            output.bookmark.note_clocks(listed=True)


class BackfillWithTestClocks:
    """A backfill that begins with what is on test clocks: it is complete only with that."""

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
        self._listing = ListBackfill(outputs, listed, account=account, start=start, run=run)
        self._clocks = TestClockReader(
            outputs, listed, account=account, start=start, run=run, begin=self._listing.begin
        )

    def next(self) -> Get | LocalRead | None:
        """Return the next page to ask for."""
        return self._listing.next() if self._clocks.ended else self._clocks.next()

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        return self._listing.left()

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read this list, or one on the way to the clocks'."""
        self._listing.refused(error)
