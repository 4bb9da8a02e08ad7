"""Customers and their tax IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import customers, methods
from stripe_alloy.emulator.errors import missing
from stripe_alloy.emulator.routes import Ids, Route, without_params
from stripe_alloy.emulator.writes.fields import emit, given, update

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_BESIDE = ("payment_method", "source", "tax", "tax_ids", "cash_balance", "default_source")


def _create(session: Session, _: Ids, params: JSON) -> JSON:
    fields = given("customer", params, skip=_BESIDE)
    customer = customers.create(session, **fields)
    for entry in params.get("tax_id_data", []):
        customers.add_tax_id(session, customer, entry["type"], entry["value"])
    if "payment_method" in params:
        method = methods.resolve(session, params["payment_method"], "payment_method")
        methods.attach(session, method, customer["id"])
        _use_as_default(session, customer, params["payment_method"], method)
    _check_default(session, customer)
    _tax(session, customer, params)
    return customers.announce(session, customer)


def _use_as_default(session: Session, customer: JSON, given_id: str, method: JSON) -> None:
    """Set the default payment method if it is given by the same name, such as `pm_card_visa`."""
    if methods.default_of(customer) == given_id:
        settings = {**customer["invoice_settings"], "default_payment_method": method["id"]}
        session.change(customer, invoice_settings=settings)


def _update(session: Session, customer: JSON, params: JSON) -> JSON:
    update(session, customer, params, None, _BESIDE)
    if "default_source" in params:
        session.change(customer, default_source=params["default_source"] or None)
    _check_default(session, customer)
    _tax(session, customer, params)
    emit(session, customer, "customer.updated")
    return customer


def _check_default(session: Session, customer: JSON) -> None:
    """Check that the default payment method belongs to the customer."""
    method_id = methods.default_of(customer)
    if method_id is None:
        return
    param = "invoice_settings[default_payment_method]"
    method = methods.resolve(session, method_id, param)
    if method["customer"] != customer["id"]:
        raise missing("PaymentMethod", method_id, param)


def _tax(session: Session, customer: JSON, params: JSON) -> None:
    """Store the fields that are only sent when expanded."""
    if "tax" in params:
        tax = params["tax"] or {}
        known = {"automatic_tax": "unrecognized_location", "location": None}
        address = tax.get("ip_address") or None
        session.set_private_fields(
            customer, tax={**known, "ip_address": address, "provider": "stripe"}
        )
    if "cash_balance" in params:
        settings = (params["cash_balance"] or {}).get("settings", {})
        balance = {
            "object": "cash_balance",
            "available": None,
            "customer": customer["id"],
            "livemode": False,
            "settings": {"reconciliation_mode": "automatic", **settings},
        }
        session.set_private_fields(customer, cash_balance=balance)


def _add_tax_id(session: Session, ids: Ids, params: JSON) -> JSON:
    customer = session.get("customer", ids["id"])
    return customers.add_tax_id(session, customer, params["type"], params["value"])


def _drop_tax_id(session: Session, ids: Ids, _: JSON) -> JSON:
    tax_id = session.get("tax_id", ids["tax_id"])
    if tax_id["customer"] != ids["id"]:
        raise missing("tax_id", ids["tax_id"])
    return customers.drop_tax_id(session, tax_id)


_TAX_IDS = "/v1/customers/{id}/tax_ids"
ROUTES = (
    Route("POST", "/v1/customers", "customer", "CustomerCreateParams", write=_create),
    Route("POST", "/v1/customers/{id}", "customer", "CustomerUpdateParams", change=_update),
    Route("DELETE", "/v1/customers/{id}", "customer", change=without_params(customers.delete)),
    Route("POST", _TAX_IDS, "tax_id", "CustomerTaxIdCreateParams", write=_add_tax_id),
    Route("DELETE", _TAX_IDS + "/{tax_id}", "tax_id", write=_drop_tax_id),
)
