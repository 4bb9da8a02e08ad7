"""Where a walk's events come from: Stripe's list, or the inbox that webhooks fill.

They come in spans, oldest first, so that what is written of a long time need not be read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from stripe_alloy.api.client import Response
from stripe_alloy.api.events import EVENT, OVERLAP, Event, Key, in_shape, key_of
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint
from stripe_alloy.api.requests import GetRequest
from stripe_alloy.api.responses import Trail
from stripe_alloy.webhooks.coverage import FOREVER, Fetched, Interval
from tap_stripe_alloy.events.change_detection import Span
from tap_stripe_alloy.events.spans import Spans
from tap_stripe_alloy.listing.windows import RemainingWindow
from tap_stripe_alloy.scheduler import Get, LocalRead, Step

if TYPE_CHECKING:
    from stripe_alloy.webhooks.inbox import AccountScope, EventRange, Inbox

_logger = logging.getLogger(__name__)

EVENTS = "/v1/events"
_LIST = ListEndpoint(EVENTS)
ON_ITS_WAY = 60
"""Seconds that an event may take to be delivered before it is missed."""


@dataclass(frozen=True)
class EventConsumer:
    """Whoever wants a feed's spans; asks for no more before one is written."""

    take: Callable[[Span], Iterator[Step]]
    clock: Callable[[float, float], Iterator[Step]]
    """Told the time of the first answer, and how far back the events must reach for it."""


SelfWriteFilter = Callable[[Sequence[Event]], set[str]]
"""Which of some events bring back only what we wrote ourselves: their ids."""


def keep_all(_: Sequence[Event]) -> set[str]:
    """Nothing that comes back is left out."""
    return set()


class Feed(Protocol):
    """Brings events in spans, oldest first."""

    known_at: float
    """The time up to which its events are known, once it has ended (Unix seconds)."""
    upto: int
    """The number up to which it has read, if its events have numbers."""

    def next(self, most: int) -> Get | LocalRead | None:
        """What to ask for next, for a span of at most so many events; None while there is none."""

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
        taker: EventConsumer,
        own: SelfWriteFilter,
    ) -> None:
        self._oldest = oldest
        self._account = account
        self._seen = seen
        self._by_all = frozenset.intersection(*map(frozenset, seen.values()))
        self._taker = taker
        self._own = own
        self._spans = Spans(oldest)
        self._trail = Trail()
        self._waits = self._ended = False
        self.known_at = 0.0
        self.upto = 0

    def next(self, most: int) -> Get | LocalRead | None:
        """The next page, or what was read already."""
        if self._waits or self._ended:
            return None
        self._waits = True
        page = self._spans.page()
        if page is None:
            return LocalRead(lambda: most, self._bring)
        if page[2] is None:
            self._trail = Trail()
        params = _LIST.page(*page)
        then = partial(self._answered, most)
        first = not self.known_at
        request = GetRequest(EVENTS, params, self._account, trail=self._trail, timed=first)
        return Get(request, then)

    def taken(self, kind: str, event: Event) -> bool:
        """Whether it is among those that were seen."""
        return event["id"] in self._seen.get(kind, ())

    def _is_known(self, event: Event) -> bool:
        """Whether the streams of its kind, or all if none reads it, and `events` had it."""
        seen = self._seen.get(key_of(event)[0], self._by_all)
        return event["id"] in seen and event["id"] in self._seen.get(EVENT, seen)

    def _answered(self, most: int, answer: Response) -> Iterator[Step]:
        events = [in_shape(event) for event in answer.body["data"]]
        if not self.known_at:
            self.known_at = answer.safe_at
            yield from self._taker.clock(answer.sent_at, self._oldest)
        self._spans.add(events, whole=not answer.body["has_more"])
        self._waits = False
        if self._spans.ready:
            yield from self._bring(most)

    def _bring(self, most: int) -> Iterator[Step]:
        self._waits = False
        events, self._ended = self._spans.take(most)
        news = not all(map(self._is_known, events))
        yield from self._taker.take(Span(events, self._ended, news, own=self._own(events)))


@dataclass(frozen=True)
class ReadPosition:
    """How far a kind of object was read."""

    seq: int | None
    """The number up to which the inbox was; None if it was not read for this kind yet."""
    since: int
    """`created` of the newest event that was taken (Unix seconds)."""
    complete_from: int
    """Since when all that was taken is in the inbox (Unix seconds)."""
    seen: Collection[str] = ()
    """Ids of events that were taken from elsewhere, in the overlap."""

    def behind(self, other: ReadPosition) -> ReadPosition:
        """What both have read."""
        seqs = (self.seq, other.seq)
        return ReadPosition(
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
        whose: AccountScope,
        *,
        account: str | None,
        positions: Mapping[str, ReadPosition],
        taker: EventConsumer,
        own: SelfWriteFilter,
    ) -> None:
        self._inbox = inbox
        self._whose = whose
        self._account = account
        self._positions = positions
        self._taker = taker
        self._own = own
        self._oldest = min(position.since for position in positions.values()) - OVERLAP
        self._gaps: list[Interval] | None = None
        self._lacking: Spans | None = None
        self._check: Interval | None = None
        self._missed = 0
        self._cursor: str | None = None
        self._trail = Trail()
        self._gap_at = 0.0
        self._newest: int | None = None
        self._waits = self._ended = self._asked_clock = False
        self._numbers: dict[str, int] = {}
        self.known_at = 0.0
        self.upto = 0

    def next(self, most: int) -> Get | LocalRead | None:
        """What to ask for next: what is lacking, then the inbox itself."""
        if self._waits or self._ended:
            return None
        self._waits = True
        if self._gaps is None:
            return LocalRead(self._look, self._looked)
        if self._gaps:
            return self._next_lacking(self._gaps[0])
        if self._check:
            low, high = self._check
            return self._get((int(low), int(high) + 1, self._cursor), self._checked)
        return LocalRead(partial(self._read, most), self._take)

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

    def _get(self, page: RemainingWindow, then: Callable[[Response], Iterator[Step]]) -> Get:
        if page[2] is None:
            self._trail = Trail()
        return Get(GetRequest(EVENTS, _LIST.page(*page), self._account, trail=self._trail), then)

    def _next_lacking(self, gap: Interval) -> Get | LocalRead:
        """A page of a gap; what came of it is kept in the inbox span by span, oldest first."""
        if self._lacking is None:
            low, high = gap
            self._lacking = Spans(int(low), NO_UPPER_BOUND if high == FOREVER else int(high) + 1)
            self._gap_at = 0.0
        page = self._lacking.page()
        return self._get(page, self._fetched) if page else LocalRead(self._store, self._stored)

    def _fetched(self, answer: Response) -> Iterator[Step]:
        assert self._gaps and self._lacking  # noqa: S101, PT018 - only for a gap is a list asked for
        if not self._asked_clock:
            self._asked_clock = True
            yield from self._taker.clock(answer.sent_at, self._gaps[0][0])
        self._gap_at = self._gap_at or self._inbox.clock()
        self._lacking.add(answer.body["data"], whole=not answer.body["has_more"])
        self._waits = False

    def _store(self) -> None:
        """Put the oldest span of a gap into the inbox."""
        assert self._gaps and self._lacking  # noqa: S101, PT018 - only for a gap is a list asked for
        low, high = self._gaps[0]
        events, last = self._lacking.take()
        until = high if last else float(events[0]["created"] + 1 if events else low)
        done = Fetched(low, min(until, self._gap_at), self._gap_at)
        bodies = [msgspec.json.encode(event) for event in reversed(events)]  # numbered as they came
        self._inbox.fetched(self._whose, bodies, done=done)
        self._gaps[0] = (until, high)
        if last:
            self._gaps.pop(0)
            self._lacking = None

    def _stored(self, _: None) -> Iterator[Step]:
        self._waits = False
        return iter(())

    def _checked(self, answer: Response) -> Iterator[Step]:
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

    def _read(self, most: int) -> tuple[dict[str, int], Span]:
        """A span, with what is known of its objects; runs beside the main thread."""
        if self._newest is None:
            self._newest = self._inbox.newest(self._whose)
        wanted = self._next_numbers(most, self._newest)
        entries = self._inbox.all_of(self._whose, wanted)
        self.upto = wanted.upto
        events = [in_shape(msgspec.json.decode(entry.body)) for entry in entries]
        numbers = {event["id"]: entry.seq for event, entry in zip(events, entries, strict=True)}
        overtaken = self._overtaken(events, numbers)
        after = self._after or 0
        news = any(number > after for number in numbers.values())
        last = self.upto >= self._newest
        return numbers, Span(events, last, news, overtaken, self._own(events))

    @property
    def _after(self) -> int | None:
        """The number up to which all kinds that know one were read."""
        known = [place.seq for place in self._positions.values() if place.seq is not None]
        return min(known, default=None)

    def _next_numbers(self, most: int, newest: int) -> EventRange:
        """Which events are next: so many, but all where some are known by their time only."""
        from stripe_alloy.webhooks.inbox import EventRange  # noqa: PLC0415 - heavy, there is one by now

        after = newest if self._after is None else self._after
        joining = [place.since for place in self._positions.values() if place.seq is None]
        if joining:
            return EventRange(after, min(joining) - OVERLAP, newest)
        upto = self._inbox.number_of(self._whose, after, most) or newest
        return EventRange(after, None, min(upto, newest))

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

    def _take(self, read: tuple[dict[str, int], Span]) -> Iterator[Step]:
        self._numbers, span = read
        self._ended = span.last
        self._waits = False
        yield from self._taker.take(span)
        newest = max((event["created"] for event in span.events), default=0)
        self._positions = {
            kind: replace(position, seq=self.upto, since=max(position.since, newest))
            for kind, position in self._positions.items()
        }
