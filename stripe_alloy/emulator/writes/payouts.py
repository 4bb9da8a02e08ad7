"""Writes of payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.effects import payouts
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.routes import Ids, Route, without_params
from stripe_alloy.emulator.writes.fields import metadata

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


def _pay_out(session: Session, _: Ids, params: JSON) -> JSON:
    if params["amount"] < 1:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    named = ("description", "destination", "method", "source_type", "statement_descriptor")
    fields = {name: params[name] for name in named if name in params}
    return payouts.pay_out(
        session,
        params["amount"],
        params["currency"],
        automatic=False,
        metadata=metadata({}, params.get("metadata", {})),
        reconciliation_status="not_applicable",
        **fields,
    )


def _reverse_payout(session: Session, payout: JSON, params: JSON) -> JSON:
    return payouts.reverse(session, payout, metadata({}, params.get("metadata", {})))


ROUTES = (
    Route("POST", "/v1/payouts", "payout", "PayoutCreateParams", write=_pay_out),
    Route("POST", "/v1/payouts/{id}/cancel", "payout", change=without_params(payouts.cancel)),
    Route(
        "POST", "/v1/payouts/{id}/reverse", "payout", "PayoutReverseParams", change=_reverse_payout
    ),
)
