"""A pipeline undoes nobody's work but its own, and takes nobody's work for its own."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api.errors import StripeUnavailable
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.messages import KeyMissing
from target_stripe_alloy.target import TargetStripeAlloy
from tests.emulator.helpers import client_of
from tests.target.helpers import Message, lines_of, one, record, schema, settings_for, write


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


def customer(emulator: Emulator) -> str:
    return str(emulator.objects("customers")[0]["id"])


def metadata(emulator: Emulator, object_id: str) -> dict[str, str]:
    return dict(one(emulator, "customers", object_id)["metadata"])


def row(found: str, **fields: Any) -> list[Message]:
    return [schema("customers"), record("customers", id=found, **fields)]


# ---------------------------------------------------------------------- W8: whose base image


@pytest.mark.parametrize("names", [("one", "two"), (None, None)])
def test_two_pipelines_on_one_journal_leave_each_others_keys(
    account: Emulator, tmp_path: Path, names: tuple[str | None, str | None]
) -> None:
    found = customer(account)
    for tier in ("gold", "gold", "silver"):
        for pipeline, key in zip(names, ("crm_tier", "usage"), strict=True):
            named = {"pipeline": pipeline} if pipeline else {}
            write(account, tmp_path, row(found, metadata={key: tier}), **named)
    held = metadata(account, found)
    assert (held["crm_tier"], held["usage"]) == ("silver", "silver")
    last = [
        write(account, tmp_path, row(found, metadata={key: "silver"}), **named)
        for key, named in (
            ("crm_tier", {"pipeline": names[0]} if names[0] else {}),
            ("usage", {"pipeline": names[1]} if names[1] else {}),
        )
    ]
    assert [run.writes for run in last] == [[], []]


def test_two_streams_of_one_pipeline_leave_each_others_keys(
    account: Emulator, tmp_path: Path
) -> None:
    found = customer(account)
    maps = {"stream_maps": {"crm": {"__alias__": "customers"}, "usage": {"__alias__": "customers"}}}
    for _ in range(2):
        for name in ("crm", "usage"):
            messages = [schema(name), record(name, id=found, metadata={name: "1"})]
            write(account, tmp_path, messages, pipeline="p", **maps)
    held = metadata(account, found)
    assert (held["crm"], held["usage"]) == ("1", "1")


# One alias, two streams: both SCHEMAs come first, as many taps send them.
ONE_ALIAS = {"stream_maps": {"a": {"__alias__": "customers"}, "b": {"__alias__": "customers"}}}


@pytest.mark.parametrize("order", [1, -1])
def test_each_streams_metadata_is_as_whole_as_its_own_schema_says(
    account: Emulator, tmp_path: Path, order: int
) -> None:
    found = customer(account)
    named = {"type": "object", "properties": {"x": {}, "y": {}}}
    schemas = [schema("a", metadata=named), schema("b", metadata={"type": "object"})][::order]
    for first, second in [
        ({"x": "1", "y": "1"}, {"z": "1", "w": "1"}),
        ({"x": "2"}, {"z": "2"}),
    ]:
        rows = [record("a", id=found, metadata=first), record("b", id=found, metadata=second)]
        write(account, tmp_path, [*schemas, *rows], pipeline="p", **ONE_ALIAS)
    held = metadata(account, found)
    assert [held.get(name) for name in "xyzw"] == ["2", "1", "2", None]


@pytest.mark.parametrize("order", [1, -1])
def test_each_stream_needs_the_key_columns_of_its_own_schema(
    empty: Emulator, tmp_path: Path, order: int
) -> None:
    schemas = [schema("a", "crm_id"), schema("b", "erp_id")][::order]
    rows = [
        record("a", crm_id="c5", name="Crm"),
        record("b", erp_id="e5", name="Erp"),
        record("a", crm_id="c5", name="Crm again"),
    ]
    write(empty, tmp_path, [*schemas, *rows], id_mode="external", pipeline="p", **ONE_ALIAS)
    made = {c["name"]: dict(c["metadata"]) for c in empty.objects("customers")}
    assert made == {"Crm again": {"crm_id": "c5"}, "Erp": {"erp_id": "e5"}}


def test_each_stream_is_keyed_by_its_own_schema(empty: Emulator, tmp_path: Path) -> None:
    schemas = [schema("a", "email", phone={}), schema("b", "phone", email={})]
    rows = [
        record("a", email="a@example.com", phone="9", name="By mail"),
        record("b", email="b@example.com", phone="15", name="By phone"),
        record("a", email="a@example.com", phone="8", name="By mail again"),
    ]
    write(empty, tmp_path, [*schemas, *rows], id_mode="external", pipeline="p", **ONE_ALIAS)
    made = {c["name"]: set(c["metadata"]) & {"email", "phone"} for c in empty.objects("customers")}
    assert made == {"By mail again": {"email"}, "By phone": {"phone"}}


def test_a_stream_keeps_its_key_when_another_one_is_declared(
    empty: Emulator, tmp_path: Path
) -> None:
    one_schema, other = schema("a", "email", phone={}), schema("b", "phone", email={})
    settings: dict[str, Any] = {"id_mode": "external", "pipeline": "p", **ONE_ALIAS}
    for schemas, name in [([one_schema], "n1"), ([one_schema, other], "n2")]:
        rows = [record("a", email="x@example.com", phone="1", name=name)]
        write(empty, tmp_path, [*schemas, *rows], **settings)
    assert [c["name"] for c in empty.objects("customers")] == ["n2"]


def test_a_record_lacks_the_key_of_its_own_schema_only(empty: Emulator, tmp_path: Path) -> None:
    schemas = [schema("a", "crm_id"), schema("b", "erp_id", crm_id={})]
    messages = [*schemas, record("b", crm_id="5", name="Erp")]
    with pytest.raises(KeyMissing, match=r"'b' lacks its key properties: erp_id"):
        write(empty, tmp_path, messages, id_mode="external", **ONE_ALIAS)


def test_one_stream_under_two_names_is_keyed_twice(empty: Emulator, tmp_path: Path) -> None:
    maps = {
        "stream_maps": {
            "people": {"__alias__": "customers", "__key_properties__": ["crm_id"], "sku": None},
            "products": {"__source__": "people", "__key_properties__": ["sku"], "crm_id": None},
        }
    }
    messages = [schema("people", "crm_id", sku={}, name={})]
    messages += [record("people", crm_id="c5", sku="S", name="Both")]
    write(empty, tmp_path, messages, id_mode="external", **maps)
    made = [*empty.objects("customers"), *empty.objects("products")]
    assert [dict(each["metadata"]) for each in made] == [{"crm_id": "c5"}, {"sku": "S"}]


def test_a_named_pipeline_unsets_what_it_renamed(account: Emulator, tmp_path: Path) -> None:
    found = customer(account)
    for key in ("old", "new"):
        write(account, tmp_path, row(found, metadata={key: "1"}), pipeline="p")
    held = metadata(account, found)
    assert ("old" in held, held["new"]) == (False, "1")


def test_null_metadata_of_a_named_pipeline_leaves_what_others_wrote(
    account: Emulator, tmp_path: Path
) -> None:
    found = customer(account)
    for pipeline, key in (("one", "crm_tier"), ("two", "usage")):
        write(account, tmp_path, row(found, metadata={key: "1"}), pipeline=pipeline)
    write(account, tmp_path, row(found, metadata=None), pipeline="two")
    held = metadata(account, found)
    assert ("crm_tier" in held, "usage" in held) == (True, False)


# ---------------------------------------------------------------------- W9: absent and null


def test_a_key_that_becomes_null_is_cleared(account: Emulator, tmp_path: Path) -> None:
    found = customer(account)
    client_of(account).v1.customers.update(found, {"metadata": {"foo": "theirs"}})
    write(account, tmp_path, row(found, metadata={"score": 1}))
    write(account, tmp_path, row(found, metadata={"score": 1, "foo": None}))
    assert "foo" not in metadata(account, found)


def test_a_part_of_an_address_that_becomes_null_is_cleared(
    account: Emulator, tmp_path: Path
) -> None:
    found = customer(account)
    address: Any = {"line1": "1 Road", "line2": "Flat 2", "country": "DE"}
    client_of(account).v1.customers.update(found, {"address": address})
    write(account, tmp_path, row(found, address={"line1": "1 Road"}))
    write(account, tmp_path, row(found, address={"line1": "1 Road", "line2": None}))
    assert one(account, "customers", found)["address"]["line2"] is None


# ---------------------------------------------------------------------- W12: keys of a copy


def test_a_journal_that_was_put_back_makes_new_keys(account: Emulator, tmp_path: Path) -> None:
    found = customer(account)
    write(account, tmp_path, row(found, name="A"))
    shutil.copy(tmp_path / "journal.db", tmp_path / "copy.db")
    first = write(account, tmp_path, row(found, name="B"))
    client_of(account).v1.customers.update(found, {"name": "A"})
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    shutil.copy(tmp_path / "copy.db", tmp_path / "journal.db")
    again = write(account, tmp_path, row(found, name="B"))
    assert one(account, "customers", found)["name"] == "B"
    keys = {write.idempotency_key for write in (*first.writes, *again.writes)}
    assert len(keys) == 2


# ---------------------------------------------------------------------- W13: trees_equal expansions


def test_tiers_that_change_are_no_conflict(empty: Emulator, tmp_path: Path) -> None:
    def tiers(up_to: int) -> list[Message]:
        return [
            schema("products", "sku"),
            record("products", sku="p", name="P"),
            schema("prices", "code"),
            record(
                "prices",
                code="t",
                product="p",
                currency="usd",
                billing_scheme="tiered",
                tiers_mode="graduated",
                recurring={"interval": "month"},
                tiers=[
                    {"up_to": up_to, "unit_amount": 100},
                    {"up_to": None, "unit_amount": 50},
                ],
            ),
        ]

    settings: Any = {"id_mode": "external", "allow_actions": ["prices.replace"]}
    write(empty, tmp_path, tiers(2), **settings)
    run = write(empty, tmp_path, tiers(3), **settings)
    assert run.counts("prices") == {"read": 1, "updated": 1}
    active = [price for price in empty.objects("prices") if price["active"]]
    assert len(active) == 1
    assert write(empty, tmp_path, tiers(3), **settings).writes == []


def test_currency_options_that_are_written_are_no_conflict(
    account: Emulator, tmp_path: Path
) -> None:
    price = next(p for p in account.objects("prices") if p["currency"] == "usd" and p["active"])
    for amount in (500, 600, 700):
        options = {"eur": {"unit_amount": amount}}
        message = record("prices", id=price["id"], currency_options=options)
        allowed = ["prices.replace"]
        run = write(account, tmp_path, [schema("prices"), message], allow_actions=allowed)
        assert run.counts("prices") == {"read": 1, "updated": 1}


# ---------------------------------------------------------------------- W14: asked again


def test_a_refund_that_was_under_way_is_not_sent_when_it_is_not_allowed_any_more(
    account: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    charge = next(
        c["id"] for c in account.objects("charges") if c["paid"] and not c["amount_refunded"]
    )
    messages = [schema("refunds", "no"), record("refunds", no="R1", charge=charge, amount=50)]
    before = account.count("refund")
    account.faults.add("cut_before", "/v1/refunds", method="POST", times=None)
    with pytest.raises(StripeUnavailable):
        write(account, tmp_path, messages, id_mode="external", allow_actions=["refunds.create"])
    account.faults.clear()
    for rows in ([schema("refunds", "no")], messages):
        write(account, tmp_path, [*rows, *row(customer(account))], id_mode="external")
    assert account.count("refund") == before
    assert "refunds.create is not allowed any more" in caplog.text


def test_a_deletion_that_was_under_way_is_not_sent_under_another_policy(
    account: Emulator, tmp_path: Path
) -> None:
    found = client_of(account).v1.products.create({"name": "P"}).id
    gone = [schema("products"), record("products", id=found, deleted=True)]
    account.faults.add("cut_before", f"/v1/products/{found}", method="DELETE", times=None)
    with pytest.raises(StripeUnavailable):
        write(account, tmp_path, gone, delete_policy="delete")
    account.faults.clear()
    write(account, tmp_path, gone)
    assert found in account.ids("products")


# ---------------------------------------------------------------------- one key, one object


def test_records_of_one_key_are_one_object_whatever_they_belong_to(
    account: Emulator, tmp_path: Path
) -> None:
    charge = next(
        c
        for c in account.objects("charges")
        if c["paid"] and c["payment_intent"] and not c["amount_refunded"] and c["amount"] > 200
    )
    rows = [
        record("refunds", no="R9", charge=charge["id"], amount=50),
        record("refunds", no="R9", payment_intent=charge["payment_intent"], amount=50),
    ]
    before = account.count("refund")
    account.faults.add("delay", "/v1/refunds", method="POST", seconds=0.3)
    write(
        account,
        tmp_path,
        [schema("refunds", "no"), *rows],
        id_mode="external",
        allow_actions=["refunds.create"],
    )
    assert account.count("refund") == before + 1


def test_a_record_that_waits_holds_back_the_next_of_its_key(
    empty: Emulator, tmp_path: Path
) -> None:
    """The first version waits for its customer; the second must not be overwritten by it."""
    messages = [
        schema("invoices", "no"),
        record("invoices", no="7", customer="late", description="first"),
        record("invoices", no="7", description="second"),
        schema("customers", "crm"),
        record("customers", crm="late", name="A"),
    ]
    run = write(empty, tmp_path, messages, id_mode="external")
    (invoice,) = empty.objects("invoices")
    assert invoice["description"] == "second"
    assert run.counts("invoices") == {"read": 2, "created": 1, "updated": 1}


def test_many_records_behind_one_that_waits_do_not_stop_the_run(
    empty: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("target_stripe_alloy.write.worker_pool.MAX_WAITING", 5)
    waiting = [record("invoices", no="7", customer="late", description=str(n)) for n in range(20)]
    messages = [
        schema("invoices", "no"),
        *waiting,
        schema("customers", "crm"),
        record("customers", crm="late", name="A"),
    ]
    write(empty, tmp_path, messages, id_mode="external")
    (invoice,) = empty.objects("invoices")
    assert invoice["description"] == "19"


# ---------------------------------------------------------------------- W3: an id is its own


def replaced(emulator: Emulator, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A price whose amount was changed, and the one in its place."""
    old = next(p for p in emulator.objects("prices") if p["active"] and p["unit_amount"])
    changed = record("prices", id=old["id"], unit_amount=old["unit_amount"] + 100)
    write(emulator, folder, [schema("prices"), changed], allow_actions=["prices.replace"])
    new = next(
        p
        for p in emulator.objects("prices")
        if (p["metadata"] or {}).get("stripe_alloy_replaces") == old["id"]
    )
    return old, new


def test_after_a_replacement_an_id_is_still_its_own(account: Emulator, tmp_path: Path) -> None:
    old, new = replaced(account, tmp_path)
    write(account, tmp_path, [schema("prices"), record("prices", id=old["id"], nickname="legacy")])
    assert one(account, "prices", old["id"])["nickname"] == "legacy"
    assert one(account, "prices", new["id"])["nickname"] == new["nickname"]


def test_after_a_replacement_a_tombstone_ends_the_old_one(
    account: Emulator, tmp_path: Path
) -> None:
    old, new = replaced(account, tmp_path)
    gone = [schema("prices"), record("prices", id=old["id"], deleted=True)]
    write(account, tmp_path, gone, delete_policy="archive")
    assert one(account, "prices", new["id"])["active"] is True


def test_after_a_replacement_the_old_row_changes_nothing(account: Emulator, tmp_path: Path) -> None:
    old, _ = replaced(account, tmp_path)
    before = account.count("price")
    held = one(account, "prices", old["id"])
    run = write(
        account,
        tmp_path,
        [schema("prices"), {"type": "RECORD", "stream": "prices", "record": held}],
        allow_actions=["prices.replace"],
    )
    assert run.writes == []
    assert account.count("price") == before


def test_a_third_amount_under_the_old_id_is_blocked(account: Emulator, tmp_path: Path) -> None:
    old, new = replaced(account, tmp_path)
    third = record("prices", id=old["id"], unit_amount=old["unit_amount"] + 777)
    run = write(account, tmp_path, [schema("prices"), third], allow_actions=["prices.replace"])
    assert run.writes == []
    assert run.counts("prices") == {"read": 1, "blocked": 1}
    assert new["id"] in run.rejects[0]["reason"]


# ---------------------------------------------------------------------- W21: bytes, not numbers


def test_records_that_wait_are_bounded_by_their_bytes(
    empty: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few fit into memory, each is written as it came, in the order of its key."""
    monkeypatch.setattr(
        "target_stripe_alloy.write.overflow_file.OverflowFile.__init__.__defaults__", (3_000,)
    )
    monkeypatch.setattr("target_stripe_alloy.write.worker_pool.MAX_WAITING_BYTES", 5_000)
    text = "é" * 450
    late = [
        record("invoices", no=str(n % 10), customer="late", description=text, footer=str(n))
        for n in range(40)
    ]
    messages = [
        schema("invoices", "no"),
        *late,
        schema("customers", "crm"),
        record("customers", crm="late", name="A"),
    ]
    run = write(empty, tmp_path, messages, id_mode="external")
    assert run.counts("invoices") == {"read": 40, "created": 10, "updated": 30}
    found = {i["metadata"]["no"]: (i["description"], i["footer"]) for i in empty.objects("invoice")}
    assert found == {str(n): (text, str(30 + n)) for n in range(10)}


LONG = 100_000
"""Characters of a key."""


@pytest.mark.parametrize("id_mode", ["external", "copy"])
def test_long_keys_of_records_that_wait_are_not_kept(
    empty: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_mode: str
) -> None:
    monkeypatch.setattr(
        "target_stripe_alloy.write.overflow_file.OverflowFile.__init__.__defaults__", (3_000,)
    )
    monkeypatch.setattr("target_stripe_alloy.write.worker_pool.MAX_WAITING_BYTES", 5_000)
    monkeypatch.setattr("target_stripe_alloy.sinks.BATCH_BYTES", 5_000)
    number, long = 600, "x" * LONG  # far more than what the writers have at one time
    for_copy = id_mode == "copy"
    key = "id" if for_copy else "no"
    rows = (
        record("invoices", **{key: str(n) if for_copy else f"{n}{long}", "customer": f"{n}{long}"})
        for n in range(number)
    )
    path = tmp_path / "input.jsonl"
    with path.open("w") as file:
        for message in (schema("customers", key), schema("invoices", key), *rows):
            file.write(json.dumps(message) + "\n")
    target = TargetStripeAlloy(config=settings_for(empty, tmp_path, id_mode=id_mode))
    tracemalloc.start()
    with path.open() as file:
        target.listen(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(lines_of(tmp_path / "rejects.jsonl")) == number
    assert peak < number * LONG / 2


@pytest.mark.parametrize("id_mode", ["same_account", "copy"])
def test_an_id_that_is_too_long_is_rejected(empty: Emulator, tmp_path: Path, id_mode: str) -> None:
    messages = [schema("customers"), record("customers", id="x" * LONG, name="A")]
    run = write(empty, tmp_path, messages, id_mode=id_mode)
    assert "its id has 100000 characters" in run.rejects[0]["reason"]
    assert empty.count("customer") == 0


# ---------------------------------------------------------------------- an id names no other path


@pytest.mark.parametrize(
    "name", ["{}/send", "{}/pay?x=", "{}/lines/../send", "..", ".", "{}#", "{} "]
)
def test_an_id_reaches_no_other_endpoint(account: Emulator, tmp_path: Path, name: str) -> None:
    invoice = next(i["id"] for i in account.objects("invoices") if i["status"] == "open")
    row = record("invoices", id=name.format(invoice), description="x", deleted=False)
    run = write(account, tmp_path, [schema("invoices"), row])
    assert run.writes == []
    assert run.counts("invoices") == {"read": 1, "rejected": 1}
    gone = record("invoices", id=name.format(invoice), deleted=True)
    run = write(account, tmp_path, [schema("invoices"), gone], delete_policy="delete")
    assert run.writes == []


def test_a_product_with_an_id_of_the_users_own_is_written(
    account: Emulator, tmp_path: Path
) -> None:
    name = "gold plan 50%?"
    client_of(account).v1.products.create({"id": name, "name": "Gold"})
    row = record("products", id=name, description="all of it")
    run = write(account, tmp_path, [schema("products"), row])
    assert run.counts("products") == {"read": 1, "updated": 1}


def test_a_record_waits_for_the_later_version_of_what_it_refers_to(
    empty: Emulator, tmp_path: Path
) -> None:
    """The first version of the customer refers to nothing that comes; the second is written."""
    messages = [
        schema("invoices", "no"),
        record("invoices", no="I", customer="c"),
        schema("customers", "crm"),
        record("customers", crm="c", name="A", default_source="card_that_never_comes", id=5),
        record("customers", crm="c", name="A"),
    ]
    write(empty, tmp_path, messages, id_mode="external")
    (invoice,) = empty.objects("invoice")
    (customer,) = empty.objects("customer")
    assert invoice["customer"] == customer["id"]


# ---------------------------------------------------------------------- a price keeps its quantity


def test_another_price_keeps_the_quantity_of_an_item(account: Emulator, tmp_path: Path) -> None:
    item = next(i for i in account.objects("subscription_items") if (i["quantity"] or 0) > 0)
    subscription = one(account, "subscriptions", item["subscription"])
    client_of(account).v1.subscription_items.update(item["id"], {"quantity": 5})
    price = next(
        p["id"]
        for p in account.objects("prices")
        if p["active"]
        and p["id"] != item["price"]["id"]
        and p["currency"] == subscription["currency"]
        and (p["recurring"] or {}).get("interval") == item["price"]["recurring"]["interval"]
        and (p["recurring"] or {}).get("usage_type") == "licensed"
    )
    row = record("subscription_items", id=item["id"], price=price)
    allowed = ["subscription_items.update"]
    write(account, tmp_path, [schema("subscription_items"), row], allow_actions=allowed)
    after = one(account, "subscription_items", item["id"])
    assert (after["price"]["id"], after["quantity"]) == (price, 5)


@pytest.mark.parametrize(
    "when", ["2038-01-19T03:14:07Z", "2099-12-31", "2000-01-01", 4_102_444_799]
)
def test_what_is_deleted_in_the_future_is_not_deleted(
    account: Emulator, tmp_path: Path, when: Any
) -> None:
    found = customer(account)
    run = write(
        account,
        tmp_path,
        row(found, _sdc_deleted_at=when),
        delete_policy="delete",
        allow_actions=["customers.delete"],
    )
    assert run.writes == []
    assert run.counts("customers") == {"read": 1, "rejected": 1}
