"""Pure: where a record and the object in Stripe differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tap_stripe_alloy.shape import ADDED

ABSENT = "(absent)"

Differences = dict[str, tuple[Any, Any]]
"""Field → (in Stripe, in the record)."""


def differences(record: Mapping[str, Any], current: Mapping[str, Any]) -> Differences:
    """The record's fields whose values are not those in Stripe; an absent field is no difference.

    Both have the form of the tap's records. What the tap adds to an object does not count.
    """
    return {
        name: (current.get(name, ABSENT), value)
        for name, value in record.items()
        if name not in ADDED and current.get(name, ABSENT) != value
    }
