"""Invoices, from draft to paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects import payments
from stripe_alloy.emulator.effects.lines import total
from stripe_alloy.emulator.effects.methods import behavior_of, default_of
from stripe_alloy.emulator.errors import ApiError, invalid

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


FINALIZES_AFTER = 3600  # docs.stripe.com/billing/invoices/overview: about an hour after creation
RETRY_AFTER = 3 * DAY
_OF_CUSTOMER = ("address", "email", "name", "phone", "shipping", "tax_exempt")


def draft(session: Session, customer: JSON, currency: str, **fields: Any) -> JSON:
    """Create a draft invoice without lines."""
    known = {
        "account_country": session.country,
        "currency": currency,
        "customer": customer["id"],
        **{f"customer_{name}": customer[name] for name in _OF_CUSTOMER},
        "period_end": session.now,
        "period_start": session.now,
        "starting_balance": customer["balance"],
        "test_clock": customer["test_clock"],
    }
    invoice = session.add("invoice", **{**known, **fields})
    session.nest(invoice)
    return invoice


def of_subscription(subscription: JSON) -> JSON:
    """Return the `parent` of a subscription's invoice."""
    details = {
        "metadata": subscription["metadata"],
        "subscription": subscription["id"],
        "subscription_proration_date": None,
    }
    return {
        "quote_details": None,
        "subscription_details": details,
        "type": "subscription_details",
    }


def announce(session: Session, invoice: JSON) -> None:
    """Emit the event of a draft whose lines are complete."""
    total(session, invoice)
    use_currency(session, invoice)
    session.emit("invoice.created", invoice)


def use_currency(session: Session, invoice: JSON) -> None:
    """Set a customer's currency with the first invoice."""
    customer = session.find("customer", invoice["customer"])
    if customer is not None and customer["currency"] is None:
        session.change(customer, currency=invoice["currency"])
        session.emit("customer.updated", customer)


def touch(session: Session, invoice: JSON) -> None:
    """Recalculate a draft whose lines or fields changed."""
    total(session, invoice)
    session.emit("invoice.updated", invoice)


def finalize(session: Session, invoice: JSON) -> JSON:
    """Finalize a draft: number it, and make it payable."""
    require(
        invoice, "draft", message="This invoice is already finalized, you can't re-finalize it."
    )
    customer = session.find("customer", invoice["customer"])
    if customer is not None:  # the balance at this time
        session.change(invoice, starting_balance=customer["balance"])
    total(session, invoice)
    page = f"https://invoice.stripe.com/i/{session.account}/{invoice['id']}"
    session.change(
        invoice,
        status="open",
        number=invoice["number"] or _number(session, invoice),
        effective_at=session.now,
        ending_balance=_use_balance(session, invoice),
        hosted_invoice_url=page,
        invoice_pdf=f"{page}/pdf",
        automatically_finalizes_at=None,
        due_date=_due(session, invoice),
        status_transitions={**invoice["status_transitions"], "finalized_at": session.now},
    )
    if invoice["amount_due"] > 0:
        _intend(session, invoice)
    session.emit_all(invoice, "invoice.finalized", "invoice.updated")
    if invoice["amount_due"] == 0:
        settle(session, invoice)
    return invoice


def _use_balance(session: Session, invoice: JSON) -> int:
    """Apply the customer's balance to the invoice; return the remaining balance."""
    left: int = invoice["starting_balance"] + invoice["total"] - invoice["amount_due"]
    customer = session.find("customer", invoice["customer"])
    if customer is not None and left != customer["balance"]:
        session.change(customer, balance=left)
        session.emit("customer.updated", customer)
    return left


def _due(session: Session, invoice: JSON) -> int | None:
    due: int | None = invoice["due_date"]
    if due is None and invoice["collection_method"] == "send_invoice":
        return session.now + 30 * DAY
    return due


def _number(session: Session, invoice: JSON) -> str:
    customer = session.find("customer", invoice["customer"])
    if customer is None:
        return f"{session.dice.text(8).upper()}-0001"
    count = session.private_fields(customer).get("_invoices", 0) + 1
    session.set_private_fields(customer, _invoices=count)
    return f"{customer['invoice_prefix'] or 'INV'}-{count:04d}"


def _intend(session: Session, invoice: JSON) -> None:
    """Create the payment intent of an invoice, and the payment that links them."""
    subscribed = invoice["billing_reason"].startswith("subscription")
    text = "Subscription update" if subscribed else f"Payment for invoice {invoice['number']}"
    if invoice["billing_reason"] == "subscription_create":
        text = "Subscription creation"
    intent = payments.create_intent(
        session,
        invoice["amount_due"],
        invoice["currency"],
        customer=invoice["customer"],
        description=text,
        setup_future_usage="off_session" if subscribed else None,
    )
    secret = {"client_secret": intent["client_secret"], "type": "payment_intent"}
    session.set_private_fields(invoice, confirmation_secret=secret)  # only sent when expanded
    session.add(
        "invoice_payment",
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        payment={
            "charge": None,
            "payment_intent": intent["id"],
            "payment_record": None,
            "type": "payment_intent",
        },
    )


def payment_of(session: Session, invoice: JSON) -> JSON | None:
    """Return the open payment of an invoice."""
    waiting = session.children("invoice_payment", "parent", invoice["id"])
    return next((p for p in waiting if p["status"] == "open"), None)


def pay(
    session: Session, invoice: JSON, method: JSON | None = None, decline: str | None = None
) -> bool:
    """Try to collect; return whether it succeeded."""
    require(invoice, "open", "uncollectible", message=_unpayable(invoice))
    chosen = method or _method(session, invoice)
    payment = payment_of(session, invoice)
    if payment is None or chosen is None:
        return False
    intent = session.get("payment_intent", payment["payment"]["payment_intent"])
    asks = behavior_of(chosen).authenticates
    if asks:
        payments.challenge(session, intent, chosen)
    else:
        payments.confirm(session, intent, chosen, decline)
    session.change(invoice, attempted=True, attempt_count=invoice["attempt_count"] + 1)
    if intent["status"] != "succeeded":
        _not_collected(session, invoice, ["invoice.payment_action_required"] if asks else [])
        return False
    _bind(session, payment)
    settle(session, invoice)
    return True


def _not_collected(session: Session, invoice: JSON, events: list[str]) -> None:
    session.change(invoice, next_payment_attempt=_next_attempt(session, invoice))
    session.emit_all(invoice, *events, "invoice.payment_failed", "invoice.updated")


def _unpayable(invoice: JSON) -> str:
    if invoice["status"] == "paid":
        return "Invoice is already paid"
    return f"You can only pay an open invoice; this one is {invoice['status']}."


def _next_attempt(session: Session, invoice: JSON) -> int | None:
    automatic = invoice["collection_method"] == "charge_automatically"
    return session.now + RETRY_AFTER if automatic and invoice["attempt_count"] < 4 else None


def _method(session: Session, invoice: JSON) -> JSON | None:
    customer = session.find("customer", invoice["customer"])
    method_id = invoice["default_payment_method"]
    parent = (invoice["parent"] or {}).get("subscription_details")
    if not method_id and parent:
        subscription = session.find("subscription", parent["subscription"])
        method_id = subscription and subscription["default_payment_method"]
    return session.find("payment_method", method_id or default_of(customer))


def _bind(session: Session, payment: JSON) -> None:
    session.change(
        payment,
        amount_paid=payment["amount_requested"],
        status="paid",
        status_transitions={"canceled_at": None, "paid_at": session.now},
    )
    session.emit("invoice_payment.paid", payment)


def settle_off_stripe(session: Session, invoice: JSON) -> None:
    """Mark an invoice as paid outside of Stripe."""
    require(invoice, "open", "uncollectible", message=_unpayable(invoice))
    session.change(invoice, amount_paid_off_stripe=invoice["amount_due"])
    _drop_payment(session, invoice, "automatic")
    settle(session, invoice)


def settle(session: Session, invoice: JSON) -> None:
    """Mark an invoice as paid."""
    session.change(
        invoice,
        status="paid",
        amount_paid=invoice["amount_due"],
        amount_remaining=0,
        attempted=True,
        next_payment_attempt=None,
        status_transitions={**invoice["status_transitions"], "paid_at": session.now},
    )
    session.emit_all(invoice, "invoice.updated", "invoice.paid", "invoice.payment_succeeded")


def close(session: Session, invoice: JSON, status: str) -> JSON:
    """Void an invoice, or mark it uncollectible."""
    require(invoice, "open", "uncollectible", message=f"Only open invoices can become {status}.")
    moment = {"void": "voided_at", "uncollectible": "marked_uncollectible_at"}[status]
    session.change(
        invoice,
        status=status,
        auto_advance=False,
        next_payment_attempt=None,
        amount_remaining=0 if status == "void" else invoice["amount_remaining"],
        status_transitions={**invoice["status_transitions"], moment: session.now},
    )
    if status == "void":
        _drop_payment(session, invoice, "void_invoice")
    event = {"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}[status]
    session.emit_all(invoice, event, "invoice.updated")
    return invoice


def _drop_payment(session: Session, invoice: JSON, reason: str) -> None:
    """Cancel the open payment of an invoice, and its intent."""
    payment = payment_of(session, invoice)
    if payment is None:
        return
    dropped = {**payment["status_transitions"], "canceled_at": session.now}
    session.change(payment, status="canceled", status_transitions=dropped)
    intent = session.find("payment_intent", payment["payment"]["payment_intent"])
    if intent is not None and intent["status"] in payments.OPEN:
        payments.cancel(session, intent, reason)


def delete(session: Session, invoice: JSON) -> JSON:
    """Delete a draft that no subscription created."""
    require(invoice, "draft", message="You can only delete draft invoices.")
    if (invoice["parent"] or {}).get("subscription_details"):
        raise invalid("You can only delete one-off invoices.")
    for line in session.children("line_item", "parent", invoice["id"]):
        session.remove(line)
    session.emit("invoice.deleted", invoice)
    return session.remove(invoice)


def require(invoice: JSON, *statuses: str, message: str) -> None:
    """Raise an error unless the invoice has one of the statuses."""
    if invoice["status"] not in statuses:
        raise ApiError(400, message, code="invoice_not_editable")
