"""Writes of the object types that have no rules of their own: what is sent is what is stored."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.params import has_params
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.writes.fields import given, update

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from stripe_alloy.api.object_type import ObjectType
    from stripe_alloy.emulator.session import Session


def routes(written: Collection[str]) -> Iterator[Route]:
    """Yield the endpoints of the types of which no other module writes the path."""
    for kind in OBJECT_TYPES:
        if kind.parent_field or kind.path in written:
            continue
        name, params = kind.object_name, kind.params
        one = f"{kind.path}/{{id}}"
        if has_params(f"{params}CreateParams"):
            create = partial(_create, kind)
            yield Route("POST", kind.path, name, f"{params}CreateParams", write=create)
        if has_params(f"{params}UpdateParams"):
            change = partial(_update, kind)
            yield Route("POST", one, name, f"{params}UpdateParams", write=change)
        if has_params(f"{params}DeleteParams"):
            yield Route("DELETE", one, name, None, write=partial(_delete, kind))


def _create(kind: ObjectType, session: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    fields = {**given(kind.object_name, params), **_parent(kind, session, ids)}
    made = session.add(kind.object_name, **fields)
    event = _event(kind, "created")
    if event:
        session.emit(event, made)
    return made


def _update(kind: ObjectType, session: Session, ids: Mapping[str, str], params: JSON) -> JSON:
    return update(
        session, session.get(kind.object_name, ids["id"]), params, _event(kind, "updated")
    )


def _delete(kind: ObjectType, session: Session, ids: Mapping[str, str], _: JSON) -> JSON:
    found = session.get(kind.object_name, ids["id"])
    event = _event(kind, "deleted")
    if event:
        session.emit(event, found)
    return session.remove(found)


def _parent(kind: ObjectType, session: Session, ids: Mapping[str, str]) -> JSON:
    """Return the fields with the ID of the parent that the path names."""
    if kind.parent is None or not ids:
        return {}
    (parent_id,) = ids.values()
    session.get(kind.parent.object_name, parent_id)
    if kind.parent_column:
        return {"private_fields": {"_parent": parent_id}}
    return dict(ids)


def _event(kind: ObjectType, what: str) -> str | None:
    """Return the type of the event that tells of a change, if Stripe has one."""
    known = generated("_event_types")
    return next((t for p in kind.event_prefixes if (t := f"{p}.{what}") in known), None)
