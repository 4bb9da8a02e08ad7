"""Writes of refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import refunds
from stripe_alloy.emulator.errors import invalid, missing, required
from stripe_alloy.emulator.routes import Ids, Route, without_params
from stripe_alloy.emulator.writes.fields import emit, metadata, update

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def _refund(session: Session, _: Ids, params: JSON) -> JSON:
    charge = _charge_of(session, params)
    amount = params.get("amount")
    if amount is not None and amount < 1:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    more: JSON = {"reason": params.get("reason")}
    if "metadata" in params:
        more["metadata"] = metadata({}, params["metadata"])
    if "instructions_email" in params:
        more["instructions_email"] = params["instructions_email"]
    return refunds.refund(session, charge, amount, **more)


def _charge_of(session: Session, params: JSON) -> JSON:
    if params.get("charge"):
        return session.get("charge", params["charge"], "charge")
    if not params.get("payment_intent"):
        raise required("charge")
    intent = session.get("payment_intent", params["payment_intent"], "payment_intent")
    if not intent["latest_charge"]:
        raise missing("charge", "", "payment_intent")
    return session.get("charge", intent["latest_charge"])


def _update_refund(session: Session, refund: JSON, params: JSON) -> JSON:
    update(session, refund, params, None)
    emit(session, refund, "refund.updated", "charge.refund.updated")
    return refund


ROUTES = (
    Route("POST", "/v1/refunds", "refund", "RefundCreateParams", write=_refund),
    Route("POST", "/v1/refunds/{id}", "refund", "RefundUpdateParams", change=_update_refund),
    Route("POST", "/v1/refunds/{id}/cancel", "refund", change=without_params(refunds.cancel)),
)
