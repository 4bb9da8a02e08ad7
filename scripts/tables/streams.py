"""The tables of streams: those selected by default in the README, all in docs/streams.md."""

from __future__ import annotations

from collections.abc import Iterable

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import OBJECT_TYPES


def table() -> str:
    """Return Markdown with a row per stream that is selected by default."""
    return _table(DEFAULT_TYPES)


def more() -> str:
    """Return Markdown with a row per stream that is read only if it is selected."""
    return _table(kind for kind in OBJECT_TYPES if not kind.selected_by_default)


def _table(kinds: Iterable[ObjectType]) -> str:
    rows = [
        "| stream | content | endpoint | replication key | permission of a restricted key |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*rows, *map(_row, kinds)])


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
