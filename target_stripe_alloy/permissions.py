"""Pure: what `allow_actions` would have to contain."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from target_stripe_alloy.decision import Policy, Wanted
from target_stripe_alloy.reshape import Tree
from target_stripe_alloy.resources import Object, Resource


def tree_from_form(body: str) -> dict[str, Tree]:
    """Stand-in."""
    return dict(parse_qsl(body, keep_blank_values=True))


def action_forbidden(wanted: Wanted, policy: Policy) -> str:
    """Why what the record asks for is not done; empty if it may be."""
    name = f"{wanted.resource.stream}.{wanted.action}"
    if not wanted.action or name in policy.allowed:
        return ""
    return f"`allow_actions` does not contain {name}"


def missing_permission(
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


def needed_by_request(
    resource: Resource, kind: str, params: Mapping[str, Tree], current: Object | None = None
) -> frozenset[str]:
    """Stand-in until the list of what moves money is there."""
    if kind in resource.actions:
        return frozenset({f"{resource.stream}.{kind}"})
    operation = {"create": "create", "replace": "create", "update": "update"}.get(kind, "delete")
    return frozenset(
        f"{resource.stream}.{guard.action}"
        for guard in resource.guards
        if operation in guard.on and (not guard.fields or guard.fields & params.keys())
    )
