"""A field that no parameter takes is named with its path, at any depth of a record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.params import ParamType
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.plan.unknown_fields import parts_unknown, path_of
from target_stripe_alloy.resources import BY_STREAM, RESOURCES
from target_stripe_alloy.settings import ALLOWED
from tests.conftest import config_of, read
from tests.target.helpers import Run, record, schema, state, write

ALL = {"allow_actions": list(ALLOWED)}
WRITABLE = tuple(resource.stream for resource in RESOURCES if resource.writable)


# ---------------------------------------------------------------------- new objects

NEW: dict[str, tuple[str, dict[str, Any]]] = {
    "address.cty": ("customers", {"address": {"cty": "Berlin"}}),
    "shipping.adress": ("customers", {"shipping": {"name": "A", "adress": {"city": "B"}}}),
    "shipping.address.cty": ("customers", {"shipping": {"name": "A", "address": {"cty": "B"}}}),
    "tax_ids[0].valu": ("customers", {"tax_ids": [{"type": "eu_vat", "valu": "DE123456789"}]}),
    "tax_ids[1].typ": (
        "customers",
        {"tax_ids": {"object": "list", "data": [{"type": "eu_vat", "value": "DE1"}, {"typ": "x"}]}},
    ),
    "invoice_settings.custom_fields[0].nam": (
        "customers",
        {"invoice_settings": {"custom_fields": [{"nam": "PO", "value": "1"}]}},
    ),
    "package_dimensions.hight": ("products", {"name": "P", "package_dimensions": {"hight": 1}}),
    "marketing_features[1].nam": (
        "products",
        {"name": "P", "marketing_features": [{"name": "A"}, {"name": "B", "nam": "C"}]},
    ),
    "recurring.intervl_count": (
        "prices",
        {"recurring": {"interval": "month", "intervl_count": 3}, "unit_amount": 5},
    ),
    "tiers[0].flat_amout": (
        "prices",
        {"billing_scheme": "tiered", "tiers": [{"up_to": "inf", "flat_amout": 5}]},
    ),
    "currency_options.usd.unit_amout": (
        "prices",
        {"unit_amount": 5, "currency_options": {"usd": {"unit_amout": 4}}},
    ),
    "currency_options.eur.tiers[0].upto": (
        "prices",
        {"unit_amount": 5, "currency_options": {"eur": {"tiers": [{"upto": 4}]}}},
    ),
    "items[0].quantty": ("subscriptions", {"items": [{"price": "PRICE", "quantty": 3}]}),
    "items[0].plan": ("subscriptions", {"items": [{"price": "PRICE", "plan": "gold"}]}),
    "items.amount": ("subscriptions", {"items": {"data": [{"price": "PRICE"}], "amount": 1}}),
    "items[0].price_data.curency": (
        "subscriptions",
        {"items": [{"price_data": {"curency": "usd", "product": "PRODUCT"}}]},
    ),
    "discounts[0].coupn": (
        "subscriptions",
        {"items": [{"price": "PRICE"}], "discounts": [{"coupn": "half"}]},
    ),
    "items[0].discounts[0].coupn": (
        "subscriptions",
        {"items": [{"price": "PRICE", "discounts": [{"coupn": "half"}]}]},
    ),
    "add_invoice_items[0].quantty": (
        "subscriptions",
        {"items": [{"price": "PRICE"}], "add_invoice_items": [{"price": "PRICE", "quantty": 3}]},
    ),
    "payment_settings.save_default": (
        "subscriptions",
        {"items": [{"price": "PRICE"}], "payment_settings": {"save_default": "off"}},
    ),
    "rendering.pdf.page": ("invoices", {"rendering": {"pdf": {"page": "a4"}}}),
    "custom_fields[0].nme": ("invoices", {"custom_fields": [{"nme": "PO", "value": "1"}]}),
    "pricing.pric": ("invoice_line_items", {"pricing": {"pric": "PRICE"}}),
    "pricing.price_details.pric": (
        "invoice_line_items",
        {"pricing": {"price_details": {"pric": "PRICE"}}},
    ),
    "period.begin": (
        "invoice_line_items",
        {"amount": 5, "period": {"begin": 1, "end": 1_793_500_000}},
    ),
    "transfer_data.amout": ("payment_intents", {"transfer_data": {"amout": 5}}),
}


def _filled(account: Emulator, value: Any) -> Any:
    """A value with ids of the account in the place of PRICE and PRODUCT."""
    price = next(p for p in account.objects("prices") if p["active"] and p["recurring"])
    if isinstance(value, dict):
        return {name: _filled(account, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(account, inner) for inner in value]
    return {"PRICE": price["id"], "PRODUCT": price["product"]}.get(value, value)


def _whole(account: Emulator, stream: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A record that a new object could be made of, but for its fields."""
    customer = account.ids("customers")[0]
    draft = next(i["id"] for i in account.objects("invoices"))
    beside: dict[str, dict[str, Any]] = {
        "prices": {"currency": "usd", "product": "PRODUCT"},
        "subscriptions": {"customer": customer, "collection_method": "send_invoice"},
        "invoices": {"customer": customer},
        "invoice_line_items": {"invoice": draft},
        "payment_intents": {"amount": 500, "currency": "usd"},
    }
    found: dict[str, Any] = _filled(account, {**beside.get(stream, {}), **fields})
    return found


@pytest.mark.parametrize("path", NEW)
def test_a_new_object_is_not_made_of_it(account: Emulator, tmp_path: Path, path: str) -> None:
    stream, fields = NEW[path]
    row = record(stream, no="7", **_whole(account, stream, fields))
    run = write(account, tmp_path, [schema(stream, "no"), row], id_mode="external", **ALL)
    assert run.writes == []
    assert [(line["verdict"], line["reason"]) for line in run.rejects] == [
        ("blocked", f"Stripe takes no {path} here")
    ]


def test_nothing_is_said_of_a_null(account: Emulator, tmp_path: Path) -> None:
    row = record("customers", no="7", address={"city": "B", "cty": None})
    run = write(account, tmp_path, [schema("customers", "no"), row], id_mode="external")
    assert run.counts("customers") == {"read": 1, "created": 1}


def test_tax_ids_need_no_list_of_stripes(account: Emulator, tmp_path: Path) -> None:
    row = record("customers", no="7", tax_ids=[{"type": "eu_vat", "value": "DE123456789"}])
    run = write(account, tmp_path, [schema("customers", "no"), row], id_mode="external", **ALL)
    assert run.writes[0].params["tax_id_data[0][value]"] == ["DE123456789"]


# ---------------------------------------------------------------------- objects that are there


def _subscription(account: Emulator) -> dict[str, Any]:
    return next(s for s in account.objects("subscriptions") if s["status"] == "active")


def _update(account: Emulator, folder: Path, stream: str, **fields: Any) -> Run:
    rows = [schema(stream), record(stream, **fields)]
    return write(account, folder, rows, **ALL)


def test_an_item_is_not_changed_by_it(account: Emulator, tmp_path: Path) -> None:
    held = _subscription(account)
    item = held["items"]["data"][0]
    items = [{"id": item["id"], "quantty": 7}]
    run = _update(account, tmp_path, "subscriptions", id=held["id"], items=items)
    assert run.writes == []
    assert run.rejects[0]["reason"] == "Stripe does not let items[0].quantty be changed"


def test_what_only_can_be_read_of_an_item_is_not_changed(account: Emulator, tmp_path: Path) -> None:
    held = _subscription(account)
    item = held["items"]["data"][0]
    items = [{"id": item["id"], "created": item["created"] - 1}]
    run = _update(account, tmp_path, "subscriptions", id=held["id"], items=items)
    assert run.rejects[0]["reason"] == "Stripe does not let items[0].created be changed"


def test_what_an_item_says_already_is_no_change(account: Emulator, tmp_path: Path) -> None:
    held = _subscription(account)
    names = ("id", "created", "plan", "subscription", "quantity")
    items = [{name: item[name] for name in names} for item in held["items"]["data"]]
    run = _update(account, tmp_path, "subscriptions", id=held["id"], items=items)
    assert run.counts("subscriptions") == {"read": 1, "unchanged": 1}


def test_an_older_image_of_stripes_own_item_is_no_change(account: Emulator, tmp_path: Path) -> None:
    held = _subscription(account)
    items = [{**item, "current_period_end": 1_700_000_000} for item in held["items"]["data"]]
    listed = {**held["items"], "data": items}
    run = _update(account, tmp_path, "subscriptions", id=held["id"], items=listed)
    assert run.counts("subscriptions") == {"read": 1, "unchanged": 1}


def test_stripes_own_item_with_an_unknown_field_is_named(account: Emulator, tmp_path: Path) -> None:
    held = _subscription(account)
    items = [{**item, "quantty": 3} for item in held["items"]["data"]]
    run = _update(account, tmp_path, "subscriptions", id=held["id"], items=items)
    assert "items[0].quantty" in run.rejects[0]["reason"]


def test_a_tax_id_is_not_added_by_it(account: Emulator, tmp_path: Path) -> None:
    customer = account.ids("customers")[0]
    taxes = [{"type": "eu_vat", "value": "DE123456789", "contry": "DE"}]
    run = _update(account, tmp_path, "customers", id=customer, tax_ids=taxes)
    assert run.writes == []
    assert run.rejects[0]["reason"] == "Stripe does not let tax_ids[0].contry be changed"


def test_a_list_inside_a_hash_is_looked_into(account: Emulator, tmp_path: Path) -> None:
    customer = account.ids("customers")[0]
    settings = {"custom_fields": [{"name": "PO", "value": "1", "valu": "2"}]}
    run = _update(account, tmp_path, "customers", id=customer, invoice_settings=settings)
    assert run.writes == []
    assert "invoice_settings.custom_fields[0].valu" in run.rejects[0]["reason"]


def test_the_price_of_a_line_is_changed_as_it_is_read(account: Emulator, tmp_path: Path) -> None:
    line = {
        "id": "il_1",
        "pricing": {
            "price_details": {"price": "price_2", "product": "prod_2"},
            "type": "price_details",
            "unit_amount_decimal": "5",
        },
    }
    found = [path_of(place) for place, _ in parts_unknown(BY_STREAM["invoice_line_items"], line)]
    assert found == [("id",)]


# ---------------------------------------------------------------------- the tap's own records


@pytest.mark.parametrize("timestamps", ["unix", "rfc3339"])
def test_the_taps_own_records_are_unchanged(tmp_path: Path, timestamps: str) -> None:
    with Emulator(customers=40) as account:
        found = read(config_of(account, timestamps=timestamps)).records
        rows = [
            *(schema(stream) for stream in WRITABLE),
            *(record(stream, **row) for stream in WRITABLE for row in found.get(stream, ())),
        ]
        run = write(account, tmp_path, [*rows, state(done=True)], **ALL)
        assert run.rejects == []
        assert {s: c.keys() for s in run.summary if (c := run.counts(s))} == {
            stream: {"read", "unchanged"} for stream in run.summary
        }


def test_a_copy_is_made_of_the_taps_own_records(account: Emulator, tmp_path: Path) -> None:
    streams = ("products", "prices", "customers")
    whole = {"prices": ["tiers", "currency_options"]}
    found = read(config_of(account, expand=whole), *streams).records
    with Emulator(customers=0) as other:
        rows = [*map(schema, streams)]
        rows += [record(stream, **row) for stream in streams for row in found[stream]]
        run = write(other, tmp_path, rows, id_mode="copy", **ALL)
        assert run.rejects == []
        assert [len(other.ids(stream)) for stream in streams] == [
            len(found[stream]) for stream in streams
        ]


# ---------------------------------------------------------------------- all parameters


def _hashes(value: ParamType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each hash of a parameter: the path of a misspelt field in it, and a value that has one."""
    if value.items is not None:
        *above, last = path
        for inner, made in _hashes(value.items, (*above, f"{last}[0]")):
            yield inner, [made]
    elif value.fields is not None:
        yield (*path, "misspelt"), {"misspelt": "x"}
        for name, shape in value.fields.items():
            for inner, made in _hashes(shape, (*path, name)):
                yield inner, {name: made}
    elif value.values is not None:
        for inner, made in _hashes(value.values, (*path, "any")):
            yield inner, {"any": made}


HASHES = [
    (resource.stream, path, {name: made})
    for resource in RESOURCES
    if resource.writable
    for name, shape in (resource.shape.fields or {}).items()
    for path, made in _hashes(shape, (name,))
]


@given(st.sampled_from(HASHES), st.from_regex(r"[a-z]{3}_zz", fullmatch=True))
def test_a_misspelt_field_is_named_wherever_it_stands(
    hashed: tuple[str, tuple[str, ...], Any], word: str
) -> None:
    stream, path, made = hashed
    fields = _renamed(made, word)
    found = [path_of(place) for place, _ in parts_unknown(BY_STREAM[stream], fields)]
    assert found == [(*path[:-1], word)]


def _renamed(value: Any, word: str) -> Any:
    if isinstance(value, list):
        return [_renamed(inner, word) for inner in value]
    if isinstance(value, dict):
        names = {name: word if name == "misspelt" else name for name in value}
        return {names[name]: _renamed(inner, word) for name, inner in value.items()}
    return value


def test_there_are_hashes_in_all_depths() -> None:
    assert {len(path) for _, path, _ in HASHES} >= {2, 3, 4}
