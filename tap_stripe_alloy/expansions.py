"""Applies the setting `expand` to parent and child streams alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stripe_alloy.api.object_types import OBJECT_TYPES


def propagate_expand(expand: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return `expand` with each child's paths added to its parent, and vice versa."""
    full = {name: list(paths) for name, paths in expand.items()}
    for child in OBJECT_TYPES:
        if child.parent is None or child.parent_field is None:
            continue
        inside = f"{child.parent_field}.data."
        of_child = expand.get(child.name, ())
        of_parent = expand.get(child.parent.name, ())
        full.setdefault(child.parent.name, []).extend(inside + path for path in of_child)
        full.setdefault(child.name, []).extend(
            path.removeprefix(inside) for path in of_parent if path.startswith(inside)
        )
    return {name: list(dict.fromkeys(paths)) for name, paths in full.items()}
