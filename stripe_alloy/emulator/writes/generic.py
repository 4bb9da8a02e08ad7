"""Generic writes: parameters are stored as they are sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.params import has_params
from stripe_alloy.api.schemas import generated
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.writes.fields import given, update

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stripe_alloy.api.object_type import ObjectType
    from stripe_alloy.emulator.session import Session


def routes(specific: Collection[Route]) -> Iterator[Route]:
    """Yield the endpoints that create, update and delete objects, unless they are in `specific`."""
    known = {(route.method, route.template) for route in specific}
    for kind in OBJECT_TYPES:
        for route in () if kind.parent_field else _routes_of(kind):
            if (route.method, route.template) not in known:
                yield route


def _routes_of(kind: ObjectType) -> Iterator[Route]:
    name, params = kind.object_name, kind.params
    one = f"{kind.path}/{{id}}"
    if has_params(f"{params}CreateParams"):
        create = partial(_create, kind)
        yield Route("POST", kind.path, name, f"{params}CreateParams", write=create)
    if has_params(f"{params}UpdateParams"):
        event = _event(kind, "updated")
        change = partial(update, event=event)
        yield Route("POST", one, name, f"{params}UpdateParams", change=change)
    if has_params(f"{params}DeleteParams"):
        yield Route("DELETE", one, name, change=partial(_delete, kind))


def _create(kind: ObjectType, session: Session, ids: Ids, params: JSON) -> JSON:
    fields = {**given(kind.object_name, params), **_parent(kind, session, ids)}
    made = session.add(kind.object_name, **fields)
    event = _event(kind, "created")
    if event:
        session.emit(event, made)
    return made


def _delete(kind: ObjectType, session: Session, found: JSON, _: JSON) -> JSON:
    event = _event(kind, "deleted")
    if event:
        session.emit(event, found)
    return session.remove(found)


def _parent(kind: ObjectType, session: Session, ids: Ids) -> JSON:
    """Return the fields with the ID of the parent that the path names."""
    if kind.parent is None or not ids:
        return {}
    (parent_id,) = ids.values()
    session.get(kind.parent.object_name, parent_id)
    if kind.parent_column:
        return {"private_fields": {"_parent": parent_id}}
    return dict(ids)


def _event(kind: ObjectType, what: str) -> str | None:
    """Return the type of the event about a change, if Stripe has one."""
    known = generated("_event_types")
    return next((t for p in kind.event_prefixes if (t := f"{p}.{what}") in known), None)
