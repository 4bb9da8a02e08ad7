"""Generic writes: parameters are stored as they are sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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


class Action(NamedTuple):
    """An endpoint that moves an object to a status."""

    object_name: str
    name: str
    """Last part of the path."""
    status: str
    event: str


_VERIFICATION = "identity.verification_session"
ACTIONS = (
    Action("checkout.session", "expire", "expired", "checkout.session.expired"),
    Action("credit_note", "void", "void", "credit_note.voided"),
    Action(
        "identity.verification_session",
        "cancel",
        "canceled",
        "identity.verification_session.canceled",
    ),
    Action("quote", "accept", "accepted", "quote.accepted"),
    Action("quote", "cancel", "canceled", "quote.canceled"),
    Action("quote", "finalize", "open", "quote.finalized"),
    Action("setup_intent", "cancel", "canceled", "setup_intent.canceled"),
    Action("subscription_schedule", "cancel", "canceled", "subscription_schedule.canceled"),
    Action("subscription_schedule", "release", "released", "subscription_schedule.released"),
    Action("topup", "cancel", "canceled", "topup.canceled"),
)


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
    for action in ACTIONS:
        if action.object_name == name and kind.parent is None:
            act = partial(_act, action)
            taken = f"{params}{action.name.title()}Params"
            shape = taken if has_params(taken) else None
            yield Route("POST", f"{one}/{action.name}", name, shape, change=act)


def _create(kind: ObjectType, session: Session, ids: Ids, params: JSON) -> JSON:
    fields = {**given(kind.object_name, params), **_parent(kind, session, ids)}
    made = session.add(kind.object_name, **fields)
    event = _event(kind, "created")
    if event:
        session.emit(event, made)
    return made


def _act(action: Action, session: Session, found: JSON, _: JSON) -> JSON:
    session.change(found, status=action.status)
    session.emit(action.event, found)
    return found


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
