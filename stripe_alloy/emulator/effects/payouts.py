"""Payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects.money import move
from stripe_alloy.emulator.errors import invalid

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


ARRIVES_AFTER = 2 * DAY


def pay_out(session: Session, amount: int, currency: str, **fields: Any) -> JSON:
    """Create a payout to the bank account."""
    payout_id = fields.pop("id", None) or session.new_id("payout")
    moved = move(session, "payout", -amount, currency, payout_id, description="STRIPE PAYOUT")
    arrives = (session.now + ARRIVES_AFTER) // DAY * DAY
    known = {
        "arrival_date": arrives,
        "balance_transaction": moved["id"],
        "description": "STRIPE PAYOUT",
        "destination": f"ba_{session.dice.text(24)}",
        "payout_method": None,
        "trace_id": {"status": "pending", "value": None},
        "status": "paid" if arrives <= session.today else "pending",
    }
    payout = session.add(
        "payout", id=payout_id, amount=amount, currency=currency, **{**known, **fields}
    )
    session.emit("payout.created", payout)
    return payout


def cancel(session: Session, payout: JSON) -> JSON:
    """Cancel a pending payout."""
    if payout["status"] != "pending":
        raise invalid(
            f"Payouts can only be canceled while pending; this one is {payout['status']}.",
            code="payout_not_cancelable",
        )
    moved = move(
        session, "payout_cancel", payout["amount"], payout["currency"], payout["id"], delay=0
    )
    session.change(payout, status="canceled", failure_balance_transaction=moved["id"])
    session.emit_all(payout, "payout.canceled", "payout.updated")
    return payout


def reverse(session: Session, payout: JSON, metadata: JSON) -> JSON:
    """Reverse a paid payout."""
    if payout["status"] != "paid" or payout["reversed_by"]:
        raise invalid("This payout cannot be reversed.", code="payout_reversal_not_supported")
    back = pay_out(
        session,
        -payout["amount"],
        payout["currency"],
        automatic=False,
        destination=payout["destination"],
        metadata=metadata,
        original_payout=payout["id"],
        reconciliation_status="not_applicable",
    )
    session.change(payout, reversed_by=back["id"])
    session.emit("payout.updated", payout)
    return back
