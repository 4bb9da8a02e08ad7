"""Reads a whole list, in windows, for the streams that come out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import MissingPermissionError, StripeError
from stripe_alloy.api.events import OVERLAP, RETENTION, SAME_TIME
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint, is_on_test_clock
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.requests import GetRequest
from stripe_alloy.api.responses import Trail
from stripe_alloy.api.timestamps import moment
from tap_stripe_alloy.listing.windows import (
    ListPosition,
    Page,
    PageRequest,
    RemainingWindow,
    Window,
    WindowPlanner,
)
from tap_stripe_alloy.records.partitions import (
    StreamPartition,
    changed_at,
    group_by_partition,
    records_of,
)
from tap_stripe_alloy.records.pass_through import PassThroughPage, on_clock_as_it_came, seconds
from tap_stripe_alloy.scheduler import Batch, Get, LocalRead, Step, no_op, steps_of
from tap_stripe_alloy.sync_callbacks import SyncCallbacks

if TYPE_CHECKING:
    from tap_stripe_alloy.events.event_reader import EventReader
    from tap_stripe_alloy.records.pass_through import PassThroughDecoder

SAMPLE = 50
"""Of so many pages that are written as they come, one is held against the schema."""
SUSPECTED = 5_000
"""Records of pages that could not be written so which are held against the schema."""


class ListBackfill:
    """A backfill: one pass over `/v1/<objects>`, its progress noted in each output's bookmark.

    All outputs are fed by the same list and have the same part of it left.
    """

    as_it_comes: ClassVar[bool] = True
    """Whether nothing has to look at the objects before they are written."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        account: str | None,
        start: int,
        run: SyncCallbacks,
        missing: Iterable[RemainingWindow] | None = None,
    ) -> None:
        self.outputs = outputs
        self.streams = [output.stream.name for output in outputs]
        self._listed = listed
        self._start = start
        self.account = account
        self._run = run
        self.over = False
        self._resumed = missing is None and outputs[0].bookmark.missing is not None
        if missing is None:
            missing = outputs[0].bookmark.missing
        self._begun = missing is not None
        if missing is None:
            missing = [(start, NO_UPPER_BOUND, None)]
        missing = list(missing)
        self._was_done = self._resumed and not missing
        self._slices = WindowPlanner(missing, cuttable=listed.by_created, history=listed.history)
        self._pages = 0
        self._trails: defaultdict[Window, Trail] = defaultdict(Trail)

    @cached_property
    def _decoder(self) -> PassThroughDecoder | None:
        return self.outputs[0].decoder() if len(self.outputs) == 1 and self.as_it_comes else None

    def next(self) -> Get | LocalRead | None:
        """Return the next page to ask for."""
        ask = None if self.over else self._slices.next()
        if ask is None:
            return self._end_at_once() if self._was_done else None
        self._pages += 1
        # Some are taken apart, to look for what is new.
        sampled = self._pages == 1 or self._pages % SAMPLE == 0
        direct = None if sampled else self._decoder
        request = GetRequest(
            self._listed.path,
            self._params(ask),
            self.account,
            direct.page if direct else None,
            trail=self._trails[ask.window],
            some_lack_ids=True,
            timed=self._pages == 1,
        )
        return Get(
            request,
            partial(self._maybe_as_it_came if direct else self._answered, ask),
            partial(self._refused_page, ask),
        )

    def _end_at_once(self) -> LocalRead:
        """End a backfill of which the state says that nothing is left: no page will."""
        self._was_done = False
        ended = Batch((), partial(self._note_left, ()))
        return LocalRead(no_op, lambda _: iter([ended]))

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        return dict.fromkeys((out.stream.name for out in self.outputs), self._slices.left())

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read this list."""
        self._run.refused(self.outputs, error)

    def _params(self, ask: PageRequest) -> list[tuple[str, str]]:
        return self._listed.page(ask.low, ask.high, ask.cursor)

    def _answered(self, ask: PageRequest, answer: Response) -> Iterator[Step]:
        if self._resumed:
            self._resumed = False
            if not self.over and self._run.stale(self.outputs, answer.sent_at, 0):
                self.stop()  # the changes since it was begun can no longer be read
                yield from self._run.relist(self.outputs)
        if self.over:
            return
        self.begin(answer)
        if isinstance(answer.body, PassThroughPage):
            yield self._as_it_came(ask, answer.body, self._changed_at(answer))
            return
        objects: list[JSON] = [found for found in answer.body["data"] if self._has_id(found)]
        rows = _positions(objects, ask)
        page = self._slices.received(ask, rows, has_more=answer.body["has_more"])
        kept = {row.id for row in page.keep}
        objects = [source for source in objects if source["id"] in kept]
        if self._listed.without_clocks:
            objects = [source for source in objects if not is_on_test_clock(source)]
        yield from self._complete(page, objects, self._changed_at(answer))

    def _has_id(self, source: JSON) -> bool:
        return bool(source.get("id")) or self.outputs[0].stream.leave_out_without_id()

    def _changed_at(self, answer: Response) -> int | None:
        """When to say that objects changed (Unix seconds); None where their own fields say.

        A row that was given before may say a later time than those: it must not go back.
        """
        again = any(out.bookmark.again and out.stream.updated_is_cursor for out in self.outputs)
        return int(answer.sent_at) if again else None

    def _maybe_as_it_came(self, ask: PageRequest, answer: Response) -> Iterator[Step]:
        if isinstance(answer.body, dict):  # perhaps it was not what the schema says
            objects = answer.body["data"]
            self.outputs[0].stream.inspect(objects, at_least=SUSPECTED)
        yield from self._answered(ask, answer)

    def _as_it_came(
        self, ask: PageRequest, answer: PassThroughPage, changed_at: int | None
    ) -> Batch:
        rows = [
            ListPosition(min(max(0, seconds(record.created)), NO_UPPER_BOUND - 1), record.id)
            for record in answer.data
        ]
        page = self._slices.received(ask, rows, has_more=answer.has_more)
        kept = {row.id for row in page.keep}
        records = [record for record in answer.data if record.id in kept]
        if self._listed.without_clocks:
            records = [record for record in records if not on_clock_as_it_came(record)]
        if changed_at is not None:
            updated = self.outputs[0].recorder.time(changed_at)
            for record in records:
                record.updated = updated
        return Batch([(self.outputs[0], records)], partial(self._written, page))

    def begin(self, first: Response) -> None:
        """Anchor the changes before the first request of the backfill, on Stripe's clock."""
        if not self._begun:
            self._begun = True
            for output in self.outputs:
                anchor = int(first.safe_at) - OVERLAP
                begun = output.bookmark.begun
                if begun and begun > anchor - RETENTION:  # its rows may be there already
                    anchor = min(anchor, begun)
                output.bookmark.begin(anchor, self._slices.missing(), output.version.number)

    def _complete(self, page: Page, objects: Sequence[JSON], at: int | None) -> Iterator[Step]:
        then = partial(self._batch, page, at)
        yield from steps_of(NestedLists(self._listed, self.account).complete(objects), then)

    def _batch(self, page: Page, at: int | None, objects: Sequence[JSON]) -> Iterator[Step]:
        records = [pair for source in objects for pair in records_of(source, self.outputs, at)]
        yield Batch(group_by_partition(records), partial(self._written, page))

    def _written(self, page: Page) -> None:
        if self.over:
            return
        self._slices.saved(page)
        self._note_left(self._slices.missing())

    def stop(self) -> None:
        """Ask for nothing more, and note nothing more."""
        self.over = True

    def _note_left(self, missing: Sequence[RemainingWindow]) -> None:
        for output in self.outputs:
            if missing:
                output.bookmark.left(missing)
            else:
                output.bookmark.finish()
        if not missing:
            self._run.listed(self.outputs)

    def _refused_page(self, ask: PageRequest, error: StripeError) -> Iterator[Step]:
        """Go on by time where the object that the cursor names was deleted meanwhile."""
        cursor_gone = error.missing and error.failure.param == "starting_after"
        if not (cursor_gone and ask.cursor and self._trails[ask.window].restart()):
            raise error
        self._slices.cursor_lost(ask)
        return iter(())


def _positions(objects: Sequence[JSON], ask: PageRequest) -> list[ListPosition]:
    """Where objects stand in their list; one whose time is none, where the one before does."""
    times = [moment(source.get("created")) for source in objects]
    at = next((time for time in times if time is not None), ask.low)
    rows = []
    for source, time in zip(objects, times, strict=True):
        at = at if time is None else time
        rows.append(ListPosition(at, source["id"]))
    return rows


class CreatedSinceBookmark(ListBackfill):
    """What was created since the bookmark, of a stream whose objects no event tells of.

    They come with things that events do tell of, so it asks only if the account's walk met an
    event since it was asked last. What comes without any waits for the next one, a day at most.
    """

    as_it_comes = False

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        account: str | None,
        run: SyncCallbacks,
        walk: EventReader | None,
    ) -> None:
        bookmark = outputs[0].bookmark
        super().__init__(
            outputs,
            listed,
            account=account,
            start=0,
            run=run,
            missing=[(bookmark.since - OVERLAP, NO_UPPER_BOUND, None)],
        )
        self._since = bookmark.since
        self._seen = bookmark.seen
        self._walk = walk
        self._ids: dict[str, int] = {}
        self._now = 0.0

    @override
    def _answered(self, ask: PageRequest, answer: Response) -> Iterator[Step]:
        self._now = answer.sent_at
        yield from super()._answered(ask, answer)

    @override
    def next(self) -> Get | LocalRead | None:
        if (
            self._walk
            and self._walk.quiet_since(self.outputs[0].bookmark.events_until) is not False
        ):
            return None
        return super().next()

    @override
    def _batch(self, page: Page, at: int | None, objects: Sequence[JSON]) -> Iterator[Step]:
        for source in objects:
            self._ids[source["id"]] = changed_at(source)
        unseen = [new for new in objects if new["id"] not in self._seen]
        yield from super()._batch(page, at, unseen)

    @override
    def _written(self, page: Page) -> None:
        self._slices.saved(page)
        if self._slices.missing():
            return
        past = [at for at in self._ids.values() if at <= self._now + SAME_TIME]
        newest = max([self._since, *past])
        overlap = [source_id for source_id, at in self._ids.items() if at >= newest - OVERLAP]
        for output in self.outputs:
            output.bookmark.advance(newest, overlap)
            if self._walk:
                output.bookmark.note_events(self._walk.until)


class LookbackListing(ListBackfill):
    """The last days of a list once more: Stripe has no event for some edits of its objects.

    It waits for the walk, whose snapshots may be older. The records say when they were read.
    """

    as_it_comes = False

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        account: str | None,
        run: SyncCallbacks,
        walk: EventReader,
        start: Callable[[], int],
    ) -> None:
        super().__init__(outputs, listed, account=account, start=0, run=run, missing=[])
        self._walk = walk
        self._since = start
        self._started = False

    @override
    def next(self) -> Get | LocalRead | None:
        if not self._walk.ended or not self.outputs[0].bookmark.listed:
            return None
        if not self._started:
            self._started = True
            self._slices = WindowPlanner([(self._since(), NO_UPPER_BOUND, None)])
        return super().next()

    @override
    def _changed_at(self, answer: Response) -> int | None:
        return int(answer.sent_at)

    @override
    def _written(self, page: Page) -> None:
        """Nothing to note: the next run reads the last days again."""
