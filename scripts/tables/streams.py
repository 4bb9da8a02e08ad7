"""The table of streams in the README."""

from __future__ import annotations

from stripe_alloy.api.object_types import OBJECT_TYPES, ObjectType


def table() -> str:
    """Return Markdown with a row per stream."""
    rows = [
        "| stream | content | endpoint | replication key | permission of a restricted key |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*rows, *map(_row, OBJECT_TYPES)])


def _row(kind: ObjectType) -> str:
    cells = [
        f"`{kind.name}`",
        kind.description,
        _list(kind),
        f"`{kind.replication_key}`",
        kind.permission,
    ]
    return f"| {' | '.join(cells)} |"


def _list(kind: ObjectType) -> str:
    if kind.parent:
        return f"part of `{kind.parent.path}`"
    others = [f"`{path}/…{kind.path.removeprefix('/v1')}`" for path in kind.other_paths]
    return ", or ".join([f"`{kind.path}`", *others])
