"""Where events come from: Stripe's list, or the inbox that webhooks fill.

They come in spans, oldest first, so that what is written of a long time need not be read again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from stripe_alloy.api.client import Response
from stripe_alloy.api.events import EVENT, OVERLAP, Event, Key, in_shape, key_of
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND, ListEndpoint
from stripe_alloy.api.requests import GetRequest, Reader
from stripe_alloy.api.responses import Trail
from stripe_alloy.webhooks.coverage import FOREVER, Fetched, Interval
from tap_stripe_alloy.events.change_detection import Span
from tap_stripe_alloy.events.spans import Spans
from tap_stripe_alloy.listing.windows import RemainingWindow
from tap_stripe_alloy.scheduler import LocalRead, TapReader

if TYPE_CHECKING:
    from stripe_alloy.webhooks.inbox import AccountScope, EventRange, Inbox

_logger = logging.getLogger(__name__)

EVENTS = "/v1/events"
_LIST = ListEndpoint(EVENTS)
ON_ITS_WAY = 60
"""Seconds that an event may take to be delivered before it is missed."""


SelfWriteFilter = Callable[[Sequence[Event]], set[str]]
"""Which of some events bring back only what we wrote ourselves: their ids."""


def keep_all(_: Sequence[Event]) -> set[str]:
    """Nothing that comes back is left out."""
    return set()


class EventFeed(Protocol):
    """Brings events in spans, oldest first."""

    known_at: float
    """The time up to which its events are known (Unix seconds)."""
    upto: int
    """The number up to which it has read, if its events have numbers."""

    def open(self) -> TapReader[ReachBack | None]:
        """Begin; the time at Stripe and how far back the feed reaches, if it asks Stripe."""

    def span(self, most: int) -> TapReader[Span]:
        """Read the next span, of at most so many events, but at least one second of them."""

    def taken(self, kind: str, event: Event) -> bool:
        """Whether an earlier run took an event, for a kind of object."""


class ReachBack(NamedTuple):
    """When Stripe was asked for events, and from when on (Unix seconds)."""

    now: float
    oldest: float


class StripeFeed:
    """`/v1/events`, from a time on."""

    def __init__(
        self,
        oldest: int,
        *,
        account: str | None,
        streams: Sequence[str],
        seen: Mapping[str, Collection[str]],
        own: SelfWriteFilter,
    ) -> None:
        self._oldest = oldest
        self._pages = _EventPages(account, streams)
        self._seen = seen
        self._by_all = frozenset.intersection(*map(frozenset, seen.values()))
        self._own = own
        self._spans = Spans(oldest)
        self.known_at = 0.0
        self.upto = 0

    def open(self) -> TapReader[ReachBack | None]:
        """Read the first page."""
        answer = yield from self._read_page(timed=True)
        self.known_at = answer.safe_at
        return ReachBack(answer.sent_at, self._oldest)

    def span(self, most: int) -> TapReader[Span]:
        """Read pages until a span is complete."""
        while not self._spans.ready:
            yield from self._read_page()
        events, last = self._spans.take(most)
        news = not all(map(self._is_known, events))
        return Span(events, last, news, own=self._own(events))

    def _read_page(self, *, timed: bool = False) -> Reader[Response]:
        window = self._spans.page()
        assert window  # noqa: S101 - what was read is complete otherwise
        answer = yield from self._pages.read(window, timed=timed)
        events = [in_shape(event) for event in answer.body["data"]]
        self._spans.add(events, whole=not answer.body["has_more"])
        return answer

    def taken(self, kind: str, event: Event) -> bool:
        """Whether it is among those that were seen."""
        return event["id"] in self._seen.get(kind, ())

    def _is_known(self, event: Event) -> bool:
        """Whether the streams of its kind, or all if none reads it, and `events` had it."""
        seen = self._seen.get(key_of(event)[0], self._by_all)
        return event["id"] in seen and event["id"] in self._seen.get(EVENT, seen)


class _EventPages:
    """Pages of `/v1/events`."""

    def __init__(self, account: str | None, streams: Sequence[str]) -> None:
        self._account = account
        self._streams = streams
        self._trail = Trail()

    def read(self, window: RemainingWindow, *, timed: bool = False) -> Reader[Response]:
        """Read the page after a cursor; a window without one begins anew."""
        if window[2] is None:
            self._trail = Trail()
        params = _LIST.page(*window)
        answer: Response = yield GetRequest(
            EVENTS, params, self._account, trail=self._trail, streams=self._streams, timed=timed
        )
        return answer


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
        scope: AccountScope,
        *,
        account: str | None,
        streams: Sequence[str],
        positions: Mapping[str, ReadPosition],
        own: SelfWriteFilter,
    ) -> None:
        self._inbox = inbox
        self._scope = scope
        self._pages = _EventPages(account, streams)
        self._positions = positions
        self._own = own
        self._oldest = min(position.since for position in positions.values()) - OVERLAP
        self._gaps: list[Interval] = []
        self._lacking: Spans | None = None
        """What is read of the oldest gap."""
        self._gap_at = 0.0
        self._to_check: Interval | None = None
        self._newest: int | None = None
        self._span: Span | None = None
        self._numbers: dict[str, int] = {}
        self.known_at = 0.0
        self.upto = 0

    def open(self) -> TapReader[ReachBack | None]:
        """Look for what the inbox lacks, and read the first page of that."""
        self._gaps, check_from = yield LocalRead(self._look)
        self.known_at = self._inbox.clock()
        if check_from is not None:
            self._to_check = check_from, self.known_at - ON_ITS_WAY
        if not self._gaps:
            return None
        low = self._gaps[0][0]
        answer = yield from self._read_lacking()
        return ReachBack(answer.sent_at, low)

    def span(self, most: int) -> TapReader[Span]:
        """Read the next span, once nothing is lacking."""
        yield from self._fill_gaps()
        if self._to_check:
            yield from self._check(*self._to_check)
            self._to_check = None
        if self._span:
            self._note_read(self._span)
        self._numbers, self._span = yield LocalRead(partial(self._read, most))
        return self._span

    def taken(self, kind: str, event: Event) -> bool:
        """Whether its number is one of those that were read, or it is older than what counts."""
        position = self._positions.get(kind)
        if position is None:
            return False
        if position.seq is not None:
            return self._numbers[event["id"]] <= position.seq
        return event["id"] in position.seen or event["created"] < position.since - OVERLAP

    # What is lacking.

    def _look(self) -> tuple[list[Interval], float | None]:
        found = self._inbox.gaps(self._scope, self._oldest)
        up = not found or found[-1][1] < FOREVER
        return found, self._inbox.check_from(self._scope) if up else None

    def _read_lacking(self) -> Reader[Response]:
        """Read one more page of the oldest gap."""
        low, high = self._gaps[0]
        if self._lacking is None:
            self._lacking = Spans(int(low), NO_UPPER_BOUND if high == FOREVER else int(high) + 1)
            self._gap_at = 0.0
        window = self._lacking.page()
        assert window  # noqa: S101 - what was read of it is stored otherwise
        answer = yield from self._pages.read(window)
        self._gap_at = self._gap_at or self._inbox.clock()
        self._lacking.add(answer.body["data"], whole=not answer.body["has_more"])
        return answer

    def _fill_gaps(self) -> TapReader[None]:
        while self._gaps:
            if self._lacking and self._lacking.ready:
                yield LocalRead(partial(self._store, self._lacking))
            else:
                yield from self._read_lacking()

    def _store(self, lacking: Spans) -> None:
        """Put the oldest span of a gap into the inbox."""
        low, high = self._gaps[0]
        events, last = lacking.take()
        until = high if last else float(events[0]["created"] + 1 if events else low)
        done = Fetched(low, min(until, self._gap_at), self._gap_at)
        bodies = [msgspec.json.encode(event) for event in reversed(events)]  # numbered as they came
        self._inbox.fetched(self._scope, bodies, done=done)
        self._gaps[0] = (until, high)
        if last:
            self._gaps.pop(0)
            self._lacking = None

    def _check(self, low: float, high: float) -> Reader[None]:
        """Once a day: did the newest events come? If not, nobody knows which others did not."""
        cursor, missed = None, 0
        while True:
            answer = yield from self._pages.read((int(low), int(high) + 1, cursor))
            events: list[Event] = answer.body["data"]
            new = self._missed(events)
            missed += new
            if not (new and answer.body["has_more"]):
                break
            cursor = events[-1]["id"]
        self._inbox.checked(self._scope)
        if missed:
            _logger.warning(
                "%d events of the last day or more never came to the receiver: they were read "
                "from Stripe's list. Is its webhook endpoint enabled, for all types that the "
                "streams need? `stripe-alloy listen --register` sees to it.",
                missed,
            )

    def _missed(self, events: Sequence[Event]) -> int:
        """Put events into the inbox; how many of them it should have had."""
        lacking = self._inbox.unknown([event["id"] for event in events], self._scope)
        bodies = [msgspec.json.encode(event) for event in events]
        missed = [e for e in map(in_shape, events) if e["id"] in lacking and self._is_wanted(e)]
        self._inbox.fetched(self._scope, bodies)
        return len(missed)

    def _is_wanted(self, event: Event) -> bool:
        kind, object_id = key_of(event)
        return EVENT in self._positions or (kind in self._positions and bool(object_id))

    # What the inbox has.

    def _read(self, most: int) -> tuple[dict[str, int], Span]:
        """A span, with what is known of its objects; runs beside the main thread."""
        if self._newest is None:
            self._newest = self._inbox.newest(self._scope)
        wanted = self._next_numbers(most, self._newest)
        entries = self._inbox.all_of(self._scope, wanted)
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
        upto = self._inbox.number_of(self._scope, after, most) or newest
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
            known = self._inbox.newest_taken(self._scope, ids, seq)
            found |= {key for key, created in newest.items() if known.get(key, -1) >= created}
        return found

    def _note_read(self, span: Span) -> None:
        """Note that a span was taken."""
        newest = max((event["created"] for event in span.events), default=0)
        self._positions = {
            kind: replace(position, seq=self.upto, since=max(position.since, newest))
            for kind, position in self._positions.items()
        }
