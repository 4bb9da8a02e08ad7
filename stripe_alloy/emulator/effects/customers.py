"""Customers and what hangs on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import methods, subscriptions

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def create(ledger: Session, **fields: Any) -> JSON:
    """A new customer."""
    fields.setdefault("invoice_prefix", ledger.dice.text(8).upper())
    return ledger.add("customer", **fields)


def announce(ledger: Session, customer: JSON) -> JSON:
    """The customer is complete."""
    ledger.emit("customer.created", customer)
    return customer


def delete(ledger: Session, customer: JSON) -> JSON:
    """Delete a customer; subscriptions end at once, payment methods and tax ids are let go."""
    for subscription in ledger.children("subscription", "customer", customer["id"]):
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            subscriptions.cancel(ledger, subscription)
    for method in ledger.children("payment_method", "customer", customer["id"]):
        ledger.change(method, customer=None)
        ledger.emit("payment_method.detached", method, {"customer": customer["id"]})
        methods.end(ledger, method)
    for tax_id in ledger.children("tax_id", "customer", customer["id"]):
        ledger.remove(tax_id)
    ledger.emit("customer.deleted", customer)
    return ledger.remove(customer)


def add_tax_id(ledger: Session, customer: JSON, kind: str, value: str) -> JSON:
    """A tax id of a customer."""
    owner = {
        "account": None,
        "application": None,
        "customer": customer["id"],
        "customer_account": None,
        "type": "customer",
    }
    tax_id = ledger.add(
        "tax_id",
        country=value[:2] if value[:2].isalpha() else None,
        customer=customer["id"],
        owner=owner,
        type=kind,
        value=value,
        verification={
            "status": "unverified",
            "verified_address": None,
            "verified_name": None,
        },
    )
    ledger.emit("customer.tax_id.created", tax_id)
    return tax_id


def drop_tax_id(ledger: Session, tax_id: JSON) -> JSON:
    """Delete a tax id."""
    ledger.emit("customer.tax_id.deleted", tax_id)
    return ledger.remove(tax_id)
