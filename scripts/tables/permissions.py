"""The table of permissions in docs/keys.md."""

from __future__ import annotations

from stripe_alloy.api.events import EVENT
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import OBJECT_TYPES
from target_stripe_alloy.resources import BY_STREAM, Resource


def table() -> str:
    """Return Markdown with a row per stream."""
    rows = [
        "| stream | backfill | incremental runs also need | writing |",
        "|---|---|---|---|",
    ]
    return "\n".join([*rows, *map(_row, OBJECT_TYPES)])


def _row(stream: ObjectType) -> str:
    resource = BY_STREAM.get(stream.name)
    cells = [
        f"`{stream.name}`",
        "; ".join([*_own(stream), *_instead(stream)]),
        _events() if stream.has_events and stream.object_name != EVENT else "—",
        _writes(resource),
    ]
    return f"| {' | '.join(cells)} |"


def _writes(resource: Resource | None) -> str:
    if resource is None or not resource.writable:
        return "—"
    by_events = [f"`{name}`" for name, action in resource.actions.items() if action.event]
    more = [f"{_events()} for {' and '.join(by_events)}"] if by_events else []
    return ", ".join([resource.permission, *more])


def _own(stream: ObjectType) -> list[str]:
    """Return the permissions of the stream's list and of its parents'."""
    kinds = [stream.parent, stream] if stream.parent and stream.listed_by_parent else [stream]
    return list(dict.fromkeys(kind.permission for kind in kinds))


def _instead(stream: ObjectType) -> list[str]:
    """Return the permissions needed if the list of all objects cannot be used."""
    lists = [other for other in OBJECT_TYPES if other.path in stream.other_paths]
    return [f"if each customer's list is read, also {other.permission}" for other in lists]


def _events() -> str:
    return next(stream.permission for stream in OBJECT_TYPES if stream.object_name == EVENT)
