"""One account: which readers it takes, and which of them wait for which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.errors import AccountAccessError, MissingPermissionError
from stripe_alloy.api.requests import Gather
from stripe_alloy.api.timestamps import DAY
from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.events.event_feeds import SelfWriteFilter, keep_all
from tap_stripe_alloy.events.event_reader import EventReader
from tap_stripe_alloy.listing.list_backfill import (
    CreatedSinceBookmark,
    ListBackfill,
    LookbackListing,
)
from tap_stripe_alloy.listing.list_variants import read_variants
from tap_stripe_alloy.listing.payment_methods import read_payment_methods
from tap_stripe_alloy.listing.test_clocks import TestClockReader
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.scheduler import TapReader

if TYPE_CHECKING:
    from stripe_alloy.api.client import StripeClient
    from tap_stripe_alloy.events.inbox_reader import InboxReader
    from tap_stripe_alloy.records.stream_tables import StreamTables
    from tap_stripe_alloy.settings import Settings


@dataclass(frozen=True)
class Refusals:
    """What Stripe refused in a run."""

    streams: dict[str, MissingPermissionError] = field(default_factory=dict)
    """Stream → the error that says which permission the key lacks."""
    accounts: dict[str, AccountAccessError] = field(default_factory=dict)
    """Account → the error that says that the key has no access to it."""

    def note(self, outputs: Sequence[StreamPartition], error: MissingPermissionError) -> None:
        """Note that the key may not read these."""
        for output in outputs:
            self.streams[output.stream.name] = error


class AccountReader:
    """Reads the streams of one account: their changes, and what of their lists is left."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        *,
        settings: Settings,
        client: StripeClient,
        tables: StreamTables,
        refusals: Refusals,
        own: SelfWriteFilter = keep_all,
        inbox: InboxReader | None = None,
        with_lookback: bool = False,
    ) -> None:
        self.account = outputs[0].account
        self._outputs = outputs
        self._settings = settings
        self._client = client
        self._tables = tables
        self._refusals = refusals
        self._own = own
        self._inbox = inbox
        self._with_lookback = with_lookback

    def read(self) -> TapReader[None]:
        """Read what there is to read; note an account that the key has no access to."""
        listed = [output for output in self._outputs if output.bookmark.listed]
        with_events = [output for output in listed if output.stream.object_type.has_events]
        without = [output for output in listed if not output.stream.object_type.has_events]
        feeds = list(self._split_by_feed(with_events))
        parts = [
            self._read_changes(outputs, inbox, without if number == 0 else [])
            for number, (outputs, inbox) in enumerate(feeds)
        ]
        if not feeds:
            parts += [self._read_new(output, None) for output in without]
        parts += self._list_again(without)
        parts += self._backfill([output for output in self._outputs if not output.bookmark.listed])
        try:
            yield Gather(parts)
        except AccountAccessError as error:
            if self.account is None:
                raise
            self._refusals.accounts[self.account] = error

    def _permitted(
        self, outputs: Sequence[StreamPartition], reader: TapReader[Any]
    ) -> TapReader[bool]:
        """Read, if the key has the permission; else note the streams as refused."""
        try:
            yield from reader
        except MissingPermissionError as error:
            self._refusals.note(outputs, error)
            return False
        return True

    # Changes.

    def _split_by_feed(
        self, outputs: Sequence[StreamPartition]
    ) -> Iterator[tuple[Sequence[StreamPartition], InboxReader | None]]:
        """The streams that the inbox serves, and those whose changes it no longer has."""
        served, rest = list[StreamPartition](), list[StreamPartition]()
        for output in outputs:
            (served if self._inbox and self._inbox.serves(output) else rest).append(output)
        if served:
            yield served, self._inbox
        if rest:
            yield rest, None

    def _read_changes(
        self,
        outputs: Sequence[StreamPartition],
        inbox: InboxReader | None,
        without_events: Sequence[StreamPartition],
    ) -> TapReader[None]:
        """Read events, then the lists whose rows may be newer than the snapshots in those."""
        events = EventReader(
            outputs,
            api_version=self._settings.api_version,
            refused=self._refusals.note,
            own=self._own,
            inbox=inbox,
        )
        yield from self._read_events(events)
        yield Gather(
            [
                *(self._read_new(output, events) for output in without_events),
                *(self._look_back(output) for output in outputs),
                *self._list_test_clocks(outputs),
                *self._list_again(outputs),
            ]
        )

    def _read_events(self, events: EventReader) -> TapReader[None]:
        try:
            old = yield from events.open()
        except MissingPermissionError as error:
            events.give_up(error)
        else:
            yield Gather([events.read(), *self._list_anew(old)])

    def _read_new(self, output: StreamPartition, events: EventReader | None) -> TapReader[None]:
        """Read what was created since the bookmark, of a stream whose objects have no events.

        They come with things that have events, so it asks only if there was an event since it was
        asked last. What comes without any waits for the next one, a day at most.
        """
        if events and not events.stirred_since(output.bookmark.events_until):
            return
        read = yield from self._permitted([output], CreatedSinceBookmark(output).read())
        if read and events:
            output.bookmark.note_events(events.until)

    def _look_back(self, output: StreamPartition) -> TapReader[None]:
        """Read the last days again, of a stream whose objects change without events."""
        silent = output.stream.object_type.has_silent_updates
        if silent and self._with_lookback and output.bookmark.listed:
            since = int(self._client.now()) - self._settings.relist_days * DAY
            yield from self._permitted([output], LookbackListing(output, since=since).read())

    def _list_test_clocks(self, outputs: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """Read what is on test clocks, for streams whose list was read without."""
        lacking = [o for o in outputs if self._lacks_clocks(o) and o.bookmark.listed]
        for members in _families(lacking, lambda bookmark: bookmark.missing):
            clocks = TestClockReader(
                members, members[0].stream.root.listed, start=self._start_of(members)
            )
            yield self._permitted(members, clocks.read())

    # Lists.

    def _backfill(self, outputs: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        for members in _families(outputs, lambda bookmark: bookmark.missing):
            yield self._permitted(members, self._list_until_current(members))

    def _list_until_current(self, members: Sequence[StreamPartition]) -> TapReader[None]:
        up_to_date = yield from self._list(members, clocks=self._lacks_clocks(members[0]))
        if not up_to_date:
            yield Gather(list(self._list_anew(members)))

    def _list_anew(self, outputs: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """List from the beginning what was last read longer ago than Stripe keeps events."""
        for output in outputs:
            self._tables.begin_anew(output, self._client.now())
        yield from self._backfill(outputs)

    def _list_again(self, outputs: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """List once more, because a setting changed, while changes go on being read."""
        waiting = [o for o in outputs if o.bookmark.listed and o.bookmark.to_list_again]
        for members in _families(waiting, lambda bookmark: bookmark.to_list_again):
            once_more = [
                replace(
                    output,
                    bookmark=output.bookmark.in_second_listing(),
                    passes_through=False,
                    created_before=output.bookmark.again_before,
                )
                for output in members
            ]
            yield self._permitted(members, self._list(once_more, clocks=False))

    def _list(self, members: Sequence[StreamPartition], *, clocks: bool) -> TapReader[bool]:
        """Read a list in the way that its declaration asks for; False if it is outdated."""
        declared, listed = members[0].stream.root.object_type, members[0].stream.root.listed
        start, completed = self._start_of(members), self._tables.completed
        if declared.other_paths:
            return (
                yield from read_payment_methods(members, listed, start=start, completed=completed)
            )
        if declared.list_variants:
            return (yield from read_variants(members, listed, start=start, completed=completed))
        missing = members[0].bookmark.missing
        backfill = ListBackfill(members, listed, start=start, completed=completed, missing=missing)
        if clocks:
            on_clocks = TestClockReader(members, listed, start=start, begin=backfill.begin)
            yield from on_clocks.read()
        return (yield from backfill.read())

    def _lacks_clocks(self, output: StreamPartition) -> bool:
        wanted = self._settings.clocks and bool(output.stream.root.object_type.test_clock_path)
        return wanted and not output.bookmark.clocks

    def _start_of(self, members: Sequence[StreamPartition]) -> int:
        """The earliest `created` to list, for streams that are listed together."""
        return min(output.bookmark.listed_from(self._settings.start) for output in members)


def _families(
    outputs: Iterable[StreamPartition], left_of: Callable[[Bookmark], object]
) -> Iterator[list[StreamPartition]]:
    """A parent and its children, as long as they have the same left to read."""

    def left(output: StreamPartition) -> tuple[str, str, bool]:
        bookmark = output.bookmark
        return output.stream.root.name, repr(left_of(bookmark)), bookmark.clocks

    for _, group in groupby(sorted(outputs, key=left), key=left):
        yield sorted(group, key=lambda output: output.stream.object_type.parent is not None)
