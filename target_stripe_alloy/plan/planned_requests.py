"""Pure: turns changes into requests."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.params import ParamType
from stripe_alloy.api.paths import segment
from target_stripe_alloy.params_tree import (
    InvalidRecord,
    Path,
    Tree,
    accepted,
    get_path,
    is_empty,
    leaves,
    set_path,
    shape_at,
    tree_of,
    validation_error,
    without_empty,
)
from target_stripe_alloy.plan.effects import (
    action_effect,
    effects_metadata,
    effects_of,
    record_effect,
    settings_of,
)
from target_stripe_alloy.plan.merge import Comparison
from target_stripe_alloy.plan.plan_types import NEW, BaseImage, DesiredState, PlannedRequest
from target_stripe_alloy.resources import ACTION, BEHAVIOR_PARAMS, Action, Operation, Resource


def new_params(wanted: DesiredState) -> dict[str, Tree]:
    """Return the parameters of a new object, with its stamp."""
    known = wanted.resource.create_params
    params = {
        name: accepted(tree, known[name])
        for name, tree in wanted.tree.items()
        if name in known and not is_empty(tree)
    }
    if wanted.object_id and "id" in known:
        params["id"] = wanted.object_id
    marks = effects_metadata(wanted.resource, _metadata_effects(wanted, params), None)
    if wanted.stamp or marks:
        params["metadata"] = {**params.get("metadata", {}), **wanted.stamp, **marks}
    if isinstance(params.get("items"), dict):
        params["items"] = [
            {name: value for name, value in entry.items() if name != "id"}
            for entry in params["items"].values()
        ]
    return params


def _metadata_effects(wanted: DesiredState, params: Mapping[str, Tree]) -> list[str]:
    """Return the effects of parameters that are to be named in the object's metadata."""
    resource = wanted.resource
    effects = effects_of(resource, params, wanted.occasion)
    return [*effects, *settings_of(resource, params)]


def _lasting(wanted: DesiredState, params: Mapping[str, Tree]) -> tuple[tuple[str, bool], ...]:
    found = effects_of(wanted.resource, params, wanted.occasion)
    return tuple((name, True) for name in found)


def create_request(wanted: DesiredState, params: Mapping[str, Tree]) -> PlannedRequest:
    """Return the request that creates an object; a line is added to its invoice."""
    resource = wanted.resource
    effects = _lasting(wanted, params)
    if resource.parent_field != "invoice":
        path = resource.item_path.replace("/{id}", "") or resource.path
        return PlannedRequest("create", "POST", path, params, effects)
    path = f"/v1/invoices/{segment(str(wanted.tree['invoice']))}/add_lines"
    return PlannedRequest("create", "POST", path, {"lines": [dict(params)]}, effects)


def update_request(
    wanted: DesiredState, path: str, params: Mapping[str, Tree], current: JSON, theirs: Tree
) -> PlannedRequest:
    """Return the request that updates an object, with its effects named in the metadata."""
    changed = dict(params)
    if wanted.resource.parent_field == "subscription":
        quantity = current.get("quantity")
        changed = with_quantity(changed, None if quantity is None else str(quantity))
    marks = effects_metadata(wanted.resource, _metadata_effects(wanted, changed), current)
    if marks:
        changed["metadata"] = {**(changed.get("metadata") or {}), **marks}
    effects = _lasting(wanted, changed)
    return PlannedRequest("update", "POST", path, to_request_params(changed, theirs), effects)


def sub_resource_requests(
    wanted: DesiredState, current: JSON, base: BaseImage | None
) -> Iterator[PlannedRequest]:
    """Yield the requests that add and delete entries of sub-resources.

    Entries that the record has are added; those that left it since last time are deleted.
    """
    path = wanted.resource.path_of(current["id"], current)
    for name, param in wanted.resource.sub_resources.items():
        if wanted.fields.get(name) is None:
            continue
        shape = wanted.resource.create_params[param].items or ParamType()
        ours = _by_content(wanted.fields[name], shape)
        theirs = _by_content(current.get(name), shape)
        before = _by_content(base.fixed.get(name), shape) if base else {}
        for content in ours.keys() - theirs.keys():
            yield PlannedRequest(f"add {name}", "POST", f"{path}/{name}", dict(content))
        for content in theirs.keys() & before.keys() - ours.keys():
            entry = segment(theirs[content])
            yield PlannedRequest(f"drop {name}", "DELETE", f"{path}/{name}/{entry}")


def _by_content(listed: Any, shape: ParamType) -> dict[tuple[tuple[str, str], ...], str]:
    """Return the ids of a list's entries by their contents."""
    entries = listed.get("data") if isinstance(listed, dict) else listed
    trees = [(tree_of(entry, shape), entry) for entry in entries or () if isinstance(entry, dict)]
    return {tuple(sorted(tree.items())): str(entry.get("id")) for tree, entry in trees}


def attachment_requests(
    wanted: DesiredState, current: JSON, found: Comparison
) -> list[PlannedRequest]:
    """Return the request that attaches or detaches; raises `InvalidRecord` if attached already."""
    name = wanted.resource.attach_field
    if not name or (name,) not in found.changed:
        return []
    owner = found.changed[(name,)]
    path = wanted.resource.path_of(current["id"], current)
    if owner is None:
        return [PlannedRequest("detach", "POST", f"{path}/detach")]
    if current.get(name):
        raise InvalidRecord(f"{name}: it belongs to {current[name]}, and to one only")
    return [PlannedRequest("attach", "POST", f"{path}/attach", {name: owner})]


def action_requests(
    wanted: DesiredState, current: JSON, base: BaseImage | None
) -> list[PlannedRequest]:
    """Return the request of a record's action, unless it was sent; raises `InvalidRecord`."""
    if not wanted.action or (base and base.ours.get(ACTION) == action_in_image(wanted)):
        return []
    resource = wanted.resource
    action = resource.actions.get(wanted.action)
    if action is None:
        known = ", ".join(resource.actions) or "none"
        raise InvalidRecord(
            f"{ACTION}: {resource.stream} have no action {wanted.action!r}, only: {known}"
        )
    status = current.get("status")
    effect = _effect(wanted, wanted.action, action)
    if status in action.done or current.get(action.fills) or effect[0] in wanted.done:
        return []
    if status not in action.when:
        raise InvalidRecord(f"{ACTION}: cannot {wanted.action} one whose status is {status}")
    path = resource.path_of(current["id"], current)
    target = f"{path}/{action.suffix}" if action.suffix else path
    return [PlannedRequest(wanted.action, action.method, target, effects=(effect,))]


def action_in_image(wanted: DesiredState) -> str | None:
    """Return the action as the base image has it: with the occasion, where the record has one."""
    return f"{wanted.action}:{wanted.occasion}" if wanted.occasion else wanted.action


def _effect(wanted: DesiredState, name: str, action: Action) -> tuple[str, bool]:
    """Return the name of an action's effect, and whether it lasts.

    An action that a status shows may be asked for again, but not by a record that is replayed.
    """
    if action.event:
        return action_effect(name, wanted.occasion), True
    return record_effect(name, wanted.digest, wanted.occurrence), False


def modifiers(wanted: DesiredState, operation: Operation) -> dict[str, Tree]:
    """Return the parameters of a record that control how a write is applied."""
    resource = wanted.resource
    known = resource.update_params if operation == Operation.UPDATE else resource.create_params
    return {
        name: wanted.tree[name]
        for name in sorted(BEHAVIOR_PARAMS & wanted.tree.keys() & known.keys())
        if not is_empty(wanted.tree[name])
    }


def changed_params(
    changed: Mapping[Path, Tree], theirs: Tree, resource: Resource
) -> dict[str, Tree]:
    """Return the changed parameters: of a map the changed keys, of another hash all of it.

    Stripe does not document whether it merges or replaces a hash: a complete one is safe.
    """
    params: dict[str, Tree] = {}
    for path, leaf in sorted(changed.items()):
        name = path[0]
        if name not in resource.update_params:
            continue
        if len(path) > 1 and name not in params and not _is_map(resource, name):
            params[name] = accepted(get_path(theirs, (name,)) or {}, resource.update_params[name])
        set_path(params, path, leaf)
    return params


def _is_map(resource: Resource, name: str) -> bool:
    return (
        name == "items" or resource.shape.fields is None or bool(resource.shape.fields[name].values)
    )


def to_request_params(params: Mapping[str, Tree], theirs: Tree) -> dict[str, Tree]:
    """Return parameters in the form of a request: items as a list, existing ones with their ids."""
    out = dict(params)
    items = out.get("items")
    if isinstance(items, dict):
        current = get_path(theirs, ("items",)) or {}
        out["items"] = [_entry(key, change, current) for key, change in sorted(items.items())]
    return out


def _entry(key: str, change: Tree, current: Mapping[str, Any]) -> Tree:
    if key not in current:
        if not key.startswith(NEW):
            raise InvalidRecord(f"items: {key} no longer exists")
        return {k: v for k, v in without_empty(change).items() if k != "id"}
    if change is None:
        return {"id": key, "deleted": "true"}
    return {"id": key, **with_quantity(change, current[key].get("quantity"))}


def with_quantity(change: Mapping[str, Tree], quantity: Tree) -> dict[str, Tree]:
    """Add the quantity to an item's change of price: Stripe would reset it to 1."""
    changes_price = not change.keys().isdisjoint(("price", "price_data"))
    if changes_price and "quantity" not in change and quantity is not None:
        return {**change, "quantity": quantity}
    return dict(change)


def check_params(params: Mapping[str, Tree], resource: Resource) -> None:
    """Raise `InvalidRecord` for parameters that Stripe would refuse, according to its types."""
    errors = []
    for path, leaf in leaves(dict(params)):
        why = validation_error(leaf, shape_at(resource.shape, path))
        if (
            why
            and path[0] != "items"
            and (leaf is not None or path[0] not in resource.update_defaults)
        ):
            errors.append(f"{'.'.join(path)} {why}")
    if errors:
        raise InvalidRecord("; ".join(errors))


def replacement_params(theirs: Tree, found: Comparison, resource: Resource) -> dict[str, Tree]:
    """Return the parameters of an object that replaces this one: its own, with the changes."""
    params: dict[str, Tree] = copy.deepcopy(dict(theirs))
    for path, leaf in found.changed.items():
        set_path(params, path, leaf)
        if path[0] in _FORMS and leaf is not None:
            params.pop(_FORMS[path[0]], None)
    return {
        name: accepted(tree, resource.create_params[name])
        for name, tree in params.items()
        if name in resource.create_params and name not in resource.write_only and not is_empty(tree)
    }


_FORMS = {"unit_amount": "unit_amount_decimal", "unit_amount_decimal": "unit_amount"}
"""Two forms of one number, of which a new price takes one."""
