"""The `previous_attributes` of events."""

from __future__ import annotations

from stripe_alloy.api.json_types import JSON


def previous(before: JSON, after: JSON) -> JSON:
    """Return the old values of the changed fields; lists complete, hashes field by field."""
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
