"""Coverage: what is not covered is fetched, and nothing else."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.webhooks.coverage import (
    FOREVER,
    HEARTBEAT_TTL,
    MAX_EVENT_DELAY,
    Fetched,
    Uptime,
    covered_by_list,
    covered_by_uptime,
    gaps,
    merge_ranges,
)

times = st.integers(0, 3_000)
intervals = st.lists(st.tuples(times, times))


@given(times, times, intervals)
def test_gaps_are_just_what_nothing_covers(
    low: int, high: int, covered: list[tuple[int, int]]
) -> None:
    found = gaps((low, high), covered)
    for moment in range(low, high, 7):
        inside = any(a <= moment < b for a, b in found)
        assert inside != any(a <= moment < b for a, b in covered)
    assert all(a < b for a, b in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))


@given(st.lists(st.builds(Fetched, times, times, times)), st.integers(0, 5_000))
def test_what_is_merged_covers_the_same_now_and_later(entries: list[Fetched], now: int) -> None:
    shorter = merge_ranges(entries, now=now)
    assert shorter == merge_ranges(shorter, now=now)
    for later in (now, now + 100, now + MAX_EVENT_DELAY, now + 10 * MAX_EVENT_DELAY):
        before = [covered_by_list(entry, now=later) for entry in entries]
        after = [covered_by_list(entry, now=later) for entry in shorter]
        assert gaps((0, 4_000), before) == gaps((0, 4_000), after)


def test_many_quick_looks_do_not_pile_up() -> None:
    entries: list[Fetched] = []
    for now in range(0, 86_400, 60):
        covered = [covered_by_list(entry, now=now) for entry in entries]
        for low, high in gaps((0, now), covered):
            entries = merge_ranges([*entries, Fetched(low, high, now)], now=now)
    assert len(entries) < 2 * MAX_EVENT_DELAY / 60


def test_a_receiver_covers_from_its_first_event_on_while_it_is_up() -> None:
    up = Uptime(started=100, until=1_000)
    assert covered_by_uptime(up, proven=50, now=1_000 + HEARTBEAT_TTL) == (100, FOREVER)
    assert covered_by_uptime(up, proven=200, now=1_000) == (200, FOREVER)


def test_what_happened_right_before_it_died_is_to_be_fetched() -> None:
    up = Uptime(started=100, until=1_000)
    assert covered_by_uptime(up, proven=50, now=2_000) == (100, 1_000 - MAX_EVENT_DELAY)


def test_a_list_is_looked_at_again_once_the_late_events_are_in_it() -> None:
    fetched = Fetched(0, 1_000, at=1_001)
    assert covered_by_list(fetched, now=1_002) == (0, 1_000)
    assert covered_by_list(fetched, now=1_000 + MAX_EVENT_DELAY) == (0, 1_001 - MAX_EVENT_DELAY)
    again = Fetched(701, 1_000, at=1_400)
    assert covered_by_list(again, now=2_000) == (701, 1_000)
