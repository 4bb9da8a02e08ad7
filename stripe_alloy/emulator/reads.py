"""The endpoints that only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stripe_alloy.api.default_object_types import INVOICE_LINE_ITEMS
from stripe_alloy.api.object_types import BY_OBJECT, OBJECT_TYPES
from stripe_alloy.emulator import expand
from stripe_alloy.emulator.emulated_types import RESOURCES, parent_id_field
from stripe_alloy.emulator.errors import ApiError, invalid, missing, no_account
from stripe_alloy.emulator.listing import page_size
from stripe_alloy.emulator.routes import Reading, Route
from stripe_alloy.emulator.session import listing
from stripe_alloy.emulator.store import DELETED, Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stripe_alloy.emulator.emulated_types import EmulatedType
    from stripe_alloy.emulator.routes import ReadHandler


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def fetch(reading: Reading, kind: str, object_id: str, account: str | None = None) -> bytes:
    """Return the JSON of one object, expanded if requested."""
    resource = RESOURCES[kind]
    found = reading.store.get(account or reading.account, kind, object_id)
    if found is None or (found.shown == DELETED and not resource.leaves_tombstone):
        raise missing(resource.name, object_id)
    paths = expand.check(kind, reading.params.get("expand", []), in_list=False)
    if not paths or found.shown == DELETED:
        return found.body.encode()
    expander = expand.Expander(reading.store, account or reading.account)
    return _encode(expander.expand(_decode(found.body), paths))


def _lister(resource: EmulatedType) -> ReadHandler:
    declared = BY_OBJECT.get(resource.object)
    paged = declared is None or declared.is_paged

    def answer(reading: Reading) -> bytes:
        return reading.lists.page(resource.object, reading.params, reading.path, {}, paged=paged)

    return answer


def _getter(resource: EmulatedType) -> ReadHandler:
    def answer(reading: Reading) -> bytes:
        return fetch(reading, resource.object, reading.ids["id"])

    return answer


def _children(parent: str, kind: str, column: str) -> ReadHandler:
    def answer(reading: Reading) -> bytes:
        parent_id = reading.ids["id"]
        found = reading.store.get(reading.account, parent, parent_id)
        if found is None or found.shown == DELETED:
            raise missing(RESOURCES[parent].name, parent_id)
        return reading.lists.page(kind, reading.params, reading.path, {column: parent_id})

    return answer


def _children_by_param(kind: str, param: str) -> ReadHandler:
    def answer(reading: Reading) -> bytes:
        params = {name: value for name, value in reading.params.items() if name != param}
        if param not in reading.params:
            raise invalid(f"Missing required param: {param}.", param, "parameter_missing")
        scope = {"parent": reading.params[param]}
        return reading.lists.page(kind, params, reading.path, scope)

    return answer


def _child(kind: str, column: str, child: str) -> ReadHandler:
    def answer(reading: Reading) -> bytes:
        body = fetch(reading, kind, reading.ids[child])
        if _decode(body).get(column) != reading.ids["id"]:
            raise missing(RESOURCES[kind].name, reading.ids[child])
        return body

    return answer


def _payment_methods(reading: Reading) -> bytes:
    if "customer" not in reading.params:
        if reading.unscoped_payment_methods == "refuse":
            raise invalid(
                "You must provide a customer to list payment methods.",
                "customer",
                "parameter_missing",
            )
        if reading.unscoped_payment_methods == "empty":
            no_customer = {"customer": ""}
            return reading.lists.page("payment_method", reading.params, reading.path, no_customer)
    return reading.lists.page("payment_method", reading.params, reading.path, {})


def _payment_method(reading: Reading) -> bytes:
    """Return a payment method; Stripe answers 400 instead of 404 for detached sources."""
    method_id = reading.ids["id"]
    found = reading.store.get(reading.account, "payment_method", method_id)
    if method_id.startswith("src_") and (found is None or found.shown == DELETED):
        raise invalid(
            "A source must be attached to a customer to be used as a `payment_method`.",
            "payment_method",
        )
    return fetch(reading, "payment_method", method_id)


def _prices(reading: Reading) -> bytes:
    """Return active prices unless the request filters; inline prices are never listed."""
    params = reading.params
    if reading.unfiltered_prices == "active":
        params = {"active": True, **params}
    return reading.lists.page("price", params, reading.path, {})


def _invoice(reading: Reading) -> bytes:
    found = reading.store.previews.get((reading.account, reading.ids["id"]))
    return fetch(reading, "invoice", reading.ids["id"]) if found is None else _encode(found[0])


def _invoice_lines(reading: Reading) -> bytes:
    found = reading.store.previews.get((reading.account, reading.ids["id"]))
    if found is None:
        return _children("invoice", "line_item", "parent")(reading)
    rows, after = found[1], reading.params.get("starting_after")
    start = 1 + next((i for i, row in enumerate(rows) if row["id"] == after), -1)
    return _encode(listing(rows[start:], reading.path, page_size(reading.params)))


def _event(reading: Reading) -> bytes:
    query = reading.lists.query("event", {})
    query.add("id = ?", reading.ids["id"])
    if not reading.store.select(query):
        raise missing("event", reading.ids["id"])
    return fetch(reading, "event", reading.ids["id"])


def _own_account(reading: Reading) -> bytes:
    return fetch(reading, "account", reading.account, reading.platform)


def _accounts(reading: Reading) -> bytes:
    if reading.account != reading.platform:
        raise ApiError(403, "Only platforms can list their connected accounts.")
    return reading.lists.page("account", reading.params, reading.path, {})


def _account(reading: Reading) -> bytes:
    wanted = reading.ids["id"]
    if reading.store.get(reading.platform, "account", wanted) is None:
        raise no_account("", wanted)
    return fetch(reading, "account", wanted, reading.platform)


def _balance(reading: Reading) -> bytes:
    """Return the balance that is not paid out yet, by currency."""
    query = Query(reading.account, "balance_transaction")
    query.add("payout IS NULL AND type != 'payout'")
    sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
    for found in reading.store.select(query):
        moved = _decode(found.body)
        by_currency = sums[moved["status"]]
        by_currency[moved["currency"]] = by_currency.get(moved["currency"], 0) + moved["net"]
    shown = {
        name: [
            {"amount": amount, "currency": currency, "source_types": {"card": amount}}
            for currency, amount in sorted(by_currency.items())
        ]
        for name, by_currency in sums.items()
    }
    return _encode({"object": "balance", "livemode": False, **shown})


_METHODS = "/v1/customers/{id}/payment_methods"
_OWN: dict[tuple[str, str], ReadHandler] = {
    ("list", "payment_method"): _payment_methods,
    ("list", "price"): _prices,
    ("list", "account"): _accounts,
    ("get", "account"): _account,
    ("get", "event"): _event,
    ("get", "invoice"): _invoice,
    ("get", "payment_method"): _payment_method,
}


def _standard() -> tuple[Route, ...]:
    routes = []
    for resource in RESOURCES.values():
        if resource.listed:
            kind = resource.object
            listed = _OWN.get(("list", kind)) or _lister(resource)
            one = _OWN.get(("get", kind)) or _getter(resource)
            params = f"{resource.params}ListParams"
            routes.append(Route("GET", resource.path, kind, params, read=listed))
            routes.append(Route("GET", resource.path + "/{id}", kind, read=one))
    return tuple(routes)


def _by_parent() -> Iterator[Route]:
    """Yield the lists that each parent has of its children, and their single objects."""
    for kind in OBJECT_TYPES:
        if kind.parent and "{" in kind.path and kind is not INVOICE_LINE_ITEMS:
            name = kind.object_name
            path = kind.path_with("{id}")
            listed = _children(kind.parent.object_name, name, "parent")
            yield Route("GET", path, name, f"{kind.params}ListParams", read=listed)
            child = _child(name, parent_id_field(kind), "child")
            yield Route("GET", f"{path}/{{child}}", name, read=child)
        elif kind.parent_param and not RESOURCES[kind.object_name].listed:
            listed = _children_by_param(kind.object_name, kind.parent_param)
            yield Route("GET", kind.path, kind.object_name, f"{kind.params}ListParams", read=listed)
            one = _getter(RESOURCES[kind.object_name])
            yield Route("GET", f"{kind.path}/{{id}}", kind.object_name, read=one)


ROUTES: tuple[Route, ...] = (
    *_standard(),
    *_by_parent(),
    Route("GET", "/v1/account", "account", read=_own_account),
    Route("GET", "/v1/balance", "balance_transaction", read=_balance),
    Route(
        "GET", "/v1/invoices/{id}/lines", "line_item", "InvoiceLineItemListParams",
        read=_invoice_lines,
    ),
    Route(
        "GET", "/v1/charges/{id}/refunds", "refund", "ChargeListRefundsParams",
        read=_children("charge", "refund", "charge"),
    ),
    Route(
        "GET", "/v1/customers/{id}/subscriptions", "subscription", "CustomerTaxIdListParams",
        read=_children("customer", "subscription", "customer"),
    ),
    Route(
        "GET", _METHODS, "payment_method", "CustomerPaymentMethodListParams",
        read=_children("customer", "payment_method", "customer"),
    ),
    Route(
        "GET", _METHODS + "/{method}", "payment_method",
        read=_child("payment_method", "customer", "method"),
    ),
)  # fmt: skip
