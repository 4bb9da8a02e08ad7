"""The table of writable streams in docs/writing.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from target_stripe_alloy.params_tree import Path
from target_stripe_alloy.plan.parameter_classes import MONEY, Node, Rule
from target_stripe_alloy.resources import RESOURCES, Resource


def table() -> str:
    """Return Markdown with a row per writable stream and the permissions of its parameters."""
    rows = [
        "| stream | to create | updates without permission | updates with permission | to delete |",
        "|---|---|---|---|---|",
    ]
    rows += [_row(resource) for resource in RESOURCES if resource.writable]
    return "\n".join(rows)


def _row(resource: Resource) -> str:
    cells = [
        f"`{resource.stream}`",
        _create(resource),
        _codes(_free(resource)),
        _permissions(resource),
        _end(resource),
    ]
    return f"| {' | '.join(cells)} |"


def _create(resource: Resource) -> str:
    if not resource.create:
        return "cannot be created"
    classes = MONEY[resource.stream]
    needed = f"`{resource.stream}.{classes.create}`" if classes.create else "none"
    also = [
        f"with {_codes(_tops(resource, new))} also `{resource.stream}.{action}`"
        for action, rules in _by_action(resource).items()
        if action != classes.create and (new := [rule for rule in rules if rule.new])
    ]
    own = resource.create_params.keys() - resource.update_params.keys()
    only = sorted(own - resource.write_only)
    fixed = [f"set only at creation: {_codes(only)}"] if only else []
    return "; ".join([needed, *also, *fixed])


def _end(resource: Resource) -> str:
    delete = MONEY[resource.stream].delete
    needed = f" (`{resource.stream}.{delete}`)" if delete else ""
    ways = ["detach"] if resource.attach_field else ["delete"] if resource.deletes else []
    ways = [f"{way}{needed}" for way in ways]
    return ", ".join([*ways, *(["archive"] if resource.archive else [])]) or "—"


def _free(resource: Resource) -> list[str]:
    """Return the free parameters of an update: whole ones by name, otherwise their parts."""
    rules = [rule for rule in MONEY[resource.stream].rules if not rule.action]
    names = [name for name in _tops(resource, rules) if _updates(resource, name)]
    parts = Counter(name.partition(".")[0] for name in names)
    return list(
        dict.fromkeys(
            f"{top}.…" if parts[top] > _MANY else name
            for name in names
            for top in [name.partition(".")[0]]
        )
    )


_MANY = 9
"""More parts than this are not listed one by one."""


def _permissions(resource: Resource) -> str:
    cells = [
        f"`{resource.stream}.{action}`: {_codes(names)}"
        for action, rules in _by_action(resource).items()
        if (names := [n for n in _tops(resource, rules) if _updates(resource, n)])
    ]
    acting = [*resource.actions] + (["replace"] if resource.replaced_on_change else [])
    if acting:
        cells.append(f"actions: {_codes(f'{resource.stream}.{name}' for name in acting)}")
    return "<br>".join(cells) or "—"


def _by_action(resource: Resource) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in MONEY[resource.stream].rules:
        if rule.action:
            found.setdefault(rule.action, []).append(rule)
    return found


def _tops(resource: Resource, rules: Sequence[Rule]) -> list[str]:
    """Return the names of parameters; parts only where other parts need another permission."""
    names = []
    for rule in rules:
        path = _shortest(MONEY[resource.stream].tree, rule)
        names.append(".".join(name for name in path if name != "*"))
    return sorted(dict.fromkeys(names))


def _shortest(node: Node, rule: Rule) -> Path:
    """Return the path of the largest hash around a parameter that has a single permission."""
    covered = False
    for place, name in enumerate(rule.path, 1):
        node = node.below[name]
        covered = covered or bool(node.rule and node.rule.action not in ("", rule.action))
        if not covered and {inner.action for inner in node.rules()} == {rule.action}:
            return rule.path[:place]
    return rule.path


def _updates(resource: Resource, name: str) -> bool:
    return name.partition(".")[0] in {*resource.update_params, resource.attach_field}


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "—"
