"""What becomes of a record: from it, the object and what both held before to one decision."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import InvalidRecord, Tree, form_fields, is_empty
from target_stripe_alloy.plan.merge import key_items, tree_for
from target_stripe_alloy.plan.permissions import permissions_of
from target_stripe_alloy.plan.plan_types import (
    REPLACES,
    BaseImage,
    Decision,
    DesiredState,
    Outcome,
    Policy,
)
from target_stripe_alloy.plan.planner import plan
from target_stripe_alloy.resources import ACTION, BY_STREAM, RESOURCES
from target_stripe_alloy.write.account_client import object_tree

WRITABLE = tuple(resource.stream for resource in RESOURCES if resource.writable)
ON_CONFLICT = ("fail", "skip", "overwrite", "merge")

CUSTOMER: JSON = {"id": "cus_1", "object": "customer", "name": "A", "metadata": {}}
PRICE: JSON = {
    "id": "price_1",
    "object": "price",
    "active": True,
    "billing_scheme": "per_unit",
    "currency": "usd",
    "lookup_key": "basic",
    "metadata": {"team": "x"},
    "nickname": "Basic",
    "product": "prod_1",
    "recurring": {"interval": "month", "interval_count": 3, "usage_type": "licensed"},
    "unit_amount": 100,
    "unit_amount_decimal": "100",
}
ITEMS: list[JSON] = [
    {"id": "si_1", "price": {"id": "price_1", "object": "price"}, "quantity": 3, "metadata": {}},
    {"id": "si_2", "price": {"id": "price_2", "object": "price"}, "quantity": 1, "metadata": {}},
]
SUBSCRIPTION: JSON = {
    "id": "sub_1",
    "object": "subscription",
    "collection_method": "send_invoice",
    "currency": "usd",
    "customer": "cus_1",
    "items": {"object": "list", "data": ITEMS, "has_more": False},
    "metadata": {},
    "status": "active",
}
DISPUTE: JSON = {
    "id": "dp_1",
    "object": "dispute",
    "evidence": {"customer_name": "A", "product_description": None},
    "metadata": {},
    "status": "needs_response",
}


# ---------------------------------------------------------------------- the way to a decision


def wanted_of(
    stream: str, record: Mapping[str, Any], current: JSON | None, **more: Any
) -> DesiredState:
    resource = BY_STREAM[stream]
    fields = {name: value for name, value in record.items() if name != ACTION}
    wanted = DesiredState(
        resource, fields, tree_for(resource, fields, 0.0), action=record.get(ACTION), **more
    )
    if resource.item_stream and isinstance(wanted.tree.get("items"), list):
        held = object_tree(wanted, current).get("items") or {}
        wanted = replace(wanted, tree=key_items(wanted.tree, held, lambda own: own))
    return wanted


def base_of(stream: str, record: Mapping[str, Any], current: JSON) -> BaseImage:
    """What is remembered once a record and an object agree."""
    wanted = wanted_of(stream, record, current)
    theirs = object_tree(wanted, current)
    return BaseImage(wanted.tree, {name: theirs[name] for name in theirs if name in wanted.tree})


def decide(
    stream: str,
    record: Mapping[str, Any],
    current: JSON | None,
    base: BaseImage | None = None,
    *,
    allow: Iterable[str] = (),
    wanted: Mapping[str, Any] | None = None,
    **policy: Any,
) -> Decision:
    made = wanted_of(stream, record, current, **(wanted or {}))
    rules = Policy(allowed=frozenset(allow), **policy)
    return plan(made, current, object_tree(made, current), base, rules)


def sent_by(decision: Decision) -> dict[str, Tree]:
    """The parameters of the one request."""
    (request,) = decision.requests
    return dict(request.params)


def applied(current: JSON, params: Mapping[str, Tree], *, merging: bool = True) -> JSON:
    """The object as Stripe would leave it; of a hash nobody knows whether it is merged."""
    after = copy.deepcopy(current)
    for name, value in params.items():
        if name == "metadata":
            held = {**after["metadata"], **(value or {})}
            after["metadata"] = {k: v for k, v in held.items() if not is_empty(v)}
        elif name == "items":
            after["items"]["data"] = _items_after(after["items"]["data"], value)
        elif isinstance(value, dict):
            after[name] = {**((merging and after.get(name)) or {}), **value}
        else:
            after[name] = value
    return after


def _items_after(held: list[JSON], changes: list[dict[str, Tree]]) -> list[JSON]:
    items = {item["id"]: item for item in held}
    for number, change in enumerate(changes):
        key = str(change.get("id") or f"si_new_{number}")
        if change.get("deleted"):
            del items[key]
            continue
        item = items.setdefault(key, {"id": key, "quantity": 1, "metadata": {}})
        if "price" in change:
            item["quantity"] = 1  # as Stripe does where none is given
        item.update({k: v for k, v in change.items() if k != "id"})
    return list(items.values())


# ---------------------------------------------------------------------- for all customers

texts = st.text("abc", min_size=1, max_size=2)
keys = st.sampled_from(["a", "b", "c"])
addresses = st.fixed_dictionaries({}, optional=dict.fromkeys(("city", "line1"), texts | st.none()))
customer_fields: dict[str, st.SearchStrategy[Any]] = {
    "name": texts | st.none(),
    "email": texts | st.none(),
    "address": addresses | st.none(),
    "balance": st.integers(-2, 2),
    "invoice_settings": st.fixed_dictionaries({}, optional={"footer": texts | st.none()}),
    "preferred_locales": st.lists(texts, max_size=2),
    "metadata": st.dictionaries(keys, texts, max_size=3),
}
records = st.fixed_dictionaries({}, optional=customer_fields)
customers = st.fixed_dictionaries(customer_fields).map(lambda fields: {"id": "cus_1", **fields})
bases = st.none() | st.builds(
    lambda ours, theirs: base_of("customers", ours, theirs), records, customers
)


def decide_customer(
    record: JSON, current: JSON, base: BaseImage | None = None, on_conflict: str = "overwrite"
) -> Decision:
    allow = ("customers.balance",)
    return decide("customers", record, current, base, allow=allow, on_conflict=on_conflict)


@given(records, customers, bases, st.booleans())
def test_planning_twice_writes_once(
    record: JSON, current: JSON, base: BaseImage | None, merging: bool
) -> None:
    first = decide_customer(record, current, base)
    assume(first.outcome == Outcome.UPDATED)
    after = applied(current, sent_by(first), merging=merging)
    settled = base_of("customers", record, after)
    assert decide_customer(record, after, settled).outcome == Outcome.UNCHANGED
    if base is None:
        assert decide_customer(record, after).outcome == Outcome.UNCHANGED


@given(records, customers, bases)
def test_an_absent_field_is_never_sent(record: JSON, current: JSON, base: BaseImage | None) -> None:
    for request in decide_customer(record, current, base).requests:
        assert request.params.keys() <= record.keys()


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(records, customers, bases, st.booleans())
def test_an_absent_part_of_a_hash_stays_as_it_is(
    record: JSON, current: JSON, base: BaseImage | None, merging: bool
) -> None:
    decision = decide_customer(record, current, base)
    assume(decision.outcome == Outcome.UPDATED and isinstance(record.get("address"), dict))
    after = applied(current, sent_by(decision), merging=merging)
    for name in ("city", "line1"):
        if name not in record["address"]:
            held = (current["address"] or {}).get(name)
            assert (after["address"] or {}).get(name) == held


@given(records, customers, bases)
def test_a_key_of_metadata_that_we_never_held_is_never_cleared(
    record: JSON, current: JSON, base: BaseImage | None
) -> None:
    held = (base.ours.get("metadata") if base else None) or {}
    for request in decide_customer(record, current, base).requests:
        metadata = request.params.get("metadata") or {}
        assert {key for key, value in metadata.items() if is_empty(value)} <= held.keys()


@given(records, customers, customers, st.sampled_from(ON_CONFLICT))
def test_what_only_they_changed_is_kept(
    record: JSON, before: JSON, now: JSON, on_conflict: str
) -> None:
    base = base_of("customers", record, before)
    assert decide_customer(record, now, base, on_conflict).outcome == Outcome.UNCHANGED


@given(records, records, customers, st.sampled_from(ON_CONFLICT))
def test_what_only_we_changed_is_no_conflict(
    before: JSON, record: JSON, current: JSON, on_conflict: str
) -> None:
    base = base_of("customers", before, current)
    assert decide_customer(record, current, base, on_conflict).outcome != Outcome.CONFLICT


@given(customers, st.sampled_from(ON_CONFLICT))
def test_a_record_of_the_object_itself_changes_nothing(current: JSON, on_conflict: str) -> None:
    assert decide_customer(current, current, None, on_conflict) == Decision(Outcome.UNCHANGED)


@given(records, customers, bases, st.sampled_from(ON_CONFLICT))
def test_every_change_is_told(
    record: JSON, current: JSON, base: BaseImage | None, on_conflict: str
) -> None:
    decision = decide_customer(record, current, base, on_conflict)
    assume(decision.outcome == Outcome.UPDATED)
    told = {change.field.split(".")[0] for change in decision.changes}
    assert told == sent_by(decision).keys()


# ---------------------------------------------------------------------- conflicts

BOTH_CHANGED = BaseImage({"name": "A", "email": "a"}, {"name": "A", "email": "a"})


@pytest.mark.parametrize("on_conflict", ["fail", "skip"])
def test_what_both_changed_is_not_written(on_conflict: str) -> None:
    theirs = {**CUSTOMER, "name": "Theirs", "email": "a"}
    ours = {"id": "cus_1", "name": "Ours", "email": "b"}
    decision = decide("customers", ours, theirs, BOTH_CHANGED, on_conflict=on_conflict)
    assert (decision.outcome, decision.requests) == (Outcome.CONFLICT, ())
    assert [(c.field, c.before, c.after) for c in decision.changes] == [("name", "Theirs", "Ours")]


def test_overwriting_writes_what_both_changed() -> None:
    theirs = {**CUSTOMER, "name": "Theirs"}
    ours = {"id": "cus_1", "name": "Ours"}
    decision = decide("customers", ours, theirs, BOTH_CHANGED, on_conflict="overwrite")
    assert sent_by(decision) == {"name": "Ours"}


def test_merging_keeps_theirs_and_writes_the_rest() -> None:
    theirs = {**CUSTOMER, "name": "Theirs", "email": "a"}
    ours = {"id": "cus_1", "name": "Ours", "email": "b"}
    decision = decide("customers", ours, theirs, BOTH_CHANGED, on_conflict="merge")
    assert sent_by(decision) == {"email": "b"}


def test_merging_where_all_conflicts_is_a_conflict() -> None:
    theirs = {**CUSTOMER, "name": "Theirs"}
    ours = {"id": "cus_1", "name": "Ours"}
    decision = decide("customers", ours, theirs, BOTH_CHANGED, on_conflict="merge")
    assert (decision.outcome, decision.requests) == (Outcome.CONFLICT, ())


@pytest.mark.parametrize("on_conflict", ON_CONFLICT)
def test_the_same_change_on_both_sides_is_no_conflict(on_conflict: str) -> None:
    both = {**CUSTOMER, "name": "B"}
    decision = decide("customers", {"name": "B"}, both, BOTH_CHANGED, on_conflict=on_conflict)
    assert decision.outcome == Outcome.UNCHANGED


def test_a_field_that_comes_for_the_first_time_is_no_conflict() -> None:
    theirs = {**CUSTOMER, "phone": "1"}
    decision = decide("customers", {"phone": "2"}, theirs, BOTH_CHANGED)
    assert sent_by(decision) == {"phone": "2"}


def test_different_parts_of_a_hash_are_no_conflict() -> None:
    before = {**CUSTOMER, "address": {"city": "Ulm", "line1": "1"}}
    base = base_of("customers", {"address": before["address"]}, before)
    theirs = {**CUSTOMER, "address": {"city": "Bonn", "line1": "1"}}
    decision = decide("customers", {"address": {"city": "Ulm", "line1": "2"}}, theirs, base)
    assert sent_by(decision) == {"address": {"city": "Bonn", "line1": "2"}}


# ---------------------------------------------------------------------- metadata


def with_metadata(**metadata: str) -> JSON:
    return {**CUSTOMER, "metadata": metadata}


def test_a_key_that_left_whole_metadata_is_cleared() -> None:
    current = with_metadata(a="1", b="2", theirs="3")
    base = base_of("customers", {"metadata": {"a": "1", "b": "2"}}, current)
    decision = decide("customers", {"metadata": {"a": "1"}}, current, base)
    assert sent_by(decision) == {"metadata": {"b": None}}


def test_a_key_that_left_metadata_of_named_keys_stays() -> None:
    current = with_metadata(a="1", b="2")
    base = base_of("customers", {"metadata": {"a": "1", "b": "2"}}, current)
    record = {"metadata": {"a": "1"}}
    assert decide(
        "customers", record, current, base, wanted={"metadata_complete": False}
    ) == Decision(Outcome.UNCHANGED)


def test_a_key_that_left_and_that_they_changed_conflicts() -> None:
    base = base_of("customers", {"metadata": {"a": "1"}}, with_metadata(a="1"))
    decision = decide("customers", {"metadata": {}}, with_metadata(a="2"), base)
    assert [change.field for change in decision.changes] == ["metadata.a"]
    assert decision.outcome == Outcome.CONFLICT


def test_empty_metadata_clears_nothing_of_theirs() -> None:
    assert decide("customers", {"metadata": {}}, with_metadata(a="1")).outcome == Outcome.UNCHANGED


def test_null_metadata_clears_all_but_whose_object_it_is() -> None:
    current = with_metadata(a="1", crm_id="7", **{REPLACES: "x"})
    decision = decide("customers", {"metadata": None}, current, wanted={"stamp": {"crm_id": "7"}})
    assert sent_by(decision) == {"metadata": {"a": None}}


def test_a_key_that_is_null_is_cleared() -> None:
    decision = decide("customers", {"metadata": {"a": None}}, with_metadata(a="1", b="2"))
    assert list(form_fields(sent_by(decision))) == [("metadata[a]", "")]


# ---------------------------------------------------------------------- clearing


def test_null_clears() -> None:
    decision = decide("customers", {"name": None}, CUSTOMER)
    assert list(form_fields(sent_by(decision))) == [("name", "")]


@pytest.mark.parametrize(
    ("stream", "field", "held"),
    [
        ("customers", "invoice_settings", {"footer": "x"}),
        ("customers", "balance", 5),
        ("products", "active", True),
        ("prices", "tax_behavior", "exclusive"),
        ("subscriptions", "collection_method", "send_invoice"),
    ],
)
def test_null_is_rejected_where_it_cannot_clear(stream: str, field: str, held: Any) -> None:
    decision = decide(stream, {field: None}, {"id": "x_1", field: held})
    assert (decision.outcome, decision.requests) == (Outcome.REJECTED, ())
    assert decision.reason == f"{field} cannot be cleared"


def test_null_is_no_change_where_nothing_is() -> None:
    assert decide("customers", {"invoice_settings": None}, CUSTOMER).outcome == Outcome.UNCHANGED


def test_no_discounts_clear_the_discounts() -> None:
    current = {**SUBSCRIPTION, "discounts": ["di_1"]}
    decision = decide(
        "subscriptions", {"discounts": []}, current, allow=["subscriptions.discounts"]
    )
    assert list(form_fields(sent_by(decision))) == [("discounts", "")]


def test_a_value_of_the_wrong_type_is_rejected() -> None:
    decision = decide("customers", {"balance": "much"}, {**CUSTOMER, "balance": 0})
    assert (decision.outcome, decision.reason) == (
        Outcome.REJECTED,
        "balance must be integer, got 'much'",
    )


# ---------------------------------------------------------------------- what cannot be changed


@pytest.mark.parametrize(
    ("stream", "field", "before", "after"),
    [
        ("charges", "amount", 100, 200),
        ("charges", "status", "pending", "succeeded"),
        ("refunds", "amount", 100, 200),
        ("payouts", "description", "a", "b"),
        ("disputes", "amount", 100, 200),
        ("subscriptions", "customer", "cus_1", "cus_2"),
        ("subscriptions", "status", "active", "canceled"),
        ("invoices", "currency", "usd", "eur"),
        ("invoices", "status", "draft", "open"),
        ("products", "type", "service", "good"),
        ("payment_intents", "status", "requires_capture", "succeeded"),
    ],
)
def test_what_stripe_does_not_change_is_blocked(
    stream: str, field: str, before: Any, after: Any
) -> None:
    current = {"id": "x_1", field: before, "metadata": {}}
    every = [f"{stream}.{name}" for name in BY_STREAM[stream].actions]
    decision = decide(stream, {field: after, "metadata": {"k": "v"}}, current, allow=every)
    assert (decision.outcome, decision.requests) == (Outcome.BLOCKED, ())
    assert decision.reason == f"Stripe does not let {field} be changed"


def test_what_differs_since_the_last_time_but_did_not_change_here_does_not_block() -> None:
    base = BaseImage({"description": "a"}, {"description": "a"}, {"status": "pending"})
    current = {"id": "ch_1", "status": "succeeded", "description": "a"}
    decision = decide("charges", {"status": "pending", "description": "b"}, current, base)
    assert sent_by(decision) == {"description": "b"}


def test_a_part_that_is_only_read_blocks() -> None:
    current = {"id": "ch_1", "fraud_details": {"stripe_report": "fraudulent"}}
    decision = decide("charges", {"fraud_details": {"stripe_report": None}}, current)
    assert decision.outcome == Outcome.BLOCKED


def test_a_copy_does_not_look_at_what_cannot_be_changed() -> None:
    current = {**CUSTOMER, "created": 5}
    assert decide("customers", {"created": 6}, current, id_mode="copy").outcome == Outcome.UNCHANGED


# ---------------------------------------------------------------------- permissions

INVOICE = {"id": "in_1", "status": "draft", "auto_advance": False, "customer": "cus_1"}
CHARGED = {**SUBSCRIPTION, "collection_method": "charge_automatically"}
ITEM = {**ITEMS[0], "subscription": "sub_1", "object": "subscription_item"}
OTHER_PRICE = [{**ITEMS[0], "price": "price_9"}]


@pytest.mark.parametrize(
    ("stream", "record", "current", "permission"),
    [
        ("customers", {"balance": 5}, {**CUSTOMER, "balance": 0}, "balance"),
        ("customers", {"default_source": "card_2"}, CUSTOMER, "source (for default_source)"),
        ("subscriptions", {"items": OTHER_PRICE}, CHARGED, "items (for items.price)"),
        ("subscriptions", {"trial_end": "now"}, CHARGED, "items (for trial_end)"),
        (
            "subscriptions",
            {"collection_method": "charge_automatically"},
            SUBSCRIPTION,
            "items (for collection_method)",
        ),
        ("subscription_items", {"quantity": 4}, ITEM, "update (for quantity)"),
        ("subscription_items", {"price": "price_9"}, ITEM, "update (for price)"),
        ("invoices", {"auto_advance": True}, INVOICE, "auto_advance"),
        ("invoices", {ACTION: "finalize"}, INVOICE, "finalize"),
        ("invoices", {ACTION: "pay"}, INVOICE, "pay"),
        ("invoices", {ACTION: "send"}, INVOICE, "send"),
        ("payment_intents", {ACTION: "confirm"}, {"status": "requires_confirmation"}, "confirm"),
        ("payment_intents", {ACTION: "capture"}, {"status": "requires_capture"}, "capture"),
        ("payment_intents", {ACTION: "cancel"}, {"status": "requires_capture"}, "cancel"),
        ("subscriptions", {ACTION: "cancel"}, SUBSCRIPTION, "cancel"),
        ("payment_methods", {"customer": None}, {"customer": "cus_1"}, "detach"),
        ("disputes", {ACTION: "close"}, DISPUTE, "close"),
        ("disputes", {"submit": True, "evidence": {"customer_name": "B"}}, DISPUTE, "submit"),
        ("payouts", {ACTION: "cancel"}, {"status": "pending"}, "cancel"),
        ("payouts", {ACTION: "reverse"}, {"status": "paid"}, "reverse"),
    ],
)
def test_what_moves_money_needs_its_permission(
    stream: str, record: JSON, current: JSON, permission: str
) -> None:
    current = {"id": "x_1", **current}
    name = f"{stream}.{permission.partition(' ')[0]}"
    others = {f"{stream}.{action}" for action in BY_STREAM[stream].actions} - {name}
    decision = decide(stream, record, current, allow=others)
    assert (decision.outcome, decision.requests) == (Outcome.BLOCKED, ())
    assert decision.reason == f"`allow_actions` does not contain {stream}.{permission}"
    assert decide(stream, record, current, allow=[*others, name]).outcome == Outcome.UPDATED


@pytest.mark.parametrize(
    ("stream", "record"),
    [
        ("subscriptions", {"customer": "cus_1", "items": [{"price": "price_1"}]}),
        ("subscription_items", {"subscription": "sub_1", "price": "price_1"}),
        ("invoices", {"customer": "cus_1", "auto_advance": True}),
        ("invoices", {"customer": "cus_1", "subscription": "sub_1"}),
        ("payment_intents", {"amount": 5, "currency": "usd", "confirm": True}),
        ("refunds", {"charge": "ch_1"}),
        ("payouts", {"amount": 5, "currency": "usd"}),
        ("customers", {"balance": -5}),
    ],
)
def test_what_would_move_money_is_not_created_unasked(stream: str, record: JSON) -> None:
    decision = decide(stream, record, None, id_mode="external")
    assert (decision.outcome, decision.requests) == (Outcome.BLOCKED, ())
    every = permissions_of(BY_STREAM[stream])
    assert decide(stream, record, None, id_mode="external", allow=every).outcome == Outcome.CREATED


def test_items_of_a_subscription_that_is_invoiced_need_their_permission_too() -> None:
    assert decide("subscriptions", {"items": OTHER_PRICE}, SUBSCRIPTION).outcome == Outcome.BLOCKED


def test_a_blocked_part_blocks_the_whole_record() -> None:
    record = {"name": "B", "balance": 5}
    assert decide("customers", record, {**CUSTOMER, "balance": 0}).requests == ()


# ---------------------------------------------------------------------- disputes


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "evidence": st.fixed_dictionaries(
                {}, optional={"customer_name": texts, "product_description": texts | st.none()}
            ),
            "metadata": st.dictionaries(keys, texts),
            "submit": st.sampled_from([None, False, "false"]),
        },
    )
)
def test_a_dispute_is_never_submitted_by_default(record: JSON) -> None:
    for request in decide("disputes", record, DISPUTE).requests:
        assert request.params["submit"] == "false"


def test_with_its_permission_a_dispute_is_submitted() -> None:
    record = {"submit": True, "evidence": {"customer_name": "B"}}
    decision = decide("disputes", record, DISPUTE, allow=["disputes.submit"])
    assert sent_by(decision) == {"submit": "true", "evidence": {"customer_name": "B"}}


# ---------------------------------------------------------------------- items

prices = st.sampled_from(["price_1", "price_2", "price_3", "price_4"])
entries = st.fixed_dictionaries({"price": prices}, optional={"quantity": st.integers(1, 3)})


@st.composite
def changed_items(draw: st.DrawFn) -> list[JSON]:
    """Some of the items kept, with or without their ids, perhaps changed; some new ones."""
    kept = [{"id": item["id"], **draw(entries)} for item in ITEMS if draw(st.booleans())]
    taken = {entry["price"] for entry in kept}
    return kept + [
        entry
        for entry in draw(st.lists(entries, max_size=3, unique_by=lambda entry: entry["price"]))
        if entry["price"] not in taken
    ]


def decide_items(items: list[JSON], current: JSON, base: BaseImage | None) -> Decision:
    allow = ("subscriptions.items",)
    return decide(
        "subscriptions", {"items": items}, current, base, allow=allow, on_conflict="overwrite"
    )


HELD = base_of("subscriptions", {"items": ITEMS}, SUBSCRIPTION)


@given(changed_items(), st.sampled_from([None, HELD]))
def test_an_item_is_kept_by_its_id_or_new(items: list[JSON], base: BaseImage | None) -> None:
    decision = decide_items(items, SUBSCRIPTION, base)
    assume(decision.outcome == Outcome.UPDATED)
    for entry in sent_by(decision)["items"]:
        assert entry["id"] in ("si_1", "si_2") if "id" in entry else entry["price"]


@given(changed_items(), st.sampled_from([None, HELD]))
def test_a_price_of_a_kept_item_goes_with_its_quantity(
    items: list[JSON], base: BaseImage | None
) -> None:
    decision = decide_items(items, SUBSCRIPTION, base)
    assume(decision.outcome == Outcome.UPDATED)
    for entry in sent_by(decision)["items"]:
        if "id" in entry and "price" in entry:
            assert entry["quantity"]


@given(changed_items())
def test_an_item_that_we_never_held_is_never_deleted(items: list[JSON]) -> None:
    for request in decide_items(items, SUBSCRIPTION, None).requests:
        assert not any("deleted" in entry for entry in request.params["items"])


@given(changed_items(), st.sampled_from([None, HELD]))
def test_planning_items_twice_writes_once(items: list[JSON], base: BaseImage | None) -> None:
    first = decide_items(items, SUBSCRIPTION, base)
    assume(first.outcome == Outcome.UPDATED)
    after = applied(SUBSCRIPTION, sent_by(first))
    settled = base_of("subscriptions", {"items": items}, after)
    assert decide_items(items, after, settled).outcome == Outcome.UNCHANGED


def test_a_removed_item_is_deleted() -> None:
    decision = decide_items(ITEMS[:1], SUBSCRIPTION, HELD)
    assert sent_by(decision) == {"items": [{"id": "si_2", "deleted": "true"}]}


def test_a_new_price_keeps_the_quantity() -> None:
    items = [{"id": "si_1", "price": "price_9"}]
    assert sent_by(decide_items(items, SUBSCRIPTION, None)) == {
        "items": [{"id": "si_1", "price": "price_9", "quantity": "3"}]
    }


def test_an_item_without_an_id_is_the_one_with_its_price() -> None:
    items = [{"price": "price_2", "quantity": 5}]
    assert sent_by(decide_items(items, SUBSCRIPTION, None)) == {
        "items": [{"id": "si_2", "quantity": "5"}]
    }


def test_a_new_item_has_no_id() -> None:
    items = [*ITEMS, {"price": "price_9", "quantity": 2}]
    assert sent_by(decide_items(items, SUBSCRIPTION, None)) == {
        "items": [{"price": "price_9", "quantity": "2"}]
    }


def test_an_item_that_is_gone_is_not_added_again() -> None:
    items = [{"id": "si_9", "price": "price_9"}]
    decision = decide_items(items, SUBSCRIPTION, None)
    assert (decision.outcome, decision.reason) == (
        Outcome.REJECTED,
        "items: si_9 no longer exists",
    )


def test_a_new_subscription_has_items_without_ids() -> None:
    record = {"customer": "cus_1", "items": ITEMS, "collection_method": "send_invoice"}
    decision = decide("subscriptions", record, None, id_mode="copy", allow=["subscriptions.create"])
    assert sent_by(decision)["items"] == [
        {"price": "price_1", "quantity": "3"},
        {"price": "price_2", "quantity": "1"},
    ]


# ---------------------------------------------------------------------- prices

REPLACE = ("prices.replace",)


@pytest.mark.parametrize(
    "change",
    [
        {"unit_amount": 200},
        {"currency": "eur"},
        {"product": "prod_2"},
        {"tiers_mode": "volume"},
        {"recurring": {"interval": "year"}},
    ],
)
def test_what_is_frozen_of_a_price_is_blocked(change: JSON) -> None:
    decision = decide("prices", change, PRICE)
    assert (decision.outcome, decision.requests) == (Outcome.BLOCKED, ())
    assert decision.reason.endswith("`allow_actions` does not contain prices.replace")


def test_a_changed_amount_is_one_new_price() -> None:
    decision = decide("prices", {"id": "price_1", "unit_amount": 200}, PRICE, allow=REPLACE)
    assert decision.replaces == "price_1"
    assert [(r.method, r.path) for r in decision.requests] == [("POST", "/v1/prices")]
    assert sent_by(decision) == {
        "active": "true",
        "billing_scheme": "per_unit",
        "currency": "usd",
        "lookup_key": "basic",
        "metadata": {"team": "x", REPLACES: "price_1"},
        "nickname": "Basic",
        "product": "prod_1",
        "recurring": {"interval": "month", "interval_count": "3", "usage_type": "licensed"},
        "transfer_lookup_key": "true",
        "unit_amount": "200",
    }


def test_without_a_lookup_key_none_is_transferred() -> None:
    current = {**PRICE, "lookup_key": None}
    decision = decide("prices", {"unit_amount": 200}, current, allow=REPLACE)
    assert "transfer_lookup_key" not in sent_by(decision)


def test_what_may_change_of_a_price_needs_no_new_one() -> None:
    decision = decide("prices", {"nickname": "B", "unit_amount": 100}, PRICE, allow=REPLACE)
    assert (decision.replaces, sent_by(decision)) == (None, {"nickname": "B"})


def test_tiers_of_a_new_price_end_in_inf() -> None:
    tiers = [{"up_to": 5, "unit_amount": 9}, {"up_to": None, "unit_amount": 7}]
    record = {"currency": "usd", "product": "prod_1", "billing_scheme": "tiered", "tiers": tiers}
    params = sent_by(decide("prices", record, None, id_mode="copy"))
    assert params["tiers"] == [
        {"up_to": "5", "unit_amount": "9"},
        {"up_to": "inf", "unit_amount": "7"},
    ]


def test_a_tiered_price_needs_its_tiers() -> None:
    record = {"currency": "usd", "product": "prod_1", "billing_scheme": "tiered"}
    decision = decide("prices", record, None, id_mode="copy")
    assert (decision.outcome, decision.reason) == (Outcome.REJECTED, "a new one needs tiers")


# ---------------------------------------------------------------------- new objects


@pytest.mark.parametrize("stream", WRITABLE)
def test_in_the_same_account_nothing_is_created(stream: str) -> None:
    decision = decide(stream, {"id": "x_1"}, None, allow=[f"{stream}.create"])
    assert (decision.outcome, decision.requests) == (Outcome.REJECTED, ())


@pytest.mark.parametrize("stream", ["charges", "disputes", "payment_methods"])
@pytest.mark.parametrize("id_mode", ["copy", "external"])
def test_what_cannot_be_created_says_why(stream: str, id_mode: str) -> None:
    decision = decide(stream, {}, None, id_mode=id_mode)
    assert (decision.outcome, decision.reason) == (Outcome.BLOCKED, BY_STREAM[stream].why_not)


@given(records)
def test_a_new_object_is_sent_nothing_empty(record: JSON) -> None:
    decision = decide("customers", record, None, id_mode="copy", allow=["customers.balance"])
    assert all(text for _, text in form_fields(sent_by(decision)))


def test_a_new_object_is_stamped() -> None:
    record = {"name": "A", "metadata": {"k": "v"}}
    stamp = {"stamp": {"crm_id": "7"}}
    decision = decide("customers", record, None, id_mode="external", wanted=stamp)
    assert sent_by(decision)["metadata"] == {"k": "v", "crm_id": "7"}


def test_a_copied_product_keeps_its_id() -> None:
    record = {"id": "prod_1", "name": "P"}
    own = {"object_id": "prod_1"}
    assert sent_by(decide("products", record, None, id_mode="copy", wanted=own)) == record


def test_what_a_new_object_lacks_is_named() -> None:
    decision = decide("products", {"active": True}, None, id_mode="external")
    assert (decision.outcome, decision.reason) == (Outcome.REJECTED, "a new one needs name")


def test_a_field_that_stripe_does_not_know_is_named() -> None:
    decision = decide("customers", {"colour": "red"}, None, id_mode="external")
    assert (decision.outcome, decision.reason) == (Outcome.BLOCKED, "Stripe takes no colour here")


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        ("subscriptions", "canceled"),
        ("invoices", "paid"),
        ("invoices", "void"),
        ("payment_intents", "succeeded"),
    ],
)
def test_of_what_is_over_no_copy_is_made(stream: str, status: str) -> None:
    decision = decide(stream, {"status": status, "customer": "cus_1"}, None, id_mode="copy")
    assert (decision.outcome, decision.requests) == (Outcome.BLOCKED, ())


# ---------------------------------------------------------------------- actions


@pytest.mark.parametrize("stream", WRITABLE)
def test_a_status_never_acts(stream: str) -> None:
    resource = BY_STREAM[stream]
    every = [f"{stream}.{name}" for name in resource.actions]
    for action in resource.actions.values():
        for before in action.when:
            for after in action.done:
                current = {"id": "x_1", "status": before}
                assert decide(stream, {"status": after}, current, allow=every).requests == ()


def test_an_action_is_one_request() -> None:
    decision = decide("invoices", {ACTION: "finalize"}, INVOICE, allow=["invoices.finalize"])
    assert [(r.method, r.path) for r in decision.requests] == [
        ("POST", "/v1/invoices/in_1/finalize")
    ]


def test_an_action_follows_the_change() -> None:
    record = {"description": "B", ACTION: "finalize"}
    decision = decide("invoices", record, INVOICE, allow=["invoices.finalize"])
    assert [request.kind for request in decision.requests] == ["update", "finalize"]


def test_canceling_is_a_deletion() -> None:
    record = {ACTION: "cancel"}
    decision = decide("subscriptions", record, SUBSCRIPTION, allow=["subscriptions.cancel"])
    assert [(r.method, r.path) for r in decision.requests] == [
        ("DELETE", "/v1/subscriptions/sub_1")
    ]


def test_what_happened_already_does_not_happen_again() -> None:
    current = {**INVOICE, "status": "open"}
    assert decide("invoices", {ACTION: "finalize"}, current).outcome == Outcome.UNCHANGED


def test_an_action_that_was_asked_for_last_time_is_not_repeated() -> None:
    base = BaseImage({ACTION: "send"}, {})
    current = {**INVOICE, "status": "open"}
    assert decide("invoices", {ACTION: "send"}, current, base).outcome == Outcome.UNCHANGED


def test_an_action_in_the_wrong_status_is_rejected() -> None:
    current = {**INVOICE, "status": "void"}
    decision = decide("invoices", {ACTION: "finalize"}, current, allow=["invoices.finalize"])
    assert (decision.outcome, decision.reason) == (
        Outcome.REJECTED,
        "_action: cannot finalize one whose status is void",
    )


def test_an_unknown_action_is_rejected() -> None:
    assert decide("charges", {ACTION: "capture"}, {"id": "ch_1"}).outcome == Outcome.REJECTED


# ---------------------------------------------------------------------- attaching


ATTACH = ("payment_methods.attach",)


def test_a_payment_method_is_attached() -> None:
    current: JSON = {"id": "pm_1", "customer": None}
    decision = decide("payment_methods", {"customer": "cus_1"}, current, allow=ATTACH)
    (request,) = decision.requests
    assert (request.path, request.params) == (
        "/v1/payment_methods/pm_1/attach",
        {"customer": "cus_1"},
    )


def test_a_payment_method_is_attached_before_it_is_updated() -> None:
    current: JSON = {"id": "pm_1", "customer": None, "metadata": {}}
    record = {"customer": "cus_1", "metadata": {"k": "v"}}
    decision = decide("payment_methods", record, current, allow=ATTACH)
    kinds = [request.kind for request in decision.requests]
    assert kinds == ["attach", "update"]


def test_a_payment_method_belongs_to_one_customer_only() -> None:
    current = {"id": "pm_1", "customer": "cus_1"}
    assert decide("payment_methods", {"customer": "cus_2"}, current).outcome == Outcome.REJECTED


# ---------------------------------------------------------------------- ends

GONE = {"deleted": True}


@pytest.mark.parametrize("stream", WRITABLE)
def test_by_default_nothing_is_deleted(stream: str) -> None:
    assert decide(stream, {"id": "x_1"}, {"id": "x_1"}, wanted=GONE).outcome == Outcome.UNCHANGED


@pytest.mark.parametrize("stream", WRITABLE)
@pytest.mark.parametrize("delete_policy", ["ignore", "archive", "delete"])
def test_what_is_gone_stays_gone(stream: str, delete_policy: str) -> None:
    decision = decide(stream, {"id": "x_1"}, None, wanted=GONE, delete_policy=delete_policy)
    assert (decision.outcome, decision.requests) == (Outcome.UNCHANGED, ())


@pytest.mark.parametrize("stream", ["products", "prices"])
def test_archiving_makes_inactive_once(stream: str) -> None:
    decision = decide(
        stream, {}, {"id": "x_1", "active": True}, wanted=GONE, delete_policy="archive"
    )
    assert sent_by(decision) == {"active": "false"}
    again = decide(stream, {}, {"id": "x_1", "active": False}, wanted=GONE, delete_policy="archive")
    assert again.outcome == Outcome.UNCHANGED


def test_a_price_is_archived_even_if_it_should_be_deleted() -> None:
    decision = decide("prices", {}, PRICE, wanted=GONE, delete_policy="delete")
    assert sent_by(decision) == {"active": "false"}


def test_what_cannot_be_archived_is_blocked() -> None:
    decision = decide("customers", {}, CUSTOMER, wanted=GONE, delete_policy="archive")
    assert (decision.outcome, decision.requests) == (Outcome.BLOCKED, ())


@pytest.mark.parametrize(
    ("stream", "current", "permission", "method", "path"),
    [
        ("customers", {}, "delete", "DELETE", "/v1/customers/x_1"),
        ("subscriptions", {"status": "active"}, "cancel", "DELETE", "/v1/subscriptions/x_1"),
        ("subscription_items", {}, "delete", "DELETE", "/v1/subscription_items/x_1"),
        (
            "payment_methods",
            {"customer": "cus_1"},
            "detach",
            "POST",
            "/v1/payment_methods/x_1/detach",
        ),
    ],
)
def test_what_cannot_be_undone_needs_its_permission(
    stream: str, current: JSON, permission: str, method: str, path: str
) -> None:
    current = {"id": "x_1", **current}
    assert (
        decide(stream, {}, current, wanted=GONE, delete_policy="delete").outcome == Outcome.BLOCKED
    )
    allow = [f"{stream}.{permission}"]
    decision = decide(stream, {}, current, wanted=GONE, delete_policy="delete", allow=allow)
    assert decision.outcome == Outcome.DELETED
    assert [(r.method, r.path) for r in decision.requests] == [(method, path)]


# ---------------------------------------------------------------------- keys of items


def test_an_item_of_another_account_is_found_by_its_new_id() -> None:
    tree = {"items": [{"id": "si_theirs", "price": "price_1"}]}
    keyed = key_items(tree, {"si_1": {"price": "price_2"}}, {"si_theirs": "si_1"}.get)
    assert keyed == {"items": {"si_1": {"price": "price_1"}}}


def test_items_of_one_price_are_told_apart() -> None:
    held = {"si_1": {"price": "price_1"}, "si_2": {"price": "price_1"}}
    tree = {"items": [{"price": "price_1", "quantity": "1"}, {"price": "price_1"}]}
    assert key_items(tree, held, lambda _: None)["items"].keys() == held.keys()


def test_a_record_without_a_place_for_a_value_is_unwritable() -> None:
    with pytest.raises(InvalidRecord, match="email: expected string, got a list"):
        wanted_of("customers", {"email": ["a"]}, None)
