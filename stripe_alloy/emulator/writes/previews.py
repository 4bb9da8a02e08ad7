"""Previews of invoices: bills a change in a session that is never flushed.

It runs the code of the real change, so the lines are those that the change creates. Like Stripe's,
a preview can be retrieved by its ID but is not listed; the emulator keeps it in memory.
"""

from __future__ import annotations

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import customers, invoices, lines, subscriptions
from stripe_alloy.emulator.errors import ApiError, invalid, missing
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.seeded_random import SeededRandom
from stripe_alloy.emulator.session import Session, listing
from stripe_alloy.emulator.writes import items
from stripe_alloy.emulator.writes import subscriptions as subscription_writes
from stripe_alloy.emulator.writes.discounts import discounted
from stripe_alloy.emulator.writes.fields import given
from stripe_alloy.emulator.writes.lines import new_item, take_pending

DETAILS = "subscription_details"
ITEMS = f"{DETAILS}[items]"
COLLECTS_AFTER = 3600
"""Seconds from a draft to its first payment."""
_ENDED = ("canceled", "incomplete_expired", "paused")
_NOT_EMULATED = ("start_date", "pause")
_FOR_SUBSCRIPTIONS = ("proration_date", "cancel_now", "resume_at")
"""Details that require an existing subscription."""


def _preview(session: Session, _: Ids, params: JSON) -> JSON:
    scratch = _scratch(session)
    details = params.get(DETAILS) or {}
    _check(params, details)
    if params.get("subscription"):
        return _shown(session, scratch, _of_change(scratch, params, details), details)
    customer = _customer(scratch, params)
    _add_items(scratch, customer, params)
    if details.get("items"):
        return _shown(session, scratch, _of_new(scratch, customer, params, details), details)
    return _shown(session, scratch, _of_items(scratch, customer, params), details)


def _scratch(session: Session) -> Session:
    """Return a session that sees what is stored and is never flushed."""
    dice = SeededRandom(session.store.size() * 1_000_003 + len(session.store.previews))
    return Session(session.store, session.account, dice, session.now, session.version)


def _check(params: JSON, details: JSON) -> None:
    if params.get("schedule"):
        raise missing("subscription_schedule", params["schedule"], "schedule")
    if "schedule_details" in params:
        raise invalid("The emulator does not preview schedule_details.", "schedule_details")
    for name in _NOT_EMULATED:
        if name in details:
            raise invalid(f"The emulator does not preview {name}.", f"{DETAILS}[{name}]")
    if not (params.get("subscription") or details.get("items") or params.get("invoice_items")):
        raise invalid(
            "You must provide at least one of: `subscription`, `schedule`, "
            "`subscription_details.items`, `schedule_details.phases`, `invoice_items`."
        )
    only = [name for name in _FOR_SUBSCRIPTIONS if name in details]
    if only and not params.get("subscription"):
        raise invalid(
            f"You can only set `{DETAILS}.{only[0]}` when previewing an update.",
            f"{DETAILS}[{only[0]}]",
        )
    _check_proration_date(details)


def _check_proration_date(details: JSON) -> None:
    if "proration_date" not in details:
        return
    name = f"{DETAILS}[proration_date]"
    if not (details.get("items") or details.get("trial_end")):
        raise invalid(
            f"`{DETAILS}.proration_date` needs `{DETAILS}.items` or `{DETAILS}.trial_end`.", name
        )
    if details.get("proration_behavior") == "none":
        raise invalid(f"`{DETAILS}.proration_date` cannot go with `proration_behavior=none`.", name)


def _customer(scratch: Session, params: JSON) -> JSON:
    """Return the customer with overridden details; a new one if none is named."""
    if params.get("customer"):
        customer = scratch.get("customer", params["customer"], "customer")
    else:
        customer = customers.create(scratch)
    known = params.get("customer_details") or {}
    overridden = {k: v for k, v in known.items() if k in ("address", "shipping", "tax_exempt")}
    scratch.change(customer, **given("customer", overridden, customer))
    return customer


def _add_items(scratch: Session, customer: JSON, params: JSON) -> None:
    """Add the pending invoice items of the preview."""
    for index, entry in enumerate(params.get("invoice_items") or []):
        fields = dict(entry)
        if fields.get("invoiceitem"):
            name = f"invoice_items[{index}][invoiceitem]"
            scratch.remove(scratch.get("invoiceitem", fields.pop("invoiceitem"), name))
        if fields.get("price"):
            scratch.get("price", fields["price"], f"invoice_items[{index}][price]")
            fields["pricing"] = {"price": fields.pop("price")}
        if "unit_amount" in fields:
            fields["unit_amount_decimal"] = str(fields.pop("unit_amount"))
        new_item(scratch, customer["id"], None, fields)


# ---------------------------------------------------------------------- what is previewed


def _of_items(scratch: Session, customer: JSON, params: JSON) -> JSON:
    """Return an invoice for invoice items only."""
    waiting = scratch.children("invoiceitem", "customer", customer["id"])
    currency = params.get("currency") or waiting[-1]["currency"]
    invoice = invoices.draft(scratch, customer, currency)
    if "discounts" in params:
        found = discounted(scratch, invoice, params["discounts"])
        scratch.change(invoice, discounts=found)
    take_pending(scratch, invoice, None)
    return invoice


def _of_new(scratch: Session, customer: JSON, params: JSON, details: JSON) -> JSON:
    """Return the first invoice of a new subscription."""
    wanted = {name: value for name, value in details.items() if name != "billing_cycle_anchor"}
    anchor = details.get("billing_cycle_anchor") or {}
    if "timestamp" in anchor:
        wanted["billing_cycle_anchor"] = anchor["timestamp"]
    if "discounts" in params:
        wanted["discounts"] = params["discounts"]
    subscription = subscription_writes.begin(scratch, customer, wanted, ITEMS)
    _need_currency(params, subscription)
    return subscription_writes.first_draft(scratch, subscription, wanted)


def _need_currency(params: JSON, subscription: JSON) -> None:
    requested, supported = params.get("currency"), subscription["currency"]
    if requested and requested != supported:
        raise invalid(
            f"The prices specified only support `{supported}`. This doesn't match the expected "
            f"currency: `{requested}`.",
            "currency",
        )


def _of_change(scratch: Session, params: JSON, details: JSON) -> JSON:
    """Return the invoice that a change of a subscription creates, or the next one."""
    subscription = scratch.get("subscription", params["subscription"], "subscription")
    if params.get("customer", subscription["customer"]) != subscription["customer"]:
        raise invalid(
            f"The subscription {subscription['id']} does not belong to the customer "
            f"{params['customer']}.",
            "subscription",
        )
    owner = {**params, "customer": subscription["customer"]}
    _add_items(scratch, _customer(scratch, owner), params)
    _need_currency(params, subscription)
    if details.get("resume_at") and subscription["status"] == "paused":
        scratch.change(subscription, status="active")
    if subscription["status"] in _ENDED:
        raise _none(subscription)
    wanted = {name: value for name, value in details.items() if name != "cancel_now"}
    if "discounts" in params:
        wanted["discounts"] = params["discounts"]
    before = items.before_change(scratch, subscription)
    subscription_writes.change(scratch, subscription, wanted, ITEMS)
    if subscription["status"] in _ENDED:
        raise _none(subscription)
    if details.get("cancel_now"):
        return _of_end(scratch, subscription, before, details)
    when = items.prorate(scratch, subscription, before, wanted)
    return items.draft_now(scratch, subscription, when) or _of_next(scratch, subscription)


def _of_end(scratch: Session, subscription: JSON, before: items.Before, details: JSON) -> JSON:
    """Return the last invoice of a subscription that is canceled now."""
    if details.get("proration_behavior") != "none" and before.status != "trialing":
        moment = details.get("proration_date") or scratch.now
        for item in before.items.values():
            if not items.is_metered(item):
                items.share(scratch, subscription, item, -1, moment)
    return _pending_only(scratch, subscription)


def _pending_only(scratch: Session, subscription: JSON) -> JSON:
    invoice = subscriptions.draft(scratch, subscription, "subscription_update")
    take_pending(scratch, invoice, subscription["id"])
    if not scratch.children("line_item", "parent", invoice["id"]):
        raise _none(subscription)
    return invoice


def _of_next(scratch: Session, subscription: JSON) -> JSON:
    """Return the invoice at the end of the current period."""
    item = subscriptions.items_of(scratch, subscription)[0]
    start, end = item["current_period_start"], item["current_period_end"]
    if subscription["cancel_at"] and subscription["cancel_at"] <= end:
        invoice = _pending_only(scratch, subscription)
    else:
        subscriptions.advance(scratch, subscription)
        scratch.change(subscription, status="active")
        invoice = subscriptions.bill(scratch, subscription, "subscription_cycle")
        take_pending(scratch, invoice, subscription["id"])
    return scratch.change(invoice, created=end, period_start=start, period_end=end)


def _none(subscription: JSON) -> ApiError:
    return ApiError(
        404,
        f"No upcoming invoices for customer: {subscription['customer']}",
        code="invoice_upcoming_none",
    )


# ---------------------------------------------------------------------- what is shown


def _shown(session: Session, scratch: Session, invoice: JSON, details: JSON) -> JSON:
    """Return the draft as a preview, with an ID that no invoice has."""
    lines.total(scratch, invoice)
    found = scratch.children("line_item", "parent", invoice["id"])
    new_id = f"upcoming_{invoice['id']}"
    rows = [{**row, "id": f"il_tmp_{row['id'][3:]}", "invoice": new_id} for row in found]
    automatic = invoice["collection_method"] == "charge_automatically"
    preview = {
        **invoice,
        "id": new_id,
        "auto_advance": False,
        "automatically_finalizes_at": None,
        "billing_reason": "upcoming",
        "lines": listing(rows, f"/v1/invoices/{new_id}/lines"),
        "next_payment_attempt": invoice["created"] + COLLECTS_AFTER if automatic else None,
        "parent": _parent(invoice, rows, details.get("proration_date") or scratch.now),
    }
    session.store.keep_preview(session.account, preview, rows)
    return preview


def _parent(invoice: JSON, rows: list[JSON], moment: int) -> JSON | None:
    parent: JSON | None = invoice["parent"]
    if parent is None or not any(_prorates(row) for row in rows):
        return parent
    dated = {**parent["subscription_details"], "subscription_proration_date": moment}
    return {**parent, "subscription_details": dated}


def _prorates(row: JSON) -> bool:
    details = (row["parent"] or {}).get("subscription_item_details")
    return bool(details and details["proration"])


ROUTES = (
    Route(
        "POST",
        "/v1/invoices/create_preview",
        "invoice",
        "InvoiceCreatePreviewParams",
        write=_preview,
    ),
)
