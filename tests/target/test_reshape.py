"""From what is read to what is written: trees, their leaves, and the form fields they become."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.params import ParamType
from target_stripe_alloy.params_tree import (
    InvalidRecord,
    Tree,
    digits,
    form_fields,
    get_path,
    is_empty,
    leaves,
    record_matches_object,
    set_path,
    shape_at,
    tree_of,
    trees_equal,
    validation_error,
    without_empty,
)
from target_stripe_alloy.plan.merge import tree_for
from target_stripe_alloy.resources import BY_STREAM, RESOURCES, integer_parameters

NOW = 1_000_000.0
TEXT = ParamType(scalars={"string"})
INTEGER = ParamType(scalars={"integer"})
TIME = ParamType(scalars={"integer"}, is_time=True)
DECIMAL = ParamType(scalars={"decimal"})
WRITABLE = tuple(resource.stream for resource in RESOURCES if resource.writable)

words = st.text("abc", min_size=1, max_size=3)
trees: st.SearchStrategy[Tree] = st.recursive(
    st.none() | words,
    lambda inner: st.dictionaries(words, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)
hashes = st.dictionaries(words, trees, max_size=4)


def tree(stream: str, **fields: Any) -> dict[str, Tree]:
    return tree_for(BY_STREAM[stream], fields, NOW)


def wrong(value: Any, shape: ParamType) -> str:
    """Why a value is no parameter of this shape; empty if it is one."""
    try:
        return validation_error(tree_of(value, shape, "x"), shape) or ""
    except InvalidRecord as error:
        return str(error)


# ---------------------------------------------------------------------- leaves


@given(
    st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False, places=12)
    | st.floats(allow_nan=False, allow_infinity=False)
)
def test_numbers_are_plain_digits_of_the_same_value(number: float | Decimal) -> None:
    text = digits(number)
    assert re.fullmatch(r"-?\d+(\.\d*[1-9])?", text)
    assert Decimal(text) == Decimal(str(number))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("1E-7"), "0.0000001"),
        (1e-7, "0.0000001"),
        (Decimal("1E+3"), "1000"),
        (100.0, "100"),
        (100, "100"),
        (1e16, "10000000000000000"),
    ],
)
def test_no_number_has_an_exponent(number: float | Decimal, text: str) -> None:
    assert digits(number) == text


@given(st.integers(0, 10**9), st.integers(0, 12))
def test_decimals_agree_however_they_are_written(unscaled: int, places: int) -> None:
    exact = Decimal(unscaled).scaleb(-places)
    written = [exact, f"{exact:f}", f"{exact:f}0" if places else f"{exact:f}.0"]
    assert {tree_of(form, DECIMAL) for form in written} == {digits(exact)}


def test_a_whole_float_is_an_integer() -> None:
    assert tree_of(100.0, INTEGER) == "100"


def test_a_truth_value_is_a_word() -> None:
    assert tree_of([True, False], ParamType(items=ParamType(scalars={"boolean"}))) == [
        "true",
        "false",
    ]


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31T00:01:00Z",
        "2026-01-31 00:01:00+00:00",
        "2026-01-31T01:01:00.000+01:00",
        "2026-01-31T00:01:00",  # without a zone it is UTC
        "2026-01-31T00:01",
        1_769_817_660,
        1_769_817_660.0,
        Decimal("1769817660.00"),
        "1769817660",
        "1769817660.0",
    ],
)
def test_a_time_is_unix_seconds(time: Any) -> None:
    assert tree_of(time, TIME) == "1769817660"


def test_a_date_is_its_first_second_in_utc() -> None:
    assert tree_of("2026-01-31", TIME) == "1769817600"


@pytest.mark.parametrize(
    "value",
    [
        "soon", "31.01.2026", "01/31/2026", "20260131", "2026-01", "2026-W05-6", "2026-02-30",
        "0000-00-00", "2026-01-31T25:00:00Z", " 2026-01-31", "2026-01-31T00:00:00.5Z", "1e9",
        20_260_131, 14, 2026, True, 1_769_817_660_000, "1769817660000", 1_769_817_660.5,
        float("nan"), float("inf"), Decimal("1E+999999999"), 10**30, [1_769_817_660],
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"^when: "):
        tree_of(value, TIME, "when")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10, "10"), (-10, "-10"), (10.0, "10"), (Decimal("1E+1"), "10"), ("10", "10"),
        ("10.0", "10"), ("010", "10"), ("-0", "0"), (-0.0, "0"), (2**63 - 1, str(2**63 - 1)),
    ],
)  # fmt: skip
def test_an_integer_is_exact(value: Any, text: str) -> None:
    assert tree_of(value, INTEGER) == text


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31", "2026-01-31T00:00:00Z", "10.5", 10.5, Decimal("0.1"), True, False, " 10 ",
        "1e3", "+10", "1,000", "1_000", "0x10", "\u0661\u0660", "10\n", "NaN", "Infinity", "true",
        float("nan"), float("inf"), 2**63, "9" * 30, "9" * 99, Decimal("1E+999999999"), [10],
        {"id": 10}, {"id": "10", "object": "x"},
    ],
)  # fmt: skip
def test_what_is_no_integer_is_refused(value: Any) -> None:
    assert wrong(value, INTEGER)


@pytest.mark.parametrize("value", [True, float("nan"), Decimal("1E+99"), Decimal("1E-99")])
def test_what_is_no_decimal_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord):
        tree_of(value, DECIMAL)


@pytest.mark.parametrize("value", [1, 0, 1.0, "True", "FALSE", "0", "1", "yes", "f", "2026-01-31"])
def test_only_true_and_false_are_truth_values(value: Any) -> None:
    assert "must be boolean" in wrong(value, ParamType(scalars={"boolean"}))


def test_no_object_is_a_reference_in_metadata() -> None:
    with pytest.raises(InvalidRecord, match=r"metadata\.k: expected string, got an object"):
        tree("customers", metadata={"k": {"id": "cus_1", "object": "customer"}})


# ---------------------------------------------------------------------- which integers are times


def integers(shape: ParamType, path: str) -> Iterator[tuple[str, ParamType]]:
    if "integer" in shape.scalars:
        yield path, shape
    for name, inner in (shape.fields or {}).items():
        yield from integers(inner, f"{path}.{name}")
    for entries in (shape.items, shape.values):
        if entries is not None:
            yield from integers(entries, f"{path}.*")


def all_integers() -> dict[str, ParamType]:
    return {p: shape for name in WRITABLE for p, shape in integers(BY_STREAM[name].shape, name)}


def test_every_integer_parameter_is_a_time_or_a_number() -> None:
    listed = integer_parameters()
    labels = [*listed["times"], *listed["numbers"]]
    unclassed = sorted(all_integers().keys() - set(labels))
    assert unclassed == [], (
        "Say in target_stripe_alloy/integer_parameters.json of each whether it is a time "
        "(Unix seconds) or a number"
    )
    assert sorted(labels) == sorted(all_integers())


def test_the_times_are_those_that_stripe_calls_so() -> None:
    said = re.compile(r"timestamp|\bunix\b", re.IGNORECASE)
    named = re.compile(r"(_at|_date|\.start|\.end|timestamp)$")
    found = {p for p, shape in all_integers().items() if said.search(shape.doc) or named.search(p)}
    assert found == set(integer_parameters()["times"])


def test_a_time_is_known_where_it_stands() -> None:
    assert {p for p, shape in all_integers().items() if shape.is_time} == set(
        integer_parameters()["times"]
    )


def test_a_time_stays_text_where_text_is_meant() -> None:
    assert tree_of("1970-01-01T00:01:00Z", TEXT) == "1970-01-01T00:01:00Z"


def test_a_name_among_integers_is_kept() -> None:
    assert tree("subscriptions", trial_end="now") == {"trial_end": "now"}


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_the_empty_text_are_nothing(nothing: Any) -> None:
    assert tree("customers", name=nothing) == {"name": None}


def test_what_has_no_place_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidRecord, match=r"metadata\.k: expected string, got a list"):
        tree("customers", metadata={"k": [1]})


def test_an_object_that_is_no_reference_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="name: expected string, got an object"):
        tree("customers", name={"first": "A"})


# ---------------------------------------------------------------------- kinds of objects


@pytest.mark.parametrize("stream", WRITABLE)
def test_what_is_unknown_is_left_out(stream: str) -> None:
    assert tree(stream, object="x", livemode=False, colour="red") == {}


@pytest.mark.parametrize(
    ("stream", "field"),
    [
        ("prices", "product"),
        ("products", "default_price"),
        ("products", "tax_code"),
        ("customers", "default_source"),
        ("customers", "test_clock"),
        ("charges", "customer"),
        ("payment_intents", "customer"),
        ("payment_intents", "payment_method"),
        ("payment_intents", "on_behalf_of"),
        ("payment_methods", "customer"),
        ("invoices", "customer"),
        ("invoices", "default_payment_method"),
        ("invoices", "default_source"),
        ("invoices", "on_behalf_of"),
        ("subscriptions", "customer"),
        ("subscriptions", "default_payment_method"),
        ("subscriptions", "default_source"),
        ("subscriptions", "on_behalf_of"),
        ("refunds", "charge"),
        ("refunds", "payment_intent"),
        ("payouts", "destination"),
    ],
)
def test_an_expanded_object_is_its_id(stream: str, field: str) -> None:
    expanded = {"id": "x_1", "object": "x", "name": "X", "metadata": {"k": "v"}}
    assert tree(stream, **{field: expanded}) == {field: "x_1"} == tree(stream, **{field: "x_1"})


def test_expanded_objects_in_a_list_are_their_ids() -> None:
    rates = [{"id": "txr_1", "object": "tax_rate", "percentage": 19.0}, "txr_2"]
    assert tree("invoices", default_tax_rates=rates) == {"default_tax_rates": ["txr_1", "txr_2"]}


def test_an_expanded_object_inside_a_hash_is_its_id() -> None:
    method = {"id": "pm_1", "object": "payment_method", "card": {"brand": "visa"}}
    written = tree("customers", invoice_settings={"default_payment_method": method})
    assert written == {"invoice_settings": {"default_payment_method": "pm_1"}}


def test_parts_that_are_only_read_are_left_out() -> None:
    assert tree("subscriptions", automatic_tax={"enabled": True, "status": "complete"}) == {
        "automatic_tax": {"enabled": "true"}
    }
    assert tree("charges", fraud_details={"stripe_report": "x", "user_report": "safe"}) == {
        "fraud_details": {"user_report": "safe"}
    }


def test_items_lose_their_list_and_their_plan() -> None:
    item = {"id": "si_1", "plan": {"id": "price_1"}, "price": {"id": "price_1"}, "quantity": 2}
    listed = {"object": "list", "data": [item], "has_more": False}
    assert tree("subscriptions", items=listed) == {
        "items": [{"id": "si_1", "price": "price_1", "quantity": "2"}]
    }


def test_tiers_end_in_inf() -> None:
    tiers = [
        {"up_to": 10, "unit_amount": 100, "unit_amount_decimal": "100", "flat_amount": None},
        {"up_to": None, "unit_amount": None, "unit_amount_decimal": "0.5"},
    ]
    written = tree("prices", tiers=tiers)["tiers"]
    assert [tier["up_to"] for tier in written] == ["10", "inf"]


@given(st.none() | st.integers(0, 100), st.none() | st.decimals(0, 100, places=3))
def test_of_two_forms_of_an_amount_one_is_sent(whole: int | None, exact: Decimal | None) -> None:
    amounts = {"unit_amount": whole, "unit_amount_decimal": exact}
    option = {"eur": amounts}
    written = tree("prices", **amounts, tiers=[amounts], currency="usd", currency_options=option)
    for place in (written, written["tiers"][0], written["currency_options"]["eur"]):
        assert not {"unit_amount", "unit_amount_decimal"} <= without_empty(place).keys()


def test_the_default_currency_is_no_option() -> None:
    options = {"usd": {"unit_amount": 100}, "eur": {"unit_amount": 90}}
    written = tree("prices", currency="usd", currency_options=options)
    assert written["currency_options"] == {"eur": {"unit_amount": "90"}}


def test_an_amount_the_customer_chooses_is_enabled() -> None:
    written = tree("prices", custom_unit_amount={"minimum": 5, "maximum": None, "preset": None})
    assert without_empty(written) == {"custom_unit_amount": {"enabled": "true", "minimum": "5"}}


def test_tax_ids_are_data_of_a_new_customer() -> None:
    entry = {"id": "txi_1", "object": "tax_id", "type": "eu_vat", "value": "DE1"}
    assert tree("customers", tax_ids={"object": "list", "data": [entry]}) == {
        "tax_id_data": [{"type": "eu_vat", "value": "DE1"}]
    }


def test_of_a_customers_tax_only_what_stripe_takes() -> None:
    held = {"automatic_tax": "supported", "ip_address": "1.2.3.4", "location": {"country": "DE"}}
    assert tree("customers", tax=held) == {"tax": {"ip_address": "1.2.3.4"}}


def test_of_the_cash_balance_only_its_settings() -> None:
    held = {
        "object": "cash_balance",
        "available": {"usd": 5},
        "settings": {"reconciliation_mode": "manual", "using_merchant_default": True},
    }
    assert tree("customers", cash_balance=held) == {
        "cash_balance": {"settings": {"reconciliation_mode": "manual"}}
    }


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ("di_1", {"discount": "di_1"}),
        ({"object": "discount", "id": "di_1", "source": {"coupon": "c"}}, {"coupon": "c"}),
        (
            {"object": "discount", "id": "di_1", "source": {"coupon": {"id": "c"}}},
            {"coupon": "c"},
        ),
        (
            {"object": "discount", "id": "di_1", "promotion_code": "promo_1"},
            {"promotion_code": "promo_1"},
        ),
        ({"object": "discount", "id": "di_1"}, {"discount": "di_1"}),
        ({"coupon": "c"}, {"coupon": "c"}),
    ],
)
def test_a_discount_is_named(held: Any, named: dict[str, str]) -> None:
    assert tree("subscriptions", discounts=[held]) == {"discounts": [named]}


@pytest.mark.parametrize("end", [NOW, NOW - 1, "1970-01-01T00:00:00Z"])
def test_a_past_end_of_a_trial_is_not_sent(end: Any) -> None:
    assert tree("subscriptions", trial_end=end) == {}


def test_a_coming_end_of_a_trial_is_sent() -> None:
    assert tree("subscriptions", trial_end=int(NOW) + 1) == {"trial_end": "1000001"}


def test_the_billing_cycle_anchor_is_never_derived() -> None:
    assert tree("subscriptions", billing_cycle_anchor=5) == {}


def test_an_end_at_the_periods_end_has_no_date() -> None:
    written = tree("subscriptions", cancel_at_period_end=True, cancel_at=int(NOW) + 1)
    assert written == {"cancel_at_period_end": "true"}


def test_a_line_names_its_price() -> None:
    pricing = {"type": "price_details", "price_details": {"price": "price_1", "product": "prod_1"}}
    written = tree("invoice_line_items", pricing=pricing, amount=500)
    assert written == {"pricing": {"price": "price_1"}}


def test_a_line_without_a_price_keeps_its_amount() -> None:
    assert tree("invoice_line_items", pricing={"price_details": None}, amount=500) == {
        "amount": "500"
    }


def test_a_refund_is_of_a_charge_or_of_a_payment_intent() -> None:
    assert tree("refunds", charge="ch_1", payment_intent="pi_1") == {"charge": "ch_1"}
    assert tree("refunds", charge=None, payment_intent="pi_1")["payment_intent"] == "pi_1"


def test_a_record_is_left_as_it_is() -> None:
    tiers = [{"up_to": None, "unit_amount": 1, "unit_amount_decimal": "1"}]
    fields = {"currency": "usd", "tiers": tiers, "currency_options": {"usd": {"unit_amount": 1}}}
    before = repr(fields)
    tree_for(BY_STREAM["prices"], fields, NOW)
    assert repr(fields) == before


# ---------------------------------------------------------------------- looking at trees


@given(hashes)
def test_a_tree_is_its_leaves(source: dict[str, Tree]) -> None:
    again: dict[str, Tree] = {}
    for path, leaf in leaves(source):
        assert get_path(source, path) == leaf
        set_path(again, path, leaf)
    assert list(leaves(again)) == list(leaves(source))


def test_a_list_is_one_leaf() -> None:
    assert list(leaves({"a": {"b": ["x", "y"]}})) == [(("a", "b"), ["x", "y"])]


def test_an_empty_hash_speaks_of_nothing() -> None:
    assert list(leaves({"a": {}, "b": {"c": {}}})) == []


def test_nothing_stands_below_a_leaf() -> None:
    assert get_path({"a": "x"}, ("a", "b")) is None


@given(trees, trees)
def test_likeness_goes_both_ways(one: Tree, other: Tree) -> None:
    assert trees_equal(one, one)
    assert trees_equal(one, other) == trees_equal(other, one)


@pytest.mark.parametrize("empty", [None, "", [], {}, {"a": None}, {"a": {"b": []}}])
def test_whatever_is_empty_is_like_nothing(empty: Tree) -> None:
    assert is_empty(empty)
    assert trees_equal(empty, None)
    assert not trees_equal(empty, "x")


@given(hashes)
def test_filling_keeps_what_says_something(source: dict[str, Tree]) -> None:
    full = without_empty(source)
    assert not any(is_empty(leaf) for _, leaf in leaves(full))
    assert without_empty(full) == full


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("1970-01-01T00:01:00Z", 60, True),
        ("1970-01-01T00:01:01Z", 60, False),
        ({"id": "ch_1", "amount": 5}, "ch_1", True),
        ("ch_1", {"id": "ch_2"}, False),
        (Decimal("19.5"), 19.5, True),
        ([{"at": "1970-01-01T00:01:00Z"}], [{"at": 60}], True),
        ([1], [1, 2], False),
        ({"a": None}, {}, True),
        ("text", 60, False),
    ],
)
def test_a_record_and_an_object_say_the_same(one: Any, other: Any, agree: bool) -> None:
    assert record_matches_object(one, other) is agree


# ---------------------------------------------------------------------- what Stripe would refuse


@pytest.mark.parametrize(
    ("stream", "field", "clears"),
    [
        ("customers", "name", True),
        ("customers", "address", True),
        ("customers", "preferred_locales", True),
        ("customers", "metadata", True),
        ("customers", "balance", False),
        ("customers", "invoice_settings", False),
        ("products", "active", False),
        ("products", "default_price", True),
        ("prices", "tax_behavior", False),
        ("payment_intents", "payment_method", True),
        ("subscriptions", "collection_method", False),
        ("subscriptions", "discounts", True),
    ],
)
def test_null_clears_where_it_can(stream: str, field: str, clears: bool) -> None:
    shape = shape_at(BY_STREAM[stream].shape, (field,))
    assert validation_error(None, shape) == (None if clears else "cannot be cleared")


@pytest.mark.parametrize(
    ("leaf", "shape", "why"),
    [
        ("5", INTEGER, None),
        ("5.5", INTEGER, "must be integer, got '5.5'"),
        ("5.5", DECIMAL, None),
        ("five", DECIMAL, "must be decimal, got 'five'"),
        ("true", ParamType(scalars={"boolean"}), None),
        ("1", ParamType(scalars={"boolean"}), "must be boolean, got '1'"),
        ("a", ParamType(literals=["a", "b"]), None),
        ("c", ParamType(literals=["a", "b"]), "must be one of a, b, got 'c'"),
        ("inf", ParamType(scalars={"integer"}, literals=["inf"]), None),
        ("c", ParamType(scalars={"string"}, literals=["a"]), None),
    ],
)
def test_a_value_fits_its_type(leaf: str, shape: ParamType, why: str | None) -> None:
    assert validation_error(leaf, shape) == why


def test_the_type_of_an_entry_of_a_map_is_that_of_its_values() -> None:
    options = shape_at(BY_STREAM["prices"].shape, ("currency_options", "eur", "unit_amount"))
    assert options.scalars == {"integer"}


# ---------------------------------------------------------------------- sending


@given(hashes)
def test_every_leaf_is_sent_and_nothing_else(source: dict[str, Tree]) -> None:
    flat = {name: leaf for name, leaf in source.items() if leaf is None or isinstance(leaf, str)}
    assert dict(form_fields(flat)) == {name: leaf or "" for name, leaf in flat.items()}
    names = [name for name, _ in form_fields(source)]
    assert len(names) == len(set(names))
    assert all(isinstance(text, str) for _, text in form_fields(source))


@pytest.mark.parametrize("empty", [None, "", []])
def test_what_is_empty_clears(empty: Tree) -> None:
    assert list(form_fields({"discounts": empty})) == [("discounts", "")]


def test_no_parameters_are_no_pairs() -> None:
    assert list(form_fields({})) == []
