"""Pure: record + current object + base image → what to do, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import InvalidRecord, Tree, get_path, is_empty, leaves
from target_stripe_alloy.plan.copies import why_ended, why_no_change, why_no_copy
from target_stripe_alloy.plan.merge import (
    Comparison,
    compare,
    immutable_changes,
    is_immutable,
    unaccepted_fields,
)
from target_stripe_alloy.plan.permissions import (
    Needs,
    action_needs,
    entry_needs,
    lacking,
    merged,
    moves_money,
    needs_of,
)
from target_stripe_alloy.plan.plan_types import (
    REPLACES,
    BaseImage,
    Decision,
    DeletePolicy,
    DesiredState,
    FieldChange,
    IdMode,
    OnConflict,
    Outcome,
    PlannedRequest,
    Policy,
)
from target_stripe_alloy.plan.planned_requests import (
    action_requests,
    attachment_requests,
    changed_params,
    check_params,
    create_request,
    modifiers,
    new_params,
    replacement_params,
    sub_resource_requests,
    update_request,
)
from target_stripe_alloy.plan.recovery import DELETE_POLICY
from target_stripe_alloy.resources import ACTION, Operation, Resource


def plan(
    wanted: DesiredState, current: JSON | None, theirs: Tree, base: BaseImage | None, policy: Policy
) -> Decision:
    """Decide on a record. `current` is its object, if there is one, and `theirs` that as a tree."""
    decision = _plan(wanted, current, theirs, base, policy)
    if not wanted.deleted:
        return decision
    return replace(decision, requests=tuple(map(_by_policy, decision.requests)))


def _by_policy(request: PlannedRequest) -> PlannedRequest:
    """Let a tombstone's request need its `delete_policy`, which recovery checks again."""
    policy = DeletePolicy.ARCHIVE if request.kind == "archive" else DeletePolicy.DELETE
    return replace(request, needs=request.needs | {f"{DELETE_POLICY}{policy}"})


def _plan(
    wanted: DesiredState, current: JSON | None, theirs: Tree, base: BaseImage | None, policy: Policy
) -> Decision:
    try:
        if wanted.deleted:
            return _delete(wanted, current, policy)
        if current is None:
            return _create(wanted, policy)
        return _update(wanted, current, theirs, base, policy)
    except InvalidRecord as error:
        return Decision(Outcome.REJECTED, reason=str(error))


def _delete(wanted: DesiredState, current: JSON | None, policy: Policy) -> Decision:
    resource = wanted.resource
    if current is None:
        return Decision(Outcome.UNCHANGED, reason="it is deleted already")
    if policy.delete_policy == DeletePolicy.IGNORE:
        return Decision(Outcome.UNCHANGED, reason="`delete_policy` is `ignore`")
    cancel = resource.actions.get("cancel")
    if cancel and cancel.method == "DELETE" and current.get("status") in cancel.done:
        return Decision(Outcome.UNCHANGED, reason=f"it is {current['status']} already")
    if policy.delete_policy == DeletePolicy.ARCHIVE or (resource.archive and not resource.deletes):
        return _archive(wanted, current)
    if not resource.deletes:
        return Decision(Outcome.BLOCKED, reason=f"{resource.stream} cannot be deleted")
    needs = needs_of(resource, Operation.DELETE, {}, current)
    missing = lacking(needs, policy)
    if missing:
        return Decision(Outcome.BLOCKED, reason=missing)
    if resource.attach_field:
        return _detach(wanted, current, needs)
    path = resource.path_of(current["id"], current)
    return Decision(
        Outcome.DELETED, (PlannedRequest("delete", "DELETE", path, needs=frozenset(needs)),)
    )


def _archive(wanted: DesiredState, current: JSON) -> Decision:
    resource = wanted.resource
    if not resource.archive:
        return Decision(Outcome.BLOCKED, reason=f"{resource.stream} cannot be archived")
    changes = [
        FieldChange(name, _shown(current.get(name)), value)
        for name, value in resource.archive.items()
        if _shown(current.get(name)) != value
    ]
    if not changes:
        return Decision(Outcome.UNCHANGED, reason="it is archived already")
    path = resource.path_of(current["id"], current)
    request = PlannedRequest("archive", "POST", path, dict(resource.archive))
    return Decision(Outcome.ARCHIVED, (request,), changes)


def _detach(wanted: DesiredState, current: JSON, needs: Needs) -> Decision:
    resource = wanted.resource
    parent = current.get(resource.attach_field)
    if not parent:
        return Decision(Outcome.UNCHANGED, reason="it is detached already")
    path = f"{resource.path_of(current['id'], current)}/detach"
    changes = [FieldChange(resource.attach_field, parent, None)]
    request = PlannedRequest("detach", "POST", path, needs=frozenset(needs))
    return Decision(Outcome.DELETED, (request,), changes)


def _shown(value: Any) -> Tree:
    return str(value).lower() if isinstance(value, bool) else value


def _create(wanted: DesiredState, policy: Policy) -> Decision:
    resource = wanted.resource
    if policy.id_mode == IdMode.SAME_ACCOUNT and not wanted.creatable:
        return Decision(
            Outcome.REJECTED, reason="there is no such object, and `same_account` creates none"
        )
    if not resource.create:
        return Decision(Outcome.BLOCKED, reason=resource.why_not)
    why = _why_not_created(wanted, policy)
    if why:
        return Decision(Outcome.BLOCKED, reason=why)
    params = new_params(wanted)
    absent = _missing_params(wanted, params)
    if absent:
        return Decision(Outcome.REJECTED, reason=f"a new one needs {', '.join(absent)}")
    check_params(params, resource)
    needs = needs_of(resource, Operation.CREATE, params, parent=wanted.parent)
    missing = lacking(merged(needs, action_needs(wanted)), policy)
    if missing:
        return Decision(Outcome.BLOCKED, reason=missing)
    changes = [FieldChange(".".join(path), None, leaf) for path, leaf in leaves(params)]
    request = replace(create_request(wanted, params), needs=frozenset(needs))
    return Decision(Outcome.CREATED, (request,), changes)


def _why_not_created(wanted: DesiredState, policy: Policy) -> str:
    """Return why a record creates no object, whatever is allowed; empty if it does."""
    resource = wanted.resource
    if policy.id_mode == IdMode.COPY:
        return why_no_copy(resource, dict(wanted.fields), wanted.left_out)
    return why_ended(resource, wanted.fields) or _unknown(wanted, policy)


def _missing_params(wanted: DesiredState, params: Mapping[str, Tree]) -> list[str]:
    """Return the required parameters that a new object lacks."""
    resource = wanted.resource
    needed = resource.required | resource.required_with(params)
    absent = sorted(needed - params.keys())
    if resource.parent_field and is_empty(wanted.tree.get(resource.parent_field)):
        absent.append(resource.parent_field)
    if resource.requires_one_of and not params.keys() & set(resource.requires_one_of):
        absent.append(" or ".join(resource.requires_one_of))
    return absent


def _update(
    wanted: DesiredState, current: JSON, theirs: Tree, base: BaseImage | None, policy: Policy
) -> Decision:
    resource = wanted.resource
    found = compare(wanted, theirs, base)
    immutable = immutable_changes(wanted, current, base, policy)
    frozen = sorted(".".join(path) for path in found.changed if is_immutable(resource, path))
    if not resource.replaced_on_change:
        immutable += frozen
    if immutable:
        names = ", ".join(dict.fromkeys(immutable))
        return Decision(Outcome.BLOCKED, reason=f"Stripe does not let {names} be changed")
    kept = found.keep_remote() if policy.on_conflict == OnConflict.MERGE else []
    if found.conflicts and (
        not found.changed or policy.on_conflict not in (OnConflict.OVERWRITE, OnConflict.MERGE)
    ):
        return _conflict(found, theirs, wanted)
    incomplete = why_no_change(resource, {path[0] for path in found.changed}, wanted.left_out)
    if incomplete:
        return Decision(Outcome.BLOCKED, reason=incomplete)
    if frozen:
        return _replacement(wanted, current, theirs, found, policy)
    decision = _apply(wanted, current, theirs, found, base, policy)
    if decision.reason:
        return decision
    return replace(decision, reason=_unwritten_values(kept, found.left))


def _unwritten_values(kept: Sequence[str], left: Sequence[str]) -> str:
    """Return a note on values of the record that are not written; empty if there are none."""
    notes = [f"{', '.join(kept)} keeps Stripe's value"] if kept else []
    if left:
        names = ", ".join(f"metadata.{name}" for name in left)
        notes.append(f"{names} left the record and stays: `pipeline` would say that it is its own")
    return "; ".join(notes)


def _conflict(found: Comparison, theirs: Tree, wanted: DesiredState) -> Decision:
    changes = [
        FieldChange(".".join(path), get_path(theirs, path), get_path(wanted.tree, path))
        for path in found.conflicts
    ]
    names = ", ".join(change.field for change in changes)
    return Decision(Outcome.CONFLICT, changes=changes, reason=f"{names} changed in Stripe as well")


def _unknown(wanted: DesiredState, policy: Policy) -> str:
    """Return a note on fields of a user's record that Stripe does not know; empty if none."""
    if policy.id_mode != IdMode.EXTERNAL and not wanted.creatable:
        return ""
    names = unaccepted_fields(wanted)
    return f"Stripe takes no {', '.join(names)} here" if names else ""


def _apply(
    wanted: DesiredState,
    current: JSON,
    theirs: Tree,
    found: Comparison,
    base: BaseImage | None,
    policy: Policy,
) -> Decision:
    resource = wanted.resource
    steps = attachment_requests(wanted, current, found)
    params = changed_params(found.changed, theirs, resource)
    acting = action_requests(wanted, current, base)
    entries = list(sub_resource_requests(wanted, current, base))
    if not params and not steps and not acting and not entries:
        return Decision(Outcome.UNCHANGED)
    mine = _changes_alone(resource, found)
    how = modifiers(wanted, Operation.UPDATE) if moves_money(resource, mine) else {}
    if params:
        params = {**resource.update_defaults, **how, **params}
    check_params({**params, **found.tree()}, resource)
    path = resource.path_of(current["id"], current)
    needs = needs_of(resource, Operation.UPDATE, {**how, **mine}, current, wanted.parent)
    updates = [(update_request(wanted, path, params, current, theirs), needs)] if params else []
    around = [(step, _needs_of_step(resource, step)) for step in steps]
    planned = [
        *(step for step in around if step[0].kind == "attach"),
        *updates,
        *(step for step in around if step[0].kind != "attach"),  # updates are for attached ones
        *((request, entry_needs(resource, request.kind, request.params)) for request in entries),
        *((request, action_needs(wanted, current)) for request in acting),
    ]
    why = lacking(merged(*(needed for _, needed in planned)), policy)
    if why:
        return Decision(Outcome.BLOCKED, reason=why)
    requests = [replace(request, needs=frozenset(needed)) for request, needed in planned]
    changes = [
        FieldChange(".".join(p), get_path(theirs, p), after)
        for p, after in sorted(found.changed.items())
    ]
    changes += [
        FieldChange(entry.kind, None, entry.params)
        if entry.params
        else FieldChange(entry.kind, entry.path.removeprefix(path), None)
        for entry in entries
    ]
    changes += [FieldChange(ACTION, None, request.kind) for request in acting]
    return Decision(Outcome.UPDATED, requests, changes)


def _changes_alone(resource: Resource, found: Comparison) -> dict[str, Tree]:
    """Return the changes alone, without the unchanged parameters of the same hash."""
    return {name: tree for name, tree in found.tree().items() if name in resource.update_params}


def _needs_of_step(resource: Resource, step: PlannedRequest) -> Needs:
    if step.kind == "detach":
        return needs_of(resource, Operation.DELETE, {})
    return needs_of(resource, Operation.UPDATE, step.params)


def _replacement(
    wanted: DesiredState, current: JSON, theirs: Tree, found: Comparison, policy: Policy
) -> Decision:
    """Plan a new price with the changed amount, which takes over the lookup key."""
    resource = wanted.resource
    replacing: Needs = {f"{resource.stream}.replace": []}
    needs = merged(
        needs_of(resource, Operation.UPDATE, _changes_alone(resource, found), current), replacing
    )
    missing = lacking(needs, policy)
    if missing:
        changed = ", ".join(
            sorted(".".join(p) for p in found.changed if p[0] in resource.immutable)
        )
        return Decision(Outcome.BLOCKED, reason=f"{changed} cannot be changed, and {missing}")
    params = replacement_params(theirs, found, resource)
    if params.get("lookup_key"):
        params["transfer_lookup_key"] = "true"
    stamps = {**wanted.stamp, REPLACES: current["id"]}
    params["metadata"] = {**params.get("metadata", {}), **stamps}
    check_params(params, resource)
    changes = [
        FieldChange(".".join(p), get_path(theirs, p), leaf) for p, leaf in found.changed.items()
    ]
    request = PlannedRequest("replace", "POST", resource.path, params, needs=frozenset(needs))
    return Decision(Outcome.UPDATED, (request,), changes, replaces=current["id"])
