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
    rows = [
        "| stream | content | endpoint | key | changes from | deletions | permission |",
        "|---|---|---|---|---|---|---|",
    ]
    optional = [kind for kind in OBJECT_TYPES if not kind.selected_by_default]
    return "\n".join([*rows, *map(_full_row, optional)])


def _full_row(kind: ObjectType) -> str:
    cells = [
        f"`{kind.name}`",
        kind.description,
        _list(kind),
        "`id`",
        _changes(kind),
        _deletions(kind),
        kind.permission,
    ]
    return f"| {' | '.join(cells)} |"


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
    if kind.parent and kind.parent_field:
        return f"part of `{kind.parent.path}`"
    if kind.parent and kind.parent_param:
        return f"`{kind.path}?{kind.parent_param}=…`"
    others = [f"`{path}/…{kind.path.removeprefix('/v1')}`" for path in kind.other_paths]
    return ", or ".join([f"`{kind.path}`", *others])
