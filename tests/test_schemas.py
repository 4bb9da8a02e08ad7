"""The generated schemas, and the generator: what it makes of Stripe's types, what it refuses."""

from __future__ import annotations

import json
import logging
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator
from singer_sdk.helpers._flattening import flatten_schema
from singer_sdk.helpers._typing import conform_record_data_types
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import Schema

from scripts import generate_schemas
from scripts.schemagen.lists import drop_declared, endpoints, reasons, undecided
from scripts.schemagen.output import differences, generate, write
from scripts.schemagen.schema import Builder, SeenFields
from scripts.schemagen.source import Package
from scripts.schemagen.times import ReviewedTimes, ReviewNeeded
from stripe_alloy.api.object_types import BY_OBJECT, OBJECT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parent.parent / "stripe_alloy" / "api" / "schemas"
STREAMS = sorted(path.stem for path in FOLDER.glob("[!_]*.json"))
GENERATED = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("[!_]*.json"))
EXPANDABLE = json.loads((FOLDER / "_expandable.json").read_text(encoding="utf-8"))

HEADER = """
    class Fake(StripeObject):
        OBJECT_NAME: ClassVar[Literal["fake"]] = "fake"
"""


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return loaded


def at(stream: str, path: str) -> dict[str, Any]:
    """The schema at a dotted path of properties; an array is passed through to its items."""
    node = load(f"{stream}.json")
    for name in path.split("."):
        node = node.get("items", node)["properties"][name]
    return node


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema, itself included."""
    yield schema
    inside = [*schema.get("properties", {}).values(), schema.get("items")]
    for child in [*inside, schema.get("additionalProperties")]:
        if isinstance(child, dict):
            yield from nodes(child)


def fake(body: str, *, times: tuple[str, ...] = (), seen: SeenFields | None = None) -> Builder:
    """A builder for a class `Fake` with the given body."""
    source = textwrap.dedent(HEADER) + textwrap.indent(textwrap.dedent(body), "    ")
    klass = Package({"stripe._fake": source}.__getitem__).klass("stripe._fake.Fake")
    return Builder(klass, times, seen or SeenFields())


def properties(body: str, *, times: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = fake(body, times=times).build()["properties"]
    return found


@pytest.fixture(scope="module")
def package() -> Package:
    return generate_schemas.installed()


@pytest.fixture(scope="module")
def times() -> ReviewedTimes:
    return ReviewedTimes.load(generate_schemas.TIMES)


@pytest.fixture(scope="module")
def files(package: Package, times: ReviewedTimes) -> dict[str, str]:
    return generate(package, times)


# The committed files


def test_committed_files_are_what_the_generator_writes(files: dict[str, str]) -> None:
    assert list(differences(FOLDER, files)) == []


def test_every_stream_has_a_schema() -> None:
    assert set(STREAMS) == {kind.name for kind in OBJECT_TYPES}


@pytest.mark.parametrize("name", GENERATED)
def test_schema_is_valid_draft_7(name: str) -> None:
    Draft7Validator.check_schema(load(name))


def integers_in(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "integer" in schema.get("type", ()):
            yield schema
        for inner in schema.values():
            yield from integers_in(inner)


@pytest.mark.parametrize("name", GENERATED)
def test_every_integer_has_64_bits(name: str) -> None:
    """Else targets take wider types: HUGEINT, DOUBLE."""
    bounds = {(found["minimum"], found["maximum"]) for found in integers_in(load(name))}
    assert bounds <= {(-(1 << 63), (1 << 63) - 1)}


@pytest.mark.parametrize("name", GENERATED)
def test_key_is_never_null(name: str) -> None:
    # Two of the objects have no id; no stream is without one.
    assert load(name)["properties"].get("id", {"type": "string"})["type"] == "string"


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_has_a_key(stream: str) -> None:
    assert "id" in load(f"{stream}.json")["properties"]


@pytest.mark.parametrize("stream", STREAMS)
def test_deleted_is_left_to_the_tap(stream: str) -> None:
    assert "deleted" not in load(f"{stream}.json")["properties"]


def test_deleted_is_no_field_of_a_live_object_inside_another() -> None:
    assert "deleted" not in at("subscription_items", "price")["properties"]


def test_what_is_left_of_a_deleted_object_says_so() -> None:
    assert load("objects/discount.json")["properties"]["deleted"]["type"] == ["boolean", "null"]


@pytest.mark.parametrize("name", GENERATED)
def test_no_property_lists_string_and_object_as_types(name: str) -> None:
    # target-duckdb fails on it, target-postgres quotes the ids.
    mixed = [node for node in nodes(load(name)) if {"string", "object"} <= set(node["type"])]
    assert mixed == []


@pytest.mark.parametrize("name", GENERATED)
def test_objects_in_lists_have_properties(name: str) -> None:
    # Without, the SDK's recursive conformance raises KeyError.
    listed = [node["items"] for node in nodes(load(name)) if "items" in node]
    assert [item for item in listed if item["type"] == "object" and "properties" not in item] == []


@pytest.mark.parametrize("name", GENERATED)
def test_objects_without_known_fields_stay_open(name: str) -> None:
    # With `properties: {}` and nothing else, the SDK empties them.
    empty = [node for node in nodes(load(name)) if node.get("properties") == {}]
    assert all(node["additionalProperties"] is True for node in empty)


@pytest.mark.parametrize("name", GENERATED)
def test_sdk_round_trip_keeps_everything(name: str) -> None:
    schema = load(name)
    assert Schema.from_dict(schema).to_dict() == schema


@pytest.mark.parametrize("stream", STREAMS)
def test_sdk_can_flatten(stream: str) -> None:
    assert "id" in flatten_schema(load(f"{stream}.json"), max_level=3)["properties"]


def test_sdk_conformance_keeps_open_objects_in_lists() -> None:
    record = {"id": "ch_1", "refunds": {"data": [{"id": "re_1", "metadata": {"a": "b"}}]}}
    level = TypeConformanceLevel.RECURSIVE
    logger = logging.getLogger("test")
    conformed = conform_record_data_types("charges", record, load("charges.json"), level, logger)
    assert conformed == record


# Stripe's types


def test_unix_seconds_become_date_times() -> None:
    created = at("charges", "created")
    assert (created["type"], created["format"]) == ("string", "date-time")


def test_a_time_that_may_be_missing_is_nullable() -> None:
    paid_at = at("invoices", "status_transitions.paid_at")
    assert (paid_at["type"], paid_at["format"]) == (["string", "null"], "date-time")


def test_times_inside_lists_are_times() -> None:
    assert at("invoices", "lines.data.period.start")["format"] == "date-time"


def test_stripes_own_updated_stays_on_products() -> None:
    assert at("products", "updated")["format"] == "date-time"


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("subscriptions", "days_until_due"),
        ("prices", "recurring.interval_count"),
        ("payment_methods", "card.exp_year"),
        ("invoices", "amount_due"),
    ],
)
def test_numbers_that_resemble_times_stay_integers(stream: str, path: str) -> None:
    assert "integer" in at(stream, path)["type"]


def test_expandable_is_the_id() -> None:
    assert at("charges", "customer")["type"] == ["string", "null"]


def test_list_of_expandables_is_a_list_of_ids() -> None:
    assert at("invoices", "discounts")["items"] == {"type": "string"}


def test_decimal_is_a_string() -> None:
    assert at("prices", "unit_amount_decimal")["type"] == ["string", "null"]


@pytest.mark.parametrize("stream", ["charges", "customers", "products"])
def test_metadata_has_no_properties(stream: str) -> None:
    assert "properties" not in at(stream, "metadata")


def test_metadata_holds_strings() -> None:
    assert at("charges", "metadata")["additionalProperties"] == {"type": ["string", "null"]}


@pytest.mark.parametrize("path", ["data.object", "data.previous_attributes"])
def test_what_an_event_carries_stays_open(path: str) -> None:
    found = at("events", path)
    assert "properties" not in found
    assert found["additionalProperties"] is True


def test_invoice_lines_are_spelled_out() -> None:
    lines = at("invoices", "lines.data")["items"]["properties"]
    assert lines.keys() == load("invoice_line_items.json")["properties"].keys()


def test_subscription_items_are_spelled_out() -> None:
    items = at("subscriptions", "items.data")["items"]["properties"]
    assert items.keys() == load("subscription_items.json")["properties"].keys()


def test_rows_of_another_stream_stay_open() -> None:
    items = at("customers", "subscriptions.data")["items"]
    assert items == {"type": "object", "properties": {}, "additionalProperties": True}


def test_what_an_error_drags_along_stays_open() -> None:
    found = at("payment_intents", "last_payment_error.payment_method")
    assert "properties" not in found


def test_union_of_objects_has_the_fields_of_all() -> None:
    source = at("charges", "source")["properties"]
    assert {"brand", "routing_number", "client_secret", "charges_enabled"} <= source.keys()


# What can be expanded


def test_expandable_field_is_listed() -> None:
    assert EXPANDABLE["charges"]["customer"] == {
        "kind": "id",
        "nullable": True,
        "objects": ["customer"],
    }


def test_expandable_list_inside_a_list_is_listed() -> None:
    assert EXPANDABLE["invoices"]["lines.data.discounts"]["kind"] == "list_of_ids"


def test_field_that_only_expanding_shows_is_listed() -> None:
    assert EXPANDABLE["prices"]["tiers"]["kind"] == "include"


def test_path_through_a_nested_list_names_data() -> None:
    assert EXPANDABLE["subscriptions"]["items.data.price.product"]["objects"] == ["product"]


def test_no_path_is_deeper_than_stripe_expands() -> None:
    assert max(path.count(".") + 1 for paths in EXPANDABLE.values() for path in paths) == 4


def test_what_an_id_expands_to_has_a_schema() -> None:
    own = {path.stem for path in (FOLDER / "objects").glob("*.json")}
    named = {
        name
        for paths in EXPANDABLE.values()
        for entry in paths.values()
        if entry["kind"] != "include"
        for name in entry["objects"]
    }
    singular = set(BY_OBJECT)
    assert named - own - singular == set()


# The generator on small classes


def test_wire_name_is_used_where_python_cannot_say_it() -> None:
    found = properties("""
        from_: str
        _field_remappings = {"from_": "from"}
    """)
    assert found == {"from": {"type": "string"}}


def test_docstring_becomes_the_description() -> None:
    found = properties('''
        name: str
        """
        First line,
        second\x0b line.
        """
    ''')
    assert found["name"]["description"] == "First line, second line."


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("str", "string"),
        ("Optional[bool]", ["boolean", "null"]),
        ("Optional[float]", ["number", "null"]),
        ("Union[Literal['a', 'b'], str]", "string"),
        ("Optional[Union[Literal['a'], str]]", ["string", "null"]),
        ("Literal[True]", "boolean"),
        ("Optional[Decimal]", ["string", "null"]),
    ],
)
def test_scalar(annotation: str, expected: object) -> None:
    assert properties(f"value: {annotation}") == {"value": {"type": expected}}


def test_class_without_fields_has_no_properties() -> None:
    found = properties("""
        class Alipay(StripeObject):
            pass
        alipay: Optional[Alipay]
    """)
    assert found == {"alipay": {"type": ["object", "null"]}}


def test_cycle_is_cut() -> None:
    found = properties("parent: Optional['Fake']")
    assert found == {"parent": {"type": ["object", "null"]}}


def test_inherited_fields_count() -> None:
    source = "class Base:\n    id: str\nclass Fake(Base):\n    name: str\n"
    klass = Package({"stripe._fake": source}.__getitem__).klass("stripe._fake.Fake")
    assert list(Builder(klass, (), SeenFields()).build()["properties"]) == ["id", "name"]


def test_class_variables_are_no_fields() -> None:
    assert properties("_inner_class_types = {}\nname: str").keys() == {"name"}


def test_unknown_annotation_is_refused() -> None:
    with pytest.raises(TypeError, match=r"unknown annotation Tuple\[str\]"):
        properties("value: Tuple[str]")


def test_members_of_a_union_that_disagree_are_refused() -> None:
    body = """
        class One(StripeObject):
            value: str
        class Two(StripeObject):
            value: bool
        either: Union[One, Two]
    """
    with pytest.raises(TypeError, match="disagree"):
        properties(body)


# The reviewed list of times


def integers(body: str) -> SeenFields:
    seen = SeenFields()
    fake(body, seen=seen).build()
    return seen


@pytest.mark.parametrize("name", ["settled_at", "created", "valid_until", "pay_by", "end_date"])
def test_integer_with_the_name_of_a_time_must_be_reviewed(name: str) -> None:
    seen = integers(f"{name}: Optional[int]")
    with pytest.raises(ReviewNeeded, match=rf"Fake\.{name}: .*`times`.*`not_times`"):
        ReviewedTimes(frozenset(), frozenset()).check(seen.integers)


def test_integer_with_the_docstring_of_a_time_must_be_reviewed() -> None:
    seen = integers('moment: int\n"""\nMeasured in seconds since the Unix epoch.\n"""')
    with pytest.raises(ReviewNeeded, match="Measured in seconds since the Unix epoch"):
        ReviewedTimes(frozenset(), frozenset()).check(seen.integers)


def test_integers_in_a_list_must_be_reviewed() -> None:
    seen = integers("paid_at: List[int]")
    with pytest.raises(ReviewNeeded, match=r"Fake\.paid_at"):
        ReviewedTimes(frozenset(), frozenset()).check(seen.integers)


def test_harmless_integer_needs_no_review() -> None:
    ReviewedTimes(frozenset(), frozenset()).check(integers("amount: int").integers)


@pytest.mark.parametrize("where", ["times", "not_times"])
def test_reviewed_integer_passes(where: str) -> None:
    lists = {"times": frozenset[str](), "not_times": frozenset[str]()}
    lists[where] = frozenset({"Fake.created"})
    ReviewedTimes(**lists).check(integers("created: int").integers)


def test_stale_entry_is_refused() -> None:
    with pytest.raises(ReviewNeeded, match=r"Fake\.gone_at: .*remove it"):
        ReviewedTimes(frozenset({"Fake.gone_at"}), frozenset()).check({})


def test_entry_in_both_lists_is_refused() -> None:
    both = frozenset({"Fake.created"})
    with pytest.raises(ReviewNeeded, match="in both lists"):
        ReviewedTimes(both, both).check(integers("created: int").integers)


def test_listed_time_becomes_a_date_time() -> None:
    found = properties("created: int", times=("Fake.created",))
    assert found == {"created": {"type": "string", "format": "date-time"}}


def test_committed_list_is_sorted() -> None:
    lists = json.loads(generate_schemas.TIMES.read_text(encoding="utf-8"))
    assert lists == {name: sorted(entries) for name, entries in lists.items()}


# The command


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> Path:
    """A copy of the schemas that the command checks, against files generated once for all tests."""
    folder = tmp_path / "schemas"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(generate_schemas, "SCHEMAS", folder)
    monkeypatch.setattr(generate_schemas, "generate", lambda *_: files)
    return folder


def test_check_passes_on_fresh_files(copied: Path) -> None:
    assert generate_schemas.main(["--check"]) == 0


def test_check_names_a_hand_edited_file(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "charges.json").write_text("{}\n", encoding="utf-8")
    assert generate_schemas.main(["--check"]) == 1
    assert "charges.json: differs" in capsys.readouterr().err


def test_check_writes_nothing(copied: Path) -> None:
    (copied / "charges.json").write_text("{}\n", encoding="utf-8")
    generate_schemas.main(["--check"])
    assert (copied / "charges.json").read_text(encoding="utf-8") == "{}\n"


def test_check_names_a_missing_file(copied: Path, files: dict[str, str]) -> None:
    (copied / "objects" / "discount.json").unlink()
    assert list(differences(copied, files)) == ["objects/discount.json: missing"]


def test_check_names_a_superfluous_file(copied: Path, files: dict[str, str]) -> None:
    (copied / "unicorns.json").write_text("{}\n", encoding="utf-8")
    (problem,) = differences(copied, files)
    assert problem.startswith("unicorns.json: superfluous")


def test_check_refuses_another_version_of_stripe(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = {"stripe": "15.0.0", "api_version": "2025-01-01.acacia"}
    (copied / "_version.json").write_text(json.dumps(recorded), encoding="utf-8")
    assert generate_schemas.main(["--check"]) == 1
    assert "generated from stripe 15.0.0" in capsys.readouterr().err


def test_check_names_a_field_to_review(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unreviewed = tmp_path / "time_fields.json"
    unreviewed.write_text('{"times": [], "not_times": []}', encoding="utf-8")
    monkeypatch.setattr(generate_schemas, "TIMES", unreviewed)
    assert generate_schemas.main(["--check"]) == 1
    assert "Charge.created: an integer that may be a time" in capsys.readouterr().err


# Lists


def test_all_lists_of_the_package_are_found() -> None:
    found = endpoints(generate_schemas.package_folder())
    assert len(found) > 100
    assert found["/v1/invoices/{invoice}/lines"] == "InvoiceLineItem"
    assert found["/v1/issuing/cards"] == "Card"
    assert "/v1/charges/search" not in found


def test_a_new_list_is_to_be_decided(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate_schemas, "endpoints", lambda _: {"/v1/unicorns": "Unicorn"})
    assert generate_schemas.main(["--check"]) == 1
    told = capsys.readouterr().err
    assert "/v1/unicorns (Unicorn): neither declared in" in told
    assert "/v1/charges: the installed stripe package has no such list" in told


def test_what_is_declared_is_left_out_no_more(tmp_path: Path) -> None:
    file = tmp_path / "left_out.json"
    file.write_text(json.dumps({"no use": ["/v1/charges", "/v1/unicorns"]}), encoding="utf-8")
    drop_declared(file)
    assert reasons(file) == {"/v1/unicorns": "no use"}


def test_a_list_is_not_declared_and_left_out() -> None:
    found = {"/v1/charges": "Charge"}
    assert "/v1/charges: declared, and left out in scripts/lists_left_out.json as well" in list(
        undecided(found, {"/v1/charges": "no use"})
    )


def test_write_removes_what_is_no_longer_generated(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "unicorns.json").write_text("{}\n", encoding="utf-8")
    write(tmp_path, files)
    assert list(differences(tmp_path, files)) == []
