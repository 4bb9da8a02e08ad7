"""Where a walk's events come from: Stripe's list, or the inbox that webhooks fill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from stripe_alloy.expected import Trail
from stripe_alloy.transport import Answer
from stripe_alloy.webhooks.coverage import FOREVER, Fetched, Interval
from tap_stripe_alloy.backfill import OPEN
from tap_stripe_alloy.changes import EVENT, OVERLAP, Event, Key, Page, in_shape, key_of
from tap_stripe_alloy.fetch import Get, Look, Step
from tap_stripe_alloy.lists import Listed

if TYPE_CHECKING:
    from stripe_alloy.webhooks.inbox import Inbox, Place, Whose

_logger = logging.getLogger(__name__)

EVENTS = "/v1/events"
_LIST = Listed(EVENTS)
ON_ITS_WAY = 60
"""Seconds that an event may take to be delivered before it is missed."""
CHUNK = 500
"""Events that are taken out of the inbox at a time."""


@dataclass(frozen=True)
class Taker:
    """Whoever wants a feed's pages."""

    take: Callable[[Page], Iterator[Step]]
    clock: Callable[[float, float], Iterator[Step]]
    """Told the time of the first answer, and how far back the events must reach for it."""


Own = Callable[[Sequence[Event]], set[str]]
"""Which of some events bring back only what we wrote ourselves: their ids."""


def nothing_own(_: Sequence[Event]) -> set[str]:
    """Nothing that comes back is left out."""
    return set()


class Feed(Protocol):
    """Brings events, newest first, in pages."""

    known_at: float
    """The time up to which its events are known, once it has ended (Unix seconds)."""
    upto: int
    """The number up to which it reads, if its events have numbers."""

    def next(self) -> Get | Look | None:
        """The next page to ask for; None while there is none."""

    def taken(self, kind: str, event: Event) -> bool:
        """Whether an earlier walk took an event, for a kind of object."""


class StripeFeed:
    """`/v1/events`, from a time on."""

    def __init__(
        self,
        oldest: int,
        *,
        account: str | None,
        seen: Mapping[str, Collection[str]],
        known: Collection[str],
        taker: Taker,
        own: Own,
    ) -> None:
        self._oldest = oldest
        self._account = account
        self._seen = seen
        self._known = known
        self._taker = taker
        self._own = own
        self._cursor: str | None = None
        self._trail = Trail()
        self._waits = self._ended = False
        self.known_at = 0.0
        self.upto = 0

    def next(self) -> Get | None:
        """The next page."""
        if self._waits or self._ended:
            return None
        self._waits = True
        params = _LIST.page(self._oldest, cursor=self._cursor)
        first = not self.known_at
        return Get(EVENTS, params, self._account, self._answered, trail=self._trail, timed=first)

    def taken(self, kind: str, event: Event) -> bool:
        """Whether it is among those that were seen."""
        return event["id"] in self._seen.get(kind, ())

    def _answered(self, answer: Answer) -> Iterator[Step]:
        events = [in_shape(event) for event in answer.body["data"]]
        if not self.known_at:
            self.known_at = answer.safe_at
            yield from self._taker.clock(answer.sent_at, self._oldest)
        self._waits = False
        self._ended = not answer.body["has_more"]
        self._cursor = events[-1]["id"] if events else None
        news = any(event["id"] not in self._known for event in events)
        yield from self._taker.take(Page(events, self._ended, news, own=self._own(events)))


@dataclass(frozen=True)
class Position:
    """How far a kind of object was read."""

    seq: int | None
    """The number up to which the inbox was; None if it was not read for this kind yet."""
    since: int
    """`created` of the newest event that was taken (Unix seconds)."""
    complete_from: int
    """Since when all that was taken is in the inbox (Unix seconds)."""
    seen: Collection[str] = ()
    """Ids of events that were taken from elsewhere, in the overlap."""

    def behind(self, other: Position) -> Position:
        """What both have read."""
        seqs = (self.seq, other.seq)
        return Position(
            None if None in seqs else min(seq for seq in seqs if seq is not None),
            min(self.since, other.since),
            max(self.complete_from, other.complete_from),
            frozenset(self.seen) & frozenset(other.seen),
        )


class InboxFeed:
    """The inbox, after what it may lack was fetched from `/v1/events` and put there."""

    def __init__(
        self,
        inbox: Inbox,
        whose: Whose,
        *,
        account: str | None,
        positions: Mapping[str, Position],
        taker: Taker,
        own: Own,
    ) -> None:
        self._inbox = inbox
        self._whose = whose
        self._account = account
        self._positions = positions
        self._taker = taker
        self._own = own
        known = [position.seq for position in positions.values() if position.seq is not None]
        joining = [position for position in positions.values() if position.seq is None]
        self._since = min((position.since for position in joining), default=None)
        self._after = min(known) if known else None
        self._oldest = min(position.since for position in positions.values()) - OVERLAP
        self._gaps: list[Interval] | None = None
        self._check: Interval | None = None
        self._missed = 0
        self._cursor: str | None = None
        self._trail = Trail()
        self._gap_at = 0.0
        self._place: Place | None = None
        self._waits = self._ended = self._asked_clock = False
        self._numbers: dict[str, int] = {}
        self.known_at = 0.0
        self.upto = 0

    def next(self) -> Get | Look | None:
        """What to ask for next: what is lacking, then the inbox itself."""
        if self._waits or self._ended:
            return None
        self._waits = True
        if self._gaps is None:
            return Look(self._look, self._looked)
        if self._gaps:
            return self._get(self._gaps[0], self._fetched)
        if self._check:
            return self._get(self._check, self._checked)
        return Look(self._read, self._take)

    def taken(self, kind: str, event: Event) -> bool:
        """Whether its number is one of those that were read, or it is older than what counts."""
        position = self._positions.get(kind)
        if position is None:
            return False
        if position.seq is not None:
            return self._numbers[event["id"]] <= position.seq
        return event["id"] in position.seen or event["created"] < position.since - OVERLAP

    # ------------------------------------------------------------------ what is lacking

    def _look(self) -> tuple[list[Interval], float | None]:
        found = self._inbox.gaps(self._whose, self._oldest)
        up = not found or found[-1][1] < FOREVER
        return found, self._inbox.check_from(self._whose) if up else None

    def _looked(self, found: tuple[list[Interval], float | None]) -> Iterator[Step]:
        self._gaps, check_from = found
        self._waits = False
        self.known_at = self._inbox.clock()
        if check_from is not None:
            self._check = check_from, self.known_at - ON_ITS_WAY
        return iter(())

    def _get(self, interval: Interval, then: Callable[[Answer], Iterator[Step]]) -> Get:
        low, high = interval
        params = _LIST.page(int(low), OPEN if high == FOREVER else int(high) + 1, self._cursor)
        if not self._cursor:
            self._trail = Trail()
        return Get(EVENTS, params, self._account, then, trail=self._trail)

    def _fetched(self, answer: Answer) -> Iterator[Step]:
        assert self._gaps  # noqa: S101 - only for a gap is a list asked for
        if not self._asked_clock:
            self._asked_clock = True
            yield from self._taker.clock(answer.sent_at, self._gaps[0][0])
        if not self._cursor:
            self._gap_at = self._inbox.clock()
        events: list[Event] = answer.body["data"]
        whole = not answer.body["has_more"]
        bodies = [msgspec.json.encode(event) for event in events]
        low, high = self._gaps[0]
        done = Fetched(low, min(high, self._gap_at), self._gap_at) if whole else None
        self._inbox.fetched(self._whose, bodies, done=done)
        self._cursor = None if whole else events[-1]["id"]
        if whole:
            self._gaps.pop(0)
        self._waits = False

    def _checked(self, answer: Answer) -> Iterator[Step]:
        """Once a day: did the newest events come? If not, nobody knows which others did not."""
        events: list[Event] = answer.body["data"]
        lacking = self._inbox.unknown([event["id"] for event in events], self._whose)
        bodies = [msgspec.json.encode(event) for event in events]
        missed = [e for e in map(in_shape, events) if e["id"] in lacking and self._is_wanted(e)]
        self._missed += len(missed)
        self._inbox.fetched(self._whose, bodies)
        self._cursor = events[-1]["id"] if missed and answer.body["has_more"] else None
        if self._cursor is None:
            self._check = None
            self._inbox.checked(self._whose)
            if self._missed:
                _logger.warning(
                    "%d events of the last day or more never came to the receiver: they were read "
                    "from Stripe's list. Is its webhook endpoint enabled, for all types that the "
                    "streams need? `stripe-alloy listen --register` sees to it.",
                    self._missed,
                )
        self._waits = False
        return iter(())

    def _is_wanted(self, event: Event) -> bool:
        kind, object_id = key_of(event)
        return EVENT in self._positions or (kind in self._positions and bool(object_id))

    # ------------------------------------------------------------------ what is there

    def _read(self) -> tuple[Place | None, dict[str, int], Page]:
        """A page, with what is known of its objects; runs beside the main thread."""
        from stripe_alloy.webhooks.inbox import EventRange  # noqa: PLC0415 - heavy, there is one by now

        if self._place is None:
            self.upto = self._inbox.newest(self._whose)
        entries, more = self._inbox.page_and_more(
            self._whose,
            EventRange(
                after=self.upto if self._after is None else self._after,
                since=None if self._since is None else self._since - OVERLAP,
                upto=self.upto,
            ),
            place=self._place,
            limit=CHUNK,
        )
        events = [in_shape(msgspec.json.decode(entry.body)) for entry in entries]
        numbers = {event["id"]: entry.seq for event, entry in zip(events, entries, strict=True)}
        overtaken = self._overtaken(events, numbers)
        news = any(n > (self._after or 0) for n in numbers.values())
        last = not more
        place = (entries[-1].created, entries[-1].seq) if entries else None
        return place, numbers, Page(events, last, news, overtaken, self._own(events))

    def _overtaken(self, events: Sequence[Event], numbers: Mapping[str, int]) -> set[Key]:
        """Objects whose event came so late that a newer one was taken, or may have been."""
        late: dict[int, dict[Key, int]] = {}
        found: set[Key] = set()
        for event in events:
            key, created = key_of(event), event["created"]
            position = self._positions.get(key[0])
            if position is None or position.seq is None or created > position.since:
                continue
            if numbers[event["id"]] <= position.seq:
                continue
            if created < position.complete_from - OVERLAP:
                found.add(key)
            else:
                mine = late.setdefault(position.seq, {})
                mine[key] = max(created, mine.get(key, 0))
        for seq, newest in late.items():
            ids = [object_id for _, object_id in newest]
            known = self._inbox.newest_taken(self._whose, ids, seq)
            found |= {key for key, created in newest.items() if known.get(key, -1) >= created}
        return found

    def _take(self, read: tuple[Place | None, dict[str, int], Page]) -> Iterator[Step]:
        place, numbers, page = read
        self._numbers.update(numbers)
        self._place = place or self._place
        self._ended = page.last
        self._waits = False
        yield from self._taker.take(page)
