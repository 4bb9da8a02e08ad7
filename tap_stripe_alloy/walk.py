"""Reads what changed: one walk over an account's events for all its streams."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from stripe_alloy.errors import NotFound, PermissionMissing, StripeError
from stripe_alloy.transport import Answer
from tap_stripe_alloy.changes import EVENT, OVERLAP, Change, Event, Key, Page, Route, Walk
from tap_stripe_alloy.completion import Completion
from tap_stripe_alloy.feeds import Feed, Own, StripeFeed, Taker, nothing_own
from tap_stripe_alloy.fetch import Batch, Get, Look, Step, nothing
from tap_stripe_alloy.listing import Run
from tap_stripe_alloy.lists import on_clock
from tap_stripe_alloy.outputs import Output, Written, children_of, parts, records_of
from tap_stripe_alloy.records import Object

if TYPE_CHECKING:
    from tap_stripe_alloy.mailbox import Mailbox

BOOKMARK_SLACK = 86_400
"""Seconds that a bookmark may lie behind when nothing happens, before it is moved up."""


class Changes:
    """One account's changes since its oldest bookmark."""

    def __init__(
        self,
        outputs: Sequence[Output],
        *,
        account: str | None,
        api_version: str,
        run: Run,
        own: Own = nothing_own,
        mailbox: Mailbox | None = None,
    ) -> None:
        self._account = account
        self._api_version = api_version
        self._run = run
        self._outputs = outputs
        self._mailbox = mailbox
        self._since = {id(output): output.bookmark.since for output in outputs}
        self._feed = self._feed_for(mailbox, own)
        self._follow(outputs)
        self._denied: set[str] = set()
        self._current_children: dict[Key, set[str]] = {}
        self._at: dict[Key, int] = {}
        self._open = 0
        self._listed = False
        self._stirred = False

    def _feed_for(self, mailbox: Mailbox | None, own: Own) -> Feed:
        taker = Taker(self._take, self._leave_stale)
        if mailbox:
            return mailbox.feed(self._outputs, account=self._account, taker=taker, own=own)
        bookmarks = [output.bookmark for output in self._outputs]
        return StripeFeed(
            min(self._since.values()) - OVERLAP,
            account=self._account,
            seen=seen_by_kind(self._outputs),
            known=frozenset.intersection(*(bookmark.seen for bookmark in bookmarks)),
            taker=taker,
            own=own,
        )

    def next(self) -> Get | Look | None:
        """Return what to ask for next."""
        return None if self._listed else self._feed.next()

    def left(self) -> Mapping[str, float]:
        """Nothing: how many changes there are, only the end of the walk tells."""
        return {}

    def refused(self, error: PermissionMissing) -> None:
        """Report that the key may not read events, so no changes of any stream."""
        self._stirred = self._listed = True  # for all that is known
        self._open = -1
        self._run.refused(self._outputs, error)

    def quiet_since(self, moment: int) -> bool | None:
        """Whether there was no event since `moment` (Unix seconds); None while nobody knows."""
        if not self._listed:
            return None
        return not self._stirred and self.until <= moment

    @property
    def ended(self) -> bool:
        """Whether all it has to tell was told."""
        return self._listed and self._open < 0

    @property
    def until(self) -> int:
        """Up to when the events are known, in Unix seconds."""
        return max(self._walk.newest, min(self._since.values()))

    def _follow(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self._by_object = by_kind(outputs)
        self._walk = Walk(self._api_version, self._routes(), self._feed.taken)

    def _leave_stale(self, now: float, needed_from: float) -> Iterator[Step]:
        """Stripe's clock tells how far back its events go: what needs older ones is listed."""
        stale = self._run.stale(self._outputs, now, needed_from)
        if stale:
            self._stirred = True
            gone = {id(output) for output in stale}
            self._follow([output for output in self._outputs if id(output) not in gone])
            yield from self._run.relist(stale)

    def _routes(self) -> Mapping[str, Route]:
        routes = {}
        for object_name, outputs in self._by_object.items():
            root = outputs[0].stream.root
            fields = [output.stream.parent_field for output in outputs]
            routes[object_name] = Route(
                trusted=not root.expand,
                nested=root.nested,
                deleted_by=root.deleted_by,
                children=next((name for name in fields if name), None),
            )
        return routes

    def _take(self, page: Page) -> Iterator[Step]:
        self._listed = page.last
        self._stirred |= page.news
        changes = list(self._walk.take(page))
        records = self._as_events(self._walk.fresh)
        gets: list[Get] = []
        for change in changes:
            if change.do == "retrieve":
                gets.append(self._retrieve(self._dated(change)))
            else:
                records += self._told(change)
        self._open += len(gets)
        yield from gets
        if records:
            yield Batch(parts(records), nothing)  # bookmarks move once the whole walk is written
        yield from self._end()

    def _as_events(self, events: Sequence[Event]) -> Written:
        if EVENT not in self._by_object:
            return []
        # Copies: an event's snapshot may go out as a record of its own, with times converted.
        return [
            pair
            for event in events
            for pair in self._concerned(EVENT, event["created"], copy.deepcopy(event))
        ]

    def _dated(self, change: Change) -> Change:
        """A change that a newer row may have come before, no older than that row."""
        if not change.late:
            return change
        given = max(self._since[id(output)] for output in self._by_object[change.key[0]])
        return dataclasses.replace(change, at=max(change.at, given))

    def _retrieve(self, change: Change) -> Get:
        root = self._by_object[change.key[0]][0].stream.root
        return Get(
            f"{root.path}/{change.key[1]}",
            [("expand[]", path) for path in root.expand],
            self._account,
            partial(self._retrieved, change),
            partial(self._not_retrieved, change),
        )

    def _retrieved(self, change: Change, answer: Answer) -> Iterator[Step]:
        root = self._by_object[change.key[0]][0].stream.root
        if answer.body.get("deleted"):
            yield from self._emit(change, [])
            return
        completion = Completion(
            [answer.body],
            root.listed,
            account=self._account,
            then=partial(self._emit, change),
            refused=partial(self._not_retrieved, change),
        )
        yield from completion.steps()

    def _not_retrieved(self, change: Change, error: StripeError) -> Iterator[Step]:
        if isinstance(error, PermissionMissing):
            self._deny(change.key[0], error)
            self._open -= 1
            yield from self._end()
        elif isinstance(error, NotFound):
            yield from self._emit(change, [])
        else:
            raise error

    def _deny(self, object_name: str, error: PermissionMissing) -> None:
        """Leave the bookmarks of these streams where they are: they miss what was refused."""
        if object_name not in self._denied:
            self._denied.add(object_name)
            self._run.refused(self._by_object[object_name], error)

    def _emit(self, change: Change, objects: Sequence[Object]) -> Iterator[Step]:
        if objects:
            found = Change(change.key, change.at, "use", objects[0])
        else:
            found = Change(change.key, change.at, "bury", change.snapshot)
        self._open -= 1
        yield Batch(parts(self._told(found)), nothing)
        yield from self._end()

    def _told(self, change: Change) -> Written:
        """Return the records of a change; of a deleted object, its tombstone."""
        object_name, source_id = change.key
        if self._by_object[object_name][0].stream.root.without_clocks and on_clock(change.snapshot):
            return []
        self._at[change.key] = change.at
        if change.do == "bury":
            self._current_children[change.key] = set()
            return [
                (
                    output,
                    output.recorder.tombstone(source_id, object_name, change.at, change.snapshot),
                )
                for output in self._by_object[object_name]
                if output.stream.parent is None and self._concerns(output, change.at)
            ]
        for output in self._by_object[object_name]:
            if output.stream.parent:
                children = children_of(change.snapshot, output)
                self._current_children[change.key] = {child["id"] for child in children}
        return self._concerned(object_name, change.at, change.snapshot)

    def _concerned(self, object_name: str, at: int, source: Object) -> Written:
        outputs = self._by_object.get(object_name, ())
        return records_of(source, [out for out in outputs if self._concerns(out, at)], at)

    def _concerns(self, output: Output, at: int) -> bool:
        if self._mailbox and output.bookmark.inbox:
            return True  # what its number says is new, however late it came
        return at >= self._since[id(output)] - OVERLAP

    def _end(self) -> Iterator[Step]:
        """Once everything is told: children that left, then the bookmarks."""
        if self._listed and not self._open:
            self._open = -1
            yield Batch(parts(list(self._buried_children())), self._advance)

    def _buried_children(self) -> Iterator[tuple[Output, Object]]:
        for key, former in self._walk.former_children.items():
            if key not in self._current_children:
                continue
            at = self._at[key]
            for output in self._by_object[key[0]]:
                if output.stream.parent and self._concerns(output, at):
                    for child_id in sorted(former - self._current_children[key]):
                        name = output.stream.object_name
                        last = self._walk.last_children.get(child_id)
                        yield output, output.recorder.tombstone(child_id, name, at, last)

    def _advance(self) -> None:
        for object_name, outputs in self._by_object.items():
            if object_name in self._denied:
                continue
            for output in outputs:
                since = max(
                    self._since[id(output)],
                    self._walk.newest,
                    _whole_day(int(self._feed.known_at) - BOOKMARK_SLACK),
                )
                mailbox = self._mailbox
                output.bookmark.note_inbox(
                    mailbox.position_of(output, self._feed) if mailbox else None
                )
                output.bookmark.advance(since, () if mailbox else self._walk.ids)


def by_kind(outputs: Sequence[Output]) -> Mapping[str, Sequence[Output]]:
    """Name of the object that events tell of → the outputs that want it."""
    found: dict[str, list[Output]] = {}
    for output in outputs:
        found.setdefault(output.stream.root.object_name, []).append(output)
    return found


def seen_by_kind(outputs: Sequence[Output]) -> Mapping[str, frozenset[str]]:
    """What all streams of one kind have: no stream's bookmark speaks for another's."""
    return {
        object_name: frozenset.intersection(*(output.bookmark.seen for output in members))
        for object_name, members in by_kind(outputs).items()
    }


def _whole_day(unix: int) -> int:
    """The start of the day: a bookmark that nothing moves is written anew once a day at most."""
    return unix - unix % 86_400
