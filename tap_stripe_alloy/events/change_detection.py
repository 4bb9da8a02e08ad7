"""Events → what changed: the newest event of each object decides, once.

Pure: events in, changes out. What an event's snapshot cannot be trusted with is to be retrieved:
it is rendered at the account's version, not ours, it cannot be expanded, its lists stop at ten
entries, and the order of events inside one second is unknown.
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
    """What a walk must know of one kind of object."""

    trusted: bool
    """Whether a snapshot can serve at all: nothing is expanded."""
    nested: Sequence[tuple[str, ...]]
    deleted_by: Collection[str]
    children: str | None
    """The field whose entries are records of their own."""
    deleted_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Event type → beginnings of the ids for which it means deletion, for good."""

    def deletes(self, event: Event) -> bool:
        """Whether an event says that its object no longer exists."""
        return event["type"] in self.deleted_by or self.deletes_for_good(event)

    def deletes_for_good(self, event: Event) -> bool:
        """Whether none of this id will ever exist again."""
        beginnings = self.deleted_for.get(event["type"], ())
        return key_of(event)[1].startswith(beginnings)


@dataclass(frozen=True)
class Span:
    """All events of some time, or of some numbers, newest first."""

    events: Sequence[Event]
    last: bool
    """Whether none with newer events follows."""
    news: bool
    """Whether an event is among them that no earlier walk has met."""
    superseded: Collection[Key] = ()
    """Objects of which an earlier walk took an event that is as new as the newest here."""
    self_caused: Collection[str] = ()
    """Ids of events that bring back only what we wrote ourselves."""


class ChangeAction(str, Enum):
    """What to do about an object that changed."""

    EMIT = "emit"
    """The event's snapshot is the object as it is."""
    RETRIEVE = "retrieve"
    TOMBSTONE = "tombstone"
    """It no longer exists."""


@dataclass(frozen=True)
class DetectedChange:
    """What to do about one object that changed at `at` (Unix seconds)."""

    key: Key
    at: int
    action: ChangeAction
    snapshot: JSON
    gone: bool = False
    """Whether the newest events say that it no longer exists."""
    late: bool = False
    """Whether a newer event of the object was taken before, so that `at` is too early."""


@dataclass
class ChangeDetector:
    """Takes the events of a span, newest first, and tells each changed object once."""

    api_version: str
    routes: Mapping[str, ObjectPolicy]
    already_processed: Callable[[str, Event], bool]
    """Whether an earlier walk already took an event, for a kind of object."""
    fresh: list[Event] = field(default_factory=list)
    """Events of the last `take` that no earlier walk took as events."""
    now: float = math.inf
    """What time it is for Stripe: what an event says of later times moves no bookmark."""
    newest: int = 0
    """`created` of the newest event that is not in the future."""
    ids: dict[str, tuple[int, str]] = field(default_factory=dict)
    """The events that another walk from here on will meet again: id → (`created`, kind)."""
    former_children: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids of children that a parent's events name as its former ones."""
    last_children: dict[str, JSON] = field(default_factory=dict)
    """Former children as the newest event that names them has them."""
    _emitted: set[Key] = field(default_factory=set)
    _superseded: set[Key] = field(default_factory=set)
    _self_caused: set[str] = field(default_factory=set)
    _own_write_at: dict[Key, int] = field(default_factory=dict)
    """When we last wrote objects ourselves, as long as nothing else is known to have happened."""

    def take(self, span: Span) -> Iterator[DetectedChange]:
        """Yield what the events tell."""
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
            if key[0] not in self.routes or not key[1]:
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
        if key in self._own_write_at:  # we wrote it after something else: what is there now counts
            snapshot = group[0]["data"]["object"]
            yield DetectedChange(key, self._own_write_at[key], ChangeAction.RETRIEVE, snapshot)
        else:
            yield self._decide(key, at, group)

    def _decide(self, key: Key, at: int, group: Sequence[Event]) -> DetectedChange:
        event, route = group[0], self.routes[key[0]]
        snapshot = event["data"]["object"]
        late = key in self._superseded
        alone = len(group) == 1 and not late
        gone = any(route.deletes(one) for one in group)
        if (alone and gone) or any(route.deletes_for_good(one) for one in group):
            return DetectedChange(key, at, ChangeAction.TOMBSTONE, snapshot)
        whole = not any(truncated_list(snapshot, path) for path in route.nested)
        usable = alone and route.trusted and whole and event["api_version"] == self.api_version
        action = ChangeAction.EMIT if usable else ChangeAction.RETRIEVE
        return DetectedChange(key, at, action, snapshot, gone, late)

    def _note_children(self, key: Key, event: Event) -> None:
        """Remember the children that an event names: a removed one has no event of its own."""
        children = self.routes[key[0]].children
        if children is None:
            return
        data = event["data"]
        before = (data.get("previous_attributes") or {}).get(children)
        named = [before] if before else []
        if self.routes[key[0]].deletes(event):
            named.append(data["object"].get(children))
        for child in (child for listed in named for child in _entries(listed)):
            self.former_children[key].add(child["id"])
            self.last_children.setdefault(child["id"], child)


def _entries(listed: Any) -> list[JSON]:
    """The objects of a list inside an event, as far as it is one."""
    entries = listed.get("data") if isinstance(listed, dict) else None
    found = entries if isinstance(entries, list) else []
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("id"), str)]
