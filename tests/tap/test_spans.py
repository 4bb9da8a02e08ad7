"""A list that comes newest first is read oldest first, each event once, for few pages more."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stripe_alloy.api.events import Event
from tap_stripe_alloy.events.spans import FIRST, MOST, Spans

PAGE = 100
DAY = 86_400
MONTH = 30 * DAY


class Listing:
    """Stripe's list of events, and how often it was asked."""

    def __init__(self, times: Sequence[int]) -> None:
        newest_first = sorted(times, reverse=True)
        self.events: list[Event] = [
            {"id": f"evt_{n}", "created": at} for n, at in enumerate(newest_first)
        ]
        self._place = {event["id"]: n for n, event in enumerate(self.events)}
        self.pages = 0
        self.most_kept = 0
        """The most events that were read and not yet taken."""

    def page(self, low: int, high: int, cursor: str | None) -> tuple[list[Event], bool]:
        self.pages += 1
        start = self._place[cursor] + 1 if cursor else 0
        fitting = [event for event in self.events[start:] if low <= event["created"] < high]
        return fitting[:PAGE], len(fitting) <= PAGE


def spans_of(listing: Listing, low: int, most: int = MOST) -> list[Sequence[Event]]:
    """All spans in the order in which they come."""
    spans, found, last = Spans(low), list[Sequence[Event]](), False
    while not last:
        page = spans.page()
        if page:
            answer, whole = listing.page(*page)
            spans.add(answer, cursor=None if whole else answer[-1]["id"])
            kept = sum(len(stretch.events) for stretch in spans._stack)
            listing.most_kept = max(listing.most_kept, kept)
        else:
            taken, last = spans.take(most)
            found.append(taken)
    assert spans.page() is None
    return found


def check(listing: Listing, spans: Sequence[Sequence[Event]]) -> None:
    oldest_first = [event for span in spans for event in reversed(span)]
    assert oldest_first == listing.events[::-1]
    filled = [span for span in spans if span]
    for earlier, later in pairwise(filled):
        assert earlier[0]["created"] < later[-1]["created"]


@given(
    bursts=st.lists(
        st.tuples(st.integers(0, MONTH), st.integers(0, 400), st.sampled_from([1, 60, DAY, MONTH])),
        max_size=8,
    ),
    most=st.sampled_from([1, 7, PAGE, MOST]),
    rng=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_each_event_comes_once_and_no_second_is_divided(
    bursts: list[tuple[int, int, int]], most: int, rng: random.Random
) -> None:
    times = [
        min(MONTH, at + rng.randrange(long)) for at, count, long in bursts for _ in range(count)
    ]
    listing = Listing(times)
    check(listing, spans_of(listing, 0, most))


def test_a_short_list_is_asked_for_as_it_is() -> None:
    listing = Listing([n * DAY // 20 for n in range(FIRST - 1)])
    check(listing, spans_of(listing, 0))
    assert listing.pages == FIRST // PAGE


@pytest.mark.parametrize("count", [2_000, 20_000])
def test_a_long_list_costs_few_pages_more(count: int) -> None:
    listing = Listing([n * MONTH // count for n in range(count)])
    check(listing, spans_of(listing, 0))
    assert listing.pages <= 1.15 * count / PAGE + 1


def test_a_burst_in_a_quiet_month_costs_few_pages_more() -> None:
    times = [DAY * n // 10 for n in range(300)] + [7 * DAY + n // 67 for n in range(20_000)]
    listing = Listing(times)
    check(listing, spans_of(listing, 0))
    assert listing.pages <= 1.5 * len(times) / PAGE


def test_the_first_span_is_there_after_few_pages() -> None:
    listing = Listing([n * MONTH // 20_000 for n in range(20_000)])
    spans = Spans(0)
    while page := spans.page():
        events, whole = listing.page(*page)
        spans.add(events, cursor=None if whole else events[-1]["id"])
    assert spans.ready
    assert listing.pages <= 2 * FIRST // PAGE


def test_what_is_kept_meanwhile_does_not_grow_with_the_list() -> None:
    listing = Listing([7 * DAY + n // 140 for n in range(42_000)])
    check(listing, spans_of(listing, 0))
    assert listing.most_kept <= 5 * MOST
