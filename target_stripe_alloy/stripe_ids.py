"""Prefixes of Stripe's ids by stream: reviewed data."""

from __future__ import annotations

from collections.abc import Mapping

from stripe_alloy.api.object_types import OBJECT_TYPES

_OTHER_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "prices": ("plan_",),  # those that were plans
    "payment_methods": ("card_", "src_", "ba_"),  # sources
    "invoice_line_items": ("li_",),
    "charges": ("py_",),  # payments that are not by card, as are the next two
    "refunds": ("pyr_",),
    "disputes": ("du_", "pdp_"),
    "payouts": ("tr_",),
}
PREFIXES: Mapping[str, tuple[str, ...]] = {
    stream.name: (stream.id_prefix, *_OTHER_PREFIXES.get(stream.name, ()))
    for stream in OBJECT_TYPES
}
"""Stream → the prefixes of its ids."""


def is_stripe_id(stream: str, text: str) -> bool:
    """Whether a text has the form of a Stripe id of this stream.

    >>> is_stripe_id("customers", "cus_1"), is_stripe_id("customers", "user_2")
    (True, False)
    """
    return any(
        text.startswith(prefix) and text[len(prefix) :].replace("_", "").isalnum()
        for prefix in PREFIXES[stream]
    )
