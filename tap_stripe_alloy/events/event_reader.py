"""Reads changes: one pass over an account's events for all its streams."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stripe_alloy.api.client import PAGE_SIZE
from stripe_alloy.api.errors import MissingPermissionError, NotFoundError, StripeError
from stripe_alloy.api.events import EVENT, OVERLAP, Event
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import is_on_test_clock, truncated_list
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.requests import Gather, GetRequest
from stripe_alloy.api.responses import OneObject
from stripe_alloy.api.timestamps import DAY
from tap_stripe_alloy.events.change_detection import (
    ChangeAction,
    ChangeDetector,
    DetectedChange,
    ObjectPolicy,
    Span,
)
from tap_stripe_alloy.events.event_feeds import EventFeed, SelfWriteFilter, StripeFeed, keep_all
from tap_stripe_alloy.records.partitions import (
    PartitionRecords,
    StreamPartition,
    children_of,
    group_by_partition,
    kept_from,
    names_of,
    records_of,
    too_old,
)
from tap_stripe_alloy.scheduler import TapReader, Write

if TYPE_CHECKING:
    from tap_stripe_alloy.events.inbox_reader import InboxReader

_logger = logging.getLogger(__name__)

BOOKMARK_SLACK = DAY
"""Seconds that a bookmark may stay behind when there are no events, before it is advanced."""
FIRST_SPAN = PAGE_SIZE
"""Number of events in the first span: the bookmarks advance after each span."""
LARGEST_SPAN = 4_000
QUICK, SLOW = 2.0, 10.0
"""Seconds: a span that takes less is followed by a larger one, one that takes longer by a
smaller one."""


class EventReader:
    """Reads the changes of an account's streams since the oldest of their bookmarks."""

    def __init__(
        self,
        partitions: Sequence[StreamPartition],
        *,
        api_version: str,
        refused: Callable[[Sequence[StreamPartition], MissingPermissionError], None],
        self_writes: SelfWriteFilter = keep_all,
        inbox: InboxReader | None = None,
    ) -> None:
        self.account = partitions[0].account
        self._api_version = api_version
        self._refused = refused
        self._inbox = inbox
        self._since = {id(partition): partition.bookmark.since for partition in partitions}
        self._read_from = min(self._since.values()) - (0 if inbox else OVERLAP)
        self._feed = self._feed_of(partitions, self_writes)
        self._now = math.inf
        self._follow(partitions)
        self._denied: set[int] = set()
        self._saw_events = False

    def _feed_of(
        self, partitions: Sequence[StreamPartition], self_writes: SelfWriteFilter
    ) -> EventFeed:
        if self._inbox:
            return self._inbox.feed(partitions, self_writes)
        return StripeFeed(
            self._read_from,
            account=self.account,
            streams=names_of(partitions),
            seen=seen_by_kind(partitions),
            self_writes=self_writes,
        )

    def _follow(self, partitions: Sequence[StreamPartition]) -> None:
        self.partitions = partitions
        apart = [_follows_parent(partition) for partition in partitions]
        both = list(zip(partitions, apart, strict=True))
        self._by_object = by_kind([partition for partition, follows in both if not follows])
        self._by_parent = by_kind([partition for partition, follows in both if follows])
        self._detector = self._new_detector()

    def _new_detector(self) -> ChangeDetector:
        policies = self._policies()
        return ChangeDetector(
            self._api_version, policies, self._feed.already_processed, now=self._now
        )

    def _policies(self) -> Mapping[str, ObjectPolicy]:
        policies = {
            object_name: ObjectPolicy(
                trusted=True,
                nested=(),
                deleted_by=partitions[0].stream.object_type.event_source.deletion_events,
                children=None,
            )
            for object_name, partitions in self._by_parent.items()
        }
        for object_name, partitions in self._by_object.items():
            root = partitions[0].stream.root
            fields = [partition.stream.object_type.parent_field for partition in partitions]
            policies[object_name] = ObjectPolicy(
                trusted=not root.expand,
                nested=root.nested,
                deleted_by=root.object_type.deletion_events,
                deleted_for=root.object_type.deletion_events_by_id,
                children=next((name for name in fields if name), None),
            )
        return policies

    def open(self) -> TapReader[Sequence[StreamPartition]]:
        """Request the first events; return partitions that need events older than Stripe keeps.

        Their changes are not read: the caller must list them from the beginning.
        """
        reach = yield from self._feed.open()
        if reach is None:
            return []
        self._now = self._detector.now = reach.now
        old = too_old(self.partitions, reach.now) if reach.oldest < kept_from(reach.now) else []
        if old:
            self._saw_events = True
            dropped = set(map(id, old))
            self._follow(
                [partition for partition in self.partitions if id(partition) not in dropped]
            )
        return old

    def read(self) -> TapReader[None]:
        """Read and write the changes span by span, and advance the bookmarks after each span."""
        try:
            yield from self._read_spans()
        except MissingPermissionError as error:
            self.give_up(error)

    def _read_spans(self) -> TapReader[None]:
        size = FIRST_SPAN
        last = not self.partitions
        while not last:
            started_at = time.monotonic()
            span = yield from self._feed.span(size)
            self._saw_events |= span.news
            yield from self._write_changes(span)
            self._advance(span)
            last = span.last
            if not last:
                self._begin_span()
                size = _next_size(size, time.monotonic() - started_at)

    def give_up(self, error: MissingPermissionError) -> None:
        """Note that the key may not read events, so that any object may have changed."""
        self._saw_events = True
        self._refused(self.partitions, error)

    def saw_events_since(self, moment: int) -> bool:
        """Whether there was, or may have been, an event since `moment` (Unix seconds)."""
        return self._saw_events or max(self._detector.newest, self._read_from) > moment

    @property
    def until(self) -> int:
        """Time up to which the events were read (Unix seconds)."""
        return max(self._detector.newest, min(self._since.values()))

    def _begin_span(self) -> None:
        newest, ids = self._detector.newest, self._detector.ids
        self._detector = self._new_detector()
        self._detector.newest, self._detector.ids = newest, ids

    # From events to records.

    def _write_changes(self, span: Span) -> TapReader[None]:
        changes = list(self._detector.take(span))
        records = self._as_events(self._detector.fresh)
        retrievals: list[TapReader[None]] = []
        for change in changes:
            retrievals += self._list_children(change)
            if change.key[0] not in self._by_object:
                continue
            if change.action is ChangeAction.RETRIEVE:
                retrievals.append(self._retrieve(self._dated(change)))
            else:
                records += self._records_of(change)
        yield Gather([_write(records), *retrievals])

    def _as_events(self, events: Sequence[Event]) -> PartitionRecords:
        if EVENT not in self._by_object:
            return []
        # Copies: an event's snapshot may also be emitted as a record, with its times converted.
        return [
            pair
            for event in events
            for pair in self._records_for(EVENT, event["created"], copy.deepcopy(event))
        ]

    def _dated(self, change: DetectedChange) -> DetectedChange:
        """Return a late change, dated no earlier than rows that may have been emitted before."""
        if not change.late:
            return change
        emitted = max(self._since[id(partition)] for partition in self._by_object[change.key[0]])
        return replace(change, at=max(change.at, emitted))

    def _list_children(self, change: DetectedChange) -> Iterator[TapReader[None]]:
        """List the children of a parent that changed, for streams without events of their own."""
        if change.action is not ChangeAction.TOMBSTONE:
            for partition in self._by_parent.get(change.key[0], ()):
                on_clock = is_on_test_clock(change.snapshot)
                if self._needs(partition, change.at) and not (
                    partition.stream.skips_test_clocks and on_clock
                ):
                    yield self._read_children(partition, change)

    def _read_children(self, partition: StreamPartition, change: DetectedChange) -> TapReader[None]:
        stream = partition.stream
        lists = NestedLists(stream.listed, self.account, [stream.name], stream.leave_out_without_id)
        try:
            parents = yield from lists.complete([change.snapshot])
        except MissingPermissionError as error:
            self._deny([partition], error)
        else:
            records = [
                pair for parent in parents for pair in records_of(parent, [partition], change.at)
            ]
            yield from _write(records)

    def _retrieve(self, change: DetectedChange) -> TapReader[None]:
        """Retrieve an object and write it, or write its tombstone if it was deleted."""
        root = self._by_object[change.key[0]][0].stream.root
        path = root.object_type.path_of({**change.snapshot, "id": change.key[1]})
        if path is None:
            yield from self._write_change(change, [] if change.gone else [change.snapshot])
            return
        request = GetRequest(
            path,
            [("expand[]", path) for path in root.expand],
            self.account,
            of=OneObject(*change.key),
            streams=[root.name],
        )
        listed = replace(root.listed, child_list="")
        lists = NestedLists(listed, self.account, [root.name], root.leave_out_without_id)
        try:
            found = (yield request).body
        except StripeError as error:
            yield from self._write_without_object(change, error)
            return
        try:
            objects = [] if found.get("deleted") else (yield from lists.complete([found]))
        except MissingPermissionError as error:
            yield from self._write_without_object(change, error)
        else:
            yield from self._write_change(change, objects)

    def _write_without_object(self, change: DetectedChange, error: StripeError) -> TapReader[None]:
        """Write the event's snapshot if Stripe refuses this one object; raise any other error."""
        if isinstance(error, MissingPermissionError) and error.of_endpoint:
            self._deny(self._by_object[change.key[0]], error)
        elif isinstance(error, NotFoundError):
            yield from self._write_change(change, [])
        elif error.of_one_object:
            _logger.warning("%s The object from the event is used instead.", error)
            yield from self._write_change(change, [] if change.gone else [change.snapshot])
        else:
            raise error

    def _deny(self, partitions: Sequence[StreamPartition], error: MissingPermissionError) -> None:
        """Note that the streams of an object type are refused: their bookmarks do not advance."""
        if not self._denied.issuperset(map(id, partitions)):
            self._denied.update(map(id, partitions))
            self._refused(partitions, error)

    def _write_change(self, change: DetectedChange, objects: Sequence[JSON]) -> TapReader[None]:
        if objects:
            found = DetectedChange(change.key, change.at, ChangeAction.EMIT, objects[0])
        else:
            found = DetectedChange(change.key, change.at, ChangeAction.TOMBSTONE, change.snapshot)
        yield from _write(self._records_of(found))

    def _records_of(self, change: DetectedChange) -> PartitionRecords:
        """Return the records of a change; for a deleted object, its tombstone."""
        object_name, source_id = change.key
        if self._by_object[object_name][0].stream.root.skips_test_clocks and is_on_test_clock(
            change.snapshot
        ):
            return []
        if change.action is not ChangeAction.TOMBSTONE:
            rows = self._records_for(object_name, change.at, change.snapshot)
            return [*rows, *self._removed_child_tombstones(change)]
        return [
            (
                partition,
                partition.recorder.tombstone(source_id, object_name, change.at, change.snapshot),
            )
            for partition in self._by_object[object_name]
            if not partition.stream.object_type.parent_field and self._needs(partition, change.at)
        ] + list(self._removed_child_tombstones(change))

    def _records_for(self, object_name: str, at: int, source: JSON) -> PartitionRecords:
        partitions = self._by_object.get(object_name, ())
        return records_of(source, [out for out in partitions if self._needs(out, at)], at)

    def _needs(self, partition: StreamPartition, at: int) -> bool:
        if self._inbox and partition.bookmark.inbox:
            return True  # ordered by inbox sequence, not by time
        return at >= self._since[id(partition)] - OVERLAP

    def _removed_child_tombstones(
        self, change: DetectedChange
    ) -> Iterator[tuple[StreamPartition, JSON]]:
        """Yield tombstones of former children that a parent no longer has."""
        former = self._detector.former_children.get(change.key, set())
        for partition in self._by_object[change.key[0]]:
            field = partition.stream.object_type.parent_field
            if not former or not field or not self._needs(partition, change.at):
                continue
            if change.action is ChangeAction.TOMBSTONE:
                current = set()
            elif truncated_list(change.snapshot, [field]):
                continue
            else:
                current = {child.get("id") for child in children_of(change.snapshot, partition)}
            for child_id in sorted(former - current):
                name, last = (
                    partition.stream.object_type.object_name,
                    self._detector.last_children.get(child_id),
                )
                yield partition, partition.recorder.tombstone(child_id, name, change.at, last)

    # Bookmarks: they advance once the records of a span are written.

    def _advance(self, span: Span) -> None:
        for partition in self.partitions:
            if id(partition) in self._denied:
                continue
            since = max(self._since[id(partition)], self._detector.newest)
            if span.last:
                since = max(since, _whole_day(int(self._feed.known_at) - BOOKMARK_SLACK))
            elif since > self._detector.newest and not self._inbox:
                continue  # this old span contains nothing new for the stream
            self._move(partition, since)

    def _move(self, partition: StreamPartition, since: int) -> None:
        inbox, bookmark = self._inbox, partition.bookmark
        bookmark.note_inbox(inbox.position_of(partition, self._feed) if inbox else None)
        bookmark.advance(since, () if inbox else self._ids_for(partition))
        self._since[id(partition)] = since

    def _ids_for(self, partition: StreamPartition) -> Iterator[str]:
        """Yield ids of events that the stream's next run will read again.

        Only those of its object type, and of types that no stream reads. Otherwise the state of a
        busy account would contain each id once per stream.
        """
        object_name = partition.stream.object_type.event_source.object_name
        read = self._by_object.keys() | self._by_parent.keys()
        for event_id, (_, kind) in self._detector.ids.items():
            if object_name in (kind, EVENT) or kind not in read:
                yield event_id


def _follows_parent(partition: StreamPartition) -> bool:
    """Whether events of the parent tell that a list of its children may have changed."""
    declared = partition.stream.object_type
    return declared.listed_by_parent and declared.event_source is declared.parent


def _write(records: PartitionRecords) -> TapReader[None]:
    if records:
        yield Write(group_by_partition(records))


def _next_size(size: int, seconds: float) -> int:
    """Return the number of events in the next span."""
    if seconds < QUICK:
        return min(4 * size, LARGEST_SPAN)
    return max(size // 2, FIRST_SPAN) if seconds > SLOW else size


def by_kind(partitions: Sequence[StreamPartition]) -> Mapping[str, Sequence[StreamPartition]]:
    """Return object type (Stripe's `object`) → the partitions whose changes its events report."""
    found: dict[str, list[StreamPartition]] = {}
    for partition in partitions:
        reported_by = partition.stream.object_type.event_source.object_name
        found.setdefault(reported_by, []).append(partition)
    return found


def seen_by_kind(partitions: Sequence[StreamPartition]) -> Mapping[str, frozenset[str]]:
    """Return object type → ids of events that all of its partitions have processed."""
    return {
        object_name: frozenset.intersection(*(partition.bookmark.seen for partition in members))
        for object_name, members in by_kind(partitions).items()
    }


def _whole_day(unix: int) -> int:
    """Return the start of the day: a bookmark without events changes at most once a day."""
    return unix - unix % DAY
