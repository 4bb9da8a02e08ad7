"""Stripe's events: how long they are listed, and their fields."""

from __future__ import annotations

from typing import Any

from stripe_alloy.api.timestamps import DAY

OVERLAP = 300
"""Seconds before a bookmark that are read again: the event list is eventually consistent."""
RETENTION = 30 * DAY
"""Seconds that Stripe keeps events: docs.stripe.com/api/events."""
SAME_TIME = 60
"""Seconds by which the clocks of Stripe's servers may differ."""
EVENT = "event"
"""Stripe's `object` of an event."""

Event = dict[str, Any]
Key = tuple[str, str]
"""(object, id), as in ("charge", "ch_1")."""


def key_of(event: Event) -> Key:
    """Return (object, id) of the object inside an event; empty strings if it is unreadable."""
    source = event["data"]["object"]
    kind, source_id = source.get("object"), source.get("id")
    return kind if isinstance(kind, str) else "", source_id if isinstance(source_id, str) else ""


def in_shape(event: Event) -> Event:
    """Return an event whose outer fields have the shape of the pinned version.

    Until 2017-05, `request` was the request's ID. Fields of an unknown shape are omitted.
    """
    request, data = event.get("request"), event.get("data")
    if isinstance(request, str):
        event["request"] = {"id": request, "idempotency_key": None}
    elif not isinstance(request, dict):
        event["request"] = None
    if not isinstance(data, dict):
        data = event["data"] = {}
    if not isinstance(data.get("object"), dict):
        data["object"] = {}
    if not isinstance(data.get("previous_attributes"), dict):
        data.pop("previous_attributes", None)
    for name in ("api_version", "account"):
        if not isinstance(event.get(name), str):
            event.pop(name, None)
    event.setdefault("api_version", None)
    event["type"] = str(event.get("type") or "")
    return event
