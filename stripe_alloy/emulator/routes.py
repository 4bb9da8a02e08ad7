"""Endpoints: method, path template, parameters and handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.params import ParamType, param_type

if TYPE_CHECKING:
    from stripe_alloy.emulator.listing import Lists
    from stripe_alloy.emulator.session import Session
    from stripe_alloy.emulator.store import Store


_EXPAND = {"expand": ParamType(items=ParamType(scalars={"string"}))}


Ids = Mapping[str, str]
"""The IDs in a path, by their names in its template."""


@dataclass(frozen=True)
class Reading:
    """A read request, and what it needs."""

    store: Store
    lists: Lists
    account: str
    platform: str
    path: str
    ids: Ids
    params: JSON
    unscoped_payment_methods: str
    unfiltered_prices: str
    search_delay: float
    """Seconds until a search finds a new object."""


ReadHandler = Callable[[Reading], bytes]
WriteHandler = Callable[["Session", Ids, JSON], JSON]
ObjectHandler = Callable[["Session", JSON, JSON], JSON]
"""Changes the object that a path names, with parameters."""


@dataclass(frozen=True)
class Route:
    """An endpoint."""

    method: str
    template: str
    resource: str
    params: str | None = None
    read: ReadHandler | None = None
    write: WriteHandler | None = None
    change: ObjectHandler | None = None
    parts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.template.strip("/").split("/")))

    @property
    def access(self) -> str:
        """Return the access that a restricted key needs."""
        return "read" if self.read else "write"

    def execute(self, session: Session, ids: Ids, params: JSON) -> JSON:
        """Write; raises `ApiError` if there is no such object, or the change is not allowed."""
        if self.change is not None:
            return self.change(session, session.get(self.resource, ids["id"]), params)
        assert self.write is not None  # noqa: S101 - reads go another way
        return self.write(session, ids, params)

    @property
    def shape(self) -> ParamType:
        """Return the type of the endpoint's parameters."""
        shape = param_type(self.params) if self.params else ParamType()
        return ParamType(fields={**_EXPAND, **(shape.fields or {})}, needed=shape.needed)

    def match(self, parts: list[str]) -> dict[str, str] | None:
        """Return the IDs in the path, or None if it does not match."""
        ids = {}
        for known, given in zip(self.parts, parts, strict=True):
            if known.startswith("{"):
                ids[known[1:-1]] = given
            elif known != given:
                return None
        return ids


def without_params(effect: Callable[[Session, JSON], JSON]) -> ObjectHandler:
    """Return the handler of an endpoint that takes no parameters."""
    return lambda session, found, _: effect(session, found)


class Table:
    """All endpoints."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self._by_place: dict[tuple[str, int, str], list[Route]] = {}
        for route in routes:
            place = (route.method, len(route.parts), route.parts[1])
            self._by_place.setdefault(place, []).append(route)
        for found in self._by_place.values():  # a name is no id: `/v1/invoices/create_preview`
            found.sort(key=lambda route: [part.startswith("{") for part in route.parts])

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The endpoint of a request, and the ids in its path, which is still percent-encoded.

        Each segment is decoded by itself: a slash inside an id makes no further segment.
        """
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if len(parts) < 2 or not all(parts):
            return None
        for route in self._by_place.get((method, len(parts), parts[1]), ()):
            ids = route.match(parts)
            if ids is not None:
                return route, ids
        return None
