"""Pure: what a request of an earlier run, without a response, needs before it is sent again."""

from __future__ import annotations

from collections.abc import Collection

from target_stripe_alloy.plan.base_images import Context
from target_stripe_alloy.plan.form_bodies import tree_from_form
from target_stripe_alloy.plan.permissions import needed_by_request
from target_stripe_alloy.plan.plan_types import DeletePolicy, IdMode, OnMissing, Policy
from target_stripe_alloy.resources import Resource

DELETE_POLICY = "delete_policy="
"""Begins the name of what a tombstone's request needs."""
ON_MISSING_CREATE = "on_missing=create"
"""The name of what a new object needs."""


def withdrawn(
    resource: Resource,
    kind: str,
    body: str,
    context: Context | None,
    policy: Policy,
    id_mode: str = IdMode.EXTERNAL,
) -> list[str]:
    """Return what a request needs that the settings do not allow now.

    A journal of version 1 did not keep what was needed: then it follows from the request, and what
    depends on the object counts as needed. `id_mode` is that of the run that noted the request.
    """
    if context is not None:
        needed: Collection[str] = context.permissions
    else:
        needed = needed_by_request(resource, kind, tree_from_form(body))
        if kind in ("delete", "archive"):
            needed |= {DELETE_POLICY + kind}
    taken_back = {name for name in needed if not _is_allowed(name, policy)}
    if kind == "create" and not _creates(policy, id_mode):
        taken_back.add(ON_MISSING_CREATE)
    return sorted(taken_back)


def _creates(policy: Policy, id_mode: str) -> bool:
    """Whether a record without an object creates one; see `on_missing`."""
    return policy.on_missing == OnMissing.CREATE or (
        not policy.on_missing and id_mode != IdMode.SAME_ACCOUNT
    )


def _is_allowed(name: str, policy: Policy) -> bool:
    if not name.startswith(DELETE_POLICY):
        return name in policy.allowed
    wanted = name.removeprefix(DELETE_POLICY)
    return policy.delete_policy != DeletePolicy.IGNORE and wanted in (
        policy.delete_policy,
        DeletePolicy.ARCHIVE,
    )
