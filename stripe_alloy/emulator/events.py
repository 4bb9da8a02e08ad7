"""Events: what happened, with the object as it was then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.api_versions import older
from stripe_alloy.emulator.templates import build

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Ledger


def event_object(ledger: Ledger, name: str, obj: JSON, previous_attributes: JSON | None) -> JSON:
    """The event, its snapshot rendered at the account's own version."""
    snapshot = dict(obj)
    data: JSON = {"object": older(snapshot) if ledger.shape_since else snapshot}
    if previous_attributes is not None:
        data["previous_attributes"] = previous_attributes
    return build(
        "event",
        id=ledger.new_id("event"),
        api_version=ledger.shape_since or ledger.version,
        created=ledger.now,
        data=data,
        request=ledger.request,
        type=name,
    )


def previous(before: JSON, after: JSON) -> JSON:
    """The old values of exactly the fields that changed; lists whole, hashes field by field."""
    changed: JSON = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changed[name] = previous(old, new)
        else:
            changed[name] = old
    return dict(sorted(changed.items()))
