"""Disputes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects.money import DISPUTE_FEE, move
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.templates import copied, part

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def open_dispute(session: Session, charge: JSON, reason: str) -> JSON:
    """Open a dispute; the amount is withdrawn immediately, with a fee."""
    dispute_id = session.new_id("dispute")
    moved = move(
        session,
        "adjustment",
        -charge["amount"],
        charge["currency"],
        dispute_id,
        fee=DISPUTE_FEE,
        description=f"Chargeback withdrawal for {charge['id']}",
    )
    evidence = part("dispute", "evidence_details", due_by=session.now + 10 * DAY)
    evidence["submission_method"] = "manual"
    dispute = session.add(
        "dispute",
        id=dispute_id,
        **copied(charge, "amount", "currency", "payment_intent"),
        balance_transactions=[moved],
        charge=charge["id"],
        evidence_details=evidence,
        network_reason_code="10.4",
        payment_method_details=_method(charge),
        reason=reason,
    )
    session.change(charge, disputed=True)
    session.emit("charge.dispute.created", dispute)
    session.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def _method(charge: JSON) -> JSON | None:
    card = charge["payment_method_details"].get("card")
    if card is None:
        return None
    details = part("dispute", "payment_method_details.card", brand=card["brand"])
    return {"type": "card", "card": {**details, "case_type": "chargeback"}}


def submit(session: Session, dispute: JSON) -> None:
    """Submit the evidence; it cannot be changed afterwards."""
    details = {**dispute["evidence_details"], "has_evidence": True}
    details["submission_count"] += 1
    session.change(dispute, status="under_review", evidence_details=details)


def close(session: Session, dispute: JSON, outcome: str = "lost") -> JSON:
    """Close the dispute; if it is won, reinstate the funds."""
    if dispute["status"] in ("won", "lost"):
        raise invalid("This dispute is already closed.", code="dispute_closed")
    session.change(dispute, status=outcome)
    if outcome == "won":
        moved = move(
            session,
            "adjustment",
            dispute["amount"],
            dispute["currency"],
            dispute["id"],
            description=f"Chargeback reversal for {dispute['charge']}",
            category="dispute_reversal",
        )
        moves = [*dispute["balance_transactions"], moved]
        session.change(dispute, balance_transactions=moves)
    deliverable = ["charge.dispute.updated", "charge.dispute.closed"]
    won = ["charge.dispute.funds_reinstated"] if outcome == "won" else []
    session.emit_all(dispute, *won, *deliverable)
    return dispute
