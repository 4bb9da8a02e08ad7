"""Balance transactions, with fees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session


FEE_PER_MILLE = 29  # stripe.com/pricing: 2.9 % + 30
FEE_FIXED = 30
DISPUTE_FEE = 1500
AVAILABLE_AFTER = 2 * DAY

# reporting_category by type: docs.stripe.com/reports/reporting-categories
CATEGORIES = {
    "adjustment": "dispute",
    "charge": "charge",
    "payout": "payout",
    "payout_cancel": "payout_reversal",
    "refund": "refund",
    "refund_failure": "refund_failure",
    "stripe_fee": "fee",
}


def processing_fee(amount: int) -> int:
    """Return Stripe's fee for a payment, rounded half up."""
    return (amount * FEE_PER_MILLE + 500) // 1000 + FEE_FIXED


def move(
    session: Session,
    kind: str,
    amount: int,
    currency: str,
    source: str | None,
    *,
    fee: int = 0,
    description: str | None = None,
    category: str | None = None,
    delay: int = AVAILABLE_AFTER,
) -> JSON:
    """Create a balance transaction; Stripe emits no event for it."""
    available = (session.now + delay) // DAY * DAY if delay else session.now
    payout = session.payout_for(currency, available, amount - fee, kind)
    return session.add(
        "balance_transaction",
        private_fields={"_payout": payout} if payout else None,
        amount=amount,
        available_on=available,
        currency=currency,
        description=description,
        fee=fee,
        fee_details=_fee_details(fee, currency),
        net=amount - fee,
        reporting_category=category or CATEGORIES[kind],
        source=source,
        status="available" if available <= session.today else "pending",
        type=kind,
    )


def _fee_details(fee: int, currency: str) -> list[JSON]:
    if not fee:
        return []
    detail = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": "Stripe processing fees",
        "type": "stripe_fee",
    }
    return [detail]
