"""Builds a stream's JSON schema: the generated one, plus columns and settings of the tap."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.schemas import (
    EXPAND_LEVELS,
    Schema,
    can_expand,
    generated,
    object_schema,
    or_null,
)
from stripe_alloy.configs import quoted, shown_value
from stripe_alloy.record_columns import ADDED

INT64: Schema = {"minimum": -(1 << 63), "maximum": (1 << 63) - 1}
"""Bounds of integers, so that targets choose 64-bit columns."""

_NOTES: Mapping[str, Mapping[str, str]] = {
    "events": {
        "data": "What the event is about, as Stripe rendered it when it was made, at the API "
        "version that `api_version` names. Nothing in it is converted: times are Unix seconds."
    },
}
"""Descriptions that replace Stripe's: stream → column → description."""


def stream_schema(stream: str, *, expand: Sequence[str], unix: bool) -> Schema:
    """Return the schema of a stream's records, with `expand`ed objects in place of their ids.

    `unix`: whether times are Unix seconds instead of RFC 3339.
    """
    schema = object_schema(stream, expand)
    for column, description in _NOTES.get(stream, {}).items():
        schema["properties"][column]["description"] = description
    parent, column = BY_NAME[stream].parent, BY_NAME[stream].parent_column
    if parent and column:
        described = f"ID of the {parent.object_name} that contains it."
        schema["properties"][column] = {"type": "string", "description": described}
    schema["properties"].update(copy.deepcopy(dict(ADDED)))
    if unix:
        for time in _date_times(schema):
            _as_integer(time)
    return schema


def with_nulls(schema: Schema, but: Collection[str]) -> Schema:
    """Return the schema with null allowed in each column except `but`.

    A tombstone has all columns, and the last values of some may be unknown.
    """
    properties = {
        name: value if name in but else {**value, "type": or_null(value["type"])}
        for name, value in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def check_expand(expand: Mapping[str, Sequence[str]], streams: Sequence[str]) -> None:
    """Raise `SettingsError` for an unknown stream or a path that lists cannot expand."""
    for stream, paths in expand.items():
        if stream not in streams:
            raise SettingsError(
                f"`expand` contains an unknown stream{shown_value(stream)}. "
                f"Streams: {_list(streams)}"
            )
        known = generated("_expandable")[stream]
        for path in paths:
            if not can_expand(known, path):
                shown = quoted(path, "one of the given paths")
                raise SettingsError(
                    f"`expand`: {stream} has nothing to expand at {shown}. "
                    f"Expandable: {_list(known)}"
                )
            if f"data.{path}".count(".") >= EXPAND_LEVELS:
                raise SettingsError(
                    f"`expand`: {stream}.{path} is deeper than the {EXPAND_LEVELS} levels "
                    f"that Stripe expands in a list (`data` counts as one)"
                )


def _date_times(schema: Any) -> Iterator[Schema]:
    for child in _children(schema):
        if child.get("format") == "date-time":
            yield child
        yield from _date_times(child)


def _children(schema: Schema) -> Iterator[Schema]:
    yield from schema.get("properties", {}).values()
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield schema[key]


def _as_integer(schema: Schema) -> None:
    del schema["format"]
    swap: Callable[[str], str] = lambda name: "integer" if name == "string" else name  # noqa: E731
    types = schema["type"]
    schema["type"] = swap(types) if isinstance(types, str) else [swap(name) for name in types]
    schema.update(INT64)


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
