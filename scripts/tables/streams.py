"""The tables of streams: those selected by default in the README, all in docs/streams.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import OBJECT_TYPES


def table() -> str:
    """Return Markdown with a row per stream that is selected by default."""
    return _table(
        {
            "stream": _name,
            "content": lambda kind: kind.description,
            "endpoint": _list,
            "replication key": lambda kind: f"`{kind.replication_key}`",
            "permission of a restricted key": lambda kind: kind.permission,
        },
        DEFAULT_TYPES,
    )


def more() -> str:
    """Return Markdown with a row per stream that is read only if it is selected."""
    return _table(
        {
            "stream": _name,
            "content": lambda kind: kind.description,
            "endpoint": _list,
            "changes from": _changes,
            "deletions": _deletions,
            "permission": lambda kind: kind.permission,
        },
        [kind for kind in OBJECT_TYPES if not kind.selected_by_default],
    )


def _table(columns: Mapping[str, Callable[[ObjectType], str]], kinds: Iterable[ObjectType]) -> str:
    rows = [[cell(kind) for cell in columns.values()] for kind in kinds]
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _name(kind: ObjectType) -> str:
    return f"`{kind.name}`"


def _changes(kind: ObjectType) -> str:
    """Return where a run finds what changed."""
    found = []
    if kind.has_events and kind.event_source is kind:
        found.append("events")
    elif kind.has_events:
        found.append(f"events of `{kind.event_source.name}`")
    if kind.created_without_event:
        found.append("list of new objects")
    if kind.needs_full_lists:
        found.append("whole list, once in `full_list_hours`")
    elif not kind.has_events:
        found.append("list of new objects")
    if kind.has_silent_updates and not kind.needs_full_lists:
        found.append("`lookback_days` for other updates")
    return "; ".join(found)


def _deletions(kind: ObjectType) -> str:
    """Return how a destination learns of deletions."""
    if kind.deletion_events or kind.parent_field:
        return "tombstones"
    return "ACTIVATE_VERSION" if kind.needs_full_lists else "—"


def _list(kind: ObjectType) -> str:
    if kind.parent and kind.parent_field:
        return f"part of `{kind.parent.path}`"
    if kind.parent and kind.parent_param:
        return f"`{kind.path}?{kind.parent_param}=…`"
    others = [f"`{path}/…{kind.path.removeprefix('/v1')}`" for path in kind.other_paths]
    return ", or ".join([f"`{kind.path}`", *others])
