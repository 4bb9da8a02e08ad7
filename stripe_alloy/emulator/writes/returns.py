"""Refunds, disputes, payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import disputes, payouts, refunds
from stripe_alloy.emulator.errors import invalid, missing, required
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.writes.fields import metadata, tell, update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stripe_alloy.emulator.session import Session


def _refund(ledger: Session, _: Mapping[str, str], params: JSON) -> JSON:
    charge = _charge_of(ledger, params)
    amount = params.get("amount")
    if amount is not None and amount < 1:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    more: JSON = {"reason": params.get("reason")}
    if "metadata" in params:
        more["metadata"] = metadata({}, params["metadata"])
    if "instructions_email" in params:
        more["instructions_email"] = params["instructions_email"]
    return refunds.refund(ledger, charge, amount, **more)


def _charge_of(ledger: Session, params: JSON) -> JSON:
    if params.get("charge"):
        return ledger.get("charge", params["charge"], "charge")
    if not params.get("payment_intent"):
        raise required("charge")
    intent = ledger.get("payment_intent", params["payment_intent"], "payment_intent")
    if not intent["latest_charge"]:
        raise missing("charge", "", "payment_intent")
    return ledger.get("charge", intent["latest_charge"])


def _update_refund(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    made = ledger.get("refund", ids["id"])
    update(ledger, made, params, None)
    tell(ledger, made, "refund.updated", "charge.refund.updated")
    return made


def _cancel_refund(ledger: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    return refunds.cancel(ledger, ledger.get("refund", ids["id"]))


def _update_dispute(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    dispute = ledger.get("dispute", ids["id"])
    if dispute["status"] not in ("needs_response", "warning_needs_response"):
        if "evidence" in params:
            raise invalid("This dispute can no longer be responded to.", "evidence")
        return update(ledger, dispute, params, "charge.dispute.updated")
    update(ledger, dispute, params, None)
    if params.get("evidence"):
        held = {**dispute["evidence_details"], "has_evidence": True}
        ledger.change(dispute, evidence_details=held)
    if params.get("submit", True):
        disputes.submit(ledger, dispute)
    tell(ledger, dispute, "charge.dispute.updated")
    return dispute


def _close_dispute(ledger: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    return disputes.close(ledger, ledger.get("dispute", ids["id"]))


def _pay_out(ledger: Session, _: Mapping[str, str], params: JSON) -> JSON:
    if params["amount"] < 1:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    named = ("description", "destination", "method", "source_type", "statement_descriptor")
    fields = {name: params[name] for name in named if name in params}
    return payouts.pay_out(
        ledger,
        params["amount"],
        params["currency"],
        automatic=False,
        metadata=metadata({}, params.get("metadata", {})),
        reconciliation_status="not_applicable",
        **fields,
    )


def _update_payout(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    return update(ledger, ledger.get("payout", ids["id"]), params, "payout.updated")


def _cancel_payout(ledger: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    return payouts.cancel(ledger, ledger.get("payout", ids["id"]))


def _reverse_payout(ledger: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    payout = ledger.get("payout", ids["id"])
    return payouts.reverse(ledger, payout, metadata({}, params.get("metadata", {})))


ROUTES = (
    Route("POST", "/v1/refunds", "refund", "RefundCreateParams", write=_refund),
    Route("POST", "/v1/refunds/{id}", "refund", "RefundUpdateParams", write=_update_refund),
    Route("POST", "/v1/refunds/{id}/cancel", "refund", None, write=_cancel_refund),
    Route("POST", "/v1/disputes/{id}", "dispute", "DisputeUpdateParams", write=_update_dispute),
    Route("POST", "/v1/disputes/{id}/close", "dispute", None, write=_close_dispute),
    Route("POST", "/v1/payouts", "payout", "PayoutCreateParams", write=_pay_out),
    Route("POST", "/v1/payouts/{id}", "payout", "PayoutUpdateParams", write=_update_payout),
    Route("POST", "/v1/payouts/{id}/cancel", "payout", None, write=_cancel_payout),
    Route(
        "POST", "/v1/payouts/{id}/reverse", "payout", "PayoutReverseParams", write=_reverse_payout
    ),
)
