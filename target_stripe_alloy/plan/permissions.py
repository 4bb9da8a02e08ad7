"""Pure: the names of `allow_actions` that requests need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import Path, Tree, is_empty
from target_stripe_alloy.plan.parameter_classes import MONEY, Classes, Node, Rule
from target_stripe_alloy.plan.plan_types import DesiredState, Policy
from target_stripe_alloy.resources import RESOURCES, Operation, Resource

UNCLASSED = "unclassed:"
"""Begins the name of what no setting allows: a parameter that `parameter_classes` does not know."""

Needs = dict[str, list[str]]
"""Permission → the parameters that need it, for messages; none: the operation needs it."""


def permissions_of(resource: Resource) -> frozenset[str]:
    """Return all names of one stream that `allow_actions` may contain."""
    if not resource.writable:
        return frozenset()
    names = MONEY[resource.stream].actions | resource.actions.keys()
    names |= {"replace"} if resource.replaced_on_change else set()
    return frozenset(f"{resource.stream}.{name}" for name in names)


ALLOWED = tuple(sorted(name for resource in RESOURCES for name in permissions_of(resource)))
"""What `allow_actions` may contain."""


def needed_by_request(
    resource: Resource,
    kind: str,
    params: Mapping[str, Tree],
    current: JSON | None = None,
    parent: JSON | None = None,
) -> frozenset[str]:
    """Return the names of `allow_actions` that a request needs, as it is in the journal.

    `kind` is that of the request: `create`, `attach`, `add tax_ids`, an action's name.
    """
    stream = resource.stream
    if kind in resource.actions:
        return frozenset({f"{stream}.{kind}"})
    if kind in ("delete", "detach"):
        return frozenset(needs_of(resource, Operation.DELETE, {}))
    if kind in ("create", "replace"):
        needed = frozenset(needs_of(resource, Operation.CREATE, _of_new(params), parent=parent))
        return needed | ({f"{stream}.replace"} if kind == "replace" else set())
    if kind in _FOLLOWING:
        return frozenset({f"{stream}.replace"} if params.get("default_price") else ())
    if " " in kind:
        return frozenset(entry_needs(resource, kind, params))
    return frozenset(needs_of(resource, Operation.UPDATE, params, current, parent))


_FOLLOWING = ("archive", "default_price")
"""What follows from a replaced price, which passes a default price on, or what `delete_policy`
asked for, which only takes it away."""


def _of_new(params: Mapping[str, Tree]) -> Mapping[str, Tree]:
    """Return the parameters of a new object; those of a line are in a list."""
    lines = params.get("lines")
    return dict(lines[0]) if isinstance(lines, list) and len(lines) == 1 else params


def entry_needs(resource: Resource, kind: str, entry: Mapping[str, Tree]) -> Needs:
    """Return the permissions to add or delete an entry of a sub-resource: `add tax_ids`."""
    name = resource.sub_resources[kind.partition(" ")[2]]
    return needs_of(resource, Operation.UPDATE, {name: [dict(entry)] if entry else None})


def needs_of(
    resource: Resource,
    operation: Operation,
    params: Mapping[str, Tree],
    current: JSON | None = None,
    parent: JSON | None = None,
) -> Needs:
    """Return the names of `allow_actions` that a request needs, and the parameters that need them.

    `current` is the object as it is, and `parent` the invoice of a line. Where they are unknown,
    more is needed rather than less. A name that begins with `UNCLASSED` can never be allowed.
    """
    classes = MONEY[resource.stream]
    if operation == Operation.DELETE:
        return {f"{resource.stream}.{classes.delete}": []} if classes.delete else {}
    found: Needs = {}
    if operation == Operation.CREATE and classes.create:
        found[classes.create] = []
    for rule, path, leaf in classified(classes, params):
        if rule is None:
            name = ".".join(path)
            return {f"{UNCLASSED}{resource.stream}.{name}": [name]}
        if _needed(rule, operation, leaf, current):
            places = found.setdefault(rule.action, [])
            place = ".".join(path)
            places += [place] if place not in places else []
    if classes.free_in_drafts and _is_draft(parent):
        return {}
    return {f"{resource.stream}.{name}": places for name, places in found.items()}


def moves_money(resource: Resource, params: Mapping[str, Tree]) -> bool:
    """Whether any of these parameters is not free."""
    classes = MONEY[resource.stream]
    return any(rule is None or rule.action for rule, _, _ in classified(classes, params))


def classified(
    classes: Classes, params: Mapping[str, Tree]
) -> Iterator[tuple[Rule | None, Path, Tree]]:
    """Yield each leaf with its rule, if any, and its path without the places in lists."""
    for name, tree in params.items():
        yield from _classified(classes.tree.step(name), None, tree, (name,))


def _classified(
    node: Node | None, covering: Rule | None, tree: Tree, path: Path
) -> Iterator[tuple[Rule | None, Path, Tree]]:
    if node and node.rule and node.rule.action:
        covering = node.rule
    if isinstance(tree, (dict, list)) and tree:
        entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for name, inner in entries:
            below = node.step(str(name)) if node else None
            listed = isinstance(tree, list) or (node is not None and str(name) not in node.below)
            further = path if listed and (below or isinstance(tree, list)) else (*path, str(name))
            yield from _classified(below, covering, inner, further)
        return
    leaf = None if isinstance(tree, (dict, list)) else tree
    if node and node.rule:
        yield node.rule, path, leaf
        return
    inside = {rule.action: rule for rule in node.rules()} if node else {}
    for rule in inside.values():  # all that is below ends with it
        yield rule, path, leaf
    if covering or not inside:
        yield covering, path, leaf


def _needed(rule: Rule, operation: Operation, leaf: Tree, current: JSON | None) -> bool:
    if not rule.action or leaf in rule.harmless:
        return False
    if operation == Operation.CREATE:
        return rule.new and leaf not in rule.initial
    had_none = current is not None and is_empty(current.get(rule.path[0]))
    return not (rule.first and had_none)


def _is_draft(invoice: JSON | None) -> bool:
    """Whether an invoice is a draft without `auto_advance`."""
    return (
        invoice is not None
        and invoice.get("status") == "draft"
        and invoice.get("auto_advance") is False
        and not invoice.get("automatically_finalizes_at")
    )


def merged(*several: Needs) -> Needs:
    """Return what several operations need together."""
    found: Needs = {}
    for needs in several:
        for name, places in needs.items():
            known = found.setdefault(name, [])
            known += [place for place in places if place not in known]
    return found


def action_needs(wanted: DesiredState, current: JSON | None = None) -> Needs:
    """Return what the action needs that the record asks for, with what it does first.

    `current` is the object as it is; where there is none, more is needed rather than less.
    """
    if not wanted.action:
        return {}
    action = wanted.resource.actions.get(wanted.action)
    first = {
        other: [f"{wanted.action} of a {status}"]
        for status, other in (action.includes if action else {}).items()
        if current is None or current.get("status") == status
    }
    needs: Needs = {wanted.action: [], **first}
    return {f"{wanted.resource.stream}.{name}": places for name, places in needs.items()}


def lacking(needed: Mapping[str, list[str]], policy: Policy) -> str:
    """Return why a record is blocked: each permission it lacks, and what needs it; else nothing."""
    missing = {name: places for name, places in needed.items() if name not in policy.allowed}
    for name, places in missing.items():
        if name.startswith(UNCLASSED):
            return (
                f"nobody has decided yet whether {', '.join(places)} moves money, and no setting "
                "allows it: leave it out"
            )
    if not missing:
        return ""
    named = " and ".join(_named(name, places) for name, places in sorted(missing.items()))
    return f"`allow_actions` does not contain {named}"


def _named(name: str, places: list[str]) -> str:
    """Return the permission, and the parameters unless its name is that of the only one."""
    word = name.partition(".")[2]
    return name if places in ([], [word]) else f"{name} (for {', '.join(places)})"
