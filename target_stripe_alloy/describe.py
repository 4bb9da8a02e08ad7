"""The table of what can be written; `python -m target_stripe_alloy.describe` prints it."""

from __future__ import annotations

from collections.abc import Iterable

from target_stripe_alloy.resources import RESOURCES, Resource


def table() -> str:
    """Markdown: a row for each stream."""
    rows = [
        "| stream | create | update | at its end | needs `allow_actions` |",
        "|---|---|---|---|---|",
    ]
    rows += [_row(resource) for resource in RESOURCES if resource.writable]
    return "\n".join(rows)


def _row(resource: Resource) -> str:
    cells = [
        f"`{resource.stream}`",
        _create(resource),
        _codes(resource.updated),
        _end(resource),
        _codes(_permissions(resource)),
    ]
    return f"| {' | '.join(cells)} |"


def _create(resource: Resource) -> str:
    if not resource.create:
        return "no"
    own = resource.created.keys() - resource.updated.keys()
    only = sorted(own - resource.write_only)
    return f"yes; then fixed: {_codes(only)}" if only else "yes"


def _end(resource: Resource) -> str:
    ways = ["detach"] if resource.attached_to else ["delete"] if resource.deletes else []
    return ", ".join([*ways, *(["archive"] if resource.archive else [])]) or "—"


def _permissions(resource: Resource) -> list[str]:
    names = [guard.action for guard in resource.guards]
    names += [*resource.actions] + (["replace"] if resource.succeeded else [])
    return [f"{resource.stream}.{name}" for name in dict.fromkeys(names)]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "—"


if __name__ == "__main__":
    print(table())  # noqa: T201
