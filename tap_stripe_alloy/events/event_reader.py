"""Reads what changed: one walk over an account's events for all its streams."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from stripe_alloy.api.client import PAGE_SIZE, Response
from stripe_alloy.api.errors import MissingPermissionError, NotFoundError, StripeError
from stripe_alloy.api.events import EVENT, OVERLAP, Event
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import is_on_test_clock, truncated_list
from stripe_alloy.api.nested_lists import NestedLists
from stripe_alloy.api.paths import item_path
from stripe_alloy.api.requests import GetRequest
from stripe_alloy.api.responses import OneObject
from tap_stripe_alloy.events.change_detection import (
    ChangeAction,
    ChangeDetector,
    DetectedChange,
    ObjectPolicy,
    Span,
)
from tap_stripe_alloy.events.event_feeds import (
    EventConsumer,
    Feed,
    SelfWriteFilter,
    StripeFeed,
    keep_all,
)
from tap_stripe_alloy.records.partitions import (
    PartitionRecords,
    StreamPartition,
    children_of,
    group_by_partition,
    records_of,
)
from tap_stripe_alloy.scheduler import Batch, Get, LocalRead, Step, no_op, steps_of
from tap_stripe_alloy.sync_callbacks import SyncCallbacks

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
    """One account's changes since its oldest bookmark."""

    def __init__(
        self,
        outputs: Sequence[StreamPartition],
        *,
        account: str | None,
        api_version: str,
        run: SyncCallbacks,
        own: SelfWriteFilter = keep_all,
        mailbox: InboxReader | None = None,
    ) -> None:
        self.account = account
        self.streams = [output.stream.name for output in outputs]
        self._api_version = api_version
        self._run = run
        self._outputs = outputs
        self._mailbox = mailbox
        self._since = {id(output): output.bookmark.since for output in outputs}
        self._read_from = min(self._since.values()) - (0 if mailbox else OVERLAP)
        self._feed = self._feed_for(mailbox, own)
        self._now = math.inf
        self._follow(outputs)
        self._denied: set[str] = set()
        self._open = 0
        self._size = FIRST_SPAN
        self._begun_at = time.monotonic()
        self._listed = False
        self._stirred = False

    def _feed_for(self, mailbox: InboxReader | None, own: SelfWriteFilter) -> Feed:
        taker = EventConsumer(self._take, self._leave_stale)
        if mailbox:
            return mailbox.feed(self._outputs, account=self.account, taker=taker, own=own)
        return StripeFeed(
            self._read_from,
            account=self.account,
            seen=seen_by_kind(self._outputs),
            taker=taker,
            own=own,
        )

    def next(self) -> Get | LocalRead | None:
        """Return what to ask for next: no more before a span is written."""
        return None if self._listed or self._open else self._feed.next(self._size)

    def left(self) -> Mapping[str, float]:
        """Nothing: how many changes there are, only the end of the walk tells."""
        return {}

    def refused(self, error: MissingPermissionError) -> None:
        """Report that the key may not read events, so no changes of any stream."""
        self._stirred = self._listed = True  # for all that is known
        self._open = -1
        self._run.refused(self._outputs, error)

    def quiet_since(self, moment: int) -> bool | None:
        """Whether there was no event since `moment` (Unix seconds); None while nobody knows."""
        if not self._listed:
            return None
        return not self._stirred and max(self._walk.newest, self._read_from) <= moment

    @property
    def ended(self) -> bool:
        """Whether all it has to tell was told."""
        return self._listed and self._open < 0

    @property
    def until(self) -> int:
        """Up to when the events are known, in Unix seconds."""
        return max(self._walk.newest, min(self._since.values()))

    def _follow(self, outputs: Sequence[StreamPartition]) -> None:
        self._outputs = outputs
        self._by_object = by_kind(outputs)
        self._walk = self._new_walk()

    def _new_walk(self) -> ChangeDetector:
        return ChangeDetector(self._api_version, self._routes(), self._feed.taken, now=self._now)

    def _leave_stale(self, now: float, needed_from: float) -> Iterator[Step]:
        """Stripe's clock tells how far back its events go: what needs older ones is listed."""
        self._now = self._walk.now = now
        stale = self._run.stale(self._outputs, now, needed_from)
        if stale:
            self._stirred = True
            gone = {id(output) for output in stale}
            self._follow([output for output in self._outputs if id(output) not in gone])
            yield from self._run.relist(stale)

    def _routes(self) -> Mapping[str, ObjectPolicy]:
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

    def _take(self, span: Span) -> Iterator[Step]:
        self._listed = span.last
        self._stirred |= span.news
        changes = list(self._walk.take(span))
        records = self._as_events(self._walk.fresh)
        gets: list[Get] = []
        for change in changes:
            if change.action is ChangeAction.RETRIEVE:
                gets.append(self._retrieve(self._dated(change)))
            else:
                records += self._told(change)
        self._open = len(gets)
        yield from gets
        if records:
            yield Batch(
                group_by_partition(records), no_op
            )  # bookmarks move once the whole span is written
        yield from self._end()

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

    def _retrieve(self, change: DetectedChange) -> Get:
        root = self._by_object[change.key[0]][0].stream.root
        request = GetRequest(
            item_path(root.object_type.path, change.key[1]),
            [("expand[]", path) for path in root.expand],
            self.account,
            of=OneObject(*change.key),
            stream=root.name,
        )
        return Get(request, partial(self._retrieved, change), partial(self._not_retrieved, change))

    def _retrieved(self, change: DetectedChange, answer: Response) -> Iterator[Step]:
        root = self._by_object[change.key[0]][0].stream.root
        if answer.body.get("deleted"):
            yield from self._emit(change, [])
            return
        lists = NestedLists(root.listed, self.account, root.name)
        yield from steps_of(
            lists.complete([answer.body]),
            partial(self._emit, change),
            partial(self._lists_not_read, change),
        )

    def _lists_not_read(self, change: DetectedChange, error: StripeError) -> Iterable[Step]:
        if not isinstance(error, MissingPermissionError):
            raise error
        return self._not_retrieved(change, error)

    def _not_retrieved(self, change: DetectedChange, error: StripeError) -> Iterator[Step]:
        if isinstance(error, MissingPermissionError) and error.of_endpoint:
            self._deny(change.key[0], error)
            self._open -= 1
            yield from self._end()
        elif isinstance(error, NotFoundError):
            yield from self._emit(change, [])
        elif error.of_one_object:
            _logger.warning("%s It is left as its event tells.", error)
            yield from self._emit(change, [] if change.gone else [change.snapshot])
        else:
            raise error

    def _deny(self, object_name: str, error: MissingPermissionError) -> None:
        """Leave the bookmarks of these streams where they are: they miss what was refused."""
        if object_name not in self._denied:
            self._denied.add(object_name)
            self._run.refused(self._by_object[object_name], error)

    def _emit(self, change: DetectedChange, objects: Sequence[JSON]) -> Iterator[Step]:
        if objects:
            found = DetectedChange(change.key, change.at, ChangeAction.EMIT, objects[0])
        else:
            found = DetectedChange(change.key, change.at, ChangeAction.TOMBSTONE, change.snapshot)
        self._open -= 1
        yield Batch(group_by_partition(self._told(found)), no_op)
        yield from self._end()

    def _told(self, change: DetectedChange) -> PartitionRecords:
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
        if self._mailbox and output.bookmark.inbox:
            return True  # what its number says is new, however late it came
        return at >= self._since[id(output)] - OVERLAP

    def _left_children(self, change: DetectedChange) -> Iterator[tuple[StreamPartition, JSON]]:
        """Tombstones of what a parent's events name and the parent no longer has."""
        former = self._walk.former_children.get(change.key, set())
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
                    self._walk.last_children.get(child_id),
                )
                yield output, output.recorder.tombstone(child_id, name, change.at, last)

    def _end(self) -> Iterator[Step]:
        """Once everything of a span is told, the bookmarks move."""
        if not self._open:
            self._open = -1
            yield Batch([], self._advance)

    def _advance(self) -> None:
        for object_name, outputs in self._by_object.items():
            if object_name in self._denied:
                continue
            for output in outputs:
                since = max(self._since[id(output)], self._walk.newest)
                if self._listed:
                    since = max(since, _whole_day(int(self._feed.known_at) - BOOKMARK_SLACK))
                elif since > self._walk.newest and not self._mailbox:
                    continue  # there is nothing new to it among what is this old
                self._move(output, since)
        if not self._listed:
            self._go_on()

    def _move(self, output: StreamPartition, since: int) -> None:
        mailbox, bookmark = self._mailbox, output.bookmark
        bookmark.note_inbox(mailbox.position_of(output, self._feed) if mailbox else None)
        bookmark.advance(since, () if mailbox else self._ids_for(output))
        self._since[id(output)] = since

    def _ids_for(self, output: StreamPartition) -> Iterator[str]:
        """Events that its next walk will meet again: of its own kind, and of what no stream reads.

        With those of all kinds, a busy account's state would hold each id once for every stream.
        """
        mine = output.stream.root.object_type.object_name
        for event_id, (_, kind) in self._walk.ids.items():
            if mine in (kind, EVENT) or kind not in self._by_object:
                yield event_id

    def _go_on(self) -> None:
        """Begin the next span."""
        self._open = 0
        newest, ids = self._walk.newest, self._walk.ids
        self._walk = self._new_walk()
        self._walk.newest, self._walk.ids = newest, ids
        now = time.monotonic()
        if now - self._begun_at < QUICK:
            self._size = min(4 * self._size, LARGEST_SPAN)
        elif now - self._begun_at > SLOW:
            self._size = max(self._size // 2, FIRST_SPAN)
        self._begun_at = now


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
