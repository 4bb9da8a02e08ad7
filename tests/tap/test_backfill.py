"""`WindowPlanner` reads every row exactly once, whatever the history, and wastes few requests."""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_stripe_alloy.listing.windows import (
    ListPosition,
    Page,
    PageRequest,
    RemainingWindow,
    WindowPlanner,
)

END = 10_000_000


class FakeList:
    """Stripe's list of rows: newest first, `created` ranges, cursors."""

    def __init__(self, created: Sequence[int]) -> None:
        ordered = sorted(created, reverse=True)
        self.rows = [ListPosition(second, f"ch_{number}") for number, second in enumerate(ordered)]
        self.keys = [-row.created for row in self.rows]
        self.place = {row.id: number for number, row in enumerate(self.rows)}

    def answer(self, ask: PageRequest, page_size: int) -> tuple[list[ListPosition], bool]:
        newest = bisect_right(self.keys, -ask.high)
        start = self.place[ask.cursor] + 1 if ask.cursor else newest
        end = bisect_right(self.keys, -ask.low)
        return self.rows[start : min(end, start + page_size)], end > start + page_size


def read(
    slices: WindowPlanner, source: FakeList, *, page_size: int, at_once: int, rng: random.Random
) -> tuple[list[str], int]:
    """All ids that a reader with `at_once` requests under way gets, and the requests it sent."""
    under_way: list[PageRequest] = []
    ids: list[str] = []
    requests = 0
    while not slices.done:
        while len(under_way) < at_once and (ask := slices.next()):
            under_way.append(ask)
        ask = under_way.pop(rng.randrange(len(under_way)))
        rows, has_more = source.answer(ask, page_size)
        requests += 1
        page = slices.received(ask, rows, has_more=has_more)
        ids += [row.id for row in page.keep]
        slices.saved(page)
    return ids, requests


@settings(max_examples=100, deadline=None)
@given(
    created=st.lists(st.integers(0, 400) | st.integers(0, END - 1), max_size=200),
    page_size=st.integers(1, 20),
    at_once=st.integers(1, 9),
    rng=st.randoms(use_true_random=False),
)
def test_any_history_is_read_exactly_once(
    created: list[int], page_size: int, at_once: int, rng: random.Random
) -> None:
    source = FakeList(created)
    slices = WindowPlanner([(0, END, None)], page_size=page_size)
    ids, _ = read(slices, source, page_size=page_size, at_once=at_once, rng=rng)
    assert Counter(ids) == Counter(row.id for row in source.rows)
    assert slices.remaining() == []


@settings(max_examples=100, deadline=None)
@given(
    created=st.lists(st.integers(0, 300) | st.integers(0, END - 1), max_size=150),
    page_size=st.integers(1, 10),
    at_once=st.integers(1, 6),
    stop_after=st.integers(0, 40),
    rng=st.randoms(use_true_random=False),
)
def test_a_stop_after_any_page_resumes_with_what_is_missing(
    created: list[int], page_size: int, at_once: int, stop_after: int, rng: random.Random
) -> None:
    source = FakeList(created)
    slices = WindowPlanner([(0, END, None)], page_size=page_size)
    written: list[str] = []
    received: list[Page] = []
    under_way: list[PageRequest] = []
    for _ in range(stop_after):
        while len(under_way) < at_once and (ask := slices.next()):
            under_way.append(ask)
        if not under_way:
            break
        ask = under_way.pop(rng.randrange(len(under_way)))
        rows, has_more = source.answer(ask, page_size)
        received.append(slices.received(ask, rows, has_more=has_more))
        if rng.random() < 0.8:  # the writer lags behind the reader and keeps no order
            page = received.pop(rng.randrange(len(received)))
            written += [row.id for row in page.keep]
            slices.saved(page)
    missing: list[RemainingWindow] = slices.remaining()
    rest, _ = read(
        WindowPlanner(missing, page_size=page_size),
        source,
        page_size=page_size,
        at_once=at_once,
        rng=rng,
    )
    assert set(written + rest) == {row.id for row in source.rows}
    assert len(rest) == len(set(rest))


@settings(max_examples=100, deadline=None)
@given(
    created=st.lists(st.integers(0, 60), min_size=1, max_size=200),
    page_size=st.integers(1, 8),
    lost=st.sets(st.integers(1, 30)),
)
def test_a_cursor_that_is_gone_loses_and_repeats_nothing(
    created: list[int], page_size: int, lost: set[int]
) -> None:
    source = FakeList(created)
    slices = WindowPlanner([(0, END, None)], page_size=page_size)
    ids: list[str] = []
    for turn in itertools.count():
        ask = slices.next()
        if ask is None:
            break
        if ask.cursor and turn in lost and len(ask.window.edge) < page_size:
            slices.cursor_deleted(ask)
            continue
        rows, has_more = source.answer(ask, page_size)
        ids += [row.id for row in slices.received(ask, rows, has_more=has_more).keep]
    assert Counter(ids) == Counter(row.id for row in source.rows)


HISTORIES: dict[str, Callable[[random.Random], list[int]]] = {
    "even over two years": lambda rng: [
        rng.randrange(END - 63_000_000 // 10, END) for _ in range(60_000)
    ],
    "all in one day": lambda rng: [END - 90_000 + rng.randrange(86_400) for _ in range(60_000)],
    "one second with 5,000": lambda rng: (
        [5_000_000] * 5_000 + [rng.randrange(4_000_000, END) for _ in range(20_000)]
    ),
    "nothing for long, then a burst": lambda rng: (
        [5, 6, 7] + [END - 40_000 + rng.randrange(40_000) for _ in range(30_000)]
    ),
    "growing": lambda rng: [END - int(END * rng.random() ** 3) - 1 for _ in range(40_000)],
}


@pytest.mark.parametrize("history", HISTORIES)
def test_requests_stay_within_five_percent_of_the_fewest(history: str) -> None:
    rng = random.Random(7)
    source = FakeList(HISTORIES[history](rng))
    ids, requests = read(
        WindowPlanner([(0, END, None)]), source, page_size=100, at_once=10, rng=rng
    )
    assert len(ids) == len(source.rows)
    assert requests <= math.ceil(1.05 * math.ceil(len(source.rows) / 100))


def test_a_list_of_a_few_pages_costs_no_extra_request() -> None:
    rng = random.Random(1)
    source = FakeList([rng.randrange(END) for _ in range(450)])
    _, requests = read(WindowPlanner([(0, END, None)]), source, page_size=100, at_once=10, rng=rng)
    assert requests == 5


def test_a_long_list_is_soon_read_by_many_requests_at_once() -> None:
    rng = random.Random(3)
    source = FakeList([rng.randrange(END) for _ in range(100_000)])
    slices = WindowPlanner([(0, END, None)])
    rounds = 0
    while not slices.done:
        asks = list(itertools.islice(iter(slices.next, None), 10))
        rounds += 1
        for ask in asks:
            rows, has_more = source.answer(ask, 100)
            slices.received(ask, rows, has_more=has_more)
    assert rounds < 150  # 1,000 pages; one after the other it would be 1,000 rounds


def test_nothing_to_read_asks_nothing() -> None:
    slices = WindowPlanner([])
    assert slices.done
    assert slices.next() is None


@settings(max_examples=100, deadline=None)
@given(
    created=st.lists(st.integers(0, 60), max_size=80),
    page_size=st.integers(1, 8),
    lost=st.sets(st.integers(1, 30)),
    low=st.integers(0, 30),
    rng=st.randoms(use_true_random=False),
)
def test_of_a_list_in_any_order_nothing_is_lost(
    created: list[int], page_size: int, lost: set[int], low: int, rng: random.Random
) -> None:
    """A list that cannot be filtered by time: cursors are all there is."""
    rng.shuffle(created)
    rows = [ListPosition(second, f"pm_{number}") for number, second in enumerate(created)]
    place = {row.id: number for number, row in enumerate(rows)}
    slices = WindowPlanner([(low, END, None)], page_size=page_size, can_split=False)
    ids: list[str] = []
    for turn in itertools.count():
        ask = slices.next()
        if ask is None:
            break
        if ask.cursor and turn in lost:
            slices.cursor_deleted(ask)
            continue
        start = place[ask.cursor] + 1 if ask.cursor else 0
        found, more = rows[start : start + page_size], len(rows) > start + page_size
        page = slices.received(ask, found, has_more=more)
        ids += [row.id for row in page.keep]
        slices.saved(page)
        if rng.random() < 0.2:  # stopped and resumed
            slices = WindowPlanner(slices.remaining(), page_size=page_size, can_split=False)
    assert set(ids) == {row.id for row in rows if row.created >= low}
    assert slices.remaining() == []


@settings(max_examples=100, deadline=None)
@given(
    created=st.lists(st.integers(0, 60), max_size=80),
    page_size=st.integers(1, 8),
    rng=st.randoms(use_true_random=False),
)
def test_a_row_out_of_order_comes_while_there_is_a_cursor(
    created: list[int], page_size: int, rng: random.Random
) -> None:
    rng.shuffle(created)
    rows = [ListPosition(second, f"ch_{number}") for number, second in enumerate(created)]
    slices = WindowPlanner([(0, END, None)], page_size=page_size)
    ids: list[str] = []
    while ask := slices.next():
        listed = [row for row in rows if ask.low <= row.created < ask.high]
        start = 1 + next((n for n, row in enumerate(listed) if row.id == ask.cursor), -1)
        more = len(listed) > start + page_size
        page = slices.received(ask, listed[start : start + page_size], has_more=more)
        ids += [row.id for row in page.keep]
    assert Counter(ids) == Counter(row.id for row in rows)
