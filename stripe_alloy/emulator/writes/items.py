"""Subscription items: added, changed and removed, alone or with their subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import invoices, subscriptions
from stripe_alloy.emulator.effects.catalog import amount_of, plan_of
from stripe_alloy.emulator.effects.lines import pricing
from stripe_alloy.emulator.effects.periods import day
from stripe_alloy.emulator.errors import invalid, missing, required
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.writes.catalog import inline_price
from stripe_alloy.emulator.writes.fields import metadata
from stripe_alloy.emulator.writes.lines import take_pending

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session

ChosenItem = tuple[JSON, int, JSON]
"""Price, quantity, parameters."""

CANCELED = "A canceled subscription can only update its cancellation_details and metadata."
MAX_ITEMS = 20  # docs.stripe.com/billing/subscriptions/multiple-products


def chosen(session: Session, entries: list[JSON], name: str = "items") -> list[ChosenItem]:
    """Return the prices and quantities of a new subscription, given as parameter `name`."""
    if not entries:
        raise required(name)
    if len(entries) > MAX_ITEMS:
        raise invalid(f"A subscription can have up to {MAX_ITEMS} items.", name)
    found = [
        (_price(session, entry, f"{name}[{i}]"), entry.get("quantity", 1), entry)
        for i, entry in enumerate(entries)
    ]
    if len({price["currency"] for price, _, _ in found}) > 1:
        raise invalid("All prices on a subscription must use the same currency.", name)
    return found


def _price(session: Session, entry: JSON, param: str) -> JSON:
    if entry.get("price_data"):
        price = inline_price(session, entry["price_data"])
    elif entry.get("price") or entry.get("plan"):
        price = session.get("price", entry.get("price") or entry["plan"], f"{param}[price]")
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


def _change(session: Session, item: JSON, entry: JSON, param: str) -> None:
    if "metadata" in entry:
        session.change(item, metadata=metadata(item["metadata"], entry["metadata"]))
    if entry.get("price") or entry.get("price_data"):
        price = _price(session, entry, param)
        if price["id"] != item["price"]["id"]:  # a new price without quantity resets it to 1
            session.change(item, price=dict(price), plan=plan_of(price), quantity=1)
    if "quantity" in entry:
        session.change(item, quantity=entry["quantity"])


def _owned(session: Session, subscription: JSON, item_id: str, param: str) -> JSON:
    item = session.get("subscription_item", item_id, param)
    if item["subscription"] != subscription["id"]:
        raise missing("subscription_item", item_id, param)
    return item


def change_all(session: Session, subscription: JSON, entries: list[JSON], name: str) -> None:
    """Apply the items of an update, given as parameter `name`; one without ID is added."""
    for index, entry in enumerate(entries):
        param = f"{name}[{index}]"
        if not entry.get("id"):
            price = _price(session, entry, param)
            private_fields = {"metadata": metadata({}, entry.get("metadata", {}))}
            subscriptions.add_item(
                session, subscription, price, entry.get("quantity", 1), **private_fields
            )
            continue
        item = _owned(session, subscription, entry["id"], f"{param}[id]")
        if entry.get("deleted"):
            session.remove(item)
        else:
            _change(session, item, entry, param)


class Before(NamedTuple):
    """A subscription before a change."""

    status: str
    items: dict[str, JSON]


def before_change(session: Session, subscription: JSON) -> Before:
    """Return the state of a subscription before a change."""
    return Before(subscription["status"], _state(session, subscription))


def _state(session: Session, subscription: JSON) -> dict[str, JSON]:
    return {i["id"]: dict(i) for i in subscriptions.items_of(session, subscription)}


def finish(session: Session, subscription: JSON, before: Before, params: JSON) -> None:
    """Bill a change, and emit its event."""
    when = prorate(session, subscription, before, params)
    invoice = draft_now(session, subscription, when)
    if invoice is not None:
        _collect(session, subscription, invoice)
        if before.status == "trialing" and invoice["status"] == "open":
            _not_paid(session, subscription, invoice)
    if session.is_changed(subscription) or before.items != _state(session, subscription):
        session.emit("customer.subscription.updated", subscription)


# ---------------------------------------------------------------------- proration

LATER, CHANGES, CYCLE = "later", "changes", "cycle"
"""When a change is invoiced: with the next invoice; immediately; with a new period."""


def prorate(session: Session, subscription: JSON, before: Before, params: JSON) -> str:
    """Create pending items for unused and added time; return when they are invoiced."""
    left = subscriptions.items_of(session, subscription)
    if not left:
        raise invalid("A subscription must have at least one active plan.", "items")
    if len(left) > MAX_ITEMS:
        raise invalid(f"A subscription can have up to {MAX_ITEMS} items.", "items")
    session.nest(subscription)
    restarts = _restarts(subscription, before, left, params)
    moment = _moment(session, left, params)
    behavior = params.get("proration_behavior", "create_prorations")
    made: list[JSON] = []
    if behavior != "none" and before.status != "trialing":
        shares = _shares(session, subscription, before, restarts=restarts)
        made = [share(session, subscription, item, sign, moment) for item, sign in shares]
        made += _leaving(session, subscription, params)
    if restarts:
        subscriptions.restart(session, subscription)
        return CYCLE
    return CHANGES if made and behavior == "always_invoice" else LATER


def _restarts(subscription: JSON, before: Before, left: list[JSON], params: JSON) -> bool:
    """Whether the billing cycle restarts: on request, after a trial, with another interval."""
    if subscription["status"] == "trialing":
        return False
    asked = params.get("billing_cycle_anchor")
    if isinstance(asked, dict) and asked["type"] == "now":
        return True
    old = {_interval(item) for item in before.items.values()}
    return before.status == "trialing" or old.isdisjoint(_interval(item) for item in left)


def _interval(item: JSON) -> tuple[str, int]:
    recurring = item["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


def _moment(session: Session, left: list[JSON], params: JSON) -> int:
    """Return the time of the proration."""
    moment: int | None = params.get("proration_date")
    if moment is None:
        return session.now
    start, end = left[0]["current_period_start"], left[0]["current_period_end"]
    if not start <= moment <= end:
        raise invalid(
            f"The `proration_date` must be within the current period, {start} to {end}.",
            "proration_date",
        )
    return moment


def _shares(
    session: Session, subscription: JSON, before: Before, *, restarts: bool
) -> list[tuple[JSON, int]]:
    """Return the items that a change credits (-1) and charges (1) for the rest of the period."""
    whole = restarts or subscription["status"] == "trialing"  # what is paid for ends with it
    after = {} if whole else _state(session, subscription)
    old = before.items
    changed = [i for i in {**old, **after} if _cost(old.get(i)) != _cost(after.get(i))]
    return [
        (item, sign)
        for item_id in changed
        for item, sign in ((old.get(item_id), -1), (after.get(item_id), 1))
        if item is not None and not is_metered(item)
    ]


def is_metered(item: JSON) -> bool:
    """Whether an item is billed by usage, at the end of a period."""
    return bool(item["price"]["recurring"]["usage_type"] == "metered")


def _leaving(session: Session, subscription: JSON, params: JSON) -> list[JSON]:
    """Return credits for the unused time of a subscription canceled within its period."""
    end = params.get("cancel_at")
    if not isinstance(end, int):
        return []
    found = subscriptions.items_of(session, subscription)
    early = [i for i in found if end < i["current_period_end"] and not is_metered(i)]
    return [share(session, subscription, item, -1, max(end, session.now)) for item in early]


def _cost(item: JSON | None) -> tuple[str, int | None] | None:
    return None if item is None else (item["price"]["id"], item["quantity"])


def part_of(amount: int, seconds: int, period: int) -> int:
    """Return an amount's part for some seconds of a period, rounded half up."""
    period = max(period, 1)
    return (2 * amount * seconds + period) // (2 * period)


def share(session: Session, subscription: JSON, item: JSON, sign: int, moment: int) -> JSON:
    """Create a pending item for the rest of the period, to the second."""
    start, end = item["current_period_start"], item["current_period_end"]
    tiers = session.private_fields(session.find("price", item["price"]["id"]) or item["price"]).get(
        "tiers"
    )
    whole = amount_of(item["price"], item["quantity"] or 0, tiers)
    amount = sign * part_of(whole, min(max(end - moment, 0), end - start), end - start)
    words = "Unused time on" if sign < 0 else "Remaining time on"
    product = session.find("product", item["price"]["product"])
    name = product["name"] if product else item["price"]["id"]
    details = {"subscription": subscription["id"], "subscription_item": item["id"]}
    pending = session.add(
        "invoiceitem",
        amount=amount,
        currency=subscription["currency"],
        customer=subscription["customer"],
        date=session.now,
        description=f"{words} {item['quantity'] or 0} x {name} after {day(moment)}",
        discountable=False,
        net_amount=amount,
        parent={"subscription_details": details, "type": "subscription_details"},
        period={"start": moment, "end": end},
        pricing=pricing(item["price"]),
        proration=True,
        quantity=item["quantity"] or 0,
        quantity_decimal=str(item["quantity"] or 0),
    )
    session.emit("invoiceitem.created", pending)
    return pending


def draft_now(session: Session, subscription: JSON, when: str) -> JSON | None:
    """Return the draft that a change creates immediately, with its lines; None if there is none."""
    if when == LATER:
        return None
    if when == CYCLE:
        invoice = subscriptions.bill(session, subscription, "subscription_update")
    else:
        invoice = subscriptions.draft(session, subscription, "subscription_update")
    take_pending(session, invoice, subscription["id"])
    return invoice


def _not_paid(session: Session, subscription: JSON, invoice: JSON) -> None:
    if invoice["collection_method"] == "charge_automatically":
        session.change(subscription, status="past_due")


def _collect(session: Session, subscription: JSON, invoice: JSON) -> None:
    subscriptions.bind(session, subscription, invoice)
    if invoice["collection_method"] == "send_invoice":
        return
    invoices.finalize(session, invoice)
    if invoice["status"] == "open":
        invoices.pay(session, invoice)


# ---------------------------------------------------------------------- endpoints


def _open(session: Session, subscription_id: str, param: str = "id") -> JSON:
    subscription = session.get("subscription", subscription_id, param)
    if subscription["status"] in ("canceled", "incomplete_expired"):
        raise invalid(CANCELED)
    return subscription


def _create(session: Session, _: Ids, params: JSON) -> JSON:
    subscription = _open(session, params["subscription"], "subscription")
    before = before_change(session, subscription)
    price = _price(session, params, "item")
    private_fields = {"metadata": metadata({}, params.get("metadata", {}))}
    quantity = params.get("quantity", 1)
    item = subscriptions.add_item(session, subscription, price, quantity, **private_fields)
    finish(session, subscription, before, params)
    return item


def _update(session: Session, item: JSON, params: JSON) -> JSON:
    subscription = _open(session, item["subscription"])
    before = before_change(session, subscription)
    _change(session, item, params, "item")
    finish(session, subscription, before, params)
    return item


def _delete(session: Session, item: JSON, params: JSON) -> JSON:
    subscription = _open(session, item["subscription"])
    before = before_change(session, subscription)
    gone = session.remove(item)
    finish(session, subscription, before, params)
    return gone


_ALL, _KIND = "/v1/subscription_items", "subscription_item"
ROUTES = (
    Route("POST", _ALL, _KIND, "SubscriptionItemCreateParams", write=_create),
    Route("POST", _ALL + "/{id}", _KIND, "SubscriptionItemUpdateParams", change=_update),
    Route("DELETE", _ALL + "/{id}", _KIND, "SubscriptionItemDeleteParams", change=_delete),
)
