"""Prefixes of Stripe's ids by stream: data, reviewed by hand."""

from __future__ import annotations

from collections.abc import Mapping

PREFIXES: Mapping[str, tuple[str, ...]] = {
    "products": ("prod_",),
    "prices": ("price_", "plan_"),
    "customers": ("cus_",),
    "payment_methods": ("pm_", "card_", "src_", "ba_"),
    "subscriptions": ("sub_",),
    "subscription_items": ("si_",),
    "invoices": ("in_",),
    "invoice_line_items": ("il_", "li_"),
    "payment_intents": ("pi_",),
    "charges": ("ch_", "py_"),
    "refunds": ("re_", "pyr_"),
    "disputes": ("dp_", "du_", "pdp_"),
    "payouts": ("po_", "tr_"),
    "events": ("evt_",),
    "balance_transactions": ("txn_",),
}
"""Stream → how ids begin. `py_`, `pyr_`, `du_`: of payments that are no cards'; `card_`, `src_`,
`ba_`: sources, which payment methods may be; `plan_`: prices that were plans."""


def is_stripe_id(stream: str, text: str) -> bool:
    """Whether a text is an id of Stripe's of this stream, by its looks.

    >>> is_stripe_id("customers", "cus_1"), is_stripe_id("customers", "user_2")
    (True, False)
    """
    return any(
        text.startswith(prefix) and text[len(prefix) :].replace("_", "").isalnum()
        for prefix in PREFIXES[stream]
    )
