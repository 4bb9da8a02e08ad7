"""Traps of the planner that a review found: each fact once went wrong."""

from __future__ import annotations

from typing import Any

import pytest

from target_stripe_alloy.params_tree import InvalidRecord, record_matches_object
from target_stripe_alloy.plan.plan_types import REPLACES, BaseImage, Outcome
from tests.target.test_plan import (
    CUSTOMER,
    DISPUTE,
    GONE,
    ITEM,
    ITEMS,
    PRICE,
    REPLACE,
    SUBSCRIPTION,
    base_of,
    decide,
    sent_by,
)
from tests.target.test_reshape import tree

AT = 1_793_491_200  # 2026-11-01
PERIOD = {**SUBSCRIPTION, "cancel_at_period_end": True, "cancel_at": AT}


def test_wiping_a_balance_needs_permission() -> None:
    assert (
        decide("customers", {"balance": 0}, {**CUSTOMER, "balance": -5000}).outcome
        == Outcome.BLOCKED
    )


def test_price_data_of_an_item_needs_permission() -> None:
    data = {"currency": "usd", "product": "p", "unit_amount": 1, "recurring": {"interval": "month"}}
    record = {"price_data": data, "metadata": {"a": "1"}}
    assert decide("subscription_items", record, ITEM).outcome == Outcome.BLOCKED


def test_invoice_items_are_added_once() -> None:
    add = {"add_invoice_items": [{"price": "price_9"}]}
    before = {**SUBSCRIPTION, "description": "a"}
    base = base_of("subscriptions", {**add, "description": "a"}, before)
    decision = decide("subscriptions", {**add, "description": "b"}, before, base)
    assert sent_by(decision) == {"description": "b"}


@pytest.mark.parametrize(
    ("stream", "record", "current", "permission"),
    [
        ("customers", {"source": "tok_1"}, CUSTOMER, "customers.source"),
        ("disputes", {"submit": True}, DISPUTE, "disputes.submit"),
        ("invoices", {"days_until_due": 5}, {"id": "in_1", "status": "draft"}, ""),
    ],
)
def test_a_parameter_that_is_not_read_is_not_dropped_in_silence(
    stream: str, record: Any, current: Any, permission: str
) -> None:
    assert decide(stream, record, current, allow=[permission]).outcome != Outcome.UNCHANGED


def test_cancel_at_is_a_time() -> None:
    current = {**SUBSCRIPTION, "cancel_at": AT}
    record = {"cancel_at": "2026-11-01T00:00:00Z"}
    assert decide("subscriptions", record, current).outcome == Outcome.UNCHANGED


def test_canceling_at_the_periods_end_may_name_the_date() -> None:
    current = {**PERIOD, "cancel_at_period_end": False, "cancel_at": None}
    record = {"cancel_at_period_end": True, "cancel_at": AT}
    decision = decide("subscriptions", record, current, allow=["subscriptions.cancel"])
    assert sent_by(decision) == {"cancel_at_period_end": "true"}


def test_canceling_at_the_periods_end_needs_no_date() -> None:
    record = {"cancel_at_period_end": True, "cancel_at": None}
    assert decide("subscriptions", record, PERIOD).outcome == Outcome.UNCHANGED


def test_the_date_alone_is_no_change() -> None:
    assert decide("subscriptions", {"cancel_at": AT}, PERIOD).outcome == Outcome.UNCHANGED


@pytest.mark.parametrize(
    ("stream", "record"),
    [
        ("customers", {"tax_ids": {"object": "list", "data": [{"type": "eu_vat", "value": "1"}]}}),
        (
            "prices",
            {"currency": "usd", "product": "p", "unit_amount": 5, "unit_amount_decimal": "5"},
        ),
        ("invoice_line_items", {"invoice": "in_1", "amount": 5}),
        (
            "subscriptions",
            {"customer": "cus_1", "trial_end": -1, "collection_method": "send_invoice"},
        ),
    ],
)
def test_a_users_own_record_may_have_what_is_reshaped(stream: str, record: Any) -> None:
    allow = [f"{stream}.create"]
    assert decide(stream, record, None, id_mode="external", allow=allow).outcome == Outcome.CREATED


def successor(record: Any, current: Any = PRICE, base: Any = None, **more: Any) -> Any:
    return decide("prices", record, current, base, allow=REPLACE, **more)


def test_a_successor_has_one_form_of_the_amount() -> None:
    params = sent_by(successor({"unit_amount": None, "unit_amount_decimal": "0.5"}))
    assert "unit_amount" not in params


def test_the_other_form_of_the_same_amount_is_no_change() -> None:
    assert successor({"unit_amount_decimal": "100"}).outcome == Outcome.UNCHANGED


def test_a_successor_keeps_absent_parts_of_a_hash() -> None:
    params = sent_by(successor({"recurring": {"interval": "year"}}))
    assert params["recurring"]["interval_count"] == "3"


def test_a_successor_keeps_metadata_that_we_never_held() -> None:
    params = sent_by(successor({"unit_amount": 200, "metadata": {"a": "1"}}))
    assert params["metadata"] == {"team": "x", "a": "1", REPLACES: "price_1"}


def test_a_successor_is_stamped() -> None:
    stamp = {"crm_id": "7"}
    current = {**PRICE, "metadata": stamp}
    record = {"unit_amount": 200, "metadata": {"a": "1"}}
    params = sent_by(successor(record, current, id_mode="external", wanted={"stamp": stamp}))
    assert params["metadata"]["crm_id"] == "7"


OLD = BaseImage(
    {"unit_amount": "100", "nickname": "Old"}, {"unit_amount": "100", "nickname": "Old"}
)


def test_a_successor_keeps_what_only_they_changed() -> None:
    params = sent_by(successor({"unit_amount": 200, "nickname": "Old"}, base=OLD))
    assert params["nickname"] == "Basic"


def test_a_successor_is_not_made_over_a_conflict() -> None:
    assert successor({"unit_amount": 200, "nickname": "Ours"}, base=OLD).outcome == Outcome.CONFLICT


def test_a_successor_with_a_wrong_amount_is_rejected() -> None:
    assert successor({"unit_amount": "abc"}).outcome == Outcome.REJECTED


def test_the_destination_of_a_new_payment_intent_is_sent() -> None:
    record = {"amount": 5, "currency": "usd", "transfer_data": {"destination": "acct_1"}}
    allow = ["payment_intents.create"]
    params = sent_by(decide("payment_intents", record, None, id_mode="external", allow=allow))
    assert params["transfer_data"] == {"destination": "acct_1"}


def test_a_line_without_an_invoice_is_rejected() -> None:
    assert (
        decide("invoice_line_items", {"amount": 5}, None, id_mode="copy").outcome
        == Outcome.REJECTED
    )


def test_what_the_customer_chooses_in_a_currency_is_enabled() -> None:
    options = {"eur": {"custom_unit_amount": {"minimum": 1}}}
    written = tree("prices", currency="usd", currency_options=options)
    assert written["currency_options"]["eur"]["custom_unit_amount"]["enabled"] == "true"


def test_a_detached_payment_method_is_not_updated() -> None:
    current = {"id": "pm_1", "customer": "cus_1", "metadata": {}}
    record = {"customer": None, "metadata": {"a": "1"}}
    allow = ["payment_methods.detach"]
    kinds = [r.kind for r in decide("payment_methods", record, current, allow=allow).requests]
    assert kinds != ["detach", "update"]


def test_a_hash_is_not_nothing() -> None:
    assert not record_matches_object({"type": "x"}, None)


def test_a_key_that_left_an_items_metadata_is_cleared() -> None:
    current = {**SUBSCRIPTION, "items": {"data": [{**ITEMS[0], "metadata": {"k": "v"}}]}}
    base = base_of("subscriptions", {"items": [{**ITEMS[0], "metadata": {"k": "v"}}]}, current)
    record = {"items": [{**ITEMS[0], "metadata": {}}]}
    assert decide("subscriptions", record, current, base).outcome == Outcome.UPDATED


def test_a_named_item_is_not_taken_by_its_price() -> None:
    items = [{"price": "price_1", "quantity": 5}, {"id": "si_1", "price": "price_1", "quantity": 3}]
    allow = ["subscriptions.items"]
    decision = decide("subscriptions", {"items": items}, SUBSCRIPTION, allow=allow)
    assert len(sent_by(decision)["items"]) == 1


@pytest.mark.parametrize(
    ("stream", "fields"),
    [
        ("prices", {"tiers": ["abc"]}),
        ("prices", {"tiers": [5]}),
        ("invoice_line_items", {"pricing": {"price_details": "p"}}),
    ],
)
def test_a_malformed_record_is_unwritable(stream: str, fields: Any) -> None:
    with pytest.raises(InvalidRecord):
        tree(stream, **fields)


def test_what_ended_does_not_end_again() -> None:
    current = {**SUBSCRIPTION, "status": "canceled"}
    allow = ["subscriptions.cancel"]
    decision = decide(
        "subscriptions", {}, current, wanted=GONE, delete_policy="delete", allow=allow
    )
    assert decision.outcome == Outcome.UNCHANGED


def test_digits_of_other_scripts_are_no_numbers() -> None:
    decision = decide("customers", {"balance": "\u0665"}, CUSTOMER, allow=["customers.balance"])
    assert decision.outcome == Outcome.REJECTED


def test_a_parameter_that_is_not_read_has_its_type_too() -> None:
    record = {"submit": "no", "evidence": {"customer_name": "B"}}
    assert (
        decide("disputes", record, DISPUTE, allow=["disputes.submit"]).outcome == Outcome.REJECTED
    )
