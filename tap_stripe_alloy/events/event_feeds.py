"""Event feeds: read events from `/v1/events` or from the webhook inbox.

A feed returns spans of events, oldest first, so that bookmarks can advance during a long run.
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
from stripe_alloy.api.timestamps import moment
from stripe_alloy.webhooks.coverage import FOREVER, MAX_EVENT_DELAY, Fetched, Interval
from tap_stripe_alloy.events.change_detection import Span
from tap_stripe_alloy.events.spans import Spans
from tap_stripe_alloy.listing.windows import RemainingWindow
from tap_stripe_alloy.scheduler import LocalRead, TapReader

if TYPE_CHECKING:
    from stripe_alloy.webhooks.inbox import AccountScope, EventRange, Inbox

_logger = logging.getLogger(__name__)

EVENTS = "/v1/events"
_LIST = ListEndpoint(EVENTS)
DELIVERY_GRACE = 60
"""Seconds after which an undelivered event counts as missed."""


SelfWriteFilter = Callable[[Sequence[Event]], set[str]]
"""Returns the ids of those of the given events that only echo the target's own writes."""


def keep_all(_: Sequence[Event]) -> set[str]:
    """Return no ids: a filter that keeps every event."""
    return set()


class EventFeed(Protocol):
    """Reads events in spans, oldest first."""

    max_seq: int
    """Highest inbox sequence number read; 0 if the events have none."""

    @property
    def known_at(self) -> float:
        """Time up to which the events are known (Unix seconds); 0 if unknown."""

    def open(self) -> TapReader[ReachBack | None]:
        """Start reading; return Stripe's time and the oldest event time needed.

        None if the feed needs no request.
        """

    def span(self, most: int) -> TapReader[Span]:
        """Read the next span: at most `most` events, but at least one second of them."""

    def already_processed(self, kind: str, event: Event) -> bool:
        """Whether an earlier run processed an event, for an object type (Stripe's `object`)."""


class ReachBack(NamedTuple):
    """The time of a request for events, and the oldest event time requested (Unix seconds)."""

    now: float
    oldest: float


class StripeFeed:
    """Reads `/v1/events` from a given time on."""

    def __init__(
        self,
        oldest: int,
        *,
        account: str | None,
        streams: Sequence[str],
        seen: Mapping[str, Collection[str]],
        self_writes: SelfWriteFilter,
    ) -> None:
        self._oldest = oldest
        self._pages = _EventPages(account, streams)
        self._seen = seen
        self._seen_by_all = frozenset.intersection(*map(frozenset, seen.values()))
        self._self_writes = self_writes
        self._spans = Spans(oldest)
        self.known_at = 0.0
        self.max_seq = 0

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
        news = not all(map(self._is_processed, events))
        return Span(events, last, news, self_caused=self._self_writes(events))

    def _read_page(self, *, timed: bool = False) -> Reader[Response]:
        window = self._spans.page()
        assert window  # noqa: S101 - `ready` otherwise
        page = yield from self._pages.read(window, timed=timed)
        self._spans.add(list(map(in_shape, page.events)), cursor=page.cursor)
        return page.answer

    def already_processed(self, kind: str, event: Event) -> bool:
        """Whether the bookmarks of the object type contain the event's id."""
        return event["id"] in self._seen.get(kind, ())

    def _is_processed(self, event: Event) -> bool:
        """Whether the streams of its object type, and `events`, have already processed it.

        If no stream reads the object type, all streams must have.
        """
        seen = self._seen.get(key_of(event)[0], self._seen_by_all)
        return event["id"] in seen and event["id"] in self._seen.get(EVENT, seen)


@dataclass(frozen=True)
class _EventPage:
    """A page of `/v1/events`, without the events that cannot be put in order."""

    events: list[Event]
    cursor: str | None
    """The last ID of the page; None if no page follows."""
    answer: Response


class _EventPages:
    """Reads pages of `/v1/events`."""

    def __init__(self, account: str | None, streams: Sequence[str]) -> None:
        self._account = account
        self._streams = streams
        self._trail = Trail()
        self._left_out: set[str | None] = set()

    def read(self, window: RemainingWindow, *, timed: bool = False) -> Reader[_EventPage]:
        """Read the page after the window's cursor, or the first page if it has none."""
        if window[2] is None:
            self._trail = Trail()
        params = _LIST.page(*window)
        answer: Response = yield GetRequest(
            EVENTS,
            params,
            self._account,
            trail=self._trail,
            streams=self._streams,
            some_lack_ids=True,
            timed=timed,
        )
        events = [event for event in answer.body["data"] if self._has_id(event)]
        cursor = events[-1]["id"] if answer.body["has_more"] else None
        return _EventPage(list(filter(self._has_time, events)), cursor, answer)

    def _has_id(self, event: Event) -> bool:
        return bool(event.get("id")) or self._leave_out(None, "it has no `id`")

    def _has_time(self, event: Event) -> bool:
        return moment(event.get("created")) is not None or self._leave_out(
            event["id"], "its `created` is no valid time"
        )

    def _leave_out(self, event_id: str | None, reason: str) -> bool:
        """Return False to leave out an event; warn once about it."""
        if event_id not in self._left_out:
            self._left_out.add(event_id)
            _logger.warning(
                "Event %s is left out: %s. The change that it reports comes with the next event of "
                "the same object.",
                event_id or "(unnamed)",
                reason,
            )
        return False


@dataclass(frozen=True)
class ReadPosition:
    """How far the events of one object type were read."""

    seq: int | None
    """Inbox sequence number up to which events were read; None if the inbox was not used yet."""
    since: int
    """`created` of the newest processed event (Unix seconds)."""
    complete_from: int
    """From when on the inbox contains every processed event (Unix seconds)."""
    seen: Collection[str] = ()
    """Ids of events in the overlap that were processed from `/v1/events`."""

    def merge(self, other: ReadPosition) -> ReadPosition:
        """Return the position up to which both have read."""
        seqs = (self.seq, other.seq)
        return ReadPosition(
            None if None in seqs else min(seq for seq in seqs if seq is not None),
            min(self.since, other.since),
            max(self.complete_from, other.complete_from),
            frozenset(self.seen) & frozenset(other.seen),
        )


class InboxFeed:
    """Reads the inbox, after filling its gaps with events from `/v1/events`."""

    def __init__(
        self,
        inbox: Inbox,
        scope: AccountScope,
        *,
        account: str | None,
        streams: Sequence[str],
        positions: Mapping[str, ReadPosition],
        self_writes: SelfWriteFilter,
        answered_at: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._scope = scope
        self._pages = _EventPages(account, streams)
        self._positions = positions
        self._self_writes = self_writes
        self._answered_at = answered_at
        self._oldest = min(position.since for position in positions.values()) - OVERLAP
        self._gaps: list[Interval] = []
        self._gap_spans: Spans | None = None
        """Events of the oldest gap that are not stored in the inbox yet."""
        self._gap_at = 0.0
        self._to_check: Interval | None = None
        self._newest: int | None = None
        self._span: Span | None = None
        self._seqs: dict[str, int] = {}
        self._opened_at = 0.0
        self.max_seq = 0

    @property
    def known_at(self) -> float:
        """Time up to which the events are known (Unix seconds); 0 before Stripe's first response.

        By the local clock it is the time of opening, but that clock may be ahead.
        """
        return min(self._opened_at, self._answered_at())

    def open(self) -> TapReader[ReachBack | None]:
        """Find the gaps of the inbox, and read the first page of the oldest gap."""
        self._gaps, check_from = yield LocalRead(self._find_gaps)
        self._opened_at = self._inbox.clock()
        if check_from is not None:
            self._to_check = check_from, self._opened_at - DELIVERY_GRACE
        if not self._gaps:
            return None
        low = self._gaps[0][0]
        answer = yield from self._read_gap_page()
        return ReachBack(answer.sent_at, low)

    def span(self, most: int) -> TapReader[Span]:
        """Read the next span, after filling the gaps."""
        yield from self._fill_gaps()
        if self._to_check:
            yield from self._check(*self._to_check)
            self._to_check = None
        if self._span:
            self._note_read(self._span)
        self._seqs, self._span = yield LocalRead(partial(self._read, most))
        return self._span

    def already_processed(self, kind: str, event: Event) -> bool:
        """Whether an earlier run processed the event, by its sequence number or its id.

        Without a sequence number for the object type, events before the overlap count as processed.
        """
        position = self._positions.get(kind)
        if position is None:
            return False
        if position.seq is not None:
            return self._seqs[event["id"]] <= position.seq
        return event["id"] in position.seen or event["created"] < position.since - OVERLAP

    # Gaps.

    def _find_gaps(self) -> tuple[list[Interval], float | None]:
        found = self._inbox.gaps(self._scope, self._oldest)
        up = not found or found[-1][1] < FOREVER
        return found, self._inbox.check_from(self._scope) if up else None

    def _read_gap_page(self) -> Reader[Response]:
        """Read one more page of the oldest gap."""
        low, high = self._gaps[0]
        if self._gap_spans is None:
            self._gap_spans = Spans(int(low), NO_UPPER_BOUND if high == FOREVER else int(high) + 1)
            self._gap_at = 0.0
        window = self._gap_spans.page()
        assert window  # noqa: S101 - complete spans are stored first
        page = yield from self._pages.read(window)
        self._gap_at = self._gap_at or _listed_at(self._inbox.clock(), page.answer)
        self._gap_spans.add(page.events, cursor=page.cursor)
        return page.answer

    def _fill_gaps(self) -> TapReader[None]:
        while self._gaps:
            if self._gap_spans and self._gap_spans.ready:
                yield LocalRead(partial(self._store, self._gap_spans))
            else:
                yield from self._read_gap_page()

    def _store(self, spans: Spans) -> None:
        """Store the oldest span of a gap in the inbox."""
        low, high = self._gaps[0]
        events, last = spans.take()
        until = high if last else float(events[0]["created"] + 1 if events else low)
        done = Fetched(low, min(until, self._gap_at), self._gap_at)
        bodies = [msgspec.json.encode(event) for event in reversed(events)]  # numbered oldest first
        self._inbox.store_page(self._scope, bodies, done=done)
        self._gaps[0] = (until, high)
        if last:
            self._gaps.pop(0)
            self._gap_spans = None

    def _check(self, low: float, high: float) -> Reader[None]:
        """Once a day, check that the newest events were delivered.

        If some were not, read further back until a page has no missed event.
        """
        cursor, missed = None, 0
        while True:
            page = yield from self._pages.read((int(low), int(high) + 1, cursor))
            new = self._store_and_count_missed(page.events)
            missed += new
            cursor = page.cursor
            if not (new and cursor):
                break
        self._inbox.checked(self._scope)
        if missed:
            _logger.warning(
                "Events not delivered to the receiver since the last check: %d. They were read "
                "from `/v1/events` instead. Check that its webhook endpoint is enabled for all "
                "event types that the streams need: `stripe-alloy listen --register` does that.",
                missed,
            )

    def _store_and_count_missed(self, events: Sequence[Event]) -> int:
        """Store events in the inbox; return how many of them it should have contained."""
        not_stored = self._inbox.missing_ids([event["id"] for event in events], self._scope)
        bodies = [msgspec.json.encode(event) for event in events]
        missed = [e for e in map(in_shape, events) if e["id"] in not_stored and self._is_needed(e)]
        self._inbox.store_page(self._scope, bodies)
        return len(missed)

    def _is_needed(self, event: Event) -> bool:
        kind, object_id = key_of(event)
        return EVENT in self._positions or (kind in self._positions and bool(object_id))

    # Events in the inbox.

    def _read(self, most: int) -> tuple[dict[str, int], Span]:
        """Return event id → sequence number, and the next span; runs in a worker thread."""
        if self._newest is None:
            self._newest = self._inbox.newest(self._scope)
        wanted = self._next_range(most, self._newest)
        entries = self._inbox.all_of(self._scope, wanted)
        self.max_seq = wanted.max_seq
        events = [in_shape(msgspec.json.decode(entry.body)) for entry in entries]
        seqs = {event["id"]: entry.seq for event, entry in zip(events, entries, strict=True)}
        superseded = self._superseded(events, seqs)
        after = self._min_seq or 0
        news = any(number > after for number in seqs.values())
        last = self.max_seq >= self._newest
        return seqs, Span(events, last, news, superseded, self._self_writes(events))

    @property
    def _min_seq(self) -> int | None:
        """Lowest sequence number among the object types; None if none has one."""
        known = [place.seq for place in self._positions.values() if place.seq is not None]
        return min(known, default=None)

    def _next_range(self, most: int, newest: int) -> EventRange:
        """Return the range of the next events: `most` of them.

        All of them if an object type has no sequence number yet.
        """
        from stripe_alloy.webhooks.inbox import EventRange  # noqa: PLC0415 - slow to import

        after = newest if self._min_seq is None else self._min_seq
        joining = [place.since for place in self._positions.values() if place.seq is None]
        if joining:
            return EventRange(after, min(joining) - OVERLAP, newest)
        max_seq = self._inbox.number_of(self._scope, after, most) or newest
        return EventRange(after, None, min(max_seq, newest))

    def _superseded(self, events: Sequence[Event], seqs: Mapping[str, int]) -> set[Key]:
        """Return objects with a late event that a newer processed event may supersede."""
        late: dict[int, dict[Key, int]] = {}
        found: set[Key] = set()
        for event in events:
            key, created = key_of(event), event["created"]
            position = self._positions.get(key[0])
            if position is None or position.seq is None or created > position.since:
                continue
            if seqs[event["id"]] <= position.seq:
                continue
            if created < position.complete_from - OVERLAP:
                found.add(key)
            else:
                latest = late.setdefault(position.seq, {})
                latest[key] = max(created, latest.get(key, 0))
        for seq, newest in late.items():
            ids = [object_id for _, object_id in newest]
            known = self._inbox.newest_created(self._scope, ids, seq)
            found |= {key for key, created in newest.items() if known.get(key, -1) >= created}
        return found

    def _note_read(self, span: Span) -> None:
        """Move the positions behind a processed span."""
        newest = max((event["created"] for event in span.events), default=0)
        self._positions = {
            kind: replace(position, seq=self.max_seq, since=max(position.since, newest))
            for kind, position in self._positions.items()
        }


def _listed_at(local: float, answer: Response) -> float:
    """Return when a gap was listed: by the local clock, unless that is ahead of Stripe's.

    A clock that is ahead by less than the delay of an event loses nothing: that much is listed
    again.
    """
    return local if local - answer.sent_at < MAX_EVENT_DELAY else answer.sent_at
