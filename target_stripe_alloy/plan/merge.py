"""Pure: three-way merge of record, object and base image, leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import (
    Path,
    Tree,
    accepts_path,
    get_path,
    has_path,
    is_empty,
    leaves,
    record_matches_object,
    set_path,
    tree_of,
    trees_equal,
)
from target_stripe_alloy.plan.effects import RESERVED, effect_of, setting_of, unreadable_params
from target_stripe_alloy.plan.plan_types import NEW, BaseImage, DesiredState, IdMode, Policy
from target_stripe_alloy.plan.unknown_fields import has_same_value, parts_unknown, path_of
from target_stripe_alloy.resources import BEHAVIOR_PARAMS, Resource


@dataclass
class Comparison:
    """The differences between a record and its object."""

    changed: dict[Path, Tree] = field(default_factory=dict)
    conflicts: list[Path] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Metadata keys that left the record and are kept: another pipeline may have set them."""

    def keep_remote(self) -> list[str]:
        """Keep Stripe's value of each field in conflict; return their names."""
        for path in self.conflicts:
            del self.changed[path]
        return [".".join(path) for path in self.conflicts]

    def tree(self) -> dict[str, Tree]:
        """Return the changes as a tree."""
        tree: dict[str, Tree] = {}
        for path, leaf in self.changed.items():
            set_path(tree, path, leaf)
        return tree


def is_immutable(resource: Resource, path: Path) -> bool:
    """Whether no update accepts the parameter at a path."""
    if path[0] in resource.immutable:
        return True
    known = path[0] in resource.update_params and path[0] != "items"
    return known and not accepts_path(resource.update_params[path[0]], path[1:])


def compare(wanted: DesiredState, theirs: Tree, base: BaseImage | None) -> Comparison:
    """Find the fields that the record changed relative to the base image."""
    found = Comparison()
    resource = wanted.resource
    effects = unreadable_params(resource)
    out = (resource.write_only - resource.update_params.keys()) | BEHAVIOR_PARAMS | effects
    for path, ours in leaves(dict(wanted.tree)):
        if path[0] in out or trees_equal(ours, get_path(theirs, path)) or path == ("metadata",):
            continue
        _merge_field(found, path, ours, theirs, base)
    for name in sorted(effects & wanted.tree.keys()):
        if _is_wanted(wanted, name, base):
            found.changed[(name,)] = wanted.tree[name]
    for path in _removed(wanted, theirs, base, found):
        _merge_field(found, path, None, theirs, base)
    return found


def _is_wanted(wanted: DesiredState, name: str, base: BaseImage | None) -> bool:
    """Whether a parameter that cannot be read back is to be sent.

    What adds something is sent once for each value. What sets something is sent when the value is
    another one than the last.
    """
    ours = wanted.tree[name]
    if name in wanted.resource.update_defaults and wanted.resource.update_defaults[name] == ours:
        return False
    if name in wanted.resource.adds:
        before = base is not None and trees_equal(get_path(base.ours, (name,)), ours)
        done = effect_of(name, ours, wanted.occasion) in wanted.done
        return not (is_empty(ours) or done or (before and not wanted.occasion))
    if base is not None and name in base.ours:
        return not trees_equal(base.ours[name], ours)
    return not is_empty(ours) and setting_of(name, ours) not in wanted.done


def _merge_field(
    found: Comparison, path: Path, ours: Tree, theirs: Tree, base: BaseImage | None
) -> None:
    """Merge one field three ways: a conflict if both sides changed it.

    A leaf that the record did not have last time is a change, even if it is null.
    """
    if base is not None and path[0] in base.ours:
        if has_path(base.ours, path) and trees_equal(get_path(base.ours, path), ours):
            return
        if not trees_equal(get_path(base.theirs, path), get_path(theirs, path)):
            found.conflicts.append(path)
    found.changed[path] = ours


def _removed(
    wanted: DesiredState, theirs: Tree, base: BaseImage | None, found: Comparison
) -> Iterator[Path]:
    """Yield metadata keys and items that the record had last time and has no longer.

    Null metadata removes all keys, except those that identify the object and, if a pipeline with a
    name wrote the object before, those that it did not write. If the pipeline has no name, a key
    that another one replaces may be another pipeline's: it is kept.
    """
    if "metadata" in wanted.tree and wanted.tree["metadata"] is None:
        there = (get_path(theirs, ("metadata",)) or {}).keys() - {*RESERVED, *wanted.stamp}
        if wanted.named_pipeline and base is not None:
            there &= (base.ours.get("metadata") or {}).keys()
        yield from (("metadata", key) for key in sorted(there))
    if base is None:
        return
    for name in ("metadata", "items"):
        ours, before = wanted.tree.get(name), base.ours.get(name)
        if (
            isinstance(ours, dict)
            and isinstance(before, dict)
            and (wanted.metadata_complete or name == "items")
        ):
            kept = {*wanted.ignored, *RESERVED} if name == "metadata" else set()
            absent = before.keys() - ours.keys() - kept
            gone = {k for k in absent if not is_empty(get_path(theirs, (name, k)))}
            if name == "metadata" and not wanted.named_pipeline and ours.keys() - before.keys():
                found.left += sorted(gone)
            else:
                yield from ((name, key) for key in sorted(gone))
    yield from _removed_inside(wanted, theirs, base)


def _removed_inside(wanted: DesiredState, theirs: Tree, base: BaseImage) -> Iterator[Path]:
    """Yield the keys that left the metadata of an item."""
    items = wanted.tree.get("items")
    for key, item in items.items() if isinstance(items, dict) else ():
        path = ("items", key, "metadata")
        ours, before = get_path(item, ("metadata",)), get_path(base.ours, path)
        if isinstance(ours, dict) and isinstance(before, dict):
            for name in before.keys() - ours.keys() - wanted.ignored:
                if not is_empty(get_path(theirs, (*path, name))):
                    yield (*path, name)


def immutable_changes(
    wanted: DesiredState, current: JSON, base: BaseImage | None, policy: Policy
) -> list[str]:
    """Return the read-only fields that a record changes: others are equal to the object's."""
    if policy.id_mode == IdMode.COPY:
        return []
    fixed = base.fixed if base else {}
    names = []
    for place, value in parts_unknown(wanted.resource, wanted.fields):
        name = ".".join(path_of(place))
        if name in fixed and record_matches_object(fixed[name], value):
            continue
        if not has_same_value(value, place, wanted.fields, current):
            names.append(name)
    return names


def read_only_values(wanted: DesiredState) -> Iterator[tuple[Path, Any]]:
    """Yield the read-only values of a record, with their paths."""
    for place, value in parts_unknown(wanted.resource, wanted.fields):
        yield path_of(place), value
    for name in wanted.resource.sub_resources.keys() & wanted.fields.keys():
        yield (name,), wanted.fields[name]


def unaccepted_fields(wanted: DesiredState) -> list[str]:
    """Return the names of a record's fields that no parameter accepts, without nulls."""
    parts = parts_unknown(wanted.resource, wanted.fields)
    return [".".join(path_of(place)) for place, value in parts if value is not None]


def tree_for(resource: Resource, fields: Mapping[str, Any], now: float) -> dict[str, Tree]:
    """Return the tree of an object or of a record: its fields as parameters.

    Raises `InvalidRecord` where a field has no form that a parameter accepts.
    """
    normalized = dict(fields)
    if resource.normalize:
        resource.normalize(normalized, now)
    shapes = resource.shape.fields or {}
    return {
        name: tree_of(value, shapes[name], name)
        for name, value in normalized.items()
        if name in shapes
    }


def key_items(
    tree: Mapping[str, Tree],
    current_items: Mapping[str, Any],
    rename: Callable[[str], str | None],
    prices: Mapping[str, Any] | None = None,
) -> dict[str, Tree]:
    """Return the tree with its items by their ids here, or by the ids of items of the same price.

    `prices` are the prices of `current_items`. An item with an inline price (`price_data`) is the
    item whose price is equal; then its `price_data` is dropped.
    """
    entries = list(enumerate(tree["items"]))
    keyed: dict[str, Tree] = {}
    for number, entry in sorted(entries, key=lambda one: not one[1].get("id")):
        item_id = rename(entry["id"]) if entry.get("id") else None
        if item_id is None:
            fits = [
                k for k, old in current_items.items() if _is_item(entry, old, (prices or {}).get(k))
            ]
            item_id = next((k for k in fits if k not in keyed), None)
        out = (
            {"id", "price_data"} if has_price(entry, (prices or {}).get(item_id or "")) else {"id"}
        )
        keyed[item_id or f"{NEW}{number}"] = {k: v for k, v in entry.items() if k not in out}
    return {**tree, "items": keyed}


def _is_item(entry: Tree, item: Tree, price: Any) -> bool:
    if "price_data" in entry and is_empty(entry.get("price")):
        return has_price(entry, price)
    return trees_equal(item.get("price"), entry.get("price"))


def has_price(entry: Mapping[str, Tree], price: Any) -> bool:
    """Whether an item's inline price (`price_data`) is equal to a price.

    >>> price = {"currency": "usd", "product": "prod_1", "unit_amount": 900}
    >>> has_price({"price_data": {"currency": "usd", "unit_amount": "900"}}, price)
    True
    """
    data = entry.get("price_data")
    if not isinstance(data, dict) or not isinstance(price, dict):
        return False
    known = price
    if isinstance(price.get("product"), dict):
        known = {**price, "product": price["product"].get("id")}
    return all(_equals_leaf(get_path(known, path), leaf) for path, leaf in leaves(data))


def _equals_leaf(value: Any, leaf: Tree) -> bool:
    try:
        return Decimal(str(value)) == Decimal(str(leaf))
    except InvalidOperation:
        return leaf is None or str(value) == leaf


def inline_price(resource: Resource, tree: dict[str, Tree], current: JSON | None) -> JSON:
    """Return the tree without a `price_data` that is equal to the object's price."""
    if "price_data" in resource.update_params and has_price(tree, (current or {}).get("price")):
        return {name: value for name, value in tree.items() if name != "price_data"}
    return tree
