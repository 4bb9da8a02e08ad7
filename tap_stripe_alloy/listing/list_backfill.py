"""Backfills a list in windows of `created`, for a stream and its child streams."""

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
from stripe_alloy.api.timestamps import DAY
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
    created_at,
    group_by_partition,
    names_of,
    records_of,
    too_old,
)
from tap_stripe_alloy.records.pass_through import PassThroughPage, is_on_test_clock_raw, seconds
from tap_stripe_alloy.scheduler import TapReader, Write

if TYPE_CHECKING:
    from tap_stripe_alloy.records.pass_through import PassThroughDecoder

SAMPLE = 50
"""Validate one in this many pages against the schema; the others are passed through."""
VALIDATED_AFTER_FALLBACK = 5_000
"""Number of records to validate against the schema after pages could not be passed through."""

LONG_PAUSE = 2 * DAY
"""Seconds without new objects or without a run after which new objects are read in steps."""
STEP_PAGES = 5
"""Estimated pages of a step."""
MAX_STEPS = 1_000

Completed = Callable[[Sequence[StreamPartition], bool], None]
"""Called once the list of these partitions has been read and written, and whether it is whole."""


class ListBackfill:
    """A backfill: one pass over `/v1/<objects>`, with its progress in each partition's bookmark.

    All partitions take their records from the same list and have the same windows left to read.
    """

    passes_through: ClassVar[bool] = True
    """Whether pages may be written without decoding every object."""

    def __init__(
        self,
        partitions: Sequence[StreamPartition],
        listed: ListEndpoint,
        *,
        start: int,
        completed: Completed,
        remaining: Iterable[RemainingWindow] | None = None,
    ) -> None:
        self.partitions = partitions
        self.streams = names_of(partitions)
        self.account = partitions[0].account
        self.abandoned = False
        """Whether the backfill was stopped: no more requests, no more bookmark updates."""
        self.outdated = False
        """Whether the changes since its start are older than Stripe's event retention."""
        self._listed = listed
        self._start = start
        self._completed = completed
        self._started = self._resumed = remaining is not None
        windows = [(start, NO_UPPER_BOUND, None)] if remaining is None else remaining
        self._planner = WindowPlanner(windows, can_split=listed.by_created, history=listed.history)
        self._pages = 0
        self._trails: defaultdict[Window, Trail] = defaultdict(Trail)

    def read(self) -> TapReader[bool]:
        """Read the rest of the list; return False if the backfill is `outdated`."""
        if self._resumed and not self._planner.remaining():
            self._save_remaining(())  # the state contains no remaining windows
        yield self
        return not self.outdated

    def next(self) -> TapReader[None] | None:
        """Return a reader of the next page."""
        page_request = None if self.abandoned else self._planner.next()
        return None if page_request is None else self._page(page_request)

    def left(self) -> Mapping[str, float]:
        """Return stream → estimated pages left to read."""
        return dict.fromkeys(self.streams, self._planner.left())

    def _page(self, page_request: PageRequest) -> TapReader[None]:
        request = self._request(page_request)
        try:
            answer: Response = yield request
        except StripeError as error:
            self._handle_error(page_request, error)
            return
        if not self._accept_response(page_request, answer):
            return
        if isinstance(answer.body, PassThroughPage):
            page, records = self._passed_through_page(page_request, answer)
            yield Write([(self.partitions[0], records)])
        else:
            if request.decode:  # the fast decoder rejected the page: look for unknown fields
                self.partitions[0].stream.inspect(
                    answer.body["data"], at_least=VALIDATED_AFTER_FALLBACK
                )
            page, objects = self._decoded_page(page_request, answer.body)
            chosen = self._select_objects((yield from self._load_nested_lists(objects)))
            at = self._changed_at(answer)
            records = [
                pair for source in chosen for pair in records_of(source, self.partitions, at)
            ]
            yield Write(group_by_partition(records))
        if not self.abandoned:
            self._page_written(page)

    def _request(self, page_request: PageRequest) -> GetRequest:
        self._pages += 1
        sampled = self._pages == 1 or self._pages % SAMPLE == 0
        decoder = None if sampled else self._decoder
        return GetRequest(
            self._listed.path,
            self._params(page_request),
            self.account,
            decoder.page if decoder else None,
            trail=self._trails[page_request.window],
            streams=self.streams,
            some_lack_ids=True,
            timed=self._pages == 1,
        )

    @cached_property
    def _decoder(self) -> PassThroughDecoder | None:
        return (
            self.partitions[0].decoder()
            if len(self.partitions) == 1 and self.passes_through
            else None
        )

    def _params(self, page_request: PageRequest) -> list[tuple[str, str]]:
        return self._listed.page(page_request.low, page_request.high, page_request.cursor)

    def _handle_error(self, page_request: PageRequest, error: StripeError) -> None:
        """Continue without the cursor if its object was deleted meanwhile; raise other errors."""
        cursor_gone = error.missing and error.failure.param == "starting_after"
        if not (
            cursor_gone and page_request.cursor and self._trails[page_request.window].restart()
        ):
            raise error
        self._planner.cursor_deleted(page_request)

    def _accept_response(self, _: PageRequest, answer: Response) -> bool:
        """Start the backfill with its first response; return whether its pages are still used."""
        if self._resumed and not self.abandoned and too_old(self.partitions, answer.sent_at):
            self.outdated = True
            self.stop()
        self._resumed = False
        if not self.abandoned:
            self.begin(answer)
        return not self.abandoned

    def begin(self, first: Response) -> None:
        """Start the backfill; changes will be read from its first request on, by Stripe's clock."""
        if not self._started:
            self._started = True
            for partition in self.partitions:
                anchor = int(first.safe_at) - OVERLAP
                attempted = partition.bookmark.first_attempt_at
                if attempted and attempted > anchor - RETENTION:  # its rows may exist already
                    anchor = min(anchor, attempted)
                partition.bookmark.start_backfill(
                    anchor, self._planner.remaining(), partition.version.number
                )

    def stop(self) -> None:
        """Stop the backfill: send no more requests, and leave the bookmarks as they are."""
        self.abandoned = True

    def _decoded_page(self, page_request: PageRequest, body: JSON) -> tuple[Page, list[JSON]]:
        """Return the page and the objects to keep from it."""
        objects: list[JSON] = [found for found in body["data"] if self._has_id(found)]
        page = self._planner.received(
            page_request, _positions(objects, page_request), has_more=body["has_more"]
        )
        kept = {row.id for row in page.keep}
        skips_test_clocks = self._listed.skips_test_clocks
        return page, [
            source
            for source in objects
            if source["id"] in kept and not (skips_test_clocks and is_on_test_clock(source))
        ]

    def _has_id(self, source: JSON) -> bool:
        return bool(source.get("id")) or self.partitions[0].stream.leave_out_without_id()

    def _load_nested_lists(self, objects: Sequence[JSON]) -> Reader[list[JSON]]:
        """Load the rest of truncated lists in objects."""
        lists = NestedLists(
            self._listed,
            self.account,
            self.streams,
            self.partitions[0].stream.leave_out_without_id,
            self._note_refused,
        )
        return lists.complete(objects)

    def _note_refused(self) -> None:
        """Note that a list inside an object was refused: rows that were not listed may exist."""
        for partition in self.partitions:
            partition.bookmark.note_refused()

    def _select_objects(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        """Return the objects to emit as records."""
        return objects

    def _changed_at(self, answer: Response) -> int | None:
        """Return the `updated` of the records (Unix seconds); None to use the objects' own times.

        A row that was emitted before may have a later `updated`, which must not decrease.
        """
        may_repeat = any(
            out.bookmark.may_repeat and out.stream.updated_is_cursor for out in self.partitions
        )
        dated = all(out.stream.has_times for out in self.partitions)
        return int(answer.sent_at) if may_repeat or not dated else None

    def _passed_through_page(
        self, page_request: PageRequest, answer: Response
    ) -> tuple[Page, Sequence[Any]]:
        """Return the page and the records to keep from it."""
        found: PassThroughPage = answer.body
        rows = [
            ListPosition(min(max(0, seconds(record.created)), NO_UPPER_BOUND - 1), record.id)
            for record in found.data
        ]
        page = self._planner.received(page_request, rows, has_more=found.has_more)
        kept = {row.id for row in page.keep}
        records = [record for record in found.data if record.id in kept]
        if self._listed.skips_test_clocks:
            records = [record for record in records if not is_on_test_clock_raw(record)]
        changed_at = self._changed_at(answer)
        if changed_at is not None:
            updated = self.partitions[0].recorder.time(changed_at)
            for record in records:
                record.updated = updated
        return page, records

    def _page_written(self, page: Page) -> None:
        self._planner.saved(page)
        self._save_remaining(self._planner.remaining())

    def _save_remaining(self, remaining: Sequence[RemainingWindow]) -> None:
        whole = not any(partition.bookmark.refused for partition in self.partitions)
        for partition in self.partitions:
            if remaining:
                partition.bookmark.set_remaining(remaining)
            else:
                partition.bookmark.finish()
        if not remaining:
            self._completed(self.partitions, whole)


def _positions(objects: Sequence[JSON], page_request: PageRequest) -> list[ListPosition]:
    """Return the list positions of objects; one without a valid time has its predecessor's."""
    times = [created_at(source) for source in objects]
    at = next((time for time in times if time is not None), page_request.low)
    rows = []
    for source, time in zip(objects, times, strict=True):
        at = at if time is None else time
        rows.append(ListPosition(at, source["id"]))
    return rows


class CreatedSinceBookmark(ListBackfill):
    """Reads objects created since the bookmark, for streams whose new objects emit no event.

    `until` is the time before which they were created (Unix seconds).
    """

    passes_through = False

    def __init__(self, partition: StreamPartition, *, until: int = NO_UPPER_BOUND) -> None:
        self._since = partition.bookmark.since
        self._until = until
        super().__init__(
            [partition],
            partition.stream.listed,
            start=0,
            completed=lambda *_: None,
            remaining=[(self._since - OVERLAP, until, None)],
        )
        self._resumed = False
        self._ids: dict[str, int] = {}
        self._now = 0.0

    @override
    def _accept_response(self, page_request: PageRequest, answer: Response) -> bool:
        self._now = answer.sent_at
        return super()._accept_response(page_request, answer)

    @override
    def _changed_at(self, answer: Response) -> int | None:
        """Return the time of reading if an event may have reported a change already."""
        if self.partitions[0].stream.object_type.has_events:
            return int(answer.sent_at)
        return super()._changed_at(answer)

    @override
    def _select_objects(self, objects: Sequence[JSON]) -> Sequence[JSON]:
        self._ids.update({source["id"]: changed_at(source) for source in objects})
        seen = self.partitions[0].bookmark.seen
        return [new for new in objects if new["id"] not in seen]

    @override
    def _page_written(self, page: Page) -> None:
        self._planner.saved(page)
        if self._planner.remaining():
            return
        past = [at for at in self._ids.values() if at <= self._now + SAME_TIME]
        newest = max([self._since, *past])
        if self._until < NO_UPPER_BOUND:  # all that was created before it is written
            newest = max(newest, self._until - 1)
        overlap = [source_id for source_id, at in self._ids.items() if at >= newest - OVERLAP]
        self.partitions[0].bookmark.advance(newest, overlap)


def read_new_objects(partition: StreamPartition, now: float) -> TapReader[None]:
    """Read objects created since the bookmark, after a long pause in steps, the oldest first.

    The bookmark moves after each step: runs that are stopped again and again come to an end. `now`
    is Stripe's time (Unix seconds).
    """
    if now - partition.bookmark.since > LONG_PAUSE:
        for until in (yield from _steps(partition)):
            yield from CreatedSinceBookmark(partition, until=until).read()
    yield from CreatedSinceBookmark(partition).read()


def _steps(partition: StreamPartition) -> TapReader[list[int]]:
    """Return the times (Unix seconds) that divide the new objects into steps of some pages.

    The newest page tells how dense they are; other times may be denser.
    """
    since, listed = partition.bookmark.since, partition.stream.listed
    answer: Response = yield GetRequest(
        listed.path,
        listed.page(since - OVERLAP),
        partition.account,
        streams=[partition.stream.name],
        some_lack_ids=True,
    )
    times = [at for at in map(created_at, answer.body["data"]) if at is not None]
    if not answer.body["has_more"] or not times:
        return []
    newest, density = max(times), max(1, max(times) - min(times))
    count = min((newest - since) // (density * STEP_PAGES), MAX_STEPS)
    return [since + (newest - since) * step // (count + 1) for step in range(1, count + 1)]


class LookbackListing(ListBackfill):
    """Reads the last days of a list again: Stripe sends no event for some edits of its objects.

    `updated` of these records is the time at which they were read.
    """

    passes_through = False

    def __init__(self, partition: StreamPartition, *, since: int) -> None:
        windows = [(since, NO_UPPER_BOUND, None)]
        listed = partition.stream.listed
        super().__init__([partition], listed, start=0, completed=lambda *_: None, remaining=windows)
        self._resumed = False

    @override
    def _changed_at(self, answer: Response) -> int | None:
        return int(answer.sent_at)

    @override
    def _page_written(self, page: Page) -> None:
        """Leave the bookmark as it is: the next run reads the last days again."""
