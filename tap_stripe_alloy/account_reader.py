"""Reads one account: chooses the readers of its streams and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.errors import (
    AccountAccessError,
    InvalidRequestError,
    MissingPermissionError,
)
from stripe_alloy.api.requests import Gather
from stripe_alloy.api.timestamps import DAY, HOUR
from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.events.event_feeds import SelfWriteFilter, keep_all
from tap_stripe_alloy.events.event_reader import EventReader
from tap_stripe_alloy.listing.list_backfill import (
    ListBackfill,
    LookbackListing,
    read_new_objects,
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
    """The streams and accounts that Stripe refused in a run."""

    partitions: dict[tuple[str, str | None], MissingPermissionError] = field(default_factory=dict)
    """(stream, account) → the error with the missing permission."""
    accounts: dict[str, AccountAccessError] = field(default_factory=dict)
    """Account → the error of an account that the key has no access to."""
    products: dict[tuple[str, str | None], InvalidRequestError] = field(default_factory=dict)
    """(stream, account) → the error of a list whose product the account does not use."""

    def note(self, partitions: Sequence[StreamPartition], error: MissingPermissionError) -> None:
        """Note that the key lacks the permission for the streams of these partitions."""
        for partition in partitions:
            self.partitions[partition.stream.name, partition.account] = error

    @property
    def streams(self) -> dict[str, MissingPermissionError]:
        """Return stream → the error with the permission that is missing for one of its accounts."""
        return {name: error for (name, _), error in self.partitions.items()}

    def include(self, partition: StreamPartition) -> bool:
        """Whether Stripe refused the stream for this account, or the whole account."""
        return (
            partition.stream.name,
            partition.account,
        ) in self.partitions or partition.account in self.accounts


class AccountReader:
    """Reads the streams of one account: changes, and what is left of backfills."""

    def __init__(
        self,
        partitions: Sequence[StreamPartition],
        *,
        settings: Settings,
        client: StripeClient,
        tables: StreamTables,
        refusals: Refusals,
        self_writes: SelfWriteFilter = keep_all,
        inbox: InboxReader | None = None,
        with_lookback: bool = True,
    ) -> None:
        self.account = partitions[0].account
        self._partitions = partitions
        self._settings = settings
        self._client = client
        self._tables = tables
        self._refusals = refusals
        self._self_writes = self_writes
        self._inbox = inbox
        self._with_lookback = with_lookback

    def read(self) -> TapReader[None]:
        """Read all streams of the account; note it in `refusals` if the key has no access to it."""
        listed = [partition for partition in self._partitions if partition.bookmark.listed]
        with_events = [partition for partition in listed if partition.stream.object_type.has_events]
        without = [partition for partition in listed if not partition.stream.object_type.has_events]
        for partition in with_events:
            if partition.stream.object_type.created_without_event:
                partition.bookmark.of_new_objects()  # starts at the bookmark, before that advances
        feeds = list(self._split_by_feed(with_events))
        parts = [
            self._read_changes(partitions, inbox, without if number == 0 else [])
            for number, (partitions, inbox) in enumerate(feeds)
        ]
        if not feeds:
            parts += [self._read_new(partition, None) for partition in without]
            parts += self._list_whole(without)
        parts += [self._look_back(partition) for partition in without]
        parts += self._list_again(without)
        parts += self._backfill(
            [partition for partition in self._partitions if not partition.bookmark.listed]
        )
        try:
            yield Gather(parts)
        except AccountAccessError as error:
            if self.account is None:
                raise
            self._refusals.accounts[self.account] = error

    def _permitted(
        self, partitions: Sequence[StreamPartition], reader: TapReader[Any]
    ) -> TapReader[bool]:
        """Run a reader; return False and note the streams if Stripe refuses them.

        The key may lack the permission, or the account may not use the product, such as Issuing.
        """
        try:
            yield from reader
        except MissingPermissionError as error:
            self._refusals.note(partitions, error)
            return False
        except InvalidRequestError as error:
            if not _is_about_account(error, partitions):
                raise
            for partition in partitions:
                self._refusals.products[partition.stream.name, self.account] = error
            return False
        return True

    # Changes.

    def _split_by_feed(
        self, partitions: Sequence[StreamPartition]
    ) -> Iterator[tuple[Sequence[StreamPartition], InboxReader | None]]:
        """Yield the partitions to read from the inbox, and the rest to read from `/v1/events`."""
        from_inbox, rest = list[StreamPartition](), list[StreamPartition]()
        for partition in partitions:
            in_inbox = self._inbox and self._inbox.has_all_events_for(partition)
            (from_inbox if in_inbox else rest).append(partition)
        if from_inbox:
            yield from_inbox, self._inbox
        if rest:
            yield rest, None

    def _read_changes(
        self,
        partitions: Sequence[StreamPartition],
        inbox: InboxReader | None,
        without_events: Sequence[StreamPartition],
    ) -> TapReader[None]:
        """Read events, then lists: their rows may be newer than the snapshots in the events."""
        events = EventReader(
            partitions,
            api_version=self._settings.api_version,
            refused=self._refusals.note,
            self_writes=self._self_writes,
            inbox=inbox,
        )
        yield from self._read_events(events)
        yield Gather(
            [
                *(self._read_new(partition, events) for partition in without_events),
                *(self._read_created(partition) for partition in partitions),
                *(self._look_back(partition) for partition in partitions),
                *self._list_test_clocks(partitions),
                *self._list_again(partitions),
                *self._list_whole([*partitions, *without_events]),
            ]
        )

    def _read_events(self, events: EventReader) -> TapReader[None]:
        try:
            expired = yield from events.open()
        except MissingPermissionError as error:
            events.give_up(error)
        else:
            yield Gather([events.read(), *self._list_anew(expired)])

    def _read_new(self, partition: StreamPartition, events: EventReader | None) -> TapReader[None]:
        """Read objects created since the bookmark, for a stream without events.

        If such objects are created along with objects that have events, the list is requested only
        if there was an event since the last request. Without events it is requested about once a
        day, the first time at most two days after the last event.
        """
        declared = partition.stream.object_type
        if declared.needs_full_lists:
            return
        events = events if declared.created_with_others else None
        if events and not events.saw_events_since(partition.bookmark.events_until):
            return
        reader = read_new_objects(partition, self._client.now())
        read = yield from self._permitted([partition], reader)
        if read and events:
            partition.bookmark.note_events(events.until)

    def _read_created(self, partition: StreamPartition) -> TapReader[None]:
        """Read new objects of a stream of which only changes emit events."""
        if partition.stream.object_type.created_without_event and partition.bookmark.listed:
            of_new = replace(partition, bookmark=partition.bookmark.of_new_objects())
            reader = read_new_objects(of_new, self._client.now())
            yield from self._permitted([partition], reader)

    def _look_back(self, partition: StreamPartition) -> TapReader[None]:
        """Read the last days again, for a stream with objects that change without events."""
        declared = partition.stream.object_type
        silent = declared.has_silent_updates and not declared.needs_full_lists
        days = self._settings.lookback_of(declared.name) if silent and self._with_lookback else 0
        if days and partition.bookmark.listed:
            since = int(self._client.now()) - days * DAY
            yield from self._permitted([partition], LookbackListing(partition, since=since).read())

    def _list_test_clocks(self, partitions: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """Read objects on test clocks, for streams that were backfilled without them."""
        missing = [o for o in partitions if self._needs_test_clocks(o) and o.bookmark.listed]
        for members in _group_with_children(missing, lambda bookmark: bookmark.remaining):
            clocks = TestClockReader(
                members, members[0].stream.root.listed, start=self._start_of(members)
            )
            yield self._permitted(members, clocks.read())

    # Lists.

    def _backfill(self, partitions: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        for members in _group_with_children(partitions, lambda bookmark: bookmark.remaining):
            yield self._permitted(members, self._list_until_current(members))

    def _list_until_current(self, members: Sequence[StreamPartition]) -> TapReader[None]:
        up_to_date = yield from self._list(members, clocks=self._needs_test_clocks(members[0]))
        if not up_to_date:
            yield Gather(list(self._list_anew(members)))

    def _list_anew(self, partitions: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """Backfill again: these bookmarks are older than Stripe's event retention."""
        for partition in partitions:
            self._tables.begin_anew(partition, self._client.now())
        yield from self._backfill(partitions)

    def _list_again(self, partitions: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """List a second time because a setting changed; changes are read meanwhile."""
        waiting = [o for o in partitions if o.bookmark.listed and o.bookmark.to_list_again]
        for members in _group_with_children(waiting, lambda bookmark: bookmark.to_list_again):
            second_listing = [
                replace(
                    partition,
                    bookmark=partition.bookmark.in_second_listing(),
                    passes_through=False,
                    created_before=partition.bookmark.again_before,
                )
                for partition in members
            ]
            yield self._permitted(members, self._list(second_listing, clocks=False))

    def _list_whole(self, partitions: Sequence[StreamPartition]) -> Iterator[TapReader[Any]]:
        """List streams again of which events do not report every change, if that is due."""
        now = self._client.now()
        last_due = now - self._settings.full_list_hours * HOUR
        due = [
            partition
            for partition in partitions
            if partition.stream.object_type.needs_full_lists
            and partition.bookmark.listed
            and partition.bookmark.listed_at <= last_due
        ]
        for partition in due:
            self._tables.begin_full_list(partition, now)
        yield from self._backfill(due)

    def _list(self, members: Sequence[StreamPartition], *, clocks: bool) -> TapReader[bool]:
        """Read a list with the reader that its object type needs; False if it is outdated."""
        root = members[0].stream.root
        listed, start, completed = root.listed, self._start_of(members), self._tables.completed
        if root.object_type.other_paths:
            return (
                yield from read_payment_methods(members, listed, start=start, completed=completed)
            )
        if listed.variants:
            return (yield from read_variants(members, listed, start=start, completed=completed))
        remaining = members[0].bookmark.remaining
        backfill = ListBackfill(
            members, listed, start=start, completed=completed, remaining=remaining
        )
        if clocks:
            on_clocks = TestClockReader(members, listed, start=start, begin=backfill.begin)
            yield from on_clocks.read()
        return (yield from backfill.read())

    def _needs_test_clocks(self, partition: StreamPartition) -> bool:
        wanted = self._settings.clocks and bool(partition.stream.object_type.clock_path)
        return wanted and not partition.bookmark.test_clocks_listed

    def _start_of(self, members: Sequence[StreamPartition]) -> int:
        """Return the earliest `created` to list, for streams that are listed together."""
        return min(partition.bookmark.listed_from(self._settings.start) for partition in members)


def _is_about_account(error: InvalidRequestError, partitions: Sequence[StreamPartition]) -> bool:
    """Whether Stripe refuses a list that was not begun, without blaming a parameter or object."""
    optional = not any(part.stream.object_type.selected_by_default for part in partitions)
    begun = any(part.bookmark.listed or part.bookmark.backfill for part in partitions)
    failure = error.failure
    return optional and not begun and failure.stripes_own and not (failure.param or failure.code)


def _group_with_children(
    partitions: Iterable[StreamPartition], left_of: Callable[[Bookmark], object]
) -> Iterator[list[StreamPartition]]:
    """Group parents with their child streams if they have the same windows left to read."""

    def left(partition: StreamPartition) -> tuple[str, str, bool]:
        bookmark = partition.bookmark
        return partition.stream.root.name, repr(left_of(bookmark)), bookmark.test_clocks_listed

    for _, group in groupby(sorted(partitions, key=left), key=left):
        yield sorted(group, key=lambda partition: partition.stream.object_type.parent is not None)
