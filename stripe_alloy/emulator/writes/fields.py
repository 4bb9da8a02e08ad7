"""Converts parameters to fields: sets, clears or merges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.coerce import MAX_METADATA, too_much_metadata
from stripe_alloy.emulator.schemas import at, schema_of, types
from stripe_alloy.emulator.templates import SELF_MADE, fields_of, part, template

if TYPE_CHECKING:
    from collections.abc import Collection

    from stripe_alloy.emulator.session import Session


def given(kind: str, params: JSON, old: JSON | None = None, skip: Collection[str] = ()) -> JSON:
    """Return the fields set by parameters of the same name; "" clears, hashes merge."""
    known = fields_of(kind)
    base = old or template(kind)
    return {
        name: _merged(kind, name, value, base.get(name))
        for name, value in params.items()
        if name in known and name not in skip
    }


def _merged(kind: str, name: str, value: Any, old: Any) -> Any:
    if name == "metadata":
        return metadata(old, value)
    if value == "":
        return _cleared(kind, name)
    if isinstance(value, dict):
        return _hash(old if isinstance(old, dict) else _blank(kind, name), value)
    if isinstance(value, list) and value == [""]:
        return []
    return value


def _hash(old: JSON, new: JSON) -> JSON:
    merged = dict(old)
    for name, value in new.items():
        if isinstance(value, dict):
            below = merged.get(name)
            merged[name] = _hash(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = None if value == "" else value
    return merged


def _blank(kind: str, name: str) -> JSON:
    if kind in SELF_MADE:
        return {}
    inner = at(schema_of(kind), name)
    return dict(part(kind, name)) if "properties" in inner else {}


def _cleared(kind: str, name: str) -> Any:
    blank = template(kind).get(name)
    if isinstance(blank, (dict, list)):
        return type(blank)() if _may_be_null(kind, name) or isinstance(blank, list) else blank
    return None if _may_be_null(kind, name) else blank


def _may_be_null(kind: str, name: str) -> bool:
    return kind in SELF_MADE or "null" in types(at(schema_of(kind), name))


def metadata(old: JSON | None, new: Any) -> JSON:
    """Merge metadata by key; "" removes a key, or all keys if given for the whole."""
    if new == "":
        return {}
    merged = {**(old or {}), **new}
    kept = {name: value for name, value in merged.items() if value != ""}
    if len(kept) > MAX_METADATA:
        raise too_much_metadata()
    return kept


def update(
    session: Session, obj: JSON, params: JSON, event: str | None, skip: Collection[str] = ()
) -> JSON:
    """Change an object, and emit an event if anything changed."""
    session.change(obj, **given(obj["object"], params, obj, skip))
    if event is not None:
        emit(session, obj, event)
    return obj


def emit(session: Session, obj: JSON, *events: str) -> None:
    """Emit events, if the object changed."""
    if session.is_changed(obj):
        session.emit_all(obj, *events)
