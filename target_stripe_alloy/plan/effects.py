"""Pure: effects, which a request has on an object and no field of the object shows.

Examples are an email that was sent and a fee that was added. An effect is saved in the journal,
together with the response, and in the object's metadata, under `MARK`, if the request accepts
metadata. An effect that is saved is not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import Tree, get_path, is_empty, without_empty
from target_stripe_alloy.plan.plan_types import REPLACES
from target_stripe_alloy.plan.record_keys import COPY_OF, KEY_TYPES
from target_stripe_alloy.resources import BEHAVIOR_PARAMS, Resource

MARK = "stripe_alloy_done"
"""The metadata key that lists effects which no other field of the object shows."""
MARK_LENGTH = 500
"""Characters that Stripe takes as a value of metadata."""


RESERVED = frozenset({MARK, REPLACES, KEY_TYPES, COPY_OF})
"""Metadata keys of this target: their values in a record are ignored."""


def unreadable_params(resource: Resource) -> frozenset[str]:
    """Return the parameters of an update that cannot be read back: `add_invoice_items`."""
    return (resource.write_only & resource.update_params.keys()) - BEHAVIOR_PARAMS


def digest_of(tree: Any) -> str:
    """Return a short hash of a value."""
    return blake2b(msgspec.json.encode(tree, order="sorted"), digest_size=8).hexdigest()


def effect_of(name: str, tree: Tree, occasion: str = "") -> str:
    """Return the name of the effect that a parameter with this value has.

    >>> effect_of("submit", "true")
    'submit:125cc55f401f1a46'
    """
    value = without_empty(tree)
    return f"{name}:{digest_of([value, occasion] if occasion else value)}"


def setting_of(name: str, tree: Tree) -> str:
    """Return the name of a setting: a parameter's last value that cannot be read back."""
    return f"{name}={digest_of(without_empty(tree))}"


def effects_of(resource: Resource, params: Mapping[str, Tree], occasion: str) -> Iterator[str]:
    """Yield the effects of parameters that add something."""
    for name in sorted(resource.adds & params.keys()):
        if not is_empty(params[name]) and resource.update_defaults.get(name) != params[name]:
            yield effect_of(name, params[name], occasion)


def settings_of(resource: Resource, params: Mapping[str, Tree]) -> Iterator[str]:
    """Yield what names the values of parameters that set something and cannot be read."""
    for name in sorted((unreadable_params(resource) - resource.adds) & params.keys()):
        yield setting_of(name, params[name])


def _in_metadata(current: JSON | None) -> list[str]:
    return str(((current or {}).get("metadata") or {}).get(MARK) or "").split()


def known_effects(resource: Resource, current: JSON | None) -> frozenset[str]:
    """Return the effects and settings in an object's metadata, or that a count of it shows."""
    shown = (
        name
        for name, path in resource.shown_by.items()
        if get_path(current, tuple(path.split(".")))
    )
    return frozenset([*_in_metadata(current), *(effect_of(name, "true") for name in shown)])


def effects_metadata(
    resource: Resource, names: Iterable[str], current: JSON | None
) -> dict[str, str]:
    """Return the metadata that adds these effects and settings to those of the object."""
    new = [name for name in names if name.partition(":")[0] not in resource.shown_by]
    if not new:
        return {}
    replaced = {name.partition("=")[0] for name in new if "=" in name}
    old = [name for name in _in_metadata(current) if name.partition("=")[0] not in replaced]
    kept = list(dict.fromkeys([*old, *new]))
    while len(" ".join(kept)) > MARK_LENGTH:
        del kept[0]
    return {MARK: " ".join(kept)}


def action_effect(action: str, occasion: str) -> str:
    """Return the name of the effect of an action that no status shows."""
    name = f"{action}:{occasion}"
    return name if len(name) <= 100 else f"{action}:{digest_of(occasion)}"


def tag_of(effect: str) -> str:
    """Return what ends the idempotency key of a request that has this effect."""
    return f"-{digest_of(effect)[:8]}"


def record_effect(action: str, digest: bytes, occurrence: int) -> str:
    """Return the name of the effect of an action for one record, which may be sent again."""
    return f"{action}@{digest.hex()}" + (f"#{occurrence}" if occurrence else "")


def without_reserved(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a record's tree without the metadata keys of this target."""
    metadata = tree.get("metadata")
    if isinstance(metadata, dict) and not RESERVED.isdisjoint(metadata):
        return {**tree, "metadata": {k: v for k, v in metadata.items() if k not in RESERVED}}
    return tree
