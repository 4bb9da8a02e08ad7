"""Payouts, and the balance transactions in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.effects.money import move
from stripe_alloy.emulator.effects.payouts import pay_out

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session

WEEK = 7 * DAY
MONDAY = 4 * DAY  # 1970-01-05 was a Monday
MONTH = 30 * DAY


class PayoutSchedule:
    """Weekly payouts per currency: the balance available by Monday is paid out on Monday."""

    def __init__(self, session: Session, end: int) -> None:
        self._session = session
        self._end = end
        self._weeks: dict[tuple[int, str], tuple[str, int]] = {}  # -> payout id, its amount
        session.payout_for = self.assign

    def assign(self, currency: str, available: int, net: int, kind: str) -> str | None:
        """Return the ID of the payout that a balance transaction will be part of."""
        monday = -((MONDAY - available) // WEEK) * WEEK + MONDAY
        if kind == "payout" or monday > self._end:
            return None
        key = (monday, currency)
        payout_id, total = self._weeks.get(key) or (self._session.new_id("payout"), 0)
        self._weeks[key] = (payout_id, total + net)
        return payout_id

    def charge_fees(self, begin: int, currency: str) -> None:
        """Charge Stripe's monthly fee."""
        for month, moment in enumerate(range(begin + MONTH, self._end, MONTH)):
            self._session.now = moment
            text = f"Billing - Usage Fee ({month + 1})"
            move(self._session, "stripe_fee", -(150 + 7 * month), currency, None, description=text)

    def pay_out(self) -> None:
        """Create the payouts, whose amounts are the sums of their transactions."""
        for (monday, currency), (payout_id, total) in sorted(self._weeks.items()):
            self._session.now = monday
            payout = pay_out(self._session, total, currency, id=payout_id)
            if payout["status"] == "paid":
                self._arrive(payout["arrival_date"], payout_id)

    def _arrive(self, moment: int, payout_id: str) -> None:
        payout = self._session.get("payout", payout_id)
        self._session.now = moment
        trace = {"status": "supported", "value": self._session.dice.digits(12)}
        self._session.change(payout, trace_id=trace)
        self._session.emit_all(
            payout, "payout.paid", "payout.updated", "payout.reconciliation_completed"
        )
