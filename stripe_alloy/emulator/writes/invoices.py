"""Invoices: status changes, and which fields can be edited when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects import invoices, methods, subscriptions
from stripe_alloy.emulator.effects.payments import card_error
from stripe_alloy.emulator.errors import ApiError, invalid, required
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.writes.discounts import discounted
from stripe_alloy.emulator.writes.fields import given
from stripe_alloy.emulator.writes.lines import take_pending

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


# docs.stripe.com/api/invoices/update: what stays editable once an invoice is finalized
_AFTER_DRAFT = frozenset(
    {
        "account_tax_ids",
        "auto_advance",
        "custom_fields",
        "days_until_due",
        "default_payment_method",
        "default_source",
        "description",
        "due_date",
        "footer",
        "metadata",
        "payment_settings",
        "statement_descriptor",
    }
)
_SKIP = ("customer", "currency", "discounts", "from_invoice", "shipping_cost", "default_tax_rates")


def _create(session: Session, _: Ids, params: JSON) -> JSON:
    subscription = None
    if params.get("subscription"):
        subscription = session.get("subscription", params["subscription"], "subscription")
    owner = params.get("customer") or (subscription and subscription["customer"])
    if not owner:
        raise required("customer")
    customer = session.get("customer", owner, "customer")
    currency = params.get("currency") or customer["currency"] or "usd"
    fields = given("invoice", params, skip=_SKIP)
    if subscription is not None:
        fields["parent"] = invoices.of_subscription(subscription)
    invoice = invoices.draft(session, customer, currency, **fields)
    _common(session, invoice, params)
    if params.get("pending_invoice_items_behavior") == "include" or subscription:
        take_pending(session, invoice, subscription["id"] if subscription else None)
    invoices.announce(session, invoice)
    return invoice


def _common(session: Session, invoice: JSON, params: JSON) -> None:
    if "days_until_due" in params:
        session.change(invoice, due_date=invoice["created"] + params["days_until_due"] * DAY)
    if "discounts" in params:
        session.change(invoice, discounts=discounted(session, invoice, params["discounts"]))
    due = invoice["collection_method"] == "send_invoice" and not invoice["due_date"]
    if due:
        session.change(invoice, due_date=invoice["created"] + 30 * DAY)


def _update(session: Session, invoice: JSON, params: JSON) -> JSON:
    frozen = sorted(params.keys() - _AFTER_DRAFT)
    if invoice["status"] != "draft" and frozen:
        raise ApiError(
            400,
            f"Finalized invoices can't be updated in this way: {', '.join(frozen)}",
            code="invoice_not_editable",
            param=frozen[0],
        )
    session.change(invoice, **given("invoice", params, invoice, _SKIP))
    _common(session, invoice, params)
    if session.is_changed(invoice):
        session.emit("invoice.updated", invoice)
    return invoice


def _delete(session: Session, invoice: JSON, _: JSON) -> JSON:
    for item in session.children("invoiceitem", "invoice", invoice["id"]):
        session.emit("invoiceitem.deleted", item)
        session.remove(item)
    return invoices.delete(session, invoice)


def _finalize(session: Session, invoice: JSON, params: JSON) -> JSON:
    if "auto_advance" in params:
        session.change(invoice, auto_advance=params["auto_advance"])
    return invoices.finalize(session, invoice)


def _pay(session: Session, invoice: JSON, params: JSON) -> JSON:
    if invoice["status"] == "draft":
        invoices.finalize(session, invoice)
        if invoice["status"] == "paid":
            return invoice
    if params.get("paid_out_of_band"):
        invoices.settle_off_stripe(session, invoice)
    else:
        collect(session, invoice, params.get("payment_method"))
    revive(session, invoice)
    return invoice


def collect(session: Session, invoice: JSON, method_id: str | None = None) -> None:
    """Pay the invoice; raises the error of a declined card."""
    method = methods.resolve(session, method_id, "payment_method") if method_id else None
    if invoices.pay(session, invoice, method):
        return
    payment = invoices.payment_of(session, invoice)
    intent = payment and session.get("payment_intent", payment["payment"]["payment_intent"])
    if intent and intent["status"] == "requires_action":
        raise ApiError(
            402,
            "This payment requires additional user action before it can be completed "
            "successfully. Payment can be completed using the PaymentIntent associated with the "
            "invoice.",
            kind="card_error",
            code="invoice_payment_intent_requires_action",
        )
    if not intent or not intent["last_payment_error"]:
        raise invalid(
            "There is no `default_payment_method` set on this Customer or Invoice. Please set one.",
            code="invoice_payment_intent_requires_action",
        )
    raise card_error(intent)


def revive(session: Session, invoice: JSON) -> None:
    """Reactivate a subscription after its payment."""
    details = (invoice["parent"] or {}).get("subscription_details")
    subscription = details and session.find("subscription", details["subscription"])
    if subscription and subscription["status"] in ("incomplete", "past_due", "unpaid"):
        subscriptions.set_status(session, subscription, "active")


def _void(session: Session, invoice: JSON, _: JSON) -> JSON:
    return invoices.close(session, invoice, "void")


def _give_up(session: Session, invoice: JSON, _: JSON) -> JSON:
    invoices.require(invoice, "open", message="Only open invoices can become uncollectible.")
    return invoices.close(session, invoice, "uncollectible")


def _send(session: Session, invoice: JSON, _: JSON) -> JSON:
    if invoice["collection_method"] != "send_invoice":
        raise invalid("You can only manually send an invoice if its collection method is "
                      "'send_invoice'.")  # fmt: skip
    if invoice["status"] == "draft":
        invoices.finalize(session, invoice)
    session.emit("invoice.sent", invoice)
    return invoice


_ONE = "/v1/invoices/{id}"
ROUTES = (
    Route("POST", "/v1/invoices", "invoice", "InvoiceCreateParams", write=_create),
    Route("POST", _ONE, "invoice", "InvoiceUpdateParams", change=_update),
    Route("DELETE", _ONE, "invoice", change=_delete),
    Route("POST", _ONE + "/finalize", "invoice", "InvoiceFinalizeInvoiceParams", change=_finalize),
    Route("POST", _ONE + "/pay", "invoice", "InvoicePayParams", change=_pay),
    Route("POST", _ONE + "/void", "invoice", change=_void),
    Route("POST", _ONE + "/mark_uncollectible", "invoice", change=_give_up),
    Route("POST", _ONE + "/send", "invoice", change=_send),
)
