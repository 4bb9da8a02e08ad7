"""Subscriptions and their items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects import invoices, methods, payments, subscriptions
from stripe_alloy.emulator.effects.periods import after
from stripe_alloy.emulator.errors import ApiError, invalid, missing
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.writes import items
from stripe_alloy.emulator.writes.discounts import discounted
from stripe_alloy.emulator.writes.fields import emit, given, metadata
from stripe_alloy.emulator.writes.lines import new_item, take_pending

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


_SKIP = (
    "items",
    "customer",
    "trial_end",
    "discounts",
    "billing_cycle_anchor",
    "cancel_at",
    "default_tax_rates",
    "billing_schedules",
)
_STOPPED = ("paused", "canceled")
_CANCELED_TAKES = frozenset({"metadata", "cancellation_details"})


def _create(session: Session, _: Ids, params: JSON) -> JSON:
    customer = session.get("customer", params["customer"], "customer")
    method = _method(session, customer, params)
    _need_method(session, params, method)
    subscription = begin(session, customer, params)
    _first_invoice(session, subscription, method, params)
    return subscription


def begin(session: Session, customer: JSON, params: JSON, name: str = "items") -> JSON:
    """Create a subscription without billing it; its items are those of the parameter `name`."""
    chosen = items.chosen(session, params.get("items", []), name)
    trial_end = _trial(session, params)
    fields = given("subscription", params, skip=_SKIP)
    if params.get("billing_cycle_anchor") and not trial_end:
        fields["billing_cycle_anchor"] = _anchor(session, params, chosen[0][0])
    pairs = [(price, quantity) for price, quantity, _ in chosen]
    subscription = subscriptions.create(session, customer, pairs, trial_end=trial_end, **fields)
    made = subscriptions.items_of(session, subscription)
    for item, (_price, _quantity, entry) in zip(made, chosen, strict=True):
        session.change(item, metadata=metadata({}, entry.get("metadata", {})))
    _dates(session, subscription, params)
    if "discounts" in params:
        ids = discounted(session, subscription, params["discounts"])
        session.change(subscription, discounts=ids)
    _add_fees(session, subscription, params)
    return subscription


def _add_fees(session: Session, subscription: JSON, params: JSON) -> None:
    """Create an invoice item for each entry of `add_invoice_items`."""
    for entry in params.get("add_invoice_items") or ():
        fee = {name: value for name, value in entry.items() if name not in ("price", "period")}
        if entry.get("price"):
            fee["pricing"] = {"price": entry["price"]}
        new_item(
            session, subscription["customer"], None, {**fee, "subscription": subscription["id"]}
        )


def _anchor(session: Session, params: JSON, price: JSON) -> int:
    """Return when the first full period of a new subscription begins."""
    anchor: int = params["billing_cycle_anchor"]
    recurring = price["recurring"]
    last = after(session.now, recurring["interval"], recurring["interval_count"])
    if not session.now <= anchor <= last:
        raise invalid(
            "billing_cycle_anchor must be in the future, and no later than the next natural "
            f"billing date ({last}) for this plan.",
            "billing_cycle_anchor",
        )
    return anchor


def _trial(session: Session, params: JSON) -> int | None:
    end = params.get("trial_end")
    if end and end != "now":
        if end <= session.now:
            raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.",
                          "trial_end")  # fmt: skip
        return int(end)
    days = params.get("trial_period_days")
    return session.now + days * DAY if days else None


def _method(session: Session, customer: JSON, params: JSON) -> JSON | None:
    method_id = params.get("default_payment_method")
    if method_id:
        method = methods.resolve(session, method_id, "default_payment_method")
        if method["customer"] != customer["id"]:
            raise missing("PaymentMethod", method_id, "default_payment_method")
        return method
    return session.find("payment_method", methods.default_of(customer))


def _need_method(session: Session, params: JSON, method: JSON | None) -> None:
    behavior = params.get("payment_behavior", "allow_incomplete")
    sends = params.get("collection_method") == "send_invoice"
    trial = _trial(session, params)
    if sends and not params.get("days_until_due"):
        raise invalid("If collection_method is 'send_invoice', days_until_due is required.",
                      "days_until_due")  # fmt: skip
    if method or trial or sends or behavior == "default_incomplete":
        return
    raise ApiError(
        400,
        "This customer has no attached payment source or default payment method. Please consider "
        "adding a default payment method.",
        code="resource_missing",
    )


def _dates(session: Session, subscription: JSON, params: JSON) -> None:
    if "cancel_at" in params:
        session.change(subscription, cancel_at=params["cancel_at"] or None)
    if "cancel_at_period_end" in params:
        leaving = params["cancel_at_period_end"]
        made = subscriptions.items_of(session, subscription)
        end = made[0]["current_period_end"] if leaving else None
        session.change(subscription, cancel_at=end, canceled_at=session.now if leaving else None)


def _first_invoice(session: Session, subscription: JSON, method: JSON | None, params: JSON) -> None:
    waits = params.get("payment_behavior") == "default_incomplete" and not subscription["trial_end"]
    if waits:
        session.change(subscription, status="incomplete")
    invoice = first_draft(session, subscription, params)
    subscriptions.bind(session, subscription, invoice)
    subscriptions.announce(session, subscription)
    if invoice["collection_method"] == "send_invoice":
        return
    invoices.finalize(session, invoice)
    if invoice["status"] == "open" and not waits and not invoices.pay(session, invoice, method):
        _not_paid(session, subscription, invoice, params)


def first_draft(session: Session, subscription: JSON, params: JSON) -> JSON:
    """Return the draft of a new subscription's first invoice, with its lines."""
    invoice = subscriptions.bill(session, subscription, "subscription_create")
    if subscription["billing_cycle_anchor"] > session.now and not subscription["trial_end"]:
        _bill_part(session, subscription, invoice, params)
    take_pending(session, invoice, subscription["id"])
    return invoice


def _bill_part(session: Session, subscription: JSON, invoice: JSON, params: JSON) -> None:
    """Charge only the time until the anchor; nothing without proration."""
    anchor = subscription["billing_cycle_anchor"]
    recurring = subscriptions.items_of(session, subscription)[0]["price"]["recurring"]
    begins = after(anchor, recurring["interval"], -recurring["interval_count"])
    free = params.get("proration_behavior") == "none"
    left = 0 if free else anchor - session.now
    for line in session.children("line_item", "parent", invoice["id"]):
        amount = items.part_of(line["amount"], left, anchor - begins)
        session.change(line, amount=amount, subtotal=amount)


def _not_paid(session: Session, subscription: JSON, invoice: JSON, params: JSON) -> None:
    payment = invoices.payment_of(session, invoice)
    if params.get("payment_behavior") == "error_if_incomplete" and payment:
        intent = session.get("payment_intent", payment["payment"]["payment_intent"])
        raise _refusal(intent)
    subscriptions.set_status(session, subscription, "incomplete")


def _refusal(intent: JSON) -> ApiError:
    if intent["status"] == "requires_action":
        return ApiError(
            402,
            "Payment for this subscription requires additional user action before it can be "
            "completed successfully.",
            kind="card_error",
            code="subscription_payment_intent_requires_action",
        )
    refusal = payments.card_error(intent)
    refusal.keep = False
    return refusal


def _update(session: Session, subscription: JSON, params: JSON) -> JSON:
    if subscription["status"] == "canceled" and not params.keys() <= _CANCELED_TAKES:
        raise invalid(items.CANCELED)
    if not params.keys() - _CANCELED_TAKES:
        session.change(subscription, **given("subscription", params, subscription, _SKIP))
        emit(session, subscription, "customer.subscription.updated")
        return subscription
    before = items.before_change(session, subscription)
    change(session, subscription, params)
    if before.status == "trialing" and subscription["status"] in _STOPPED:
        return _stop(session, subscription)
    items.finish(session, subscription, before, params)
    return subscription


def _stop(session: Session, subscription: JSON) -> JSON:
    """Announce that a subscription stops with its trial."""
    if subscription["status"] == "canceled":
        return subscriptions.cancel(session, subscription)
    session.emit_all(subscription, "customer.subscription.paused", "customer.subscription.updated")
    return subscription


def change(session: Session, subscription: JSON, params: JSON, name: str = "items") -> None:
    """Apply an update without billing it; its items are those of the parameter `name`."""
    if params.get("default_payment_method"):
        _method(session, session.get("customer", subscription["customer"]), params)
    session.change(subscription, **given("subscription", params, subscription, _SKIP))
    if params.get("pause_collection"):
        session.change(
            subscription, pause_collection={"resumes_at": None, **params["pause_collection"]}
        )
    _dates(session, subscription, params)
    _add_fees(session, subscription, params)
    _retry_trial(session, subscription, params)
    if "discounts" in params:
        found = discounted(session, subscription, params["discounts"])
        session.change(subscription, discounts=found)
    items.change_all(session, subscription, params.get("items") or [], name)


def _retry_trial(session: Session, subscription: JSON, params: JSON) -> None:
    if "trial_end" not in params:
        return
    end = session.now if params["trial_end"] == "now" else _trial(session, params)
    if end is None:
        return
    if end > session.now:
        started = subscription["trial_start"] or session.now
        fields = {"billing_cycle_anchor": end, "status": "trialing", "trial_start": started}
        session.change(subscription, trial_end=end, **fields)
    elif subscription["status"] == "trialing":
        session.change(subscription, trial_end=end, status=_after_trial(session, subscription))
    for item in subscriptions.items_of(session, subscription):
        if end > session.now:
            session.change(item, current_period_end=end)
    session.nest(subscription)


def _after_trial(session: Session, subscription: JSON) -> str:
    """Return the status after a trial, which depends on whether a payment can be tried."""
    customer = session.get("customer", subscription["customer"])
    method = subscription["default_payment_method"] or methods.default_of(customer)
    if method or customer["default_source"] or subscription["collection_method"] == "send_invoice":
        return "active"
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    return {"pause": "paused", "cancel": "canceled"}.get(behavior, "active")


def _cancel(session: Session, subscription: JSON, params: JSON) -> JSON:
    if subscription["status"] in ("canceled", "incomplete_expired"):
        raise missing("subscription", subscription["id"])
    details = params.get("cancellation_details")
    if details:
        given_details = {k: v or None for k, v in details.items()}
        merged = {**(subscription["cancellation_details"] or {}), **given_details}
        session.change(subscription, cancellation_details=merged)
    return subscriptions.cancel(session, subscription)


def _pause(session: Session, subscription: JSON, _: JSON) -> JSON:
    if subscription["status"] not in ("active", "trialing"):
        raise invalid(f"A subscription that is {subscription['status']} cannot be paused.")
    session.change(subscription, status="paused")
    session.emit_all(subscription, "customer.subscription.paused", "customer.subscription.updated")
    return subscription


def _resume(session: Session, subscription: JSON, _: JSON) -> JSON:
    if subscription["status"] != "paused":
        raise invalid("Only paused subscriptions can be resumed.")
    session.change(subscription, status="active")
    session.emit_all(subscription, "customer.subscription.resumed", "customer.subscription.updated")
    return subscription


_ALL, _ONE, _KIND = "/v1/subscriptions", "/v1/subscriptions/{id}", "subscription"
ROUTES = (
    Route("POST", _ALL, _KIND, "SubscriptionCreateParams", write=_create),
    Route("POST", _ONE, _KIND, "SubscriptionUpdateParams", change=_update),
    Route("DELETE", _ONE, _KIND, "SubscriptionCancelParams", change=_cancel),
    Route("POST", _ONE + "/pause", _KIND, "SubscriptionPauseParams", change=_pause),
    Route("POST", _ONE + "/resume", _KIND, "SubscriptionResumeParams", change=_resume),
)
