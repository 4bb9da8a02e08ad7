"""The endpoints that search."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator import expand
from stripe_alloy.emulator.emulated_types import RESOURCES
from stripe_alloy.emulator.errors import ApiError, invalid
from stripe_alloy.emulator.listing import page_size
from stripe_alloy.emulator.routes import Reading, Route
from stripe_alloy.emulator.search_language import FIELDS, parse
from stripe_alloy.emulator.store import LISTED, Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stripe_alloy.emulator.emulated_types import EmulatedType
    from stripe_alloy.emulator.routes import ReadHandler

TOTAL = "total_count"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _searcher(resource: EmulatedType) -> ReadHandler:
    def answer(reading: Reading) -> bytes:
        return _encode(_search(reading, resource))

    return answer


def _search(reading: Reading, resource: EmulatedType) -> JSON:
    params, name = reading.params, resource.path.rpartition("/")[2]
    wanted = parse(resource.object, name, params["query"])
    asked = params.get("expand", [])
    paths = expand.check(resource.object, [p for p in asked if p != TOTAL], in_list=True)
    size = page_size(params)
    found = (obj for obj in _stored(reading, resource, params.get("page")) if wanted.matches(obj))
    rows = list(islice(found, size + 1))
    more = len(rows) > size
    expander = expand.Expander(reading.store, reading.account)
    result = {
        "object": "search_result",
        "url": reading.path,
        "has_more": more,
        "data": [expander.expand(row, paths) for row in rows[:size]],
        "next_page": _page(rows[size - 1]["id"]) if more else None,
    }
    if TOTAL in asked:
        result[TOTAL] = sum(map(wanted.matches, _stored(reading, resource, None)))
    return result


def _stored(reading: Reading, resource: EmulatedType, page: str | None) -> Iterator[JSON]:
    """Yield the objects that a search knows, newest first, after those of earlier pages."""
    query = Query(reading.account, resource.object)
    query.add(f"shown = {LISTED}")
    if reading.search_delay:
        query.add("created <= ?", int(reading.lists.now - reading.search_delay))
    query.after = None if page is None else _last_id(page)
    try:
        rows = reading.store.select(query)
    except KeyError:
        raise _bad_page() from None
    return (_decode(row.body) for row in rows)


def _page(object_id: str) -> str:
    return urlsafe_b64encode(object_id.encode()).decode()


def _last_id(page: str) -> str:
    try:
        return urlsafe_b64decode(page).decode()
    except ValueError:
        raise _bad_page() from None


def _bad_page() -> ApiError:
    return invalid("Invalid page: use the `next_page` of an earlier response.", "page")


ROUTES = tuple(
    Route(
        "GET",
        f"{RESOURCES[kind].path}/search",
        kind,
        f"{RESOURCES[kind].params}SearchParams",
        read=_searcher(RESOURCES[kind]),
    )
    for kind in FIELDS
)
