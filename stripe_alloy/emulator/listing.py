"""Lists: filters, cursors, pages. Pages are joined from stored JSON without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from stripe_alloy.api.events import RETENTION
from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator import expand
from stripe_alloy.emulator.emulated_types import RESOURCES
from stripe_alloy.emulator.errors import ApiError, invalid, missing
from stripe_alloy.emulator.store import DELETED, LISTED, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stripe_alloy.emulator.store import Store


MAX_LIMIT, DEFAULT_LIMIT = 100, 10
MAX_TYPES = 20
_PAGING = frozenset({"limit", "starting_after", "ending_before", "expand", "delivery_success"})
_FIELDS = {"ids": "id", "lookup_keys": "lookup_key", "types": "type"}
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Lists:
    """Answers list requests of one account."""

    store: Store
    account: str
    now: float
    events_delay: float = 0.0
    undelivered: Callable[[], Sequence[str]] = tuple
    """Returns the IDs of events that some webhook endpoint has not received."""

    def page(
        self, kind: str, params: JSON, url: str, scope: Mapping[str, str], *, paged: bool = True
    ) -> bytes:
        """Return the JSON of a page; `scope` has the filters from the path."""
        query = self.query(kind, {**params, **scope})
        query.limit = page_size(params) if paged else None
        query.after, query.before = _cursors(params)
        paths = expand.check(kind, params.get("expand", []), in_list=True)
        try:
            rows, more = self.store.page(query)
        except KeyError as unknown:
            raise _bad_cursor(kind, params, str(unknown.args[0])) from None
        bodies = [row.body for row in rows]
        if paths:
            expander = expand.Expander(self.store, self.account)
            bodies = [_encode(expander.expand(_decode(b), paths)).decode() for b in bodies]
        flag = "true" if more else "false"
        head = f'{{"object":"list","url":{_encode(url).decode()},"has_more":{flag},"data":['
        return f"{head}{','.join(bodies)}]}}".encode()

    def query(self, kind: str, params: JSON) -> Query:
        """Return the query of a list request."""
        resource = RESOURCES[kind]
        query = Query(self.account, kind, oldest_first=resource.children_first)
        for name, value in params.items():
            if name not in _PAGING:
                _filter(query, kind, name, value)
        if "status" not in params and kind == "subscription":
            query.add("status != 'canceled'")
        narrowed = {"test_clock", "customer", "subscription", "parent"} & params.keys()
        everywhere = narrowed and kind != "payment_method"  # no list contains custom ones
        query.add(f"shown != {DELETED}" if everywhere else f"shown = {LISTED}")
        if kind == "event":
            _one_kind_of_type(params)
            self._visible(query)
            self._delivered(query, params)
        return query

    def _visible(self, query: Query) -> None:
        """Limit events to 30 days before the clock, or before the newest event if that is older."""
        newest = self.store.newest(self.account, "event") or 0
        horizon = min(newest, int(self.now)) - RETENTION
        query.add("created >= ?", horizon)
        if self.events_delay:
            query.add("created <= ?", int(self.now - self.events_delay))

    def _delivered(self, query: Query, params: JSON) -> None:
        if "delivery_success" in params:
            lacking = _encode(self.undelivered()).decode()
            delivered = "(id NOT IN (SELECT value FROM json_each(?))) = ?"
            query.add(delivered, lacking, params["delivery_success"])


def page_size(params: JSON) -> int:
    """Return the number of objects per page."""
    limit: int = params.get("limit", DEFAULT_LIMIT)
    if limit < 1:
        raise invalid(
            "This value must be greater than or equal to 1.", "limit", "parameter_invalid_integer"
        )
    if limit > MAX_LIMIT:
        raise invalid(
            f"This value must be less than or equal to {MAX_LIMIT} (it currently is '{limit}').",
            "limit",
            "parameter_invalid_integer",
        )
    return limit


def _cursors(params: JSON) -> tuple[str | None, str | None]:
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise invalid(
            "Received both starting_after and ending_before parameters. Please pass in only one.",
            "starting_after",
        )
    return after, before


def _bad_cursor(kind: str, params: JSON, object_id: str) -> ApiError:
    param = "starting_after" if params.get("starting_after") else "ending_before"
    return missing(RESOURCES[kind].name, object_id, param)


def _filter(query: Query, kind: str, name: str, value: Any) -> None:
    special = _SPECIAL.get((kind, name))
    if special is not None:
        special(query, value)
        return
    field = _FIELDS.get(name, name)
    columns = RESOURCES[kind].columns
    column = field if field in columns or field in ("id", "created") else _json(field)
    if isinstance(value, dict):
        _hash_filter(query, name, field, column, value)
    elif isinstance(value, list):
        query.add(f"{column} IN ({', '.join('?' * len(value))})", *value)
    else:
        query.add(f"{column} = ?", value)


def _json(path: str) -> str:
    """Return the SQL of a field without a column; its path has only the shape's names."""
    return f"json_extract(body, '$.{path}')"


def _hash_filter(query: Query, name: str, field: str, column: str, value: JSON) -> None:
    if value.keys() <= _COMPARE.keys():
        for bound, limit in value.items():
            query.add(f"{column} {_COMPARE[bound]} ?", limit)
        return
    for inner, wanted in value.items():
        if isinstance(wanted, (dict, list)):
            raise invalid(f"Invalid value for {name}[{inner}]", f"{name}[{inner}]")
        query.add(f"{_json(f'{field}.{inner}')} = ?", wanted)


def _subscription_status(query: Query, value: str) -> None:
    if value == "ended":
        query.add("status IN ('canceled', 'incomplete_expired')")
    elif value != "all":
        query.add("status = ?", value)


def _subscription_price(query: Query, value: str) -> None:
    query.add(
        "id IN (SELECT parent FROM objects AS i WHERE i.account = ? "
        "AND i.object = 'subscription_item' AND i.price = ?)",
        query.account,
        value,
    )


def _period(edge: str) -> Callable[[Query, Any], None]:
    def narrow(query: Query, value: Any) -> None:
        bounds = value if isinstance(value, dict) else {"gte": value, "lte": value}
        column = _json(f"items.data[0].current_period_{edge}")
        for bound, limit in bounds.items():
            query.add(f"{column} {_COMPARE[bound]} ?", limit)

    return narrow


def _event_type(query: Query, value: str) -> None:
    if not value.endswith("*"):
        query.add("type = ?", value)
    elif "*" in value[:-1]:
        raise invalid("Only one trailing wildcard is supported.", "type")
    else:
        query.add("type >= ? AND type < ?", value[:-1], value[:-1] + "\x7f")


def _one_kind_of_type(params: JSON) -> None:
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.", "types")


def _event_types(query: Query, values: list[str]) -> None:
    if len(values) > MAX_TYPES:
        raise invalid(f"You can only specify up to {MAX_TYPES} types.", "types")
    query.add(f"type IN ({', '.join('?' * len(values))})", *values)


def _pending(query: Query, value: bool) -> None:
    query.add("invoice IS NULL" if value else "invoice IS NOT NULL")


def _payment(query: Query, value: JSON) -> None:
    if "payment_intent" in value:
        query.add("payment_intent = ?", value["payment_intent"])


_SPECIAL: Mapping[tuple[str, str], Callable[[Query, Any], None]] = {
    ("event", "type"): _event_type,
    ("event", "types"): _event_types,
    ("invoiceitem", "pending"): _pending,
    ("invoice_payment", "payment"): _payment,
    ("subscription", "status"): _subscription_status,
    ("subscription", "price"): _subscription_price,
    ("subscription", "plan"): _subscription_price,
    ("subscription", "current_period_start"): _period("start"),
    ("subscription", "current_period_end"): _period("end"),
}
