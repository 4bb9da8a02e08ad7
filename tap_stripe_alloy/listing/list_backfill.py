"""Reads a whole list, in windows, for the streams that are made of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from stripe_alloy.api.client import Response
from stripe_alloy.api.errors import StripeError
from stripe_alloy.api.events import OVERLAP, RETENTION, SAME_TIME
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint, is_on_test_clock
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.requests import GetRequest, Reader
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
    names_of,
    records_of,
    too_old,
)
from tap_stripe_alloy.records.pass_through import PassThroughPage, on_clock_as_it_came, seconds
from tap_stripe_alloy.scheduler import TapReader, Write

if TYPE_CHECKING:
    from tap_stripe_alloy.records.pass_through import PassThroughDecoder

SAMPLE = 50
"""One page in so many is parsed and compared with the schema; the others are passed through."""
SUSPECTED = 5_000
"""Records of pages that could not be passed through which are compared with the schema."""

Completed = Callable[[Sequence[StreamPartition]], None]
"""Called once the list of these partitions was read to its end and written."""


class ListBackfill:
    """A backfill: one pass over `/v1/<objects>`, its progress noted in each partition's bookmark.

    All partitions are fed by the same list and have the same part of it left.
    """

    as_it_comes: ClassVar[bool] = True
    """Whether nothing has to look at the objects before they are written."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        start: int,
        completed: Completed,
        missing: Iterable[RemainingWindow] | None = None,
    ) -> None:
        self.outputs = outputs
        self.streams = names_of(outputs)
        self.account = outputs[0].account
        self.over = False
        """Whether to ask for nothing more, and to note nothing more."""
        self.outdated = False
        """Whether it was begun so long ago that the changes since can no longer be read."""
        self._listed = listed
        self._start = start
        self._completed = completed
        self._begun = self._resumed = missing is not None
        windows = [(start, NO_UPPER_BOUND, None)] if missing is None else missing
        self._planner = WindowPlanner(windows, cuttable=listed.by_created, history=listed.history)
        self._pages = 0
        self._trails: defaultdict[Window, Trail] = defaultdict(Trail)

    def read(self) -> TapReader[bool]:
        """Read what is left of the list; False if it is `outdated`."""
        if self._resumed and not self._planner.missing():
            self._note_left(())  # the state says that nothing is left
        yield self
        return not self.outdated

    def next(self) -> TapReader[None] | None:
        """Return a reader of the next page."""
        ask = None if self.over else self._planner.next()
        return None if ask is None else self._page(ask)

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        return dict.fromkeys(self.streams, self._planner.left())

    def _page(self, ask: PageRequest) -> TapReader[None]:
        request = self._request(ask)
        try:
            answer: Response = yield request
        except StripeError as error:
            self._refused(ask, error)
            return
        if not self._serves(ask, answer):
            return
        if isinstance(answer.body, PassThroughPage):
            page, records = self._passed_through(ask, answer)
            yield Write([(self.outputs[0], records)])
        else:
            if request.decode:  # perhaps the page was not what the schema says
                self.outputs[0].stream.inspect(answer.body["data"], at_least=SUSPECTED)
            page, objects = self._received(ask, answer.body)
            chosen = self._chosen((yield from self._complete(objects)))
            at = self._changed_at(answer)
            records = [pair for source in chosen for pair in records_of(source, self.outputs, at)]
            yield Write(group_by_partition(records))
        if not self.over:
            self._written(page)

    def _request(self, ask: PageRequest) -> GetRequest:
        self._pages += 1
        sampled = self._pages == 1 or self._pages % SAMPLE == 0
        decoder = None if sampled else self._decoder
        return GetRequest(
            self._listed.path,
            self._params(ask),
            self.account,
            decoder.page if decoder else None,
            trail=self._trails[ask.window],
            streams=self.streams,
            some_lack_ids=True,
            timed=self._pages == 1,
        )

    @cached_property
    def _decoder(self) -> PassThroughDecoder | None:
        return self.outputs[0].decoder() if len(self.outputs) == 1 and self.as_it_comes else None

    def _params(self, ask: PageRequest) -> list[tuple[str, str]]:
        return self._listed.page(ask.low, ask.high, ask.cursor)

    def _refused(self, ask: PageRequest, error: StripeError) -> None:
        """Go on by time where the object that the cursor names was deleted meanwhile."""
        cursor_gone = error.missing and error.failure.param == "starting_after"
        if not (cursor_gone and ask.cursor and self._trails[ask.window].restart()):
            raise error
        self._planner.cursor_lost(ask)

    def _serves(self, _: PageRequest, answer: Response) -> bool:
        """Begin the backfill with its first page; whether pages are still of use."""
        if self._resumed and not self.over and too_old(self.outputs, answer.sent_at):
            self.outdated = True
            self.stop()
        self._resumed = False
        if not self.over:
            self.begin(answer)
        return not self.over

    def begin(self, first: Response) -> None:
        """Anchor the changes before the first request of the backfill, on Stripe's clock."""
        if not self._begun:
            self._begun = True
            for output in self.outputs:
                anchor = int(first.safe_at) - OVERLAP
                begun = output.bookmark.begun
                if begun and begun > anchor - RETENTION:  # its rows may be there already
                    anchor = min(anchor, begun)
                output.bookmark.begin(anchor, self._planner.missing(), output.version.number)

    def stop(self) -> None:
        """Ask for nothing more, and note nothing more."""
        self.over = True

    def _received(self, ask: PageRequest, body: JSON) -> tuple[Page, list[JSON]]:
        """The page, and the objects of it that are to be kept."""
        objects: list[JSON] = [found for found in body["data"] if self._has_id(found)]
        page = self._planner.received(ask, _positions(objects, ask), has_more=body["has_more"])
        kept = {row.id for row in page.keep}
        without_clocks = self._listed.without_clocks
        return page, [
            source
            for source in objects
            if source["id"] in kept and not (without_clocks and is_on_test_clock(source))
        ]

    def _has_id(self, source: JSON) -> bool:
        return bool(source.get("id")) or self.outputs[0].stream.leave_out_without_id()

    def _complete(self, objects: Sequence[JSON]) -> Reader[list[JSON]]:
        """Complete the lists inside objects."""
        return NestedLists(self._listed, self.account, self.streams).complete(objects)

    def _chosen(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        """The objects to make records of."""
        return objects

    def _changed_at(self, answer: Response) -> int | None:
        """When to say that objects changed (Unix seconds); None where their own fields say.

        A row that was given before may say a later time than those: it must not go back.
        """
        again = any(out.bookmark.again and out.stream.updated_is_cursor for out in self.outputs)
        return int(answer.sent_at) if again else None

    def _passed_through(self, ask: PageRequest, answer: Response) -> tuple[Page, Sequence[Any]]:
        """The page, and the records of it that are to be kept."""
        found: PassThroughPage = answer.body
        rows = [
            ListPosition(min(max(0, seconds(record.created)), NO_UPPER_BOUND - 1), record.id)
            for record in found.data
        ]
        page = self._planner.received(ask, rows, has_more=found.has_more)
        kept = {row.id for row in page.keep}
        records = [record for record in found.data if record.id in kept]
        if self._listed.without_clocks:
            records = [record for record in records if not on_clock_as_it_came(record)]
        changed_at = self._changed_at(answer)
        if changed_at is not None:
            updated = self.outputs[0].recorder.time(changed_at)
            for record in records:
                record.updated = updated
        return page, records

    def _written(self, page: Page) -> None:
        self._planner.saved(page)
        self._note_left(self._planner.missing())

    def _note_left(self, missing: Sequence[RemainingWindow]) -> None:
        for output in self.outputs:
            if missing:
                output.bookmark.left(missing)
            else:
                output.bookmark.finish()
        if not missing:
            self._completed(self.outputs)


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
    """What was created since the bookmark, of a stream whose objects have no events."""

    as_it_comes = False

    def __init__(self, output: StreamPartition) -> None:
        self._since = output.bookmark.since
        super().__init__(
            [output],
            output.stream.listed,
            start=0,
            completed=lambda _: None,
            missing=[(self._since - OVERLAP, NO_UPPER_BOUND, None)],
        )
        self._resumed = False
        self._ids: dict[str, int] = {}
        self._now = 0.0

    @override
    def _serves(self, ask: PageRequest, answer: Response) -> bool:
        self._now = answer.sent_at
        return super()._serves(ask, answer)

    @override
    def _chosen(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        self._ids.update({source["id"]: changed_at(source) for source in objects})
        seen = self.outputs[0].bookmark.seen
        return [new for new in objects if new["id"] not in seen]

    @override
    def _written(self, page: Page) -> None:
        self._planner.saved(page)
        if self._planner.missing():
            return
        past = [at for at in self._ids.values() if at <= self._now + SAME_TIME]
        newest = max([self._since, *past])
        overlap = [source_id for source_id, at in self._ids.items() if at >= newest - OVERLAP]
        self.outputs[0].bookmark.advance(newest, overlap)


class LookbackListing(ListBackfill):
    """The last days of a list once more: Stripe has no event for some edits of its objects.

    The records say when they were read.
    """

    as_it_comes = False

    def __init__(self, output: StreamPartition, *, since: int) -> None:
        windows = [(since, NO_UPPER_BOUND, None)]
        listed = output.stream.listed
        super().__init__([output], listed, start=0, completed=lambda _: None, missing=windows)
        self._resumed = False

    @override
    def _changed_at(self, answer: Response) -> int | None:
        return int(answer.sent_at)

    @override
    def _written(self, page: Page) -> None:
        """Nothing to note: the next run reads the last days again."""
