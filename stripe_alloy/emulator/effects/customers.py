"""Customers, and the objects that belong to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import methods, subscriptions

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def create(session: Session, **fields: Any) -> JSON:
    """Create a customer, without an event."""
    fields.setdefault("invoice_prefix", session.dice.text(8).upper())
    return session.add("customer", **fields)


def announce(session: Session, customer: JSON) -> JSON:
    """Emit the event of a new customer."""
    session.emit("customer.created", customer)
    return customer


def delete(session: Session, customer: JSON) -> JSON:
    """Delete a customer; cancel the subscriptions, detach payment methods, delete tax IDs."""
    for subscription in session.children("subscription", "customer", customer["id"]):
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            subscriptions.cancel(session, subscription)
    for method in session.children("payment_method", "customer", customer["id"]):
        session.change(method, customer=None)
        session.emit("payment_method.detached", method, {"customer": customer["id"]})
        methods.end(session, method)
    for tax_id in session.children("tax_id", "parent", customer["id"]):
        session.remove(tax_id)
    session.emit("customer.deleted", customer)
    return session.remove(customer)


def add_tax_id(session: Session, customer: JSON, kind: str, value: str) -> JSON:
    """Add a tax ID to a customer."""
    owner = {
        "account": None,
        "application": None,
        "customer": customer["id"],
        "customer_account": None,
        "type": "customer",
    }
    tax_id = session.add(
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
    session.emit("customer.tax_id.created", tax_id)
    return tax_id


def drop_tax_id(session: Session, tax_id: JSON) -> JSON:
    """Delete a tax ID."""
    session.emit("customer.tax_id.deleted", tax_id)
    return session.remove(tax_id)
