"""Which object a record means: keys with names and types, stamps, references, old journals."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.plan.plan_types import REPLACES
from target_stripe_alloy.plan.record_keys import COPY_OF, KEY_TYPES
from target_stripe_alloy.stripe_ids import PREFIXES
from target_stripe_alloy.target import TargetStripeAlloy
from tests.emulator.helpers import client_of
from tests.fixtures.make import COPY, EXTERNAL, RENAMED
from tests.target.helpers import Message, one, record, schema, settings_for, write

JOURNALS = Path(__file__).parents[1] / "fixtures/journals"
USERS: dict[str, Any] = {"id_mode": "external", "allow_actions": ["payment_intents.create"]}
DAY = 86_400.0


def customer(stamps: dict[str, Any], **fields: Any) -> list[Message]:
    return [schema("customers", *stamps), record("customers", **stamps, **fields)]


def customers(emulator: Emulator) -> list[dict[str, Any]]:
    return sorted(emulator.objects("customers"), key=lambda found: str(found["name"]))


def names(emulator: Emulator) -> list[str]:
    return [found["name"] for found in customers(emulator)]


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"crm_id": "5"}, {"erp_id": "5"}),
        ({"crm_id": "5"}, {"crm_id": 5}),
        ({"crm_id": 5}, {"crm_id": "5"}),
        ({"crm_id": "true"}, {"crm_id": True}),
        ({"crm_id": 1}, {"crm_id": True}),
        ({"crm_id": "7.0"}, {"crm_id": 7}),
        ({"a": "a|b", "b": "c"}, {"a": "a", "b": "b|c"}),
        ({"a": "1", "b": 2}, {"a": 1, "b": "2"}),
        ({"a": "x", "b": "y"}, {"a": "y", "b": "x"}),
        ({"a": "x"}, {"a": "x", "b": "y"}),
        ({"crm_id": 2**80}, {"crm_id": 2**80 + 1}),
        ({"crm_id": "x" * 450}, {"crm_id": "x" * 449 + "y"}),
    ],
)
@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_two_keys_are_two_objects(
    empty: Emulator, tmp_path: Path, first: Any, second: Any, journal: str
) -> None:
    messages = [*customer(first, name="First"), *customer(second, name="Second")]
    write(empty, tmp_path, messages, **USERS)
    if journal == "lost":
        (tmp_path / "journal.db").unlink()
        write(empty, tmp_path, messages, **USERS)
    assert names(empty) == ["First", "Second"]
    assert write(empty, tmp_path, messages, **USERS).writes == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("7", "7.0"),
        ("7", "7.00"),
        ("7", "7e0"),
        ("0", "-0.0"),
        ("700", "7E+2"),
        ("0.5", "0.50"),
        (str(10**30), "1e30"),
        ("0.1", "0.10000"),
    ],
)
@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_equal_numbers_are_one_key(
    empty: Emulator, tmp_path: Path, first: str, second: str, journal: str
) -> None:
    for number, name in ((first, "First"), (second, "Second")):
        write_raw(empty, tmp_path, number, name)
        if journal == "lost":
            (tmp_path / "journal.db").unlink()
    assert names(empty) == ["Second"]


def write_raw(emulator: Emulator, folder: Path, number: str, name: str) -> None:
    """A record whose key is a number just as it is written here."""
    lines = "".join(json.dumps(m) + "\n" for m in customer({"crm_id": 12345}, name=name))
    source = folder / "input.jsonl"
    source.write_text(lines.replace("12345", number))
    with source.open() as opened:
        TargetStripeAlloy(config=settings_for(emulator, folder, **USERS)).listen(opened)


@pytest.mark.parametrize("key", [["5"], {"a": 5}, [], {}])
@pytest.mark.parametrize("id_mode", ["external", "same_account", "copy"])
def test_what_is_no_key_is_rejected(
    empty: Emulator, tmp_path: Path, key: Any, id_mode: str
) -> None:
    name = "crm_id" if id_mode == "external" else "id"
    run = write(empty, tmp_path, customer({name: key}, name="A"), id_mode=id_mode)
    assert run.counts("customers") == {"read": 1, "rejected": 1}
    assert f"its {name} is " in run.rejects[0]["reason"]


@pytest.mark.parametrize("key", ["cus_1/discount", "cus_1?expand", "../events", "cus 1"])
def test_an_id_leads_nowhere_else(empty: Emulator, tmp_path: Path, key: str) -> None:
    run = write(empty, tmp_path, customer({"id": key}, deleted=True), delete_policy="delete")
    assert run.writes == []
    assert run.counts("customers") == {"read": 1, "unchanged": 1}  # there is no such object


def test_stamps_stay_readable(empty: Emulator, tmp_path: Path) -> None:
    for key in ("abc", "007", 7, "7"):
        write(empty, tmp_path, customer({"crm_id": key}, name=repr(key)), **USERS)
    assert {found["name"]: found["metadata"] for found in customers(empty)} == {
        "'abc'": {"crm_id": "abc"},
        "'007'": {"crm_id": "007"},
        "7": {"crm_id": "7"},
        "'7'": {"crm_id": "7", KEY_TYPES: '{"crm_id":"text"}'},
    }


def test_one_part_of_a_key_is_no_key(empty: Emulator, tmp_path: Path) -> None:
    write(empty, tmp_path, customer({"a": "x", "b": "y"}, name="Two parts"), **USERS)
    write(empty, tmp_path, customer({"a": "x"}, name="One part"), **USERS)
    assert names(empty) == ["One part", "Two parts"]


def test_plan_and_rejects_show_the_key_as_it_came(empty: Emulator, tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    messages = [
        schema("customers", "region", "no"),
        record("customers", region="eu", no=7, name="A"),
        record("customers", region="eu", no=8, name="B", unknown=1),
    ]
    run = write(empty, tmp_path, messages, plan=str(plan), **USERS)
    planned = [json.loads(line)["key"] for line in plan.read_text().splitlines()]
    assert sorted(planned) == ["eu|7", "eu|8"]
    assert [line["key"] for line in run.rejects] == ["eu|8"]


@pytest.mark.parametrize("key", [5, "5"])
def test_a_plain_stamp_is_the_texts_as_well(empty: Emulator, tmp_path: Path, key: Any) -> None:
    """Earlier releases stamped texts plainly."""
    client_of(empty).v1.customers.create({"name": "Old", "metadata": {"crm_id": "5"}})
    run = write(empty, tmp_path, customer({"crm_id": key}, name="New"), **USERS)
    assert run.counts("customers") == {"read": 1, "updated": 1}
    other = "5" if key == 5 else 5
    write(empty, tmp_path, customer({"crm_id": other}, name="Other"), **USERS)
    assert names(empty) == ["New", "Other"]


def test_a_record_cannot_change_its_own_stamp(empty: Emulator, tmp_path: Path) -> None:
    for crm_id in ("a", "b", None):
        row = customer({"crm_id": "a"}, name=f"N{crm_id}", metadata={"crm_id": crm_id, "x": "1"})
        write(empty, tmp_path, row, **USERS)
    assert [found["metadata"] for found in customers(empty)] == [{"crm_id": "a", "x": "1"}]


def test_lines_of_two_keys_are_two_lines(empty: Emulator, tmp_path: Path) -> None:
    owner = client_of(empty).v1.customers.create({"name": "A"}).id
    invoice = client_of(empty).v1.invoices.create({"customer": owner}).id
    fields = {"invoice": invoice, "amount": 100}
    messages = [
        schema("invoice_line_items", "crm_id"),
        record("invoice_line_items", crm_id="5", description="crm", **fields),
        schema("invoice_line_items", "erp_id"),
        record("invoice_line_items", erp_id="5", description="erp", **fields),
        record("invoice_line_items", erp_id="5", description="erp again", **fields),
    ]
    write(empty, tmp_path, messages, **USERS)
    lines = sorted(line["description"] for line in empty.objects("invoice_line_items"))
    assert lines == ["crm", "erp again"]


# ---------------------------------------------------------------------- stamps that move


SUBJECTS = ("customers", "products", "invoices", "payment_intents")


def made(emulator: Emulator, stream: str) -> str:
    """An object without a stamp, older than any index."""
    api = client_of(emulator).v1
    owner = api.customers.create({"name": "Owner"}).id
    fields: dict[str, dict[str, Any]] = {
        "customers": {"name": "A"},
        "products": {"name": "A"},
        "invoices": {"customer": owner},
        "payment_intents": {"amount": 500, "currency": "eur", "customer": owner},
    }
    found = str(getattr(api, stream).create(fields[stream]).id)
    emulator.clock_advance(3600.0)
    return found


def fields_of(stream: str, owner: str) -> dict[str, Any]:
    fields: dict[str, dict[str, Any]] = {
        "customers": {"name": "New"},
        "products": {"name": "New"},
        "invoices": {"customer": owner, "description": "New"},
        "payment_intents": {"amount": 500, "currency": "eur", "description": "New"},
    }
    return fields[stream]


@pytest.mark.parametrize("age", [3600.0, 20 * DAY, 40 * DAY])
@pytest.mark.parametrize("stream", SUBJECTS)
def test_a_stamp_that_is_set_later_is_found(
    empty: Emulator, tmp_path: Path, stream: str, age: float
) -> None:
    found = made(empty, stream)
    owner = empty.ids("customers")[0]
    fields = fields_of(stream, owner)
    messages = [schema(stream, "crm_id"), record(stream, crm_id="first", **fields)]
    write(empty, tmp_path, messages, **USERS)
    empty.clock_advance(age)
    getattr(client_of(empty).v1, stream).update(found, {"metadata": {"crm_id": "second"}})
    empty.clock_advance(3600.0)
    before = empty.count(stream)
    messages = [schema(stream, "crm_id"), record(stream, crm_id="second", **fields)]
    write(empty, tmp_path, messages, **USERS)
    assert empty.count(stream) == before
    assert "New" in (
        one(empty, stream, found).get("name"),
        one(empty, stream, found)["description"],
    )


def test_without_the_permission_for_events_the_whole_list_is_read(
    empty: Emulator, tmp_path: Path
) -> None:
    empty.keys.add("rk_test_no_events", {"customer": "write", "account": "read"})
    settings = {**USERS, "api_key": "rk_test_no_events"}
    found = made(empty, "customers")
    write(empty, tmp_path, customer({"crm_id": "first"}, name="B"), **settings)
    empty.clock_advance(3600.0)
    client_of(empty).v1.customers.update(found, {"metadata": {"crm_id": "second"}})
    run = write(empty, tmp_path, customer({"crm_id": "second"}, name="New"), **settings)
    assert run.counts("customers") == {"read": 1, "updated": 1}


def test_an_object_with_anothers_stamp_is_not_its_object_any_more(
    empty: Emulator, tmp_path: Path
) -> None:
    write(empty, tmp_path, customer({"crm_id": "5"}, name="Five"), **USERS)
    found = empty.ids("customers")[0]
    update: Any = {"metadata": {"crm_id": "6", KEY_TYPES: '{"crm_id":"text"}'}}
    client_of(empty).v1.customers.update(found, update)
    write(empty, tmp_path, customer({"crm_id": "5"}, name="Five again"), **USERS)
    assert one(empty, "customers", found)["name"] == "Five"
    run = write(empty, tmp_path, customer({"crm_id": "6"}, name="Six"), **USERS)
    assert run.counts("customers") == {"read": 1, "updated": 1}
    assert names(empty) == ["Five again", "Six"]


def test_a_stamp_that_moved_to_an_older_object_is_found_there(
    empty: Emulator, tmp_path: Path
) -> None:
    other = made(empty, "customers")
    write(empty, tmp_path, customer({"crm_id": "five"}, name="Five"), **USERS)
    api = client_of(empty).v1.customers
    mine = next(c["id"] for c in customers(empty) if c["metadata"])
    empty.clock_advance(3600.0)
    api.update(mine, {"metadata": {"crm_id": "else"}})
    api.update(other, {"metadata": {"crm_id": "five"}})
    write(empty, tmp_path, customer({"crm_id": "unrelated"}, name="U"), **USERS)
    write(empty, tmp_path, customer({"crm_id": "five"}, name="New"), **USERS)
    assert one(empty, "customers", other)["name"] == "New"
    assert one(empty, "customers", mine)["name"] == "Five"


def test_a_stamp_that_was_taken_away_leaves_the_journals_word(
    empty: Emulator, tmp_path: Path
) -> None:
    write(empty, tmp_path, customer({"crm_id": "five"}, name="Five"), **USERS)
    found = empty.ids("customers")[0]
    client_of(empty).v1.customers.update(found, {"metadata": {"crm_id": ""}})
    run = write(empty, tmp_path, customer({"crm_id": "five"}, name="New"), **USERS)
    assert run.counts("customers") == {"read": 1, "updated": 1}
    assert one(empty, "customers", found)["name"] == "New"


def test_a_copys_stamp_that_is_set_later_is_found(empty: Emulator, tmp_path: Path) -> None:
    found = made(empty, "customers")
    write(empty, tmp_path, customer({"id": "cus_a"}, name="A"), id_mode="copy")
    empty.clock_advance(3600.0)
    client_of(empty).v1.customers.update(found, {"metadata": {COPY_OF: "cus_b"}})
    run = write(empty, tmp_path, customer({"id": "cus_b"}, name="B"), id_mode="copy")
    assert run.counts("customers") == {"read": 1, "updated": 1}


@pytest.mark.parametrize("journal", ["lost", "restored"])
def test_a_price_that_another_one_replaced_is_never_meant(
    empty: Emulator, tmp_path: Path, journal: str
) -> None:
    allowed = {**USERS, "allow_actions": ["prices.replace"]}
    product = made(empty, "products")

    def priced(amount: int, nickname: str) -> list[Message]:
        fields = {"product": product, "currency": "eur", "unit_amount": amount}
        return [schema("prices", "sku"), record("prices", sku="p", nickname=nickname, **fields)]

    write(empty, tmp_path, priced(500, "a"), **allowed)
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        kept = "".join(f"{line}\n" for line in connection.iterdump())
    write(empty, tmp_path, priced(700, "a"), **allowed)
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    if journal == "restored":
        with sqlite3.connect(tmp_path / "journal.db") as connection:
            connection.executescript(kept)
    write(empty, tmp_path, priced(700, "b"), **allowed)
    old = next(p for p in empty.objects("prices") if not p["active"])
    new = next(p for p in empty.objects("prices") if p["metadata"].get(REPLACES) == old["id"])
    assert empty.count("prices") == 2
    assert (old["nickname"], new["nickname"]) == ("a", "b")


# ---------------------------------------------------------------------- references


def item_of(owner: Any) -> list[Message]:
    fields = {"amount": 500, "currency": "eur", "customer": owner}
    return [schema("payment_intents", "no"), record("payment_intents", no="i1", **fields)]


def owner_of(emulator: Emulator) -> str | None:
    owners = {found["id"]: found["name"] for found in emulator.objects("customers")}
    intents = emulator.objects("payment_intents")
    return owners[intents[0]["customer"]] if intents else None


@pytest.mark.parametrize("reference", ["5", 5])
@pytest.mark.parametrize("key", ["5", 5, 5.0])
@pytest.mark.parametrize("order", ["parent first", "child first", "later run"])
def test_references_come_as_text_or_as_a_number(
    empty: Emulator, tmp_path: Path, reference: Any, key: Any, order: str
) -> None:
    parent, child = customer({"crm_id": key}, name="Mine"), item_of(reference)
    runs = {
        "parent first": [[*parent, *child]],
        "child first": [[*child, *parent]],
        "later run": [parent, child],
    }[order]
    for messages in runs:
        write(empty, tmp_path, messages, **USERS)
    assert owner_of(empty) == "Mine"


@pytest.mark.parametrize("order", [1, -1])
def test_a_reference_is_to_the_key_properties_of_this_run(
    empty: Emulator, tmp_path: Path, order: int
) -> None:
    write(empty, tmp_path, customer({"crm_id": "5"}, name="Crm"), **USERS)
    write(empty, tmp_path, customer({"erp_id": "5"}, name="Erp"), **USERS)
    parts = [customer({"erp_id": "5"}, name="Erp"), item_of("5")][::order]
    write(empty, tmp_path, [message for part in parts for message in part], **USERS)
    assert owner_of(empty) == "Erp"


@pytest.mark.parametrize(
    ("one_key", "other"),
    [({"crm_id": 5}, {"erp_id": 5}), ({"crm_id": 5}, {"crm_id": "5"})],
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_reference_that_may_mean_two_is_rejected_and_names_both(
    empty: Emulator, tmp_path: Path, one_key: Any, other: Any, declared: bool
) -> None:
    both = [*customer(one_key, name="One"), *customer(other, name="Other")]
    write(empty, tmp_path, both, **USERS)
    messages = [*both, *item_of("5")] if declared else item_of("5")
    run = write(empty, tmp_path, messages, **USERS)
    assert run.counts("payment_intents") == {"read": 1, "rejected": 1}
    for key in (one_key, other):
        name, value = next(iter(key.items()))
        assert f"{name} {json.dumps(value)}" in run.rejects[0]["reason"]


@pytest.mark.parametrize(("key", "reference"), [("7.0", "7"), ("7e0", "7.00"), ("true", "True")])
def test_a_reference_that_only_resembles_a_key_waits_in_vain(
    empty: Emulator, tmp_path: Path, key: str, reference: str
) -> None:
    messages = [*customer({"crm_id": key}, name="Other"), *item_of(reference)]
    run = write(empty, tmp_path, messages, **USERS)
    assert run.counts("payment_intents") == {"read": 1, "rejected": 1}


def test_a_reference_to_a_key_of_two_parts(empty: Emulator, tmp_path: Path) -> None:
    parent = customer({"region": "eu", "no": 7}, name="Mine")
    for messages in ([*item_of("eu|7"), *parent], item_of("eu|7")):
        write(empty, tmp_path, messages, **USERS)
    assert owner_of(empty) == "Mine"


@pytest.mark.parametrize("reference", ["x|7.0", "x|7", "x|7e0"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_reference_to_a_key_of_two_parts_reads_numbers(
    empty: Emulator, tmp_path: Path, reference: str, order: int
) -> None:
    parent = customer({"region": "x", "no": 7}, name="Mine")
    parts = [parent, item_of(reference)][::order]
    write(empty, tmp_path, [message for part in parts for message in part], **USERS)
    assert owner_of(empty) == "Mine"


@pytest.mark.parametrize("stream", ["customers", "products"])
def test_a_key_property_may_be_called_id(empty: Emulator, tmp_path: Path, stream: str) -> None:
    row = [schema(stream, "id"), record(stream, id="c1", name="Mine")]
    runs = [write(empty, tmp_path, row, id_mode="external") for _ in range(2)]
    assert [run.rejects for run in runs] == [[], []]
    assert [len(run.writes) for run in runs] == [1, 0]


@pytest.mark.parametrize("reference", ["user_2", "order_17", "us_east_1", "prod_2", "ch_5"])
def test_a_key_that_looks_like_an_id_of_something_else_is_a_key(
    empty: Emulator, tmp_path: Path, reference: str
) -> None:
    messages = [*item_of(reference), *customer({"crm_id": reference}, name="Mine")]
    run = write(empty, tmp_path, messages, **USERS)
    assert run.rejects == []
    assert owner_of(empty) == "Mine"


def test_an_id_of_stripes_is_no_key(empty: Emulator, tmp_path: Path) -> None:
    found = client_of(empty).v1.customers.create({"name": "Theirs"}).id
    write(empty, tmp_path, item_of(found), **USERS)
    assert owner_of(empty) == "Theirs"


@pytest.mark.parametrize("stream", sorted(set(PREFIXES) - {"invoice_line_items"}))
def test_the_known_prefixes_are_those_of_what_there_is(business: Emulator, stream: str) -> None:
    found = business.ids(stream)
    assert all(object_id.startswith(PREFIXES[stream]) for object_id in found)


# ---------------------------------------------------------------------- keys that are parameters


def test_a_key_that_is_a_parameter_is_sent(empty: Emulator, tmp_path: Path) -> None:
    row = customer({"email": "ada@example.com"}, name="Ada")
    write(empty, tmp_path, row, **USERS)
    assert customers(empty)[0]["email"] == "ada@example.com"
    assert write(empty, tmp_path, row, **USERS).writes == []


def test_a_refund_may_be_keyed_by_its_charge(account: Emulator, tmp_path: Path) -> None:
    charge = next(
        c for c in account.objects("charges") if c["status"] == "succeeded" and not c["refunded"]
        and not c["amount_refunded"] and not c["disputed"]
    )  # fmt: skip
    messages = [
        schema("refunds", "charge", "no"),
        record("refunds", charge=charge["id"], no=1, amount=50),
    ]
    settings = {**USERS, "allow_actions": ["refunds.create"]}
    run = write(account, tmp_path, messages, **settings)
    assert run.counts("refunds") == {"read": 1, "created": 1}
    (tmp_path / "journal.db").unlink()
    assert write(account, tmp_path, messages, **settings).writes == []


# ---------------------------------------------------------------------- journals of cb5f45d


@pytest.fixture
def by_hand(empty: Emulator) -> str:
    """The customer that was there when the journals were made."""
    fields: Any = {"name": "Stamped by hand", "metadata": {"crm_id": "9"}}
    return str(client_of(empty).v1.customers.create(fields).id)


def restore(emulator: Emulator, folder: Path, name: str, journals: Path = JOURNALS) -> None:
    """The journal of that release, and an account that holds what it wrote."""
    text = (journals / f"{name}.sql").read_text()
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(text)
        query = "SELECT path, body, object_id FROM stripe_alloy_operations ORDER BY seq"
        sent = connection.execute(query).fetchall()
    for at, (path, body, was) in enumerate(sent):
        now = posted(emulator, path, body)
        text = text.replace(was, now).replace(
            was.encode().hex().upper(), now.encode().hex().upper()
        )
        sent[at + 1 :] = [
            (later.replace(was, now), form.replace(was, now), made)
            for later, form, made in sent[at + 1 :]
        ]
    with sqlite3.connect(folder / "journal.db") as connection:
        connection.executescript(text)
    connection.close()


def posted(emulator: Emulator, path: str, body: str) -> str:
    answer = client_of(emulator).raw_request("post", path, **dict(parse_qsl(body)))
    return str(answer.data["id"])


RUNS: Sequence[tuple[str, list[Message]]] = (
    ("external", [*EXTERNAL[:1], *EXTERNAL[2:]]),
    ("external", RENAMED),
    ("copy", COPY),
)


@pytest.mark.parametrize(("name", "messages"), RUNS)
def test_what_an_old_journal_proves_costs_no_request(
    empty: Emulator, by_hand: str, tmp_path: Path, name: str, messages: list[Message]
) -> None:
    restore(empty, tmp_path, name)
    before = {kind: empty.count(kind) for kind in ("customers", "products", "prices")}
    run = write(empty, tmp_path, messages, id_mode=name)
    assert run.writes == []
    assert {kind: empty.count(kind) for kind in before} == before


def test_an_old_journals_images_go_on(empty: Emulator, by_hand: str, tmp_path: Path) -> None:
    restore(empty, tmp_path, "external")
    row = customer({"crm_id": 7}, name="Seven", metadata={})
    write(empty, tmp_path, row, **USERS)
    found = next(c for c in customers(empty) if c["name"] == "Seven")
    assert found["metadata"] == {"crm_id": "7"}


def test_an_old_row_of_another_property_is_not_taken(
    empty: Emulator, by_hand: str, tmp_path: Path
) -> None:
    restore(empty, tmp_path, "external")
    write(empty, tmp_path, customer({"erp_id": "5"}, name="Erp"), **USERS)
    assert "Ada Lovelace" in names(empty)
    assert "Erp" in names(empty)
    write(empty, tmp_path, customer({"region": "a", "no": "b|c"}, name="Other parts"), **USERS)
    assert "Two parts" in names(empty)


def test_an_old_row_is_taken_once(empty: Emulator, by_hand: str, tmp_path: Path) -> None:
    restore(empty, tmp_path, "external")
    before = empty.count("customers")
    write(empty, tmp_path, customer({"crm_id": 5}, name="Number"), **USERS)
    write(empty, tmp_path, customer({"crm_id": "5"}, name="Text"), **USERS)
    assert empty.count("customers") == before + 1
    assert {"Number", "Text"} <= set(names(empty))


@pytest.mark.parametrize("declared", [True, False])
def test_old_rows_are_referred_to(
    empty: Emulator, by_hand: str, tmp_path: Path, declared: bool
) -> None:
    restore(empty, tmp_path, "external")
    head = [schema("customers", "crm_id")] if declared else []
    write(empty, tmp_path, [*head, *item_of("5")], **USERS)
    assert owner_of(empty) == "Ada Lovelace"


def test_an_old_row_of_another_property_is_not_referred_to(
    empty: Emulator, by_hand: str, tmp_path: Path
) -> None:
    restore(empty, tmp_path, "external")
    run = write(empty, tmp_path, [schema("customers", "erp_id"), *item_of("5")], **USERS)
    assert run.counts("payment_intents") == {"read": 1, "rejected": 1}


def test_an_old_journal_of_the_same_account_goes_on(
    empty: Emulator, by_hand: str, tmp_path: Path
) -> None:
    restore(empty, tmp_path, "same_account")
    row = [schema("customers"), record("customers", id=by_hand, phone="+1")]
    assert write(empty, tmp_path, row).requests[1:] == []


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    if request.param == "postgres":
        yield {"journal": str(request.getfixturevalue("postgres"))}
    else:
        yield {}


def test_keys_of_any_characters_are_kept(
    empty: Emulator, tmp_path: Path, database: dict[str, Any]
) -> None:
    keys = ["a\u0000b", "ключ", "\u2028", '"', "😀" * 100, "x" * 450]
    messages = [schema("customers", "crm_id")]
    messages += [record("customers", crm_id=key, name=str(n)) for n, key in enumerate(keys)]
    run = write(empty, tmp_path, messages, **USERS, **database)
    assert run.counts("customers") == {"read": len(keys), "created": len(keys)}
    assert write(empty, tmp_path, messages, **USERS, **database).writes == []
