"""Payment intents and their charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects.disputes import open_dispute
from stripe_alloy.emulator.effects.methods import behavior_of, charged, declined, error_of
from stripe_alloy.emulator.effects.money import move, processing_fee
from stripe_alloy.emulator.errors import ApiError, invalid
from stripe_alloy.emulator.templates import copied, part

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
_APPROVED = {
    "advice_code": None,
    "network_advice_code": None,
    "network_decline_code": None,
    "network_status": "approved_by_network",
    "reason": None,
    "risk_level": "normal",
    "risk_score": 21,
    "rule": None,
    "seller_message": "Payment complete.",
    "type": "authorized",
}
_BY_ISSUER = {
    "network_decline_code": "51",
    "network_status": "declined_by_network",
    "seller_message": "The bank did not return any further details with this decline.",
    "type": "issuer_declined",
}
_BLOCKED = {
    "network_status": "not_sent_to_network",
    "reason": "highest_risk_level",
    "risk_level": "highest",
    "seller_message": "Stripe blocked this payment as too risky.",
    "type": "blocked",
}
_OF_CHARGE_TOO = (
    *("amount", "currency", "customer", "description", "metadata", "receipt_email", "shipping"),
    *("statement_descriptor", "statement_descriptor_suffix", "transfer_group"),
)


def create_intent(session: Session, amount: int, currency: str, **fields: Any) -> JSON:
    """Create an intent that requires a payment method or a confirmation."""
    intent_id = session.new_id("payment_intent")
    waiting = "requires_confirmation" if fields.get("payment_method") else OPEN[0]
    intent = session.add(
        "payment_intent",
        id=intent_id,
        amount=amount,
        currency=currency,
        client_secret=f"{intent_id}_secret_{session.dice.text(24)}",
        **{"status": waiting, **fields},
    )
    session.emit("payment_intent.created", intent)
    return intent


def confirm(session: Session, intent: JSON, method: JSON, decline: str | None = None) -> JSON:
    """Try to pay; return the charge, successful or not."""
    if intent["status"] not in OPEN:
        raise unexpected(intent, "confirm")
    session.change(intent, payment_method=method["id"], next_action=None)
    reason = decline or behavior_of(method).decline
    of_intent = copied(intent, *_OF_CHARGE_TOO)
    charge = _charge(session, method, payment_intent=intent["id"], **of_intent)
    if reason:
        return _fail(session, intent, charge, method, reason)
    if intent["capture_method"] == "manual":
        return _authorize(session, intent, charge)
    return _succeed(session, intent, charge)


def charge_directly(session: Session, method: JSON, *, capture: bool, **fields: Any) -> JSON:
    """Create a charge without an intent; raises the error of a declined card."""
    charge = _charge(session, method, **fields)
    behavior = behavior_of(method)
    reason = "authentication_required" if behavior.authenticates else behavior.decline
    if reason:
        _decline(session, charge, reason)
        refusal = declined(reason, charge=charge["id"])
        refusal.keep = True
        raise refusal
    if capture:
        _settle(session, charge, charge["amount"])
    session.emit("charge.succeeded", charge)
    _dispute(session, charge)
    return charge


def _charge(session: Session, method: JSON, **fields: Any) -> JSON:
    charge_id = session.new_id("charge")
    return session.add(
        "charge",
        id=charge_id,
        **fields,
        billing_details=method["billing_details"],
        calculated_statement_descriptor="ALLOY INSTRUMENTS",
        captured=False,
        outcome=part("charge", "outcome", **_APPROVED),
        payment_method=method["id"],
        payment_method_details=charged(method),
        radar_options={"session": None},
        receipt_url=f"https://pay.stripe.com/receipts/{charge_id}",
    )


def _succeed(session: Session, intent: JSON, charge: JSON) -> JSON:
    _settle(session, charge, charge["amount"])
    session.emit("charge.succeeded", charge)
    session.change(
        intent,
        status="succeeded",
        amount_received=charge["amount"],
        latest_charge=charge["id"],
        last_payment_error=None,
    )
    session.emit("payment_intent.succeeded", intent)
    _dispute(session, charge)
    return charge


def _dispute(session: Session, charge: JSON) -> None:
    """Open the dispute that a test card causes once its charge is captured."""
    behavior = behavior_of(charge["payment_method_details"])
    if behavior.dispute and charge["captured"]:
        open_dispute(session, charge, behavior.dispute, inquiry=behavior.inquiry)


def challenge(session: Session, intent: JSON, method: JSON, return_url: str | None = None) -> JSON:
    """Ask the cardholder to authenticate the payment."""
    if intent["status"] not in OPEN:
        raise unexpected(intent, "confirm")
    page = f"https://hooks.stripe.com/redirect/authenticate/{intent['id']}"
    action: JSON = {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {"stripe_js": page, "type": "three_d_secure_redirect"},
    }
    if return_url:
        to_url = {"return_url": return_url, "url": page}
        action = {"redirect_to_url": to_url, "type": "redirect_to_url"}
    session.change(
        intent, payment_method=method["id"], next_action=action, status="requires_action"
    )
    session.emit("payment_intent.requires_action", intent)
    return intent


def _settle(session: Session, charge: JSON, amount: int) -> None:
    moved = move(
        session,
        "charge",
        amount,
        charge["currency"],
        charge["id"],
        fee=processing_fee(amount),
        description=charge["description"],
    )
    session.change(charge, captured=True, amount_captured=amount, balance_transaction=moved["id"])


def _authorize(session: Session, intent: JSON, charge: JSON) -> JSON:
    session.emit("charge.succeeded", charge)
    session.change(
        intent,
        status="requires_capture",
        amount_capturable=charge["amount"],
        latest_charge=charge["id"],
    )
    session.emit("payment_intent.amount_capturable_updated", intent)
    return charge


def _fail(session: Session, intent: JSON, charge: JSON, method: JSON, reason: str) -> JSON:
    _decline(session, charge, reason)
    session.change(
        intent,
        status=OPEN[0],
        payment_method=None,
        latest_charge=charge["id"],
        last_payment_error=_error(charge, method, reason),
    )
    session.emit("payment_intent.payment_failed", intent)
    return charge


def _decline(session: Session, charge: JSON, reason: str) -> None:
    code, message = error_of(reason)
    outcome = _BLOCKED if reason == "fraudulent" else {**_BY_ISSUER, "reason": reason}
    session.change(
        charge,
        status="failed",
        paid=False,
        failure_code=code,
        failure_message=message,
        outcome={**charge["outcome"], **outcome},
        receipt_url=None,
    )
    session.emit("charge.failed", charge)


def _error(charge: JSON, method: JSON, reason: str) -> JSON:
    error = part(
        "payment_intent",
        "last_payment_error",
        charge=charge["id"],
        code=charge["failure_code"],
        decline_code=reason,
        message=charge["failure_message"],
        payment_method=dict(method),
        type="card_error",
    )
    return {name: value for name, value in error.items() if value is not None}


def capture(session: Session, charge: JSON, amount: int | None = None) -> JSON:
    """Capture an authorized charge, or a part of it."""
    if charge["captured"] or charge["status"] != "succeeded":
        raise invalid(
            f"Charge {charge['id']} has already been captured.", code="charge_already_captured"
        )
    captured = charge["amount"] if amount is None else amount
    if captured > charge["amount"]:
        raise invalid("Amount is larger than what was authorized.", "amount_to_capture")
    _settle(session, charge, captured)
    if captured < charge["amount"]:
        session.change(charge, amount_refunded=charge["amount"] - captured)
    session.emit("charge.captured", charge)
    intent = session.find("payment_intent", charge["payment_intent"])
    if intent is not None:
        session.change(intent, status="succeeded", amount_capturable=0, amount_received=captured)
        session.emit("payment_intent.succeeded", intent)
    _dispute(session, charge)
    return charge


def cancel(session: Session, intent: JSON, reason: str | None = None) -> JSON:
    """Cancel the intent, and release an authorized amount."""
    if intent["status"] not in (*OPEN, "requires_capture", "processing"):
        raise unexpected(intent, "cancel")
    charge = session.find("charge", intent["latest_charge"])
    if charge is not None and intent["status"] == "requires_capture":
        session.change(charge, refunded=True, amount_refunded=charge["amount"])
        session.emit("charge.refunded", charge)
    session.change(
        intent,
        status="canceled",
        next_action=None,
        amount_capturable=0,
        canceled_at=session.now,
        cancellation_reason=reason,
    )
    session.emit("payment_intent.canceled", intent)
    return intent


def unexpected(intent: JSON, verb: str) -> ApiError:
    """Return the error for an action that the intent's status forbids."""
    return ApiError(
        400,
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )


def card_error(intent: JSON) -> ApiError:
    """Return the error for a declined payment."""
    last = intent["last_payment_error"]
    refusal = ApiError(
        402,
        last["message"],
        kind="card_error",
        code=last["code"],
        decline_code=last["decline_code"],
        charge=last["charge"],
        payment_intent=dict(intent),
    )
    refusal.keep = True
    return refusal
