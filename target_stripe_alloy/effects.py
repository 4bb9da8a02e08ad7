"""Pure: effects, what a request does to an object that no field of the object shows.

A mail that was sent, a fee that was added: read again, the object looks as before. So an effect is
noted, in the journal together with the answer, and, where the request takes metadata, on the object
itself under `MARK`. An effect that is noted is not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from target_stripe_alloy.decision import NEW
from target_stripe_alloy.reshape import Tree, at, filled, is_empty
from target_stripe_alloy.resources import MODIFIERS, Object, Resource

MARK = "stripe_alloy_done"
"""The metadata key under which an object names effects that its own fields do not show."""
MARK_LENGTH = 500
"""Characters that Stripe takes as a value of metadata."""


def traceless(resource: Resource) -> frozenset[str]:
    """Return the parameters of an update that cannot be read again: `add_invoice_items`."""
    return (resource.write_only & resource.updated.keys()) - MODIFIERS


def effect_of(name: str, tree: Tree) -> str:
    """Return the name of the effect that a parameter with this value has.

    >>> effect_of("submit", "true")
    'submit:125cc55f401f1a46'
    """
    text = msgspec.json.encode(filled(tree), order="sorted")
    return f"{name}:{blake2b(text, digest_size=8).hexdigest()}"


def effects_of(
    resource: Resource, params: Mapping[str, Tree], items: Mapping[str, Tree] | None = None
) -> Iterator[str]:
    """Yield the effects of parameters; of `items`, those of new ones that name no price."""
    for name in sorted(traceless(resource) & params.keys()):
        if not is_empty(params[name]) and resource.always.get(name) != params[name]:
            yield effect_of(name, params[name])
    for key, entry in (items or {}).items():
        if key.startswith(NEW) and is_unnamed(entry):
            yield effect_of("items", entry)


def is_unnamed(item: Tree) -> bool:
    """Whether an item brings its own price: in Stripe it has the id of another one."""
    return isinstance(item, dict) and "price_data" in item and is_empty(item.get("price"))


def marks(resource: Resource, current: Object | None) -> frozenset[str]:
    """Return the effects that an object names itself, or shows in a count."""
    text = ((current or {}).get("metadata") or {}).get(MARK) or ""
    shown = (
        name for name, path in resource.shown_by.items() if at(current, tuple(path.split(".")))
    )
    return frozenset([*str(text).split(), *(effect_of(name, "true") for name in shown)])


def marked(resource: Resource, effects: Iterable[str], current: Object | None) -> dict[str, str]:
    """Return the metadata that names these effects besides the last ones that were named."""
    text = ((current or {}).get("metadata") or {}).get(MARK) or ""
    new = [name for name in effects if name.partition(":")[0] not in resource.shown_by]
    if not new:
        return {}
    names = list(dict.fromkeys([*str(text).split(), *new]))
    while len(" ".join(names)) > MARK_LENGTH:
        del names[0]
    return {MARK: " ".join(names)}


def of_action(action: str, occasion: str) -> str:
    """Return the name of the effect of an action that no status shows."""
    return f"{action}:{occasion}"[:120]


def of_replay(action: str, digest: bytes) -> str:
    """Return the name of the effect of an action for one record, which may come again."""
    return f"{action}@{digest.hex()}"


def without_mark(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a record's tree without the mark, which a tap has read with the other metadata."""
    metadata = tree.get("metadata")
    if isinstance(metadata, dict) and MARK in metadata:
        return {**tree, "metadata": {k: v for k, v in metadata.items() if k != MARK}}
    return tree
