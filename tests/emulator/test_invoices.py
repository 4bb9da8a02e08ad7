"""Writing invoices, lines and invoice items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.api.timestamps import DAY
from tests.emulator.helpers import NOW, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator
    from tests.emulator.helpers import Events


@pytest.fixture
def customer(api: stripe.StripeClient) -> str:
    made = api.v1.customers.create({"name": "Ada"}).id
    method = api.v1.payment_methods.attach("pm_card_visa", {"customer": made})
    settings: Any = {"default_payment_method": method.id}
    api.v1.customers.update(made, {"invoice_settings": settings})
    return made


@pytest.fixture
def draft(api: stripe.StripeClient, customer: str) -> stripe.Invoice:
    made = api.v1.invoices.create({"customer": customer})
    lines: Any = [{"amount": 300, "description": "one"}, {"amount": 700, "description": "two"}]
    return api.v1.invoices.add_lines(made.id, {"lines": lines})


def amounts(invoice: stripe.Invoice) -> list[int]:
    return [line.amount for line in invoice.lines.data]


def test_a_new_invoice_is_an_empty_draft(api: stripe.StripeClient, customer: str) -> None:
    made = api.v1.invoices.create({"customer": customer})
    assert (made.status, made.total, made.lines.data) == ("draft", 0, [])


def test_a_new_invoice_knows_its_customer(api: stripe.StripeClient, customer: str) -> None:
    assert api.v1.invoices.create({"customer": customer}).customer_name == "Ada"


def test_an_invoice_needs_a_customer(api: stripe.StripeClient) -> None:
    with refused(400, "parameter_missing", "customer"):
        api.v1.invoices.create({})


def test_added_lines_add_up(draft: stripe.Invoice) -> None:
    assert (amounts(draft), draft.total, draft.amount_due) == ([300, 700], 1000, 1000)


def test_added_lines_are_backed_by_items(draft: stripe.Invoice, emu: Emulator) -> None:
    items = [row for row in emu.objects("invoiceitem") if row["invoice"] == draft.id]
    assert sorted(row["amount"] for row in items) == [300, 700]


def test_added_lines_tell_the_whole_old_list(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    lines: Any = [{"amount": 5}]
    api.v1.invoices.add_lines(draft.id, {"lines": lines})
    old = events.previous("invoice.updated")
    assert [line["amount"] for line in old["lines"]["data"]] == [300, 700]
    assert old["total"] == 1000


def test_lines_can_be_updated_together(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    lines: Any = [{"id": line.id, "amount": 1} for line in draft.lines.data]
    assert api.v1.invoices.update_lines(draft.id, {"lines": lines}).total == 2


def test_a_line_can_be_updated(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    line = draft.lines.data[0]
    api.v1.invoices.line_items.update(draft.id, line.id, {"description": "eins"})
    assert events.types() == ["invoice.updated"]
    assert api.v1.invoices.retrieve(draft.id).lines.data[0].description == "eins"


def test_lines_can_be_removed(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    lines: Any = [{"id": draft.lines.data[0].id, "behavior": "delete"}]
    assert amounts(api.v1.invoices.remove_lines(draft.id, {"lines": lines})) == [700]
    assert events.types() == ["invoiceitem.deleted", "invoice.updated"]


def test_a_removed_line_may_wait_for_another_invoice(
    api: stripe.StripeClient, draft: stripe.Invoice, customer: str
) -> None:
    lines: Any = [{"id": draft.lines.data[0].id, "behavior": "unassign"}]
    api.v1.invoices.remove_lines(draft.id, {"lines": lines})
    pending = api.v1.invoice_items.list({"customer": customer, "pending": True})
    assert [row.amount for row in pending.data] == [300]


def test_a_priced_line_multiplies(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    price = api.v1.prices.create(
        {"currency": "usd", "unit_amount": 250, "product_data": {"name": "Probe"}}
    )
    lines: Any = [{"pricing": {"price": price.id}, "quantity": 3}]
    line = api.v1.invoices.add_lines(draft.id, {"lines": lines}).lines.data[2]
    assert (line.amount, line.description) == (750, "Probe")
    found = api.v1.invoices.line_items.update(draft.id, line.id, {"quantity": 4})
    assert found.amount == 1000


def test_the_eleventh_line_is_behind_the_url(
    api: stripe.StripeClient, draft: stripe.Invoice
) -> None:
    lines: Any = [{"amount": n} for n in range(1, 11)]
    found = api.v1.invoices.add_lines(draft.id, {"lines": lines})
    assert (len(found.lines.data), found.lines.has_more) == (10, True)
    assert len(api.v1.invoices.line_items.list(draft.id, {"limit": 100}).data) == 12


def test_finalize_numbers_it(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    found = api.v1.invoices.finalize_invoice(draft.id)
    assert (found.status, found.status_transitions.finalized_at) == ("open", NOW)
    assert (found.number or "").endswith("-0001")


def test_finalize_makes_an_intent(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    assert events.types() == ["payment_intent.created", "invoice.finalized", "invoice.updated"]


def test_finalize_works_once(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    with refused(400, "invoice_not_editable"):
        api.v1.invoices.finalize_invoice(draft.id)


def test_a_finalized_invoice_is_mostly_frozen(
    api: stripe.StripeClient, draft: stripe.Invoice
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    assert api.v1.invoices.update(draft.id, {"description": "d"}).description == "d"
    with refused(400, "invoice_not_editable", "collection_method"):
        api.v1.invoices.update(draft.id, {"collection_method": "send_invoice"})


def test_lines_of_a_finalized_invoice_are_frozen(
    api: stripe.StripeClient, draft: stripe.Invoice
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    lines: Any = [{"amount": 5}]
    with refused(400, "invoice_not_editable"):
        api.v1.invoices.add_lines(draft.id, {"lines": lines})


def test_pay_charges_the_default_method(
    api: stripe.StripeClient, draft: stripe.Invoice, emu: Emulator
) -> None:
    found = api.v1.invoices.pay(draft.id)
    assert (found.status, found.amount_paid, found.amount_remaining) == ("paid", 1000, 0)
    assert emu.objects("charges")[0]["amount"] == 1000


def test_pay_tells_all_about_it(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    api.v1.invoices.pay(draft.id)
    assert events.types()[3:] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


def test_a_declined_payment_leaves_it_open(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    with refused(402, "card_declined"):
        api.v1.invoices.pay(draft.id, {"payment_method": "pm_card_chargeDeclined"})
    found = api.v1.invoices.retrieve(draft.id)
    assert (found.status, found.attempt_count) == ("open", 1)
    assert "invoice.payment_failed" in events.types()


def test_a_declined_payment_can_be_tried_again(
    api: stripe.StripeClient, draft: stripe.Invoice
) -> None:
    with pytest.raises(stripe.CardError):
        api.v1.invoices.pay(draft.id, {"payment_method": "pm_card_chargeDeclined"})
    assert api.v1.invoices.pay(draft.id).status == "paid"


def test_pay_works_once(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    api.v1.invoices.pay(draft.id)
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        api.v1.invoices.pay(draft.id)


def test_it_may_be_paid_out_of_band(
    api: stripe.StripeClient, draft: stripe.Invoice, emu: Emulator
) -> None:
    before = emu.count("charges")
    found = api.v1.invoices.pay(draft.id, {"paid_out_of_band": True})
    assert (found.status, found.amount_paid_off_stripe) == ("paid", 1000)
    assert emu.count("charges") == before


def test_out_of_band_its_payment_and_intent_are_canceled(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    api.v1.invoices.pay(draft.id, {"paid_out_of_band": True})
    [payment] = api.v1.invoice_payments.list({"invoice": draft.id}).data
    assert (payment.status, payment.amount_paid) == ("canceled", None)
    assert payment.status_transitions.canceled_at == NOW
    intent = api.v1.payment_intents.retrieve(str(payment.payment.payment_intent))
    assert (intent.status, intent.cancellation_reason) == ("canceled", "automatic")
    assert events.types()[3:] == [
        "payment_intent.canceled",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


@pytest.mark.parametrize("action", ["pay", "void"])
def test_what_is_paid_or_void_is_not_paid_out_of_band(
    api: stripe.StripeClient, draft: stripe.Invoice, action: str
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    api.raw_request("post", f"/v1/invoices/{draft.id}/{action}")
    with refused(400, "invoice_not_editable"):
        api.v1.invoices.pay(draft.id, {"paid_out_of_band": True})


def test_failed_attempts_leave_one_open_payment(
    api: stripe.StripeClient, draft: stripe.Invoice, emu: Emulator
) -> None:
    for method in ("pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"):
        with pytest.raises(stripe.CardError):
            api.v1.invoices.pay(draft.id, {"payment_method": method})
    [payment] = api.v1.invoice_payments.list({"invoice": draft.id}).data
    assert payment.status == "open"
    intents = [charge["payment_intent"] for charge in emu.objects("charges")]
    assert intents.count(payment.payment.payment_intent) == 2


@pytest.mark.parametrize(
    ("action", "status", "event"),
    [
        ("void", "void", "invoice.voided"),
        ("mark_uncollectible", "uncollectible", "invoice.marked_uncollectible"),
    ],
)
def test_an_open_invoice_can_be_given_up(
    api: stripe.StripeClient,
    draft: stripe.Invoice,
    events: Events,
    action: str,
    status: str,
    event: str,
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    assert api.raw_request("post", f"/v1/invoices/{draft.id}/{action}").data["status"] == status
    assert event in events.types()


def test_a_void_invoice_cancels_its_intent(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    api.v1.invoices.void_invoice(draft.id)
    assert "payment_intent.canceled" in events.types()


def test_a_draft_cannot_be_voided(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    with refused(400, "invoice_not_editable"):
        api.v1.invoices.void_invoice(draft.id)


def test_a_draft_can_be_deleted(
    api: stripe.StripeClient, draft: stripe.Invoice, events: Events
) -> None:
    api.v1.invoices.delete(draft.id)
    assert events.types()[-1] == "invoice.deleted"
    with refused(404, "resource_missing", "id"):
        api.v1.invoices.retrieve(draft.id)


def test_a_deleted_draft_takes_its_lines_along(
    api: stripe.StripeClient, draft: stripe.Invoice, emu: Emulator
) -> None:
    api.v1.invoices.delete(draft.id)
    assert draft.id not in {row["invoice"] for row in emu.objects("line_item", everything=True)}


def test_an_open_invoice_cannot_be_deleted(api: stripe.StripeClient, draft: stripe.Invoice) -> None:
    api.v1.invoices.finalize_invoice(draft.id)
    with refused(400, "invoice_not_editable"):
        api.v1.invoices.delete(draft.id)


def test_an_invoice_can_be_sent(api: stripe.StripeClient, customer: str, events: Events) -> None:
    made = api.v1.invoices.create(
        {"customer": customer, "collection_method": "send_invoice", "days_until_due": 7}
    )
    found = api.v1.invoices.send_invoice(made.id)
    assert found.due_date == NOW + 7 * DAY
    assert events.types()[-1] == "invoice.sent"


def test_an_item_without_invoice_lands_on_the_next_one(
    api: stripe.StripeClient, customer: str
) -> None:
    api.v1.invoice_items.create({"customer": customer, "amount": 400, "currency": "usd"})
    made = api.v1.invoices.create(
        {"customer": customer, "pending_invoice_items_behavior": "include"}
    )
    assert amounts(made) == [400]


def test_an_item_may_wait(api: stripe.StripeClient, customer: str) -> None:
    api.v1.invoice_items.create({"customer": customer, "amount": 400, "currency": "usd"})
    assert amounts(api.v1.invoices.create({"customer": customer})) == []


def test_a_changed_item_changes_its_invoice(
    api: stripe.StripeClient, draft: stripe.Invoice, customer: str, events: Events
) -> None:
    item = api.v1.invoice_items.create({"customer": customer, "invoice": draft.id, "amount": 1})
    api.v1.invoice_items.update(item.id, {"amount": 2})
    assert api.v1.invoices.retrieve(draft.id).total == 1002
    assert events.types() == ["invoiceitem.created", "invoice.updated", "invoice.updated"]


def test_a_deleted_item_leaves_its_invoice(
    api: stripe.StripeClient, draft: stripe.Invoice, customer: str
) -> None:
    item = api.v1.invoice_items.create({"customer": customer, "invoice": draft.id, "amount": 1})
    api.v1.invoice_items.delete(item.id)
    assert api.v1.invoices.retrieve(draft.id).total == 1000


def test_an_item_needs_an_amount(api: stripe.StripeClient, customer: str) -> None:
    with refused(400, "parameter_missing", "amount"):
        api.v1.invoice_items.create({"customer": customer})


def test_the_first_invoice_settles_the_currency(
    api: stripe.StripeClient, customer: str, events: Events
) -> None:
    api.v1.invoices.create({"customer": customer, "currency": "eur"})
    assert events.previous("customer.updated") == {"currency": None}
