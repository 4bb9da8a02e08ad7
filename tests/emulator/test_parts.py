"""The pure parts: forms, shapes, coercion, periods, chance, keys as they are shown."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from stripe_alloy.api.params import param_type
from stripe_alloy.emulator.coerce import coerce
from stripe_alloy.emulator.effects.catalog import amount_of
from stripe_alloy.emulator.effects.periods import after
from stripe_alloy.emulator.errors import ApiError, masked
from stripe_alloy.emulator.form import nest, pairs
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.seeded_random import SeededRandom
from stripe_alloy.emulator.service import TABLE


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


@pytest.mark.parametrize(
    ("text", "nested"),
    [
        ("a=1", {"a": "1"}),
        ("a[b]=1&a[c]=2", {"a": {"b": "1", "c": "2"}}),
        ("a[]=1&a[]=2", {"a": {"0": "1", "1": "2"}}),
        ("a[0][b]=1&a[1][b]=2", {"a": {"0": {"b": "1"}, "1": {"b": "2"}}}),
        ("a=", {"a": ""}),
        ("a=x+y%26z", {"a": "x y&z"}),
        ("a%5Bb%5D=1", {"a": {"b": "1"}}),
    ],
)
def test_forms_nest(text: str, nested: object) -> None:
    assert nest(pairs(text)) == nested


@pytest.mark.parametrize("text", ["a=1&a[b]=2", "a[b]=2&a=1", "[a]=1", "a[b=1"])
def test_forms_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ApiError):
        nest(pairs(text))


def test_shapes_know_what_can_be_cleared() -> None:
    fields = param_type("CustomerUpdateParams").fields or {}
    assert (fields["address"].clearable, fields["invoice_settings"].clearable) == (True, False)


def test_shapes_know_what_is_needed() -> None:
    assert param_type("PaymentIntentCreateParams").needed == {"amount", "currency"}


def test_shapes_leave_request_options_out() -> None:
    assert "stripe_account" not in (param_type("CustomerListParams").fields or {})


@pytest.mark.parametrize("route", TABLE.routes, ids=lambda r: f"{r.method} {r.template}")
def test_every_endpoint_knows_its_parameters(route: Route) -> None:
    assert "expand" in (route.shape.fields or {})


@pytest.mark.parametrize(
    ("params", "text", "expected"),
    [
        ("CustomerListParams", "limit=5", {"limit": 5}),
        ("CustomerListParams", "created[gte]=5", {"created": {"gte": 5}}),
        ("CustomerListParams", "created=5", {"created": 5}),
        ("PriceListParams", "active=false", {"active": False}),
        ("PriceListParams", "lookup_keys[]=a", {"lookup_keys": ["a"]}),
        ("CustomerUpdateParams", "metadata[1]=a", {"metadata": {"1": "a"}}),
        ("CustomerUpdateParams", "metadata=", {"metadata": ""}),
        ("SubscriptionUpdateParams", "trial_end=now", {"trial_end": "now"}),
        ("SubscriptionUpdateParams", "trial_end=7", {"trial_end": 7}),
        ("PriceCreateParams", "currency=usd&unit_amount_decimal=0.5",
         {"currency": "usd", "unit_amount_decimal": "0.5"}),
        ("PriceCreateParams", "currency=usd&tiers[0][up_to]=inf",
         {"currency": "usd", "tiers": [{"up_to": "inf"}]}),
    ],
)  # fmt: skip
def test_values_get_their_types(params: str, text: str, expected: object) -> None:
    assert coerce(nest(pairs(text)), param_type(params)) == expected


@pytest.mark.parametrize(
    ("params", "text", "code"),
    [
        ("CustomerListParams", "limit=x", "parameter_invalid_integer"),
        ("CustomerListParams", "limit=1.0", "parameter_invalid_integer"),
        ("CustomerListParams", "limit=", "parameter_invalid_empty"),
        ("CustomerListParams", "created[since]=5", "parameter_unknown"),
        ("CustomerListParams", "email[a]=5", "parameter_invalid_string"),
        ("PriceListParams", "active=maybe", "parameter_invalid_boolean"),
        ("PriceListParams", "lookup_keys=a", "parameter_invalid_array"),
        ("CustomerUpdateParams", "metadata=a", "parameter_invalid_object"),
        ("CustomerUpdateParams", "address=a", "parameter_invalid_object"),
        ("PriceCreateParams", "unit_amount=1", "parameter_missing"),
        ("PriceCreateParams", "currency=usd&unit_amount_decimal=1E-7", "parameter_invalid_decimal"),
    ],
)
def test_values_of_the_wrong_type_are_refused(params: str, text: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        coerce(nest(pairs(text)), param_type(params))
    assert caught.value.error["code"] == code


@pytest.mark.parametrize(
    ("start", "interval", "count", "end"),
    [
        ("2026-01-31", "month", 1, "2026-02-28"),
        ("2024-01-31", "month", 1, "2024-02-29"),
        ("2026-12-15", "month", 1, "2027-01-15"),
        ("2026-03-10", "year", 1, "2027-03-10"),
        ("2026-03-10", "week", 2, "2026-03-24"),
        ("2026-03-10", "day", 3, "2026-03-13"),
        ("2026-10-31", "month", 4, "2027-02-28"),
    ],
)
def test_periods(start: str, interval: str, count: int, end: str) -> None:
    assert after(moment(start), interval, count) == moment(end)


def test_periods_return_to_the_day_they_started_on() -> None:
    anchor = moment("2026-01-31")
    assert after(moment("2026-02-28"), "month", 1, anchor) == moment("2026-03-31")


TIERS = [
    {"up_to": 10, "unit_amount": 200, "flat_amount": None},
    {"up_to": None, "unit_amount": 100, "flat_amount": 500},
]


@pytest.mark.parametrize(
    ("mode", "quantity", "amount"),
    [("graduated", 5, 1000), ("graduated", 12, 2700), ("volume", 5, 1000), ("volume", 12, 1700)],
)
def test_tiers(mode: str, quantity: int, amount: int) -> None:
    price = {"billing_scheme": "tiered", "tiers_mode": mode}
    assert amount_of(price, quantity, TIERS) == amount


def test_parts_of_a_cent_are_rounded_half_up() -> None:
    price = {"billing_scheme": "per_unit", "unit_amount_decimal": "0.5", "unit_amount": None}
    assert amount_of(price, 5, None) == 3


def test_dice_are_the_same_everywhere() -> None:
    dice = SeededRandom(7)
    assert (dice.between(1, 6), dice.text(14), dice.digits(6)) == DICE_OF_7


DICE_OF_7 = (2, "tqWdcum9JKcEgf", "710224")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk_test_4eC39HqLyjWDarjtT1zdp7dc", "sk_test_********************p7dc"),
        ("rk_live_4eC39HqLyjWDarjtT1zdp7dc", "rk_live_********************p7dc"),
        ("short", "*****"),
        ("a" * 20, "*" * 16 + "aaaa"),
    ],
)
def test_keys_are_masked(key: str, shown: str) -> None:
    assert masked(key) == shown
