"""The type of JSON objects."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]
"""A JSON object: one of Stripe's objects, a record, a message."""
