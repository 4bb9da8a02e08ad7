"""Expansion inside what is expanded, as deep as Stripe goes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.schemas import (
    EXPAND_LEVELS,
    Expandable,
    _split,
    can_expand,
    expandable,
    generated,
)
from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.emulated_types import RESOURCES
from tap_stripe_alloy.records.stream_schemas import check_expand, stream_schema
from tests.conftest import config_of, read

EXPANDABLE = generated("_expandable")
PICKED = 3
"""Paths of each stream that are read over HTTP."""


CHILDREN = {kind.name: f"{kind.parent_field}.data." for kind in OBJECT_TYPES if kind.parent_field}
"""Where a stream's objects are in those of its parent, whose list is read."""


def paths(known: Expandable, above: str) -> Iterator[str]:
    """All that Stripe expands in a list, `data` included in the four levels."""
    for path, entry in known.items():
        here = f"{above}{path}"
        if here.count(".") + 1 >= EXPAND_LEVELS:
            continue
        yield here
        inside = ".data." if entry["kind"] == "include" else "."
        for name in entry["objects"]:
            yield from paths(expandable(name), here + inside)


def paths_of(stream: str) -> list[str]:
    above = CHILDREN.get(stream, "")
    found = paths(EXPANDABLE[stream], above)
    return sorted({path.removeprefix(above) for path in found})


def held(known: Expandable, path: str) -> bool:
    """Whether the emulator has what stands at a path: others stay ids there."""
    entry, rest = _split(known, path)
    kinds = [name for name in entry["objects"] if name in RESOURCES and name != "tax_code"]
    if len(kinds) < len(entry["objects"]):
        return False
    return not rest or any(
        held(expandable(name), rest) for name in kinds if can_expand(expandable(name), rest)
    )


def picked() -> list[tuple[str, str]]:
    rng = random.Random(14)
    found: list[tuple[str, str]] = []
    for stream, known in EXPANDABLE.items():
        deep = [path for path in paths_of(stream) if path not in known and held(known, path)]
        found += [(stream, path) for path in rng.sample(deep, min(PICKED, len(deep)))]
    return found


def test_the_example_of_stripes_own_page(account: Emulator) -> None:
    config = config_of(account, expand={"charges": ["payment_intent.customer"]})
    output = read(config, "charges")
    paid = [r["payment_intent"] for r in output.records["charges"] if r["payment_intent"]]
    customers = [intent["customer"] for intent in paid if intent["customer"]]
    assert customers
    assert {customer["object"] for customer in customers} == {"customer"}
    living = [customer for customer in customers if not customer.get("deleted")]
    assert all(customer["created"].endswith("Z") for customer in living)
    validator = jsonschema.Draft7Validator(output.schemas["charges"])
    assert [list(validator.iter_errors(row)) for row in output.records["charges"][:20]] == [[]] * 20


@pytest.mark.parametrize("stream", sorted(EXPANDABLE))
def test_each_path_is_taken(stream: str) -> None:
    for path in paths_of(stream):
        check_expand({stream: [path]}, [stream])


@pytest.mark.parametrize(("stream", "path"), picked()[::3])
def test_a_path_makes_a_valid_schema(stream: str, path: str) -> None:
    schema = stream_schema(stream, expand=[path], unix=True)
    jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize(("stream", "path"), picked())
def test_what_is_expanded_deep_inside_fits_its_schema(
    account: Emulator, stream: str, path: str
) -> None:
    output = read(config_of(account, expand={stream: [path]}), stream)
    validator = jsonschema.Draft7Validator(output.schemas[stream])
    for record in output.records.get(stream, [])[:10]:
        assert list(validator.iter_errors(record)) == []


def test_several_paths_in_any_order_keep_each_other(account: Emulator) -> None:
    wanted = ["customer.default_source", "payment_intent.customer", "customer", "payment_intent"]
    forth = stream_schema("charges", expand=wanted, unix=False)
    back = stream_schema("charges", expand=wanted[::-1], unix=False)
    assert forth == back


@pytest.mark.parametrize(
    "path",
    ["payment_intent.nothing", "payment_intent.amount", "customer.email", "nothing.customer"],
)
def test_what_stripe_does_not_expand_is_refused_by_name(path: str) -> None:
    names = [stream.name for stream in DEFAULT_TYPES]
    with pytest.raises(SettingsError, match=path):
        check_expand({"charges": [path]}, names)


def test_what_is_deeper_than_stripe_goes_is_refused() -> None:
    deep: dict[str, Any] = {"charges": ["payment_intent.customer.default_source.customer"]}
    with pytest.raises(SettingsError, match="deeper"):
        check_expand(deep, ["charges"])
