"""Stripe's test cards: declines, authentication and disputes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.emulator.effects.cards import BY_NAME, CARDS, is_number
from tests.emulator.helpers import error_of, refused
from tests.emulator.test_payments import pay
from tests.emulator.test_subscriptions import Shelf

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator
    from tests.emulator.helpers import Events

CODES = {
    "visa_chargeDeclined": ("card_declined", "generic_decline"),
    "chargeDeclined": ("card_declined", "generic_decline"),
    "visa_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "visa_chargeDeclinedLostCard": ("card_declined", "lost_card"),
    "visa_chargeDeclinedStolenCard": ("card_declined", "stolen_card"),
    "chargeDeclinedExpiredCard": ("expired_card", "expired_card"),
    "chargeDeclinedIncorrectCvc": ("incorrect_cvc", "incorrect_cvc"),
    "chargeDeclinedProcessingError": ("processing_error", "processing_error"),
    "visa_chargeDeclinedVelocityLimitExceeded": ("card_declined", "card_velocity_exceeded"),
    "radarBlock": ("card_declined", "fraudulent"),
    "chargeCustomerFail": ("card_declined", "generic_decline"),
}


def number_of(name: str) -> str:
    return BY_NAME[name].number


def card_of(api: stripe.StripeClient, number: str) -> str:
    card: Any = {"number": number, "exp_month": 12, "exp_year": 2030, "cvc": "123"}
    return api.v1.payment_methods.create({"type": "card", "card": card}).id


def buy(api: stripe.StripeClient, source: str, **more: Any) -> dict[str, Any]:
    params = {"amount": 2000, "currency": "usd", "source": source, **more}
    data: dict[str, Any] = api.raw_request("post", "/v1/charges", **params).data
    return data


def test_the_numbers_are_valid_and_tell_the_behavior() -> None:
    assert all(is_number(card.number) for card in CARDS)
    behaviors: dict[str, set[Any]] = {}
    for card in CARDS:
        behaviors.setdefault(card.last4, set()).add(card.behavior)
    assert {len(found) for found in behaviors.values()} == {1}
    assert len(BY_NAME) == sum(len(card.names) for card in CARDS)


@pytest.mark.parametrize("name", CODES)
def test_a_test_card_declines_by_name(api: stripe.StripeClient, emu: Emulator, name: str) -> None:
    with pytest.raises(stripe.CardError) as caught:
        pay(api, payment_method=f"pm_card_{name}")
    error = error_of(caught.value)
    assert (caught.value.http_status, error["code"], error["decline_code"]) == (402, *CODES[name])
    charge = emu.objects("charge")[0]
    assert (charge["id"], charge["status"]) == (error["charge"], "failed")
    assert (charge["failure_code"], charge["failure_message"]) == (error["code"], error["message"])


@pytest.mark.parametrize("name", CODES)
def test_a_test_card_declines_by_number(api: stripe.StripeClient, name: str) -> None:
    method = card_of(api, number_of(name))
    with refused(402, CODES[name][0]):
        pay(api, payment_method=method)


@pytest.mark.parametrize("name", CODES)
def test_a_charge_of_a_token_declines(
    api: stripe.StripeClient, emu: Emulator, events: Events, name: str
) -> None:
    with pytest.raises(stripe.CardError) as caught:
        buy(api, f"tok_{name}")
    error = error_of(caught.value)
    assert (error["code"], error["decline_code"]) == CODES[name]
    charge = emu.objects("charge")[0]
    assert (charge["id"], charge["status"], charge["paid"]) == (error["charge"], "failed", False)
    assert events.types() == ["charge.failed"]


def test_a_charge_of_a_token_is_paid(api: stripe.StripeClient, events: Events) -> None:
    made = buy(api, "tok_visa", expand=["balance_transaction"], description="Tea")
    assert (made["status"], made["paid"], made["captured"]) == ("succeeded", True, True)
    assert (made["balance_transaction"]["net"], made["description"]) == (1912, "Tea")
    assert (made["payment_intent"], made["source"]["last4"]) == (None, "4242")
    assert made["payment_method_details"]["card"]["brand"] == "visa"
    assert events.types() == ["charge.succeeded"]
    assert api.v1.refunds.create({"charge": made["id"]}).amount == 2000


def test_a_charge_of_a_token_can_be_captured_later(api: stripe.StripeClient) -> None:
    made = buy(api, "tok_visa", capture=False)
    assert (made["captured"], made["balance_transaction"]) == (False, None)
    assert api.v1.charges.capture(made["id"]).captured


def test_a_charge_needs_a_source(api: stripe.StripeClient) -> None:
    with refused(400, "resource_missing", "source"):
        buy(api, "tok_nosuch")
    with refused(400, "resource_missing", "source"):
        buy(api, "pm_1")
    with refused(400):
        api.v1.charges.create({"amount": 2000, "currency": "usd"})
    customer = api.v1.customers.create({}).id
    with refused(402, "missing", "card"):
        api.v1.charges.create({"amount": 2000, "currency": "usd", "customer": customer})


def test_a_declining_card_cannot_be_attached(api: stripe.StripeClient, events: Events) -> None:
    customer = api.v1.customers.create({}).id
    with refused(402, "card_declined"):
        api.v1.payment_methods.attach("pm_card_visa_chargeDeclined", {"customer": customer})
    with refused(402, "expired_card"):
        api.v1.customers.create({"payment_method": "pm_card_chargeDeclinedExpiredCard"})
    assert events.types() == ["customer.created"]


def test_a_card_may_decline_after_it_is_attached(api: stripe.StripeClient) -> None:
    customer = api.v1.customers.create({}).id
    method = api.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer})
    with refused(402, "card_declined"):
        pay(api, customer=customer, payment_method=method.id)


@pytest.mark.parametrize("number", ["4242424242424241", "42", "4242x24242424242", ""])
def test_a_wrong_number_is_refused(api: stripe.StripeClient, number: str) -> None:
    with refused(402, "incorrect_number", "number"):
        card_of(api, number)


@pytest.mark.parametrize("name", ["pm_card_nosuch", "tok_visa", "pm_card_tok_visa"])
def test_unknown_names_are_missing(api: stripe.StripeClient, name: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=f"No such PaymentMethod: '{name}'"):
        pay(api, payment_method=name)


ASKING = [card.names[0] for card in CARDS if card.behavior.authenticates]


@pytest.mark.parametrize("name", ASKING)
def test_a_card_asks_for_authentication(
    api: stripe.StripeClient, emu: Emulator, events: Events, name: str
) -> None:
    charges = emu.count("charge")
    made = pay(api, payment_method=card_of(api, number_of(name)))
    assert (made["status"], made["next_action"]["type"]) == ("requires_action", "use_stripe_sdk")
    assert made["payment_method"]
    assert events.types() == ["payment_intent.created", "payment_intent.requires_action"]
    assert emu.count("charge") == charges
    canceled = api.v1.payment_intents.cancel(made["id"])
    assert (canceled.status, canceled.next_action) == ("canceled", None)


def test_authentication_may_redirect(api: stripe.StripeClient) -> None:
    made = pay(
        api,
        payment_method="pm_card_authenticationRequired",
        return_url="https://example.com/back",
    )
    action = made["next_action"]
    assert action["redirect_to_url"]["return_url"] == "https://example.com/back"
    paid = api.v1.payment_intents.confirm(made["id"], {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.next_action) == ("succeeded", None)


@pytest.mark.parametrize("how", ["off_session", "error_on_requires_action"])
def test_without_the_cardholder_authentication_fails(api: stripe.StripeClient, how: str) -> None:
    with refused(402, "authentication_required"):
        pay(api, payment_method="pm_card_authenticationRequired", **{how: True})
    with refused(402, "authentication_required"):
        buy(api, "tok_authenticationRequired")


def test_a_card_may_be_authenticated_already(api: stripe.StripeClient) -> None:
    name = "pm_card_authenticationRequiredSetupForOffSession"
    assert pay(api, payment_method=name, off_session=True)["status"] == "succeeded"


def test_a_subscription_waits_for_authentication(api: stripe.StripeClient, events: Events) -> None:
    shelf = Shelf(api)
    name = "pm_card_authenticationRequired"
    method = api.v1.payment_methods.attach(name, {"customer": shelf.customer}).id
    with refused(402, "subscription_payment_intent_requires_action"):
        shelf.subscribe(default_payment_method=method, payment_behavior="error_if_incomplete")
    assert "customer.subscription.created" not in events.types()
    made = shelf.subscribe(default_payment_method=method)
    assert api.v1.subscriptions.retrieve(made["id"]).status == "incomplete"
    assert "invoice.payment_action_required" in events.types()
    with refused(402, "invoice_payment_intent_requires_action"):
        api.v1.invoices.pay(made["latest_invoice"])
    api.v1.invoices.pay(made["latest_invoice"], {"payment_method": "pm_card_visa"})
    assert api.v1.subscriptions.retrieve(made["id"]).status == "active"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("createDispute", "fraudulent"), ("createDisputeProductNotReceived", "product_not_received")],
)
def test_a_payment_is_disputed(
    api: stripe.StripeClient, events: Events, name: str, reason: str
) -> None:
    made = pay(api, payment_method=f"pm_card_{name}")
    [dispute] = api.v1.disputes.list({"payment_intent": made["id"]}).data
    assert (dispute.reason, dispute.status, dispute.amount) == (reason, "needs_response", 2000)
    assert len(dispute.balance_transactions) == 1
    assert api.v1.charges.retrieve(made["latest_charge"]).disputed
    assert events.types()[-3:] == [
        "payment_intent.succeeded",
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
    ]


def test_an_inquiry_moves_no_money(api: stripe.StripeClient, events: Events) -> None:
    made = buy(api, "tok_createDisputeInquiry")
    [dispute] = api.v1.disputes.list({"charge": made["id"]}).data
    assert (dispute.status, dispute.balance_transactions) == ("warning_needs_response", [])
    details: Any = dispute.payment_method_details
    assert (dispute.is_charge_refundable, details.card.case_type) == (True, "inquiry")
    assert events.types() == ["charge.succeeded", "charge.dispute.created"]
    evidence: Any = {"uncategorized_text": "Sent"}
    sent = api.v1.disputes.update(dispute.id, {"evidence": evidence})
    assert sent.status == "warning_under_review"
    assert api.v1.disputes.close(dispute.id).status == "warning_closed"


def test_a_disputed_card_is_disputed_once_captured(api: stripe.StripeClient) -> None:
    made = pay(api, payment_method="pm_card_createDispute", capture_method="manual")
    assert not api.v1.disputes.list({"payment_intent": made["id"]}).data
    api.v1.payment_intents.capture(made["id"])
    assert len(api.v1.disputes.list({"payment_intent": made["id"]}).data) == 1
