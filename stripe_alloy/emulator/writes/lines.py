"""Invoice items and invoice lines. Each line added by hand is backed by an item."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import invoices
from stripe_alloy.emulator.effects.catalog import amount_of
from stripe_alloy.emulator.effects.lines import add_line, from_item, from_subscription, pricing
from stripe_alloy.emulator.errors import invalid, missing, required
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.writes.catalog import inline_price
from stripe_alloy.emulator.writes.fields import given, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stripe_alloy.emulator.session import Session


_PLAIN = ("description", "discountable", "metadata", "period", "quantity", "tax_rates")


# ---------------------------------------------------------------------- invoice items


def _create_item(ledger: Session, _: Mapping[str, str], params: JSON) -> JSON:
    invoice = _target(ledger, params)
    owner = params.get("customer") or (invoice and invoice["customer"])
    if not owner:
        raise required("customer")
    customer = ledger.get("customer", owner, "customer")
    item = new_item(ledger, customer["id"], invoice, params)
    if invoice is not None:
        line_of(ledger, invoice, item)
        invoices.touch(ledger, invoice)
    return item


def _target(ledger: Session, params: JSON) -> JSON | None:
    if not params.get("invoice"):
        return None
    return draft(ledger, params["invoice"], "invoice")


def draft(ledger: Session, invoice_id: str, param: str = "id") -> JSON:
    """An invoice that may still be edited."""
    invoice = ledger.get("invoice", invoice_id, param)
    invoices.require(
        invoice, "draft", message="This invoice is no longer editable: it is not a draft."
    )
    return invoice


def new_item(ledger: Session, customer: str, invoice: JSON | None, params: JSON) -> JSON:
    """An invoice item; without an invoice it waits for the next one."""
    priced = _priced(ledger, params, invoice["currency"] if invoice else None)
    fields = given("invoiceitem", {k: v for k, v in params.items() if k in _PLAIN})
    fields.setdefault("period", {"start": ledger.now, "end": ledger.now})
    if params.get("subscription"):
        ledger.get("subscription", params["subscription"], "subscription")
        fields["parent"] = _parent(params["subscription"])
    item = ledger.add(
        "invoiceitem",
        customer=customer,
        date=ledger.now,
        invoice=invoice["id"] if invoice else None,
        **{**priced, **fields},
    )
    ledger.emit("invoiceitem.created", item)
    return item


def _parent(subscription: str) -> JSON:
    details = {"subscription": subscription, "subscription_item": None}
    return {"subscription_details": details, "type": "subscription_details"}


def _priced(ledger: Session, params: JSON, currency: str | None) -> JSON:
    """Amount, currency and pricing: of a price, of price data, of a unit amount, or as given."""
    quantity = params.get("quantity", 1)
    price = _price_of(ledger, params)
    if price is not None:
        amount = amount_of(price, quantity, ledger.hidden(price).get("tiers"))
        product = ledger.find("product", price["product"])
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


def _price_of(ledger: Session, params: JSON) -> JSON | None:
    chosen = (params.get("pricing") or {}).get("price")
    if chosen:
        return ledger.get("price", chosen, "pricing[price]")
    if params.get("price_data"):
        return inline_price(ledger, params["price_data"])
    return None


def _update_item(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    """No event tells of a changed item; the invoice it is on has one."""
    item = ledger.get("invoiceitem", ids["id"])
    fields = given("invoiceitem", {k: v for k, v in params.items() if k in _PLAIN}, item)
    if _prices_anew(params):
        fields = {**_repriced(ledger, params, item), **fields}
    ledger.change(item, **fields)
    if item["invoice"]:
        invoice = draft(ledger, item["invoice"], "invoice")
        for line in _lines_of(ledger, invoice, item["id"]):
            _mirror(ledger, line, item)
        invoices.touch(ledger, invoice)
    return item


def _prices_anew(params: JSON) -> bool:
    return not params.keys().isdisjoint(
        {"amount", "quantity", "pricing", "price_data", "unit_amount_decimal"}
    )


def _repriced(ledger: Session, params: JSON, obj: JSON) -> JSON:
    priced = _priced(ledger, _with_old(params, obj), obj["currency"])
    if obj["description"]:
        priced.pop("description", None)
    return priced


def _with_old(params: JSON, obj: JSON) -> JSON:
    """A new quantity keeps the price, a new price keeps the quantity."""
    known: JSON = {"quantity": obj["quantity"]}
    if params.keys().isdisjoint({"amount", "pricing", "price_data", "unit_amount_decimal"}):
        details = (obj["pricing"] or {}).get("price_details")
        known.update({"pricing": {"price": details["price"]}} if details else {})
        known.setdefault("amount", obj["amount"])
    return {**known, **params}


def _delete_item(ledger: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    item = ledger.get("invoiceitem", ids["id"])
    if item["invoice"]:
        invoice = draft(ledger, item["invoice"], "invoice")
        for line in _lines_of(ledger, invoice, item["id"]):
            ledger.remove(line)
        invoices.touch(ledger, invoice)
    ledger.emit("invoiceitem.deleted", item)
    return ledger.remove(item)


def _lines_of(ledger: Session, invoice: JSON, item_id: str) -> list[JSON]:
    lines = ledger.children("line_item", "parent", invoice["id"])
    return [line for line in lines if _backing(line) == item_id]


def _backing(line: JSON) -> str | None:
    parent = line["parent"] or {}
    details = parent.get("invoice_item_details") or parent.get("subscription_item_details")
    return details["invoice_item"] if details else None


def line_of(ledger: Session, invoice: JSON, item: JSON) -> JSON:
    """The line that shows an item on its invoice."""
    parent = (item["parent"] or {}).get("subscription_details") or {}
    subscription = parent.get("subscription")
    if item["proration"]:
        prorated = {"id": parent.get("subscription_item"), "subscription": subscription}
        cause = from_subscription(prorated, proration=True, invoice_item=item["id"])
    else:
        cause = from_item(item["id"], subscription)
    line = add_line(ledger, invoice, item["amount"], parent=cause, subscription=subscription)
    return _mirror(ledger, line, item)


def _mirror(ledger: Session, line: JSON, item: JSON) -> JSON:
    names = ("description", "discountable", "metadata", "period", "pricing", "quantity")
    return ledger.change(
        line,
        amount=item["amount"],
        subtotal=item["amount"],
        quantity_decimal=item["quantity_decimal"],
        **{name: item[name] for name in names},
    )


def take_pending(ledger: Session, invoice: JSON, subscription: str | None) -> None:
    """Put the items that wait for an invoice on this one."""
    for item in ledger.children("invoiceitem", "customer", invoice["customer"]):
        parent = (item["parent"] or {}).get("subscription_details") or {}
        bound = parent.get("subscription")
        wanted = bound in (None, subscription) and item["currency"] == invoice["currency"]
        if item["invoice"] is None and wanted:
            ledger.change(item, invoice=invoice["id"])
            line_of(ledger, invoice, item)


# ---------------------------------------------------------------------- lines


def _line(ledger: Session, invoice: JSON, line_id: str, param: str) -> JSON:
    line = ledger.get("line_item", line_id, param)
    if line["invoice"] != invoice["id"]:
        raise missing("line_item", line_id, param)
    return line


def _change_line(ledger: Session, line: JSON, params: JSON) -> None:
    fields = given("line_item", {k: v for k, v in params.items() if k in _PLAIN}, line)
    if _prices_anew(params):
        priced = _repriced(ledger, params, line)
        priced["subtotal"] = priced.pop("net_amount")
        fields = {**priced, **fields}
    ledger.change(line, **fields)


def _update_line(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    invoice = draft(ledger, ids["id"])
    line = _line(ledger, invoice, ids["line"], "id")
    _change_line(ledger, line, params)
    invoices.touch(ledger, invoice)
    return line


def _add_lines(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    invoice = draft(ledger, ids["id"])
    for entry in params["lines"]:
        if entry.get("invoice_item"):
            item = ledger.get("invoiceitem", entry["invoice_item"], "lines")
            if item["invoice"]:
                raise invalid("The invoice item is on another invoice already.", "lines")
            ledger.change(item, invoice=invoice["id"])
        else:
            item = new_item(ledger, invoice["customer"], invoice, entry)
        line_of(ledger, invoice, item)
    return _lines_changed(ledger, invoice, params)


def _update_lines(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    invoice = draft(ledger, ids["id"])
    for entry in params["lines"]:
        _change_line(ledger, _line(ledger, invoice, entry["id"], "lines"), entry)
    return _lines_changed(ledger, invoice, params)


def _remove_lines(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    invoice = draft(ledger, ids["id"])
    for entry in params["lines"]:
        line = _line(ledger, invoice, entry["id"], "lines")
        item = ledger.find("invoiceitem", _backing(line))
        if item is not None and entry["behavior"] == "unassign":
            ledger.change(item, invoice=None)
        elif item is not None:
            ledger.emit("invoiceitem.deleted", item)
            ledger.remove(item)
        ledger.remove(line)
    return _lines_changed(ledger, invoice, params)


def _lines_changed(ledger: Session, invoice: JSON, params: JSON) -> JSON:
    if "invoice_metadata" in params:
        merged = metadata(invoice["metadata"], params["invoice_metadata"])
        ledger.change(invoice, metadata=merged)
    invoices.touch(ledger, invoice)
    return invoice


_ITEMS, _ONE = "/v1/invoiceitems", "/v1/invoices/{id}"
ROUTES = (
    Route("POST", _ITEMS, "invoiceitem", "InvoiceItemCreateParams", write=_create_item),
    Route("POST", _ITEMS + "/{id}", "invoiceitem", "InvoiceItemUpdateParams", write=_update_item),
    Route("DELETE", _ITEMS + "/{id}", "invoiceitem", None, write=_delete_item),
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
