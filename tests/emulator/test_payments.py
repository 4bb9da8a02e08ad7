"""Writing payment intents, charges, refunds, disputes and payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.emulator.effects.payouts import pay_out
from tests.emulator.helpers import refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator
    from tests.emulator.helpers import Events


def pay(api: stripe.StripeClient, **more: Any) -> dict[str, Any]:
    params = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    data: dict[str, Any] = api.raw_request("post", "/v1/payment_intents", **{**params, **more}).data
    return data


def test_an_intent_waits_for_a_payment_method(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.payment_intents.create({"amount": 2000, "currency": "usd"})
    assert made.status == "requires_payment_method"
    assert events.types() == ["payment_intent.created"]


def test_a_confirmed_intent_makes_a_charge(api: stripe.StripeClient, events: Events) -> None:
    made = pay(api)
    charge = api.v1.charges.retrieve(made["latest_charge"])
    assert (made["status"], charge.amount, charge.paid) == ("succeeded", 2000, True)
    assert events.types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


def test_a_charge_has_its_balance_transaction(api: stripe.StripeClient) -> None:
    made = pay(api, expand=["latest_charge.balance_transaction"])
    moved = made["latest_charge"]["balance_transaction"]
    assert (moved["amount"], moved["fee"], moved["net"]) == (2000, 88, 1912)


def test_a_declined_card_is_an_error_that_stays(
    api: stripe.StripeClient, emu: Emulator, events: Events
) -> None:
    with refused(402, "card_declined"):
        pay(api, payment_method="pm_card_chargeDeclined")
    assert emu.objects("charges")[0]["status"] == "failed"
    assert events.types()[1:] == ["charge.failed", "payment_intent.payment_failed"]


def test_a_declined_intent_can_be_confirmed_again(api: stripe.StripeClient, emu: Emulator) -> None:
    with pytest.raises(stripe.CardError):
        pay(api, payment_method="pm_card_chargeDeclined")
    intent = emu.ids("payment_intents")[0]
    found = api.v1.payment_intents.confirm(intent, {"payment_method": "pm_card_visa"})
    assert found.status == "succeeded"


def test_metadata_of_an_intent_has_no_event(api: stripe.StripeClient, events: Events) -> None:
    made = pay(api)
    before = events.types()
    api.v1.payment_intents.update(made["id"], {"metadata": {"a": "b"}})
    assert events.types() == before
    assert api.v1.payment_intents.retrieve(made["id"]).metadata.to_dict() == {"a": "b"}


def test_the_amount_of_an_intent_has_no_event(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.payment_intents.create({"amount": 2000, "currency": "usd"})
    assert api.v1.payment_intents.update(made.id, {"amount": 2500}).amount == 2500
    assert events.types() == ["payment_intent.created"]


def test_the_amount_of_a_paid_intent_is_frozen(api: stripe.StripeClient) -> None:
    with refused(400, "payment_intent_unexpected_state"):
        api.v1.payment_intents.update(pay(api)["id"], {"amount": 2500})


def test_an_intent_can_be_canceled(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.payment_intents.create({"amount": 2000, "currency": "usd"})
    found = api.v1.payment_intents.cancel(made.id, {"cancellation_reason": "duplicate"})
    assert (found.status, found.cancellation_reason) == ("canceled", "duplicate")
    assert events.types()[-1] == "payment_intent.canceled"


def test_a_paid_intent_cannot_be_canceled(api: stripe.StripeClient) -> None:
    with refused(400, "payment_intent_unexpected_state"):
        api.v1.payment_intents.cancel(pay(api)["id"])


def test_a_part_may_be_captured_later(api: stripe.StripeClient) -> None:
    made = pay(api, capture_method="manual")
    assert made["status"] == "requires_capture"
    api.v1.payment_intents.capture(made["id"], {"amount_to_capture": 1500})
    charge = api.v1.charges.retrieve(made["latest_charge"])
    assert (charge.amount_captured, charge.amount_refunded) == (1500, 500)


def test_a_charge_can_be_captured(api: stripe.StripeClient, events: Events) -> None:
    made = pay(api, capture_method="manual")
    assert api.v1.charges.capture(made["latest_charge"]).captured
    assert events.types()[-2:] == ["charge.captured", "payment_intent.succeeded"]


def test_a_changed_charge_tells(api: stripe.StripeClient, events: Events) -> None:
    charge = pay(api)["latest_charge"]
    api.v1.charges.update(charge, {"description": "x", "metadata": {"a": "b"}})
    expected = {"description": None, "metadata": {"a": None}}
    assert events.previous("charge.updated") == expected


def test_the_customer_of_a_charge_is_set_once(api: stripe.StripeClient, emu: Emulator) -> None:
    one, other, *_ = emu.ids("customers")
    charge = pay(api)["latest_charge"]
    assert api.v1.charges.update(charge, {"customer": one}).customer == one
    with refused(400, None, "customer"):
        api.v1.charges.update(charge, {"customer": other})


def test_the_amount_of_a_charge_is_frozen(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_unknown", "amount"):
        api.raw_request("post", f"/v1/charges/{pay(api)['latest_charge']}", amount=1)


# ---------------------------------------------------------------------- refunds


def test_a_refund_changes_its_charge(api: stripe.StripeClient) -> None:
    charge = pay(api)["latest_charge"]
    api.v1.refunds.create({"charge": charge, "amount": 500})
    found = api.v1.charges.retrieve(charge)
    assert (found.amount_refunded, found.refunded) == (500, False)


def test_a_refund_gives_all_that_is_left(api: stripe.StripeClient) -> None:
    intent = pay(api)
    api.v1.refunds.create({"payment_intent": intent["id"], "amount": 500})
    assert api.v1.refunds.create({"payment_intent": intent["id"]}).amount == 1500
    assert api.v1.charges.retrieve(intent["latest_charge"]).refunded


def test_a_refund_moves_money_back(api: stripe.StripeClient) -> None:
    made = api.v1.refunds.create(
        {"charge": pay(api)["latest_charge"], "amount": 500, "expand": ["balance_transaction"]}
    )
    moved = made.balance_transaction
    assert isinstance(moved, stripe.BalanceTransaction)
    assert (moved.amount, moved.fee, moved.source) == (-500, 0, made.id)


def test_a_refund_tells_twice(api: stripe.StripeClient, events: Events) -> None:
    api.v1.refunds.create({"charge": pay(api)["latest_charge"], "amount": 500})
    assert events.types()[-2:] == ["refund.created", "charge.refunded"]
    assert events.previous("charge.refunded") == {"amount_refunded": 0}


def test_a_changed_refund_tells_twice(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.refunds.create({"charge": pay(api)["latest_charge"]})
    api.v1.refunds.update(made.id, {"metadata": {"a": "b"}})
    assert events.types()[-2:] == ["refund.updated", "charge.refund.updated"]
    assert events.one("charge.refund.updated")["data"]["object"]["object"] == "refund"


def test_more_than_is_left_cannot_be_refunded(api: stripe.StripeClient) -> None:
    with refused(400, None, "amount"):
        api.v1.refunds.create({"charge": pay(api)["latest_charge"], "amount": 2001})


def test_a_charge_is_refunded_once(api: stripe.StripeClient) -> None:
    charge = pay(api)["latest_charge"]
    api.v1.refunds.create({"charge": charge})
    with refused(400, "charge_already_refunded"):
        api.v1.refunds.create({"charge": charge})


def test_a_pending_refund_can_be_canceled(
    api: stripe.StripeClient, emu: Emulator, events: Events
) -> None:
    pending = next(r for r in emu.objects("refunds") if r["status"] == "pending")
    assert api.v1.refunds.cancel(pending["id"]).status == "canceled"
    assert api.v1.charges.retrieve(pending["charge"]).amount_refunded == 0
    assert "refund.updated" in events.types()


def test_a_refund_that_went_through_cannot_be_canceled(api: stripe.StripeClient) -> None:
    made = api.v1.refunds.create({"charge": pay(api)["latest_charge"]})
    with refused(400):
        api.v1.refunds.cancel(made.id)


# ---------------------------------------------------------------------- disputes


@pytest.fixture
def dispute(emu: Emulator) -> dict[str, Any]:
    return next(d for d in emu.objects("disputes") if d["status"] == "needs_response")


def test_a_dispute_took_the_money_and_a_fee(dispute: dict[str, Any]) -> None:
    (moved,) = dispute["balance_transactions"]
    assert (moved["amount"], moved["fee"]) == (-dispute["amount"], 1500)


def test_evidence_can_be_staged(
    api: stripe.StripeClient, dispute: dict[str, Any], events: Events
) -> None:
    found = api.v1.disputes.update(
        dispute["id"], {"evidence": {"uncategorized_text": "It was delivered"}, "submit": False}
    )
    assert (found.status, found.evidence_details.has_evidence) == ("needs_response", True)
    assert events.previous("charge.dispute.updated") == {
        "evidence": {"uncategorized_text": None},
        "evidence_details": {"has_evidence": False},
    }


def test_evidence_is_submitted_by_default(
    api: stripe.StripeClient, dispute: dict[str, Any]
) -> None:
    found = api.v1.disputes.update(dispute["id"], {"metadata": {"a": "b"}})
    assert (found.status, found.evidence_details.submission_count) == ("under_review", 1)


def test_a_closed_dispute_is_lost(
    api: stripe.StripeClient, dispute: dict[str, Any], events: Events
) -> None:
    assert api.v1.disputes.close(dispute["id"]).status == "lost"
    assert events.types() == ["charge.dispute.updated", "charge.dispute.closed"]


# ---------------------------------------------------------------------- payouts


def test_a_payout_moves_its_amount(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.payouts.create(
        {"amount": 700, "currency": "usd", "expand": ["balance_transaction"]}
    )
    assert isinstance(made.balance_transaction, stripe.BalanceTransaction)
    assert (made.status, made.balance_transaction.amount) == ("pending", -700)
    assert events.types() == ["payout.created"]


def test_a_changed_payout_tells(api: stripe.StripeClient, emu: Emulator, events: Events) -> None:
    api.v1.payouts.update(emu.ids("payouts")[0], {"metadata": {"a": "b"}})
    assert events.previous("payout.updated") == {"metadata": {"a": None}}


def test_only_metadata_of_a_payout_changes(api: stripe.StripeClient, emu: Emulator) -> None:
    with refused(400, "parameter_unknown", "amount"):
        api.raw_request("post", f"/v1/payouts/{emu.ids('payouts')[0]}", amount=1)


def test_a_pending_payout_can_be_canceled(api: stripe.StripeClient, events: Events) -> None:
    made = api.v1.payouts.create({"amount": 700, "currency": "usd"})
    assert api.v1.payouts.cancel(made.id).status == "canceled"
    assert events.types()[1:] == ["payout.canceled", "payout.updated"]


def test_a_paid_payout_cannot_be_canceled(api: stripe.StripeClient, emu: Emulator) -> None:
    paid = next(p for p in emu.objects("payouts") if p["status"] == "paid")
    with refused(400, "payout_not_cancelable"):
        api.v1.payouts.cancel(paid["id"])


def test_a_paid_payout_can_be_reversed(api: stripe.StripeClient, emu: Emulator) -> None:
    paid = next(p for p in emu.objects("payouts") if p["status"] == "paid")
    back = api.v1.payouts.reverse(paid["id"])
    assert (back.amount, back.original_payout) == (-paid["amount"], paid["id"])
    assert api.v1.payouts.retrieve(paid["id"]).reversed_by == back.id


def test_movements_have_no_events(emu: Emulator, events: Events) -> None:
    with emu.store.transaction():
        ledger = emu.service.session(emu.account_id)
        pay_out(ledger, 100, "usd")
        ledger.flush()
    assert events.types() == ["payout.created"]
