"""Detects changes: the newest event of each object decides what to emit, once per object.

Pure: events in, changes out. An object is retrieved instead of taken from its event when the event
has another API version, when something is to be expanded, when a nested list is truncated (Stripe
stops at ten entries), or when the object has several events in one second, because their order is
unknown.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import Any

from stripe_alloy.api.events import EVENT, OVERLAP, SAME_TIME, Event, Key, key_of
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import truncated_list


@dataclass(frozen=True)
class ObjectPolicy:
    """How to treat the events of one object type."""

    trusted: bool
    """Whether an event's snapshot can be used at all: nothing is expanded."""
    nested: Sequence[tuple[str, ...]]
    deleted_by: Collection[str]
    children: str | None
    """The field with entries that are records of a child stream."""
    deleted_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Event type → prefixes of the ids for which it means permanent deletion."""

    def deletes(self, event: Event) -> bool:
        """Whether an event means that its object was deleted."""
        return event["type"] in self.deleted_by or self.deletes_for_good(event)

    def deletes_for_good(self, event: Event) -> bool:
        """Whether an event means that its object was deleted and cannot be recreated."""
        prefixes = self.deleted_for.get(event["type"], ())
        return key_of(event)[1].startswith(prefixes)


@dataclass(frozen=True)
class Span:
    """All events of a period, or of a range of sequence numbers, newest first."""

    events: Sequence[Event]
    last: bool
    """Whether no span with newer events follows."""
    news: bool
    """Whether it contains an event that no earlier run has read."""
    superseded: Collection[Key] = ()
    """Objects for which an earlier run may have processed an event at least as new."""
    self_caused: Collection[str] = ()
    """Ids of events that only echo the target's own writes."""


class ChangeAction(str, Enum):
    """What to do about an object that changed."""

    EMIT = "emit"
    """Emit the event's snapshot."""
    RETRIEVE = "retrieve"
    """Retrieve the object from the API and emit it."""
    TOMBSTONE = "tombstone"
    """Emit a tombstone: the object was deleted."""


@dataclass(frozen=True)
class DetectedChange:
    """What to do about one object that changed at `at` (Unix seconds)."""

    key: Key
    at: int
    action: ChangeAction
    snapshot: JSON
    gone: bool = False
    """Whether one of the newest events means that the object was deleted."""
    late: bool = False
    """Whether a newer event of the object was processed before, so that `at` is too early."""


@dataclass
class ChangeDetector:
    """Consumes spans of events, newest first, and yields one change per object."""

    api_version: str
    policies: Mapping[str, ObjectPolicy]
    already_processed: Callable[[str, Event], bool]
    """Whether an earlier run already processed an event, for an object type."""
    fresh: list[Event] = field(default_factory=list)
    """Events of the last `take` that no earlier run emitted as rows of the stream `events`."""
    now: float = math.inf
    """Stripe's time (Unix seconds): events dated later do not advance bookmarks."""
    newest: int = 0
    """`created` of the newest event that is not in the future (Unix seconds)."""
    ids: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Events that the next run will read again: id → (`created`, object type)."""
    former_children: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Parent → ids of its former children, according to its events."""
    last_children: dict[str, JSON] = field(default_factory=dict)
    """Child id → former child, as in the newest event that contains it."""
    _emitted: set[Key] = field(default_factory=set)
    _superseded: set[Key] = field(default_factory=set)
    _self_caused: set[str] = field(default_factory=set)
    _own_write_at: dict[Key, int] = field(default_factory=dict)
    """Object → time of the target's last write (Unix seconds), if no newer change is known."""

    def take(self, span: Span) -> Iterator[DetectedChange]:
        """Yield the changes in a span."""
        self._superseded.update(span.superseded)
        self._self_caused.update(span.self_caused)
        for at, second in groupby(span.events, key=lambda event: int(event["created"])):
            yield from self._process_second(at, list(second))
        oldest = self.newest - OVERLAP
        self.ids = {event_id: at for event_id, at in self.ids.items() if at[0] >= oldest}

    def _process_second(self, at: int, events: Iterable[Event]) -> Iterator[DetectedChange]:
        by_key: dict[Key, list[Event]] = {}
        for event in events:
            self._note(event, at)
            key = key_of(event)
            if key[0] not in self.policies or not key[1]:
                continue
            if self.already_processed(key[0], event):
                self._superseded.add(key)
                continue
            by_key.setdefault(key, []).append(event)
            self._note_children(key, event)
        for key, group in by_key.items():
            if key not in self._emitted:
                yield from self._emit(key, at, group)

    def _note(self, event: Event, at: int) -> None:
        if at <= self.now + SAME_TIME:
            self.newest = max(self.newest, at)
        if at >= self.newest - OVERLAP:
            self.ids[event["id"]] = at, key_of(event)[0]
        if not self.already_processed(EVENT, event):
            self.fresh.append(event)

    def _emit(self, key: Key, at: int, group: Sequence[Event]) -> Iterator[DetectedChange]:
        if all(event["id"] in self._self_caused for event in group):
            self._own_write_at.setdefault(key, at)
            return
        self._emitted.add(key)
        if key in self._own_write_at:  # written by the target after another change: read the result
            snapshot = group[0]["data"]["object"]
            yield DetectedChange(key, self._own_write_at[key], ChangeAction.RETRIEVE, snapshot)
        else:
            yield self._decide(key, at, group)

    def _decide(self, key: Key, at: int, group: Sequence[Event]) -> DetectedChange:
        event, policy = group[0], self.policies[key[0]]
        snapshot = event["data"]["object"]
        late = key in self._superseded
        alone = len(group) == 1 and not late
        gone = any(policy.deletes(one) for one in group)
        if (alone and gone) or any(policy.deletes_for_good(one) for one in group):
            return DetectedChange(key, at, ChangeAction.TOMBSTONE, snapshot)
        complete = not any(truncated_list(snapshot, path) for path in policy.nested)
        usable = alone and policy.trusted and complete and event["api_version"] == self.api_version
        action = ChangeAction.EMIT if usable else ChangeAction.RETRIEVE
        return DetectedChange(key, at, action, snapshot, gone, late)

    def _note_children(self, key: Key, event: Event) -> None:
        """Remember the former children in an event: a removed child has no event of its own."""
        children = self.policies[key[0]].children
        if children is None:
            return
        data = event["data"]
        before = (data.get("previous_attributes") or {}).get(children)
        former = [before] if before else []
        if self.policies[key[0]].deletes(event):
            former.append(data["object"].get(children))
        for child in (child for listed in former for child in _entries(listed)):
            self.former_children[key].add(child["id"])
            self.last_children.setdefault(child["id"], child)


def _entries(listed: Any) -> list[JSON]:
    """Return the objects of a list in an event; empty if it is not a list."""
    entries = listed.get("data") if isinstance(listed, dict) else None
    found = entries if isinstance(entries, list) else []
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("id"), str)]
