"""Columns that the tap adds to Stripe's objects; the target does not write them."""

from __future__ import annotations

from collections.abc import Mapping

from stripe_alloy.api.schemas import Schema

_DATE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}

ADDED: Mapping[str, Schema] = {
    "updated": {
        "type": "string",
        "format": "date-time",
        "description": "When the object last changed, as far as known. "
        "If a list is read again: when it was read, so that the time does not go back.",
    },
    "deleted": {"type": "boolean", "description": "Whether the object no longer exists."},
    "_account_id": {
        "type": ["string", "null"],
        "description": "The Stripe account that holds the object; null where the key may not tell.",
    },
    "_sdc_deleted_at": {**_DATE_TIME, "description": "When the object was deleted."},
}
"""Columns of a record in addition to Stripe's fields."""
