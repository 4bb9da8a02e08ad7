"""Pure: record + current object + base image → what to do, and why."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stripe_alloy.params import Shape
from target_stripe_alloy.reshape import (
    Path,
    Tree,
    Unwritable,
    alike,
    at,
    filled,
    is_empty,
    leaves,
    pruned,
    put,
    reaches,
    refusal,
    same,
    shape_at,
    tree_of,
    unwritable,
)
from target_stripe_alloy.resources import (
    ACTION,
    CREATE,
    DELETE,
    MODIFIERS,
    UPDATE,
    Object,
    Resource,
)

READ, CREATED, UPDATED, UNCHANGED = "read", "created", "updated", "unchanged"
ARCHIVED, DELETED, CONFLICT, BLOCKED, REJECTED = (
    "archived",
    "deleted",
    "conflict",
    "blocked",
    "rejected",
)
VERDICTS = (CREATED, UPDATED, UNCHANGED, ARCHIVED, DELETED, CONFLICT, BLOCKED, REJECTED)

SAME_ACCOUNT, COPY, EXTERNAL = "same_account", "copy", "external"
FAIL, SKIP, OVERWRITE, MERGE = "fail", "skip", "overwrite", "merge"
IGNORE, ARCHIVE = "ignore", "archive"

NEW = "new:"
"""Begins the key of an item that Stripe does not have yet."""
REPLACES = "stripe_alloy_replaces"
"""Metadata of a price: the id of the price whose amount it changes."""


@dataclass(frozen=True)
class Policy:
    """The settings that decide."""

    id_mode: str = SAME_ACCOUNT
    on_conflict: str = FAIL
    delete_policy: str = IGNORE
    allowed: frozenset[str] = frozenset()
    """Permissions: `invoices.finalize`."""


@dataclass(frozen=True)
class Base:
    """What record and object held when they were last brought together."""

    ours: Mapping[str, Tree]
    theirs: Mapping[str, Tree]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What the record held that cannot be written."""


@dataclass(frozen=True)
class Wanted:
    """A record, made ready: its references resolved, its parameters as trees."""

    resource: Resource
    fields: Mapping[str, Any]
    """The record's own fields, without what a tap or the SDK adds."""
    tree: Mapping[str, Tree]
    deleted: bool = False
    whole: bool = True
    """Whether `metadata`, where there is any, is all of it."""
    stamp: Mapping[str, str] = field(default_factory=dict)
    """Metadata by which a new object is found again."""
    object_id: str | None = None
    """For a new object that brings its own id."""
    action: str | None = None


@dataclass(frozen=True)
class Request:
    """One write."""

    kind: str
    method: str
    path: str
    params: Mapping[str, Tree] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A parameter as it is and as it is to be."""

    field: str
    before: Tree
    after: Tree


@dataclass(frozen=True)
class Decision:
    """What becomes of a record."""

    verdict: str
    requests: Sequence[Request] = ()
    changes: Sequence[Change] = ()
    reason: str = ""
    replaces: str | None = None
    """The price that ends with this decision."""


def plan(
    wanted: Wanted, current: Object | None, theirs: Tree, base: Base | None, policy: Policy
) -> Decision:
    """Decide. `theirs` is `current` as a tree; `current` is None where nothing is there."""
    try:
        if wanted.deleted:
            return _end(wanted, current, policy)
        if current is None:
            return _create(wanted, policy)
        return _update(wanted, current, theirs, base, policy)
    except Unwritable as error:
        return Decision(REJECTED, reason=str(error))


# ---------------------------------------------------------------------- its end


def _end(wanted: Wanted, current: Object | None, policy: Policy) -> Decision:
    resource = wanted.resource
    if current is None:
        return Decision(UNCHANGED, reason="it is gone already")
    if policy.delete_policy == IGNORE:
        return Decision(UNCHANGED, reason="`delete_policy` is `ignore`")
    cancel = resource.actions.get("cancel")
    if cancel and cancel.method == "DELETE" and current.get("status") in cancel.done:
        return Decision(UNCHANGED, reason=f"it is {current['status']} already")
    if policy.delete_policy == ARCHIVE or (resource.archive and not resource.deletes):
        return _archive(wanted, current)
    if not resource.deletes:
        return Decision(BLOCKED, reason=f"{resource.stream} cannot be deleted")
    missing = _missing(resource, DELETE, {}, current, policy)
    if missing:
        return Decision(BLOCKED, reason=missing)
    if resource.attached_to:
        return _detach(wanted, current, DELETED)
    path = resource.path_of(current["id"], current)
    return Decision(DELETED, (Request("delete", "DELETE", path),))


def _archive(wanted: Wanted, current: Object) -> Decision:
    resource = wanted.resource
    if not resource.archive:
        return Decision(BLOCKED, reason=f"{resource.stream} cannot be archived")
    changes = [
        Change(name, _shown(current.get(name)), value)
        for name, value in resource.archive.items()
        if _shown(current.get(name)) != value
    ]
    if not changes:
        return Decision(UNCHANGED, reason="it is archived already")
    path = resource.path_of(current["id"], current)
    request = Request("archive", "POST", path, dict(resource.archive))
    return Decision(ARCHIVED, (request,), changes)


def _detach(wanted: Wanted, current: Object, verdict: str) -> Decision:
    resource = wanted.resource
    held = current.get(resource.attached_to)
    if not held:
        return Decision(UNCHANGED, reason="it is detached already")
    path = f"{resource.path}/{current['id']}/detach"
    changes = [Change(resource.attached_to, held, None)]
    return Decision(verdict, (Request("detach", "POST", path),), changes)


def _shown(value: Any) -> Tree:
    return str(value).lower() if isinstance(value, bool) else value


# ---------------------------------------------------------------------- its beginning


def _create(wanted: Wanted, policy: Policy) -> Decision:
    resource = wanted.resource
    if policy.id_mode == SAME_ACCOUNT:
        return Decision(REJECTED, reason="there is no such object, and `same_account` creates none")
    if not resource.create:
        return Decision(BLOCKED, reason=resource.why_not)
    over = ended(resource, wanted.fields) or _unknown(wanted, policy)
    if over:
        return Decision(BLOCKED, reason=over)
    params = _new_params(wanted)
    needed = resource.needed | resource.also_needed(params)
    lacking = sorted(needed - params.keys())
    if resource.within and is_empty(wanted.tree.get(resource.within)):
        lacking.append(resource.within)
    if lacking:
        return Decision(REJECTED, reason=f"a new one needs {', '.join(lacking)}")
    wrong = "; ".join(_refusals(params, resource))
    if wrong:
        return Decision(REJECTED, reason=wrong)
    missing = _missing(resource, CREATE, params, {}, policy) or _action_forbidden(wanted, policy)
    if missing:
        return Decision(BLOCKED, reason=missing)
    changes = [Change(".".join(path), None, leaf) for path, leaf in leaves(params)]
    return Decision(CREATED, (create_request(wanted, params),), changes)


def ended(resource: Resource, fields: Mapping[str, Any]) -> str:
    """Why no copy is made of a record whose life is over; empty if it is not."""
    for name, values in resource.ended.items():
        if fields.get(name) in values:
            return f"its {name} is {fields[name]}: nothing of it goes on in a copy"
    return ""


def _new_params(wanted: Wanted) -> dict[str, Tree]:
    known = wanted.resource.created
    params = {
        name: filled(pruned(tree, known[name]))
        for name, tree in wanted.tree.items()
        if name in known and not is_empty(tree)
    }
    if wanted.object_id and "id" in known:
        params["id"] = wanted.object_id
    if wanted.stamp:
        params["metadata"] = {**params.get("metadata", {}), **wanted.stamp}
    if isinstance(params.get("items"), dict):
        params["items"] = [
            {name: value for name, value in entry.items() if name != "id"}
            for entry in params["items"].values()
        ]
    return params


def create_request(wanted: Wanted, params: Mapping[str, Tree]) -> Request:
    """The request that makes a new one; a line is added to its invoice."""
    resource = wanted.resource
    if resource.within != "invoice":
        path = resource.one.replace("/{id}", "") or resource.path
        return Request("create", "POST", path, params)
    path = f"/v1/invoices/{wanted.tree['invoice']}/add_lines"
    return Request("create", "POST", path, {"lines": [dict(params)]})


# ---------------------------------------------------------------------- its change


@dataclass
class _Comparison:
    """Where a record differs from the object."""

    changed: dict[Path, Tree] = field(default_factory=dict)
    conflicts: list[Path] = field(default_factory=list)

    def leave_theirs(self) -> list[str]:
        """Give up what conflicts; its names."""
        for path in self.conflicts:
            del self.changed[path]
        return [".".join(path) for path in self.conflicts]

    def tree(self) -> dict[str, Tree]:
        """What is to be written, leaf by leaf."""
        tree: dict[str, Tree] = {}
        for path, leaf in self.changed.items():
            put(tree, path, leaf)
        return tree


def _update(
    wanted: Wanted, current: Object, theirs: Tree, base: Base | None, policy: Policy
) -> Decision:
    resource = wanted.resource
    found = _compare(wanted, theirs, base)
    stuck = _not_to_be_changed(wanted, current, base, policy)
    frozen = sorted(".".join(path) for path in found.changed if _is_frozen(resource, path))
    if not resource.succeeded:
        stuck += frozen
    if stuck:
        names = ", ".join(dict.fromkeys(stuck))
        return Decision(BLOCKED, reason=f"Stripe does not let {names} be changed")
    kept = found.leave_theirs() if policy.on_conflict == MERGE else []
    if found.conflicts and (not found.changed or policy.on_conflict not in (OVERWRITE, MERGE)):
        return _conflict(found, theirs, wanted)
    if frozen:
        return _replacement(wanted, current, theirs, found, policy)
    decision = _apply(wanted, current, theirs, found, base, policy)
    if kept and not decision.reason:
        return replace(decision, reason=f"{', '.join(kept)} stays as it is in Stripe")
    return decision


def _is_frozen(resource: Resource, path: Path) -> bool:
    if path[0] in resource.frozen:
        return True
    known = path[0] in resource.updated and path[0] != "items"
    return known and not reaches(resource.updated[path[0]], path[1:])


def _conflict(found: _Comparison, theirs: Tree, wanted: Wanted) -> Decision:
    changes = [
        Change(".".join(path), at(theirs, path), at(wanted.tree, path)) for path in found.conflicts
    ]
    names = ", ".join(change.field for change in changes)
    return Decision(CONFLICT, changes=changes, reason=f"{names} changed in Stripe as well")


def _compare(wanted: Wanted, theirs: Tree, base: Base | None) -> _Comparison:
    found = _Comparison()
    resource = wanted.resource
    only_new = resource.write_only - resource.updated.keys()
    out = only_new | MODIFIERS | {name for name in resource.always if name in resource.write_only}
    for path, ours in leaves(dict(wanted.tree)):
        same_as_ever = path[0] in out and resource.always.get(path[0], ours) == ours
        if same_as_ever or alike(ours, at(theirs, path)) or path == ("metadata",):
            continue
        _weigh(found, path, ours, theirs, base)
    for path in _removed(wanted, theirs, base):
        _weigh(found, path, None, theirs, base)
    return found


def _weigh(found: _Comparison, path: Path, ours: Tree, theirs: Tree, base: Base | None) -> None:
    """Three ways: what did not change here is theirs; what changed here and there conflicts."""
    if base is not None and path[0] in base.ours:
        if alike(at(base.ours, path), ours):
            return
        if not alike(at(base.theirs, path), at(theirs, path)):
            found.conflicts.append(path)
    found.changed[path] = ours


def _removed(wanted: Wanted, theirs: Tree, base: Base | None) -> Iterator[Path]:
    """Keys that the record held last time and no longer does: of whole metadata, of items.

    Metadata that is null goes whole, but for what tells whose object it is.
    """
    if "metadata" in wanted.tree and wanted.tree["metadata"] is None:
        ours_not = {REPLACES, *wanted.stamp}
        yield from (("metadata", k) for k in at(theirs, ("metadata",)) or {} if k not in ours_not)
    if base is None:
        return
    for name in ("metadata", "items"):
        ours, before = wanted.tree.get(name), base.ours.get(name)
        if (
            isinstance(ours, dict)
            and isinstance(before, dict)
            and (wanted.whole or name == "items")
        ):
            for key in before.keys() - ours.keys():
                if not is_empty(at(theirs, (name, key))):
                    yield (name, key)
    yield from _removed_inside(wanted, theirs, base)


def _removed_inside(wanted: Wanted, theirs: Tree, base: Base) -> Iterator[Path]:
    """Keys that the metadata of an item no longer has."""
    items = wanted.tree.get("items")
    for key, item in items.items() if isinstance(items, dict) else ():
        path = ("items", key, "metadata")
        ours, before = at(item, ("metadata",)), at(base.ours, path)
        if isinstance(ours, dict) and isinstance(before, dict):
            for name in before.keys() - ours.keys():
                if not is_empty(at(theirs, (*path, name))):
                    yield (*path, name)


def _not_to_be_changed(
    wanted: Wanted, current: Object, base: Base | None, policy: Policy
) -> list[str]:
    """Fields that differ though no parameter takes them; what only came along does not count."""
    if policy.id_mode == COPY:
        return []
    fixed = base.fixed if base else {}
    names = []
    for path, value in parts_fixed(wanted):
        name = ".".join(path)
        if path[0] in wanted.resource.read_as or (value is None and path[0] not in current):
            continue
        if not same(value, at(current, path)) and not (name in fixed and same(fixed[name], value)):
            names.append(name)
    return names


def parts_fixed(wanted: Wanted) -> Iterator[tuple[Path, Any]]:
    """The parts of a record that can only be read, with their paths."""
    fields = wanted.resource.shape.fields or {}
    for name, value in wanted.fields.items():
        if name not in fields:
            yield (name,), value
        elif name not in _MENDED and name in wanted.tree:
            yield from unwritable(value, fields[name], (name,))


_MENDED = frozenset({"items", "discounts", "tiers", "currency_options", "pricing", "tax_ids"})
"""Fields that readings.py reshapes: what is inside them has other names there."""


def _unknown(wanted: Wanted, policy: Policy) -> str:
    """What to say of fields of a user's own record that Stripe does not know; empty if none."""
    known = {*(wanted.resource.shape.fields or {}), *wanted.resource.read_as}
    names = [n for n, value in wanted.fields.items() if n not in known and value is not None]
    return (
        f"Stripe takes no {', '.join(names)} here" if names and policy.id_mode == EXTERNAL else ""
    )


def _apply(
    wanted: Wanted,
    current: Object,
    theirs: Tree,
    found: _Comparison,
    base: Base | None,
    policy: Policy,
) -> Decision:
    resource = wanted.resource
    steps = _attachment(wanted, current, found)
    params = _params(found.changed, theirs, resource)
    acting = _action(wanted, current, base)
    entries = list(_entries(wanted, current, base))
    if not params and not steps and not acting and not entries:
        return Decision(UNCHANGED)
    if params:
        params = {**resource.always, **_modifiers(wanted, UPDATE), **params}
    wrong = list(_refusals({**params, **found.tree()}, resource))
    if wrong:
        return Decision(REJECTED, reason="; ".join(wrong))
    why = _missing(resource, UPDATE, params, current, policy) if params else ""
    if any(step.kind == "detach" for step in steps):
        why = why or _missing(resource, DELETE, {}, current, policy)
    if acting:
        why = why or _action_forbidden(wanted, policy)
    if why:
        return Decision(BLOCKED, reason=why)
    path = resource.path_of(current["id"], current)
    requests = [step for step in steps if step.kind == "attach"]
    if params:
        requests.append(Request("update", "POST", path, sent(params, theirs)))
    requests += [step for step in steps if step.kind != "attach"]  # updates are for attached ones
    requests += [Request(kind, method, f"{path}{end}", dict(e)) for kind, method, end, e in entries]
    requests += acting
    changes = [
        Change(".".join(p), at(theirs, p), after) for p, after in sorted(found.changed.items())
    ]
    changes += [
        Change(kind, None, dict(entry)) if entry else Change(kind, end, None)
        for kind, _, end, entry in entries
    ]
    changes += [Change(ACTION, None, request.kind) for request in acting]
    return Decision(UPDATED, requests, changes)


def _entries(
    wanted: Wanted, current: Object, base: Base | None
) -> Iterator[tuple[str, str, str, Mapping[str, Tree]]]:
    """Kind, method, end of path and parameters for entries that are objects of their own.

    Added is what the record has; deleted, what it had last time and no longer does.
    """
    for name, param in wanted.resource.read_as.items():
        if wanted.fields.get(name) is None:
            continue
        shape = wanted.resource.created[param].items or Shape()
        ours = _by_content(wanted.fields[name], shape)
        theirs = _by_content(current.get(name), shape)
        before = _by_content(base.fixed.get(name), shape) if base else {}
        for content in ours.keys() - theirs.keys():
            yield f"add {name}", "POST", f"/{name}", dict(content)
        for content in theirs.keys() & before.keys() - ours.keys():
            yield f"drop {name}", "DELETE", f"/{name}/{theirs[content]}", {}


def _by_content(listed: Any, shape: Shape) -> dict[tuple[tuple[str, str], ...], str]:
    """The ids of a list's entries by what they hold."""
    entries = listed.get("data") if isinstance(listed, dict) else listed
    trees = [(tree_of(entry, shape), entry) for entry in entries or () if isinstance(entry, dict)]
    return {tuple(sorted(tree.items())): str(entry.get("id")) for tree, entry in trees}


def _attachment(wanted: Wanted, current: Object, found: _Comparison) -> list[Request]:
    name = wanted.resource.attached_to
    if not name or (name,) not in found.changed:
        return []
    owner = found.changed[(name,)]
    path = f"{wanted.resource.path}/{current['id']}"
    if owner is None:
        return [Request("detach", "POST", f"{path}/detach")]
    if current.get(name):
        raise Unwritable(f"{name}: it belongs to {current[name]}, and to one only")
    return [Request("attach", "POST", f"{path}/attach", {name: owner})]


def _action_forbidden(wanted: Wanted, policy: Policy) -> str:
    name = f"{wanted.resource.stream}.{wanted.action}"
    if not wanted.action or name in policy.allowed:
        return ""
    return f"`allow_actions` does not contain {name}"


def _action(wanted: Wanted, current: Object, base: Base | None) -> list[Request]:
    if not wanted.action or (base and base.ours.get(ACTION) == wanted.action):
        return []
    resource = wanted.resource
    action = resource.actions.get(wanted.action)
    if action is None:
        known = ", ".join(resource.actions) or "none"
        raise Unwritable(f"{ACTION}: {resource.stream} know no {wanted.action!r}, but: {known}")
    status = current.get("status")
    if status in action.done:
        return []
    if status not in action.when:
        raise Unwritable(f"{ACTION}: cannot {wanted.action} one whose status is {status}")
    path = resource.path_of(current["id"], current)
    target = f"{path}/{action.suffix}" if action.suffix else path
    return [Request(wanted.action, action.method, target)]


def _modifiers(wanted: Wanted, operation: str) -> dict[str, Tree]:
    resource = wanted.resource
    known = resource.updated if operation == UPDATE else resource.created
    return {
        name: wanted.tree[name]
        for name in sorted(MODIFIERS & wanted.tree.keys() & known.keys())
        if not is_empty(wanted.tree[name])
    }


def _params(changed: Mapping[Path, Tree], theirs: Tree, resource: Resource) -> dict[str, Tree]:
    """Changed parameters: of a map its changed keys, of another hash all of it.

    Nobody documents whether Stripe merges a hash or replaces it: sent whole, both end the same.
    """
    params: dict[str, Tree] = {}
    for path, leaf in sorted(changed.items()):
        name = path[0]
        if name not in resource.updated:
            continue
        if len(path) > 1 and name not in params and not _is_map(resource, name):
            params[name] = filled(pruned(at(theirs, (name,)) or {}, resource.updated[name]))
        put(params, path, leaf)
    return params


def _is_map(resource: Resource, name: str) -> bool:
    return (
        name == "items" or resource.shape.fields is None or bool(resource.shape.fields[name].values)
    )


def sent(params: Mapping[str, Tree], theirs: Tree) -> dict[str, Tree]:
    """Parameters in the form Stripe takes: items as a list, each kept one with its id."""
    out = dict(params)
    items = out.get("items")
    if isinstance(items, dict):
        held = at(theirs, ("items",)) or {}
        out["items"] = [_entry(key, change, held) for key, change in sorted(items.items())]
    return out


def _entry(key: str, change: Tree, held: Mapping[str, Any]) -> Tree:
    if key not in held:
        if not key.startswith(NEW):
            raise Unwritable(f"items: {key} is not there any more")
        return {k: v for k, v in filled(change).items() if k != "id"}
    if change is None:
        return {"id": key, "deleted": "true"}
    if "price" in change and "quantity" not in change:  # without one Stripe resets it to 1
        quantity = held[key].get("quantity")
        change = {**change, **({"quantity": quantity} if quantity is not None else {})}
    return {"id": key, **change}


def _refusals(params: Mapping[str, Tree], resource: Resource) -> Iterator[str]:
    for path, leaf in leaves(dict(params)):
        why = refusal(leaf, shape_at(resource.shape, path))
        if why and path[0] != "items" and (leaf is not None or path[0] not in resource.always):
            yield f"{'.'.join(path)} {why}"


def _missing(
    resource: Resource,
    operation: str,
    params: Mapping[str, Tree],
    current: Object,
    policy: Policy,
) -> str:
    """The permission that lacks; empty if none does."""
    for guard in resource.guards:
        meant = not guard.fields or guard.fields & params.keys()
        if operation not in guard.on or not meant:
            continue
        if guard.unless and guard.unless(dict(params), current):
            continue
        name = f"{resource.stream}.{guard.action}"
        if name not in policy.allowed:
            return f"`allow_actions` does not contain {name}"
    return ""


# ---------------------------------------------------------------------- a price's successor


def _replacement(
    wanted: Wanted, current: Object, theirs: Tree, found: _Comparison, policy: Policy
) -> Decision:
    """A changed amount is a new price that takes over the lookup key."""
    resource = wanted.resource
    name = f"{resource.stream}.replace"
    if name not in policy.allowed:
        changed = ", ".join(sorted(".".join(p) for p in found.changed if p[0] in resource.frozen))
        reason = f"{changed} cannot be changed, and `allow_actions` does not contain {name}"
        return Decision(BLOCKED, reason=reason)
    params = _whole_of(theirs, found, resource)
    if params.get("lookup_key"):
        params["transfer_lookup_key"] = "true"
    stamps = {**wanted.stamp, REPLACES: current["id"]}
    params["metadata"] = {**params.get("metadata", {}), **stamps}
    wrong = list(_refusals(params, resource))
    if wrong:
        return Decision(REJECTED, reason="; ".join(wrong))
    changes = [Change(".".join(p), at(theirs, p), leaf) for p, leaf in found.changed.items()]
    request = Request("replace", "POST", resource.path, params)
    return Decision(UPDATED, (request,), changes, replaces=current["id"])


def _whole_of(theirs: Tree, found: _Comparison, resource: Resource) -> dict[str, Tree]:
    """All of an object, as it is to be: the parameters of one that takes its place."""
    whole: dict[str, Tree] = copy.deepcopy(dict(theirs))
    for path, leaf in found.changed.items():
        put(whole, path, leaf)
        if path[0] in _FORMS and leaf is not None:
            whole.pop(_FORMS[path[0]], None)
    return {
        name: filled(pruned(tree, resource.created[name]))
        for name, tree in whole.items()
        if name in resource.created and name not in resource.write_only and not is_empty(tree)
    }


_FORMS = {"unit_amount": "unit_amount_decimal", "unit_amount_decimal": "unit_amount"}
"""Two forms of one number, of which a new price takes one."""


# ---------------------------------------------------------------------- making ready


def tree_for(resource: Resource, fields: Mapping[str, Any], now: float) -> dict[str, Tree]:
    """The tree of an object or of a record: the parameters that its fields speak of.

    Raises `Unwritable` where a field has no form that a parameter takes.
    """
    mended = dict(fields)
    if resource.reading:
        resource.reading(mended, now)
    shapes = resource.shape.fields or {}
    return {
        name: tree_of(value, shapes[name], name) for name, value in mended.items() if name in shapes
    }


def key_items(
    tree: Mapping[str, Tree], held: Mapping[str, Any], rename: Callable[[str], str | None]
) -> dict[str, Tree]:
    """The tree with its items by their ids: their own here, or those of the same price."""
    entries = list(enumerate(tree["items"]))
    keyed: dict[str, Tree] = {}
    for number, entry in sorted(entries, key=lambda one: not one[1].get("id")):
        own = rename(entry["id"]) if entry.get("id") else None
        if own is None:
            fits = [k for k, old in held.items() if alike(old.get("price"), entry.get("price"))]
            own = next((k for k in fits if k not in keyed), None)
        keyed[own or f"{NEW}{number}"] = {k: v for k, v in entry.items() if k != "id"}
    return {**tree, "items": keyed}
