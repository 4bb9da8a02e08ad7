"""Writes of disputes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import disputes
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.routes import Route, without_params
from stripe_alloy.emulator.writes.fields import emit, update

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def _update_dispute(session: Session, dispute: JSON, params: JSON) -> JSON:
    if dispute["status"] not in ("needs_response", "warning_needs_response"):
        if "evidence" in params:
            raise invalid("This dispute can no longer be responded to.", "evidence")
        return update(session, dispute, params, "charge.dispute.updated")
    update(session, dispute, params, None)
    if params.get("evidence"):
        details = {**dispute["evidence_details"], "has_evidence": True}
        session.change(dispute, evidence_details=details)
    if params.get("submit", True):
        disputes.submit(session, dispute)
    emit(session, dispute, "charge.dispute.updated")
    return dispute


ROUTES = (
    Route("POST", "/v1/disputes/{id}", "dispute", "DisputeUpdateParams", change=_update_dispute),
    Route("POST", "/v1/disputes/{id}/close", "dispute", change=without_params(disputes.close)),
)
