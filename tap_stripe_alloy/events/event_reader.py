"""Reads what changed: one pass over an account's events for all its streams."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from stripe_alloy.api.client import PAGE_SIZE
from stripe_alloy.api.errors import MissingPermissionError, NotFoundError, StripeError
from stripe_alloy.api.events import EVENT, OVERLAP, Event
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import is_on_test_clock, truncated_list
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.paths import item_path
from stripe_alloy.api.requests import Gather, GetRequest
from stripe_alloy.api.responses import OneObject
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

BOOKMARK_SLACK = 86_400
"""Seconds that a bookmark may lie behind when nothing happens, before it is moved up."""
FIRST_SPAN = PAGE_SIZE
"""Events that are written before the bookmarks move for the first time."""
LARGEST_SPAN = 4_000
QUICK, SLOW = 2.0, 10.0
"""Seconds: what takes less is followed by a larger span, what takes longer by a smaller one."""


class EventReader:
    """Reads the changes of an account's streams since the oldest of their bookmarks."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        *,
        api_version: str,
        refused: Callable[[Sequence[StreamPartition], MissingPermissionError], None],
        own: SelfWriteFilter = keep_all,
        inbox: InboxReader | None = None,
    ) -> None:
        self.account = outputs[0].account
        self._api_version = api_version
        self._refused = refused
        self._inbox = inbox
        self._since = {id(output): output.bookmark.since for output in outputs}
        self._read_from = min(self._since.values()) - (0 if inbox else OVERLAP)
        self._feed = self._feed_of(outputs, own)
        self._now = math.inf
        self._follow(outputs)
        self._denied: set[str] = set()
        self._stirred = False

    def _feed_of(self, outputs: Sequence[StreamPartition], own: SelfWriteFilter) -> EventFeed:
        if self._inbox:
            return self._inbox.feed(outputs, own)
        return StripeFeed(
            self._read_from,
            account=self.account,
            streams=names_of(outputs),
            seen=seen_by_kind(outputs),
            own=own,
        )

    def _follow(self, outputs: Sequence[StreamPartition]) -> None:
        self.outputs = outputs
        self._by_object = by_kind(outputs)
        self._detector = self._new_detector()

    def _new_detector(self) -> ChangeDetector:
        policies = self._policies()
        return ChangeDetector(self._api_version, policies, self._feed.taken, now=self._now)

    def _policies(self) -> Mapping[str, ObjectPolicy]:
        routes = {}
        for object_name, outputs in self._by_object.items():
            root = outputs[0].stream.root
            fields = [output.stream.object_type.parent_field for output in outputs]
            routes[object_name] = ObjectPolicy(
                trusted=not root.expand,
                nested=root.nested,
                deleted_by=root.object_type.deletion_events,
                deleted_for=root.object_type.deletion_events_by_id,
                children=next((name for name in fields if name), None),
            )
        return routes

    def open(self) -> TapReader[Sequence[StreamPartition]]:
        """Ask for the first events; the partitions that need older ones than Stripe keeps.

        Their changes are not read: they are to be listed from the beginning.
        """
        reach = yield from self._feed.open()
        if reach is None:
            return []
        self._now = self._detector.now = reach.now
        old = too_old(self.outputs, reach.now) if reach.oldest < kept_from(reach.now) else []
        if old:
            self._stirred = True
            dropped = set(map(id, old))
            self._follow([output for output in self.outputs if id(output) not in dropped])
        return old

    def read(self) -> TapReader[None]:
        """Read and write the changes, span by span, and move the bookmarks after each."""
        try:
            yield from self._read_spans()
        except MissingPermissionError as error:
            self.give_up(error)

    def _read_spans(self) -> TapReader[None]:
        size = FIRST_SPAN
        last = not self.outputs
        while not last:
            begun = time.monotonic()
            span = yield from self._feed.span(size)
            self._stirred |= span.news
            yield from self._write_changes(span)
            self._advance(span)
            last = span.last
            self._begin_span()
            size = _next_size(size, time.monotonic() - begun)

    def give_up(self, error: MissingPermissionError) -> None:
        """Note that the key may not read events: anything may have happened."""
        self._stirred = True
        self._refused(self.outputs, error)

    def stirred_since(self, moment: int) -> bool:
        """Whether there was an event since `moment` (Unix seconds), or may have been."""
        return self._stirred or max(self._detector.newest, self._read_from) > moment

    @property
    def until(self) -> int:
        """Up to when the events are known, in Unix seconds."""
        return max(self._detector.newest, min(self._since.values()))

    def _begin_span(self) -> None:
        newest, ids = self._detector.newest, self._detector.ids
        self._detector = self._new_detector()
        self._detector.newest, self._detector.ids = newest, ids

    # What an event leads to.

    def _write_changes(self, span: Span) -> TapReader[None]:
        changes = list(self._detector.take(span))
        records = self._as_events(self._detector.fresh)
        retrievals = []
        for change in changes:
            if change.action is ChangeAction.RETRIEVE:
                retrievals.append(self._retrieve(self._dated(change)))
            else:
                records += self._records_of(change)
        yield Gather([_write(records), *retrievals])

    def _as_events(self, events: Sequence[Event]) -> PartitionRecords:
        if EVENT not in self._by_object:
            return []
        # Copies: an event's snapshot may go out as a record of its own, with times converted.
        return [
            pair
            for event in events
            for pair in self._concerned(EVENT, event["created"], copy.deepcopy(event))
        ]

    def _dated(self, change: DetectedChange) -> DetectedChange:
        """A change that a newer row may have come before, no older than that row."""
        if not change.late:
            return change
        given = max(self._since[id(output)] for output in self._by_object[change.key[0]])
        return dataclasses.replace(change, at=max(change.at, given))

    def _retrieve(self, change: DetectedChange) -> TapReader[None]:
        """Retrieve an object and write it, or its tombstone if it is gone."""
        root = self._by_object[change.key[0]][0].stream.root
        request = GetRequest(
            item_path(root.object_type.path, change.key[1]),
            [("expand[]", path) for path in root.expand],
            self.account,
            of=OneObject(*change.key),
            streams=[root.name],
        )
        lists = NestedLists(root.listed, self.account, [root.name])
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
        """Write what the event says where Stripe refuses the object; raise any other error."""
        if isinstance(error, MissingPermissionError) and error.of_endpoint:
            self._deny(change.key[0], error)
        elif isinstance(error, NotFoundError):
            yield from self._write_change(change, [])
        elif error.of_one_object:
            _logger.warning("%s It is left as its event tells.", error)
            yield from self._write_change(change, [] if change.gone else [change.snapshot])
        else:
            raise error

    def _deny(self, object_name: str, error: MissingPermissionError) -> None:
        """Leave the bookmarks of these streams where they are: they miss what was refused."""
        if object_name not in self._denied:
            self._denied.add(object_name)
            self._refused(self._by_object[object_name], error)

    def _write_change(self, change: DetectedChange, objects: Sequence[JSON]) -> TapReader[None]:
        if objects:
            found = DetectedChange(change.key, change.at, ChangeAction.EMIT, objects[0])
        else:
            found = DetectedChange(change.key, change.at, ChangeAction.TOMBSTONE, change.snapshot)
        yield from _write(self._records_of(found))

    def _records_of(self, change: DetectedChange) -> PartitionRecords:
        """Return the records of a change; of a deleted object, its tombstone."""
        object_name, source_id = change.key
        if self._by_object[object_name][0].stream.root.without_clocks and is_on_test_clock(
            change.snapshot
        ):
            return []
        if change.action is not ChangeAction.TOMBSTONE:
            rows = self._concerned(object_name, change.at, change.snapshot)
            return [*rows, *self._left_children(change)]
        return [
            (output, output.recorder.tombstone(source_id, object_name, change.at, change.snapshot))
            for output in self._by_object[object_name]
            if output.stream.object_type.parent is None and self._concerns(output, change.at)
        ] + list(self._left_children(change))

    def _concerned(self, object_name: str, at: int, source: JSON) -> PartitionRecords:
        outputs = self._by_object.get(object_name, ())
        return records_of(source, [out for out in outputs if self._concerns(out, at)], at)

    def _concerns(self, output: StreamPartition, at: int) -> bool:
        if self._inbox and output.bookmark.inbox:
            return True  # what its number says is new, however late it came
        return at >= self._since[id(output)] - OVERLAP

    def _left_children(self, change: DetectedChange) -> Iterator[tuple[StreamPartition, JSON]]:
        """Tombstones of what a parent's events name and the parent no longer has."""
        former = self._detector.former_children.get(change.key, set())
        for output in self._by_object[change.key[0]]:
            field = output.stream.object_type.parent_field
            if not former or not field or not self._concerns(output, change.at):
                continue
            if change.action is ChangeAction.TOMBSTONE:
                current = set()
            elif truncated_list(change.snapshot, [field]):
                continue
            else:
                current = {child["id"] for child in children_of(change.snapshot, output)}
            for child_id in sorted(former - current):
                name, last = (
                    output.stream.object_type.object_name,
                    self._detector.last_children.get(child_id),
                )
                yield output, output.recorder.tombstone(child_id, name, change.at, last)

    # Bookmarks, once everything of a span is written.

    def _advance(self, span: Span) -> None:
        for object_name, outputs in self._by_object.items():
            if object_name in self._denied:
                continue
            for output in outputs:
                since = max(self._since[id(output)], self._detector.newest)
                if span.last:
                    since = max(since, _whole_day(int(self._feed.known_at) - BOOKMARK_SLACK))
                elif since > self._detector.newest and not self._inbox:
                    continue  # there is nothing new to it among what is this old
                self._move(output, since)

    def _move(self, output: StreamPartition, since: int) -> None:
        inbox, bookmark = self._inbox, output.bookmark
        bookmark.note_inbox(inbox.position_of(output, self._feed) if inbox else None)
        bookmark.advance(since, () if inbox else self._ids_for(output))
        self._since[id(output)] = since

    def _ids_for(self, output: StreamPartition) -> Iterator[str]:
        """Events that its next run will meet again: of its own kind, and of what no stream reads.

        With those of all kinds, a busy account's state would hold each id once for every stream.
        """
        mine = output.stream.root.object_type.object_name
        for event_id, (_, kind) in self._detector.ids.items():
            if mine in (kind, EVENT) or kind not in self._by_object:
                yield event_id


def _write(records: PartitionRecords) -> TapReader[None]:
    if records:
        yield Write(group_by_partition(records))


def _next_size(size: int, seconds: float) -> int:
    """How many events the next span is to have."""
    if seconds < QUICK:
        return min(4 * size, LARGEST_SPAN)
    return max(size // 2, FIRST_SPAN) if seconds > SLOW else size


def by_kind(outputs: Sequence[StreamPartition]) -> Mapping[str, Sequence[StreamPartition]]:
    """Name of the object that events tell of → the outputs that want it."""
    found: dict[str, list[StreamPartition]] = {}
    for output in outputs:
        found.setdefault(output.stream.root.object_type.object_name, []).append(output)
    return found


def seen_by_kind(outputs: Sequence[StreamPartition]) -> Mapping[str, frozenset[str]]:
    """What all streams of one kind have: no stream's bookmark speaks for another's."""
    return {
        object_name: frozenset.intersection(*(output.bookmark.seen for output in members))
        for object_name, members in by_kind(outputs).items()
    }


def _whole_day(unix: int) -> int:
    """The start of the day: a bookmark that nothing moves is written anew once a day at most."""
    return unix - unix % 86_400
