"""What events mean: the newest decides, a snapshot is used only where it can be trusted."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.events import Event
from tap_stripe_alloy.events.change_detection import (
    ChangeDetector,
    DetectedChange,
    ObjectPolicy,
    Span,
)

VERSION = "2026-10-28.endive"
ROUTES = {
    "customer": ObjectPolicy(True, (), ("customer.deleted",), None),
    "invoice": ObjectPolicy(True, (("lines",),), ("invoice.deleted",), "lines"),
    "price": ObjectPolicy(False, (), ("price.deleted",), None),
}


def event(
    number: int,
    source: dict[str, Any],
    *,
    created: int | None = None,
    type_: str | None = None,
    version: str = VERSION,
    before: dict[str, Any] | None = None,
) -> Event:
    return {
        "id": f"evt_{number}",
        "created": number if created is None else created,
        "type": type_ or f"{source['object']}.updated",
        "api_version": version,
        "data": {"object": source, "previous_attributes": before or {}},
    }


def customer(name: str = "A", source_id: str = "cus_1") -> dict[str, Any]:
    return {"object": "customer", "id": source_id, "name": name}


def walk_of(
    routes: Mapping[str, ObjectPolicy], seen: Mapping[str, Collection[str]] | None = None
) -> ChangeDetector:
    known = seen or {}
    return ChangeDetector(VERSION, routes, lambda kind, found: found["id"] in known.get(kind, ()))


def take(walk: ChangeDetector, events: Sequence[Event], **more: Any) -> list[DetectedChange]:
    return list(walk.take(Span(events, last=True, news=True, **more)))


def told(*events: Event, seen: tuple[str, ...] = ()) -> list[DetectedChange]:
    """The changes of events given oldest first."""
    newest_first = sorted(events, key=lambda found: -found["created"])
    return take(walk_of(ROUTES, dict.fromkeys(ROUTES, seen)), newest_first)


def test_the_newest_event_decides() -> None:
    changes = told(event(1, customer("old")), event(2, customer("new")))
    assert [(change.action, change.snapshot["name"]) for change in changes] == [("emit", "new")]


def test_a_snapshot_of_another_version_is_not_used() -> None:
    assert told(event(1, customer(), version="2020-08-27"))[0].action == "retrieve"


def test_a_snapshot_is_not_used_where_something_is_expanded() -> None:
    assert told(event(1, {"object": "price", "id": "price_1"}))[0].action == "retrieve"


def test_a_snapshot_with_a_list_cut_short_is_not_used() -> None:
    lines = {"data": [], "has_more": True}
    assert (
        told(event(1, {"object": "invoice", "id": "in_1", "lines": lines}))[0].action == "retrieve"
    )


def test_events_of_one_second_have_no_order() -> None:
    changes = told(event(1, customer("A"), created=5), event(2, customer("B"), created=5))
    assert [change.action for change in changes] == ["retrieve"]


def test_a_second_split_by_a_page_is_still_one() -> None:
    changes = told(event(1, customer("A"), created=5), event(2, customer("B"), created=5))
    assert [change.action for change in changes] == ["retrieve"]


def test_a_deletion_buries() -> None:
    changes = told(event(1, customer()), event(2, customer(), type_="customer.deleted"))
    assert [(change.action, change.at) for change in changes] == [("tombstone", 2)]


def test_a_canceled_subscription_is_not_buried() -> None:
    source = {"object": "subscription", "id": "sub_1"}
    routes = {"subscription": ObjectPolicy(True, (), (), None)}
    walk = walk_of(routes)
    canceled = event(1, source, type_="customer.subscription.deleted")
    assert [change.action for change in take(walk, [canceled])] == ["emit"]


def test_events_are_routed_by_their_object_not_their_name() -> None:
    source = {"object": "refund", "id": "re_1"}
    walk = walk_of({"refund": ObjectPolicy(True, (), (), None)})
    changes = take(walk, [event(1, source, type_="charge.refund.updated")])
    assert changes[0].key == ("refund", "re_1")


def test_an_object_without_id_is_left_out() -> None:
    assert told(event(1, {"object": "invoice", "lines": {}}, type_="invoice.upcoming")) == []


def test_an_event_seen_before_tells_nothing() -> None:
    assert told(event(1, customer()), seen=("evt_1",)) == []


def test_an_event_seen_for_another_kind_of_object_tells_its_own() -> None:
    walk = walk_of(ROUTES, {"invoice": {"evt_1"}})
    assert [change.action for change in take(walk, [event(1, customer())])] == ["emit"]


def test_a_late_event_older_than_one_seen_is_retrieved() -> None:
    changes = told(event(1, customer("late")), event(2, customer("seen")), seen=("evt_2",))
    assert [change.action for change in changes] == ["retrieve"]


def test_what_an_earlier_walk_overtook_is_retrieved() -> None:
    walk = walk_of(ROUTES)
    [change] = take(walk, [event(1, customer("late"))], superseded={("customer", "cus_1")})
    assert change.action == "retrieve"


def test_what_we_wrote_ourselves_is_not_told() -> None:
    assert take(walk_of(ROUTES), [event(1, customer())], self_caused={"evt_1"}) == []


def test_our_write_after_somebody_elses_hides_nothing() -> None:
    """What is there now counts, and it is as new as our write."""
    walk = walk_of(ROUTES)
    events = [event(2, customer("ours")), event(1, customer("theirs"))]
    [change] = take(walk, events, self_caused={"evt_2"})
    assert (change.action, change.at) == ("retrieve", 2)


def test_somebody_elses_write_after_ours_is_told_as_ever() -> None:
    walk = walk_of(ROUTES)
    events = [event(2, customer("theirs")), event(1, customer("ours"))]
    assert [(c.action, c.at) for c in take(walk, events, self_caused={"evt_1"})] == [("emit", 2)]


def test_our_write_in_the_same_second_as_somebody_elses_is_retrieved() -> None:
    walk = walk_of(ROUTES)
    events = [event(2, customer("ours"), created=5), event(1, customer("theirs"), created=5)]
    assert [change.action for change in take(walk, events, self_caused={"evt_2"})] == ["retrieve"]


def test_former_children_are_remembered() -> None:
    before = {"lines": {"data": [{"id": "il_1"}, {"id": "il_2"}]}}
    source = {"object": "invoice", "id": "in_1", "lines": {"data": [{"id": "il_2"}]}}
    walk = walk_of(ROUTES)
    take(walk, [event(1, source, before=before)])
    assert walk.former_children[("invoice", "in_1")] == {"il_1", "il_2"}


@given(
    history=st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from(["cus_1", "cus_2", "cus_3"]), st.booleans()),
        max_size=30,
    ),
    rng=st.randoms(use_true_random=False),
)
def test_each_object_is_told_once_and_never_with_a_stale_snapshot(
    history: list[tuple[int, str, bool]], rng: random.Random
) -> None:
    ordered = sorted(history, key=lambda step: step[0])
    events = [
        event(
            number,
            customer(str(number), source_id),
            created=second,
            type_="customer.deleted" if gone else None,
        )
        for number, (second, source_id, gone) in enumerate(ordered)
    ]
    seen = {found["id"] for found in events if rng.random() < 0.3}
    shuffled = sorted(events, key=lambda found: (-found["created"], rng.random()))
    walk = walk_of(ROUTES, {"customer": seen})
    changes = take(walk, shuffled)
    fresh = [found for found in events if found["id"] not in seen]
    assert {change.key[1] for change in changes} == {
        found["data"]["object"]["id"] for found in fresh
    }
    assert len(changes) == len({change.key for change in changes})
    for change in changes:
        of_it = [e for e in events if e["data"]["object"]["id"] == change.key[1]]
        newest = max(found["created"] for found in of_it)
        if change.action != "retrieve":
            assert [e["created"] for e in of_it].count(newest) == 1
            assert change.at == newest
