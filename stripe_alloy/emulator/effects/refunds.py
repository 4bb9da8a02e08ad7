"""Refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects.money import move
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.templates import copied

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def refund(
    session: Session,
    charge: JSON,
    amount: int | None = None,
    status: str = "succeeded",
    **more: Any,
) -> JSON:
    """Refund an amount; without one, the remaining amount."""
    left = charge["amount_captured"] - charge["amount_refunded"]
    given = left if amount is None else amount
    _check(charge, given, left)
    made = session.add(
        "refund",
        **copied(charge, "currency", "customer", "payment_intent"),
        amount=given,
        charge=charge["id"],
        destination_details=_destination(charge),
        status=status,
        **more,
    )
    if status == "succeeded":
        _pay_back(session, made)
    session.emit("refund.created", made)
    total = charge["amount_refunded"] + given
    session.change(charge, amount_refunded=total, refunded=total == charge["amount"])
    session.emit("charge.refunded", charge)
    return made


def _check(charge: JSON, amount: int, left: int) -> None:
    if charge["status"] != "succeeded" or not charge["captured"]:
        raise invalid(f"Charge {charge['id']} cannot be refunded: it was not captured.", "charge")
    if left <= 0:
        raise invalid(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if amount > left:
        raise invalid(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            "amount",
        )


def _destination(charge: JSON) -> JSON:
    kind = charge["payment_method_details"]["type"]
    if kind != "card":
        return {"type": kind}
    return {"type": "card", "card": {"type": "refund", "reference_status": "pending"}}


def _pay_back(session: Session, made: JSON) -> None:
    moved = move(session, "refund", -made["amount"], made["currency"], made["id"])
    session.change(made, balance_transaction=moved["id"])


def settle(session: Session, made: JSON) -> None:
    """Complete a pending refund."""
    _pay_back(session, made)
    session.change(made, status="succeeded")
    announce(session, made)


def fail(session: Session, made: JSON, charge: JSON, reason: str) -> None:
    """Fail a refund, and return its amount to the balance."""
    moved = move(session, "refund_failure", made["amount"], made["currency"], made["id"])
    session.change(
        made,
        status="failed",
        failure_reason=reason,
        failure_balance_transaction=moved["id"],
    )
    session.emit_all(made, "refund.failed", "refund.updated", "charge.refund.updated")
    _restore(session, made, charge)


def cancel(session: Session, made: JSON) -> JSON:
    """Cancel a refund that is not complete."""
    if made["status"] not in ("pending", "requires_action"):
        raise invalid("You can only cancel a refund that is pending.")
    session.change(made, status="canceled")
    announce(session, made)
    _restore(session, made, session.get("charge", made["charge"]))
    return made


def _restore(session: Session, made: JSON, charge: JSON) -> None:
    total = charge["amount_refunded"] - made["amount"]
    session.change(charge, amount_refunded=total, refunded=False)
    session.emit("charge.updated", charge)


def announce(session: Session, made: JSON) -> None:
    """Emit both events of a changed refund; the older one is named after the charge."""
    session.emit_all(made, "refund.updated", "charge.refund.updated")
