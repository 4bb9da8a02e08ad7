"""Events → what changed: the newest event of each object decides, once.

Pure: events in, changes out. What an event's snapshot cannot be trusted with is to be retrieved:
it is rendered at the account's version, not ours, it cannot be expanded, its lists stop at ten
entries, and the order of events inside one second is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from tap_stripe_alloy.lists import cut_short
from tap_stripe_alloy.records import Object

OVERLAP = 300
"""Seconds before a bookmark that are read again: Stripe's event list is eventually consistent."""
RETENTION = 30 * 86_400
"""Seconds that Stripe keeps events: docs.stripe.com/api/events."""
EVENT = "event"
"""Stripe's `object` of an event."""

Event = dict[str, Any]
Key = tuple[str, str]
"""(object, id), as in ("charge", "ch_1")."""


@dataclass(frozen=True)
class Route:
    """What a walk must know of one kind of object."""

    trusted: bool
    """Whether a snapshot can serve at all: nothing is expanded."""
    nested: Sequence[tuple[str, ...]]
    deleted_by: Collection[str]
    children: str | None
    """The field whose entries are records of their own."""


@dataclass(frozen=True)
class Page:
    """Some events, newest first; no later page has newer ones."""

    events: Sequence[Event]
    last: bool
    news: bool
    """Whether an event is among them that no earlier walk has met."""
    overtaken: Collection[Key] = ()
    """Objects of which an earlier walk took an event that is as new as the newest here."""
    own: Collection[str] = ()
    """Ids of events that bring back only what we wrote ourselves."""


@dataclass(frozen=True)
class Change:
    """What to do about one object that changed at `at` (Unix seconds)."""

    key: Key
    at: int
    do: Literal["use", "retrieve", "bury"]
    snapshot: Object
    late: bool = False
    """Whether a newer event of the object was taken before, so that `at` is too early."""


@dataclass
class Walk:
    """Takes events newest first, page by page, and tells each changed object once."""

    api_version: str
    routes: Mapping[str, Route]
    taken: Callable[[str, Event], bool]
    """Whether an earlier walk already took an event, for a kind of object."""
    fresh: list[Event] = field(default_factory=list)
    """Events of the last `take` that no earlier walk took as events."""
    newest: int = 0
    """`created` of the newest event."""
    ids: set[str] = field(default_factory=set)
    """The event ids that another walk from here on will meet again."""
    former_children: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids of children that a parent's events name as its former ones."""
    last_children: dict[str, Object] = field(default_factory=dict)
    """Former children as the newest event that names them has them."""
    _held: list[Event] = field(default_factory=list)
    _told: set[Key] = field(default_factory=set)
    _overtaken: set[Key] = field(default_factory=set)
    _own: set[str] = field(default_factory=set)
    _written: dict[Key, int] = field(default_factory=dict)
    """When we last wrote objects ourselves, as long as nothing else is known to have happened."""

    def take(self, page: Page) -> Iterator[Change]:
        """Yield what the events tell; the oldest second waits until it is known to be whole."""
        pending = self._held + list(page.events)
        self._overtaken.update(page.overtaken)
        self._own.update(page.own)
        cut = len(pending)
        if pending and not page.last:
            oldest = pending[-1]["created"]
            while cut and pending[cut - 1]["created"] == oldest:
                cut -= 1
        self._held = pending[cut:]
        self.fresh = []
        for at, second in groupby(pending[:cut], key=lambda event: int(event["created"])):
            yield from self._second(at, list(second))

    def _second(self, at: int, events: Iterable[Event]) -> Iterator[Change]:
        by_key: dict[Key, list[Event]] = {}
        for event in events:
            self._note(event, at)
            key = key_of(event)
            if key[0] not in self.routes or not key[1]:
                continue
            if self.taken(key[0], event):
                self._overtaken.add(key)
                continue
            by_key.setdefault(key, []).append(event)
            self._note_children(key, event)
        for key, group in by_key.items():
            if key not in self._told:
                yield from self._tell(key, at, group)

    def _note(self, event: Event, at: int) -> None:
        self.newest = max(self.newest, at)
        if at >= self.newest - OVERLAP:
            self.ids.add(event["id"])
        if not self.taken(EVENT, event):
            self.fresh.append(event)

    def _tell(self, key: Key, at: int, group: Sequence[Event]) -> Iterator[Change]:
        if all(event["id"] in self._own for event in group):
            self._written.setdefault(key, at)
            return
        self._told.add(key)
        if key in self._written:  # we wrote it after something else: what is there now counts
            snapshot = group[0]["data"]["object"]
            yield Change(key, self._written[key], "retrieve", snapshot)
        else:
            yield self._decide(key, at, group)

    def _decide(self, key: Key, at: int, group: Sequence[Event]) -> Change:
        event, route = group[0], self.routes[key[0]]
        snapshot = event["data"]["object"]
        late = key in self._overtaken
        alone = len(group) == 1 and not late
        if alone and event["type"] in route.deleted_by:
            return Change(key, at, "bury", snapshot)
        whole = not any(cut_short(snapshot, path) for path in route.nested)
        usable = alone and route.trusted and whole and event["api_version"] == self.api_version
        return Change(key, at, "use" if usable else "retrieve", snapshot, late)

    def _note_children(self, key: Key, event: Event) -> None:
        """Remember the children that an event names: a removed one has no event of its own."""
        children = self.routes[key[0]].children
        if children is None:
            return
        data = event["data"]
        before = (data.get("previous_attributes") or {}).get(children)
        named = [before] if before else []
        if event["type"] in self.routes[key[0]].deleted_by:
            named.append(data["object"].get(children))
        for listed in named:
            for child in (listed or {}).get("data") or []:
                self.former_children[key].add(child["id"])
                self.last_children.setdefault(child["id"], child)


def key_of(event: Event) -> Key:
    """What an event is about."""
    source = event["data"]["object"]
    return source.get("object") or "", source.get("id") or ""
