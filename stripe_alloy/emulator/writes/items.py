"""Subscription items: added, changed, removed, alone or with their subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.emulator.effects import invoices, subscriptions
from stripe_alloy.emulator.effects.catalog import amount_of, plan_of
from stripe_alloy.emulator.errors import invalid, missing, required
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.writes.catalog import new_price
from stripe_alloy.emulator.writes.fields import metadata
from stripe_alloy.emulator.writes.lines import take_pending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stripe_alloy.emulator.ledger import Ledger

JSON = dict[str, Any]
Chosen = tuple[JSON, int, JSON]  # price, quantity, the parameters

CANCELED = "A canceled subscription can only update its cancellation_details and metadata."
MAX_ITEMS = 20  # docs.stripe.com/billing/subscriptions/multiple-products


def chosen(ledger: Ledger, entries: list[JSON]) -> list[Chosen]:
    """The prices and quantities that a new subscription is about."""
    if not entries:
        raise required("items")
    if len(entries) > MAX_ITEMS:
        raise invalid(f"A subscription can have up to {MAX_ITEMS} items.", "items")
    found = [
        (_price(ledger, entry, f"items[{i}]"), entry.get("quantity", 1), entry)
        for i, entry in enumerate(entries)
    ]
    if len({price["currency"] for price, _, _ in found}) > 1:
        raise invalid("All prices on a subscription must use the same currency.", "items")
    return found


def _price(ledger: Ledger, entry: JSON, param: str) -> JSON:
    if entry.get("price_data"):
        price = new_price(ledger, entry["price_data"])
    elif entry.get("price") or entry.get("plan"):
        price = ledger.get("price", entry.get("price") or entry["plan"], f"{param}[price]")
    else:
        raise required(f"{param}[price]")
    if price["type"] != "recurring":
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with "
            "`type=recurring`.",
            f"{param}[price]",
        )
    return price


# ---------------------------------------------------------------------- one change


def _change(ledger: Ledger, item: JSON, entry: JSON, param: str) -> None:
    if "metadata" in entry:
        ledger.change(item, metadata=metadata(item["metadata"], entry["metadata"]))
    if entry.get("price") or entry.get("price_data"):
        price = _price(ledger, entry, param)
        if price["id"] != item["price"]["id"]:  # a new price without quantity resets it to 1
            ledger.change(item, price=dict(price), plan=plan_of(price), quantity=1)
    if "quantity" in entry:
        ledger.change(item, quantity=entry["quantity"])


def _owned(ledger: Ledger, subscription: JSON, item_id: str, param: str) -> JSON:
    item = ledger.get("subscription_item", item_id, param)
    if item["subscription"] != subscription["id"]:
        raise missing("subscription_item", item_id, param)
    return item


def update_all(ledger: Ledger, subscription: JSON, params: JSON) -> None:
    """Apply the `items` of a subscription update; one without id is added."""
    before = _state(ledger, subscription)
    for index, entry in enumerate(params["items"]):
        param = f"items[{index}]"
        if not entry.get("id"):
            price = _price(ledger, entry, param)
            extra = {"metadata": metadata({}, entry.get("metadata", {}))}
            subscriptions.add_item(ledger, subscription, price, entry.get("quantity", 1), **extra)
            continue
        item = _owned(ledger, subscription, entry["id"], f"{param}[id]")
        if entry.get("deleted"):
            ledger.remove(item)
        else:
            _change(ledger, item, entry, param)
    _finish(ledger, subscription, before, params)


def _state(ledger: Ledger, subscription: JSON) -> dict[str, JSON]:
    return {i["id"]: dict(i) for i in subscriptions.items_of(ledger, subscription)}


def _finish(ledger: Ledger, subscription: JSON, before: dict[str, JSON], params: JSON) -> None:
    left = subscriptions.items_of(ledger, subscription)
    if not left:
        raise invalid("A subscription must have at least one active plan.", "items")
    if len(left) > MAX_ITEMS:
        raise invalid(f"A subscription can have up to {MAX_ITEMS} items.", "items")
    ledger.nest(subscription)
    _prorate(ledger, subscription, before, params)
    if ledger.is_changed(subscription) or before != _state(ledger, subscription):
        ledger.emit("customer.subscription.updated", subscription)


# ---------------------------------------------------------------------- proration


def _prorate(ledger: Ledger, subscription: JSON, before: dict[str, JSON], params: JSON) -> None:
    behavior = params.get("proration_behavior", "create_prorations")
    if behavior == "none" or subscription["status"] == "trialing":
        return
    after = _state(ledger, subscription)
    changed = [i for i in {**before, **after} if _cost(before.get(i)) != _cost(after.get(i))]
    shares = [
        (item, sign)
        for item_id in changed
        for item, sign in ((before.get(item_id), -1), (after.get(item_id), 1))
        if item is not None
    ]
    made = [_share(ledger, subscription, item, sign) for item, sign in shares]
    if made and behavior == "always_invoice":
        _invoice_now(ledger, subscription)


def _cost(item: JSON | None) -> tuple[str, int | None] | None:
    return None if item is None else (item["price"]["id"], item["quantity"])


def _share(ledger: Ledger, subscription: JSON, item: JSON, sign: int) -> JSON:
    """A pending item for the part of the period that is left."""
    start, end = item["current_period_start"], item["current_period_end"]
    tiers = ledger.hidden(item["price"]).get("tiers")
    whole = amount_of(item["price"], item["quantity"] or 0, tiers)
    left = min(max(end - ledger.now, 0), end - start)
    amount = sign * (whole * left // max(end - start, 1))
    words = "Unused time on" if sign < 0 else "Remaining time on"
    details = {"subscription": subscription["id"], "subscription_item": item["id"]}
    pending = ledger.add(
        "invoiceitem",
        amount=amount,
        currency=subscription["currency"],
        customer=subscription["customer"],
        date=ledger.now,
        description=f"{words} {item['price']['nickname'] or item['price']['id']}",
        discountable=False,
        net_amount=amount,
        parent={"subscription_details": details, "type": "subscription_details"},
        period={"start": ledger.now, "end": end},
        proration=True,
        quantity=item["quantity"] or 0,
        quantity_decimal=str(item["quantity"] or 0),
    )
    ledger.emit("invoiceitem.created", pending)
    return pending


def _invoice_now(ledger: Ledger, subscription: JSON) -> None:
    customer = ledger.get("customer", subscription["customer"])
    invoice = invoices.draft(
        ledger,
        customer,
        subscription["currency"],
        auto_advance=True,
        billing_reason="subscription_update",
        collection_method=subscription["collection_method"],
        default_payment_method=subscription["default_payment_method"],
        parent=invoices.of_subscription(subscription),
    )
    take_pending(ledger, invoice, subscription["id"])
    subscriptions.bind(ledger, subscription, invoice)
    invoices.finalize(ledger, invoice)
    if invoice["status"] == "open":
        invoices.pay(ledger, invoice)


# ---------------------------------------------------------------------- endpoints


def _open(ledger: Ledger, subscription_id: str, param: str = "id") -> JSON:
    subscription = ledger.get("subscription", subscription_id, param)
    if subscription["status"] in ("canceled", "incomplete_expired"):
        raise invalid(CANCELED)
    return subscription


def _create(ledger: Ledger, _: Mapping[str, str], params: JSON) -> JSON:
    subscription = _open(ledger, params["subscription"], "subscription")
    before = _state(ledger, subscription)
    price = _price(ledger, params, "item")
    extra = {"metadata": metadata({}, params.get("metadata", {}))}
    quantity = params.get("quantity", 1)
    item = subscriptions.add_item(ledger, subscription, price, quantity, **extra)
    _finish(ledger, subscription, before, params)
    return item


def _update(ledger: Ledger, ids: Mapping[str, str], params: JSON) -> JSON:
    item = ledger.get("subscription_item", ids["id"])
    subscription = _open(ledger, item["subscription"])
    before = _state(ledger, subscription)
    _change(ledger, item, params, "item")
    _finish(ledger, subscription, before, params)
    return item


def _delete(ledger: Ledger, ids: Mapping[str, str], params: JSON) -> JSON:
    item = ledger.get("subscription_item", ids["id"])
    subscription = _open(ledger, item["subscription"])
    before = _state(ledger, subscription)
    gone = ledger.remove(item)
    _finish(ledger, subscription, before, params)
    return gone


_ALL, _KIND = "/v1/subscription_items", "subscription_item"
ROUTES = (
    Route("POST", _ALL, _KIND, "SubscriptionItemCreateParams", write=_create),
    Route("POST", _ALL + "/{id}", _KIND, "SubscriptionItemUpdateParams", write=_update),
    Route("DELETE", _ALL + "/{id}", _KIND, "SubscriptionItemDeleteParams", write=_delete),
)
