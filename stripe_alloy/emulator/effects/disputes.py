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


def open_dispute(session: Session, charge: JSON, reason: str, *, inquiry: bool = False) -> JSON:
    """Open a dispute; the amount is withdrawn immediately, with a fee, but not for an inquiry."""
    dispute_id = session.new_id("dispute")
    moves = [] if inquiry else [_withdraw(session, charge, dispute_id)]
    evidence = part("dispute", "evidence_details", due_by=session.now + 10 * DAY)
    evidence["submission_method"] = "manual"
    dispute = session.add(
        "dispute",
        id=dispute_id,
        **copied(charge, "amount", "currency", "payment_intent"),
        balance_transactions=moves,
        charge=charge["id"],
        evidence_details=evidence,
        is_charge_refundable=inquiry,
        network_reason_code="10" if inquiry else "10.4",
        payment_method_details=_method(charge, "inquiry" if inquiry else "chargeback"),
        reason=reason,
        status="warning_needs_response" if inquiry else "needs_response",
    )
    session.change(charge, disputed=True)
    session.emit("charge.dispute.created", dispute)
    if moves:
        session.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def _withdraw(session: Session, charge: JSON, dispute_id: str) -> JSON:
    return move(
        session,
        "adjustment",
        -charge["amount"],
        charge["currency"],
        dispute_id,
        fee=DISPUTE_FEE,
        description=f"Chargeback withdrawal for {charge['id']}",
    )


def _method(charge: JSON, case_type: str) -> JSON | None:
    card = charge["payment_method_details"].get("card")
    if card is None:
        return None
    details = part("dispute", "payment_method_details.card", brand=card["brand"])
    return {"type": "card", "card": {**details, "case_type": case_type}}


def submit(session: Session, dispute: JSON) -> None:
    """Submit the evidence; it cannot be changed afterwards."""
    details = {**dispute["evidence_details"], "has_evidence": True}
    details["submission_count"] += 1
    session.change(dispute, status=_warned(dispute, "under_review"), evidence_details=details)


def _warned(dispute: JSON, status: str) -> str:
    """Return the status that an inquiry has in place of a dispute's."""
    if not dispute["status"].startswith("warning_"):
        return status
    return "warning_under_review" if status == "under_review" else "warning_closed"


def close(session: Session, dispute: JSON, outcome: str = "lost") -> JSON:
    """Close the dispute; if it is won, reinstate the funds."""
    if dispute["status"] in ("won", "lost", "warning_closed"):
        raise invalid("This dispute is already closed.", code="dispute_closed")
    session.change(dispute, status=_warned(dispute, outcome))
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
