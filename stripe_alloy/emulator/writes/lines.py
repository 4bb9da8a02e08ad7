"""Invoice items and invoice lines. Each line added by hand has an invoice item."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import invoices
from stripe_alloy.emulator.effects.catalog import amount_of
from stripe_alloy.emulator.effects.lines import add_line, from_item, from_subscription, pricing
from stripe_alloy.emulator.errors import invalid, missing, required
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.writes.catalog import inline_price
from stripe_alloy.emulator.writes.fields import given, metadata

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_PLAIN = ("description", "discountable", "metadata", "period", "quantity", "tax_rates")


# ---------------------------------------------------------------------- invoice items


def _create_item(session: Session, _: Ids, params: JSON) -> JSON:
    invoice = _target(session, params)
    owner = params.get("customer") or (invoice and invoice["customer"])
    if not owner:
        raise required("customer")
    customer = session.get("customer", owner, "customer")
    item = new_item(session, customer["id"], invoice, params)
    if invoice is not None:
        line_of(session, invoice, item)
        invoices.touch(session, invoice)
    return item


def _target(session: Session, params: JSON) -> JSON | None:
    if not params.get("invoice"):
        return None
    return draft(session, params["invoice"], "invoice")


def draft(session: Session, invoice_id: str, param: str = "id") -> JSON:
    """Return an invoice that can still be edited."""
    invoice = session.get("invoice", invoice_id, param)
    invoices.require(
        invoice, "draft", message="This invoice is no longer editable: it is not a draft."
    )
    return invoice


def new_item(session: Session, customer: str, invoice: JSON | None, params: JSON) -> JSON:
    """Create an invoice item; without an invoice it is pending."""
    priced = _priced(session, params, invoice["currency"] if invoice else None)
    fields = given("invoiceitem", {k: v for k, v in params.items() if k in _PLAIN})
    fields.setdefault("period", {"start": session.now, "end": session.now})
    if params.get("subscription"):
        session.get("subscription", params["subscription"], "subscription")
        fields["parent"] = _parent(params["subscription"])
    item = session.add(
        "invoiceitem",
        customer=customer,
        date=session.now,
        invoice=invoice["id"] if invoice else None,
        **{**priced, **fields},
    )
    session.emit("invoiceitem.created", item)
    return item


def _parent(subscription: str) -> JSON:
    details = {"subscription": subscription, "subscription_item": None}
    return {"subscription_details": details, "type": "subscription_details"}


def _priced(session: Session, params: JSON, currency: str | None) -> JSON:
    """Return amount, currency and pricing: of a price, price data, a unit amount, or as given."""
    quantity = params.get("quantity", 1)
    price = _price_of(session, params)
    if price is not None:
        amount = amount_of(price, quantity, session.private_fields(price).get("tiers"))
        product = session.find("product", price["product"])
        known: JSON = {"currency": price["currency"], "pricing": pricing(price)}
        if product is not None:
            known["description"] = product["name"]
    elif "unit_amount_decimal" in params:
        amount = int(Decimal(params["unit_amount_decimal"]) * quantity)
        known = {"currency": params.get("currency") or currency or "usd"}
    elif "amount" in params:
        amount = params["amount"]
        known = {"currency": params.get("currency") or currency or "usd"}
    else:
        raise required("amount")
    exact = {"quantity": quantity, "quantity_decimal": str(quantity)}
    return {"amount": amount, "net_amount": amount, **known, **exact}


def _price_of(session: Session, params: JSON) -> JSON | None:
    chosen = (params.get("pricing") or {}).get("price")
    if chosen:
        return session.get("price", chosen, "pricing[price]")
    if params.get("price_data"):
        return inline_price(session, params["price_data"])
    return None


def _update_item(session: Session, item: JSON, params: JSON) -> JSON:
    """Update an item; Stripe emits an event only for its invoice."""
    fields = given("invoiceitem", {k: v for k, v in params.items() if k in _PLAIN}, item)
    if _prices_anew(params):
        fields = {**_repriced(session, params, item), **fields}
    session.change(item, **fields)
    if item["invoice"]:
        invoice = draft(session, item["invoice"], "invoice")
        for line in _lines_of(session, invoice, item["id"]):
            _mirror(session, line, item)
        invoices.touch(session, invoice)
    return item


def _prices_anew(params: JSON) -> bool:
    return not params.keys().isdisjoint(
        {"amount", "quantity", "pricing", "price_data", "unit_amount_decimal"}
    )


def _repriced(session: Session, params: JSON, obj: JSON) -> JSON:
    priced = _priced(session, _with_old(params, obj), obj["currency"])
    if obj["description"]:
        priced.pop("description", None)
    return priced


def _with_old(params: JSON, obj: JSON) -> JSON:
    """Keep the price with a new quantity, and the quantity with a new price."""
    known: JSON = {"quantity": obj["quantity"]}
    if params.keys().isdisjoint({"amount", "pricing", "price_data", "unit_amount_decimal"}):
        details = (obj["pricing"] or {}).get("price_details")
        known.update({"pricing": {"price": details["price"]}} if details else {})
        known.setdefault("amount", obj["amount"])
    return {**known, **params}


def _delete_item(session: Session, item: JSON, _: JSON) -> JSON:
    if item["invoice"]:
        invoice = draft(session, item["invoice"], "invoice")
        for line in _lines_of(session, invoice, item["id"]):
            session.remove(line)
        invoices.touch(session, invoice)
    session.emit("invoiceitem.deleted", item)
    return session.remove(item)


def _lines_of(session: Session, invoice: JSON, item_id: str) -> list[JSON]:
    lines = session.children("line_item", "parent", invoice["id"])
    return [line for line in lines if _backing(line) == item_id]


def _backing(line: JSON) -> str | None:
    parent = line["parent"] or {}
    details = parent.get("invoice_item_details") or parent.get("subscription_item_details")
    return details["invoice_item"] if details else None


def line_of(session: Session, invoice: JSON, item: JSON) -> JSON:
    """Add the line of an item to its invoice."""
    parent = (item["parent"] or {}).get("subscription_details") or {}
    subscription = parent.get("subscription")
    if item["proration"]:
        prorated = {"id": parent.get("subscription_item"), "subscription": subscription}
        cause = from_subscription(prorated, proration=True, invoice_item=item["id"])
    else:
        cause = from_item(item["id"], subscription)
    line = add_line(session, invoice, item["amount"], parent=cause, subscription=subscription)
    return _mirror(session, line, item)


def _mirror(session: Session, line: JSON, item: JSON) -> JSON:
    names = ("description", "discountable", "metadata", "period", "pricing", "quantity")
    return session.change(
        line,
        amount=item["amount"],
        subtotal=item["amount"],
        quantity_decimal=item["quantity_decimal"],
        **{name: item[name] for name in names},
    )


def take_pending(session: Session, invoice: JSON, subscription: str | None) -> None:
    """Move pending items to the invoice."""
    for item in session.children("invoiceitem", "customer", invoice["customer"]):
        parent = (item["parent"] or {}).get("subscription_details") or {}
        bound = parent.get("subscription")
        wanted = bound in (None, subscription) and item["currency"] == invoice["currency"]
        if item["invoice"] is None and wanted:
            session.change(item, invoice=invoice["id"])
            line_of(session, invoice, item)


# ---------------------------------------------------------------------- lines


def _line(session: Session, invoice: JSON, line_id: str, param: str) -> JSON:
    line = session.get("line_item", line_id, param)
    if line["invoice"] != invoice["id"]:
        raise missing("line_item", line_id, param)
    return line


def _change_line(session: Session, line: JSON, params: JSON) -> None:
    fields = given("line_item", {k: v for k, v in params.items() if k in _PLAIN}, line)
    if _prices_anew(params):
        priced = _repriced(session, params, line)
        priced["subtotal"] = priced.pop("net_amount")
        fields = {**priced, **fields}
    session.change(line, **fields)


def _update_line(session: Session, ids: Ids, params: JSON) -> JSON:
    invoice = draft(session, ids["id"])
    line = _line(session, invoice, ids["line"], "id")
    _change_line(session, line, params)
    invoices.touch(session, invoice)
    return line


def _add_lines(session: Session, ids: Ids, params: JSON) -> JSON:
    invoice = draft(session, ids["id"])
    for entry in params["lines"]:
        if entry.get("invoice_item"):
            item = session.get("invoiceitem", entry["invoice_item"], "lines")
            if item["invoice"]:
                raise invalid("The invoice item is on another invoice already.", "lines")
            session.change(item, invoice=invoice["id"])
        else:
            item = new_item(session, invoice["customer"], invoice, entry)
        line_of(session, invoice, item)
    return _lines_changed(session, invoice, params)


def _update_lines(session: Session, ids: Ids, params: JSON) -> JSON:
    invoice = draft(session, ids["id"])
    for entry in params["lines"]:
        _change_line(session, _line(session, invoice, entry["id"], "lines"), entry)
    return _lines_changed(session, invoice, params)


def _remove_lines(session: Session, ids: Ids, params: JSON) -> JSON:
    invoice = draft(session, ids["id"])
    for entry in params["lines"]:
        line = _line(session, invoice, entry["id"], "lines")
        item = session.find("invoiceitem", _backing(line))
        if item is not None and entry["behavior"] == "unassign":
            session.change(item, invoice=None)
        elif item is not None:
            session.emit("invoiceitem.deleted", item)
            session.remove(item)
        session.remove(line)
    return _lines_changed(session, invoice, params)


def _lines_changed(session: Session, invoice: JSON, params: JSON) -> JSON:
    if "invoice_metadata" in params:
        merged = metadata(invoice["metadata"], params["invoice_metadata"])
        session.change(invoice, metadata=merged)
    invoices.touch(session, invoice)
    return invoice


_ITEMS, _ONE = "/v1/invoiceitems", "/v1/invoices/{id}"
ROUTES = (
    Route("POST", _ITEMS, "invoiceitem", "InvoiceItemCreateParams", write=_create_item),
    Route("POST", _ITEMS + "/{id}", "invoiceitem", "InvoiceItemUpdateParams", change=_update_item),
    Route("DELETE", _ITEMS + "/{id}", "invoiceitem", change=_delete_item),
    Route(
        "POST", _ONE + "/lines/{line}", "line_item", "InvoiceLineItemUpdateParams",
        write=_update_line,
    ),
    Route("POST", _ONE + "/add_lines", "invoice", "InvoiceAddLinesParams", write=_add_lines),
    Route(
        "POST", _ONE + "/update_lines", "invoice", "InvoiceUpdateLinesParams", write=_update_lines
    ),
    Route(
        "POST", _ONE + "/remove_lines", "invoice", "InvoiceRemoveLinesParams", write=_remove_lines
    ),
)  # fmt: skip
