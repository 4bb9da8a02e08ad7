"""The account objects of the platform and of connected accounts."""

from __future__ import annotations

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.clock import SEED_END
from stripe_alloy.emulator.session import listing
from stripe_alloy.emulator.templates import part

SPAN = 730 * DAY
"""Seconds of the accounts' history."""


def fields_of_account(index: int, account_id: str) -> JSON:
    """Return the fields of the platform's account, or of a connected one; nothing is random."""
    name = "Alloy Instruments" if index == 0 else f"Alloy Partner {index}"
    profile = {"name": name, "url": "https://example.com", "mcc": "5045", "support_email": None}
    return {
        "business_profile": part("account", "business_profile", **profile),
        "created": SEED_END - SPAN + index * DAY,
        "email": f"account{index}@example.com",
        "external_accounts": _external_accounts(account_id),
        "settings": _settings(name),
        "type": "standard" if index else "none",
    }


def _settings(name: str) -> JSON:
    descriptor = name.upper()[:22]  # the longest that card networks show
    schedule = part("account", "settings.payouts.schedule", delay_days=2, interval="daily")
    payouts = part("account", "settings.payouts", debit_negative_balances=True, schedule=schedule)
    return part(
        "account",
        "settings",
        card_payments={
            **part("account", "settings.card_payments"),
            "decline_on": {"avs_failure": False, "cvc_failure": False},
        },
        dashboard={"display_name": name, "timezone": "Etc/UTC"},
        invoices={"default_account_tax_ids": None, "hosted_payment_method_save": "offer"},
        payments=part("account", "settings.payments", statement_descriptor=descriptor),
        payouts=payouts,
        sepa_debit_payments={"creditor_id": None},
    )


def _external_accounts(account_id: str) -> JSON:
    """Return the list with the bank account of the payouts."""
    bank_account: JSON = {
        "id": f"ba_{account_id.removeprefix('acct_')}",
        "object": "bank_account",
        "account": account_id,
        "account_holder_name": None,
        "account_holder_type": None,
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "STRIPE TEST BANK",
        "country": "US",
        "currency": "usd",
        "default_for_currency": True,
        "fingerprint": account_id[-16:],
        "future_requirements": None,
        "last4": "6789",
        "metadata": {},
        "requirements": None,
        "routing_number": "110000000",
        "status": "new",
    }
    return listing([bank_account], f"/v1/accounts/{account_id}/external_accounts")
