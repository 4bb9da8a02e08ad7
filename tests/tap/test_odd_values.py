"""One odd value in one object: all rows come, the odd one with what can be told of it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.conftest import Output, config_of, read

LATER_THAN_9999 = 253_402_300_800


def edit(account: Emulator, kind: str, object_id: str, field: str, text: str | None) -> None:
    """Put this JSON text in the place of a field's value; None removes the field."""
    [[body]] = account.store.execute(
        "SELECT body FROM objects WHERE object = ? AND id = ?", kind, object_id
    )
    fields = json.loads(str(body))
    del fields[field]
    rest = json.dumps(fields)[:-1]
    changed = rest + ("}" if text is None else f', "{field}": {text}}}')
    account.store.execute(
        "UPDATE objects SET body = ? WHERE object = ? AND id = ?", changed, kind, object_id
    )


def one(output: Output, stream: str, object_id: str) -> dict[str, Any]:
    [row] = [row for row in output.records[stream] if row["id"] == object_id]
    return row


PATHS: list[dict[str, Any]] = [{}, {"stream_maps": {"charges": {"copy": "id"}}}]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("settings", PATHS, ids=["direct", "taken apart"])
@pytest.mark.parametrize(
    ("field", "text", "came"),
    [
        ("created", str(LATER_THAN_9999), None),
        ("created", "-5", "1969-12-31T23:59:55Z"),
        ("created", "-99999999999999", None),
        ("created", "99999999999999999999999", None),
        ("created", '"yesterday"', None),
        ("created", "null", None),
        ("created", None, None),
        ("amount", "9223372036854775808", None),
        ("amount", "-1e400", None),
        ("amount", "NaN", None),
        ("description", '"a \\ud800 b"', "a \ufffd b"),
        ("description", '"a \\ud83d\\ude00 b"', "a \U0001f600 b"),
        ("description", '"a \\u0000 b"', "a \ufffd b"),
        ("description", '"a \\\\u0000 b"', "a \\u0000 b"),
        ("metadata", '{"k\\u0000": "v\\ud800"}', {"k\ufffd": "v\ufffd"}),
    ],
)
def test_an_odd_value_keeps_no_row_from_coming(
    account: Emulator, settings: dict[str, Any], field: str, text: str | None, came: Any
) -> None:
    odd = account.ids("charge")[7]
    edit(account, "charge", odd, field, text)
    output = read(config_of(account, **settings), "charges")
    assert set(output.ids("charges")) == set(account.ids("charge"))
    row = one(output, "charges", odd)
    assert row.get(field) == came
    jsonschema.validate(row, output.schemas["charges"], format_checker=jsonschema.FormatChecker())
    assert read(config_of(account, **settings), "charges", state=output.state).records == {}


@pytest.mark.parametrize("timestamps", ["rfc3339", "unix"])
def test_a_nested_time_too_late_for_its_column_is_left_out(
    account: Emulator, timestamps: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd = account.ids("invoice")[0]
    times = json.dumps({"finalized_at": 10**17, "paid_at": None})
    edit(account, "invoice", odd, "status_transitions", times)
    output = read(config_of(account, timestamps=timestamps), "invoices")
    row = one(output, "invoices", odd)
    if timestamps == "rfc3339":
        assert row["status_transitions"]["finalized_at"] is None
        [named] = [r.message for r in caplog.records if "status_transitions" in r.message]
        assert "finalized_at" in named
        assert str(10**17) not in named
    jsonschema.validate(row, output.schemas["invoices"])


@pytest.mark.parametrize("settings", PATHS, ids=["direct", "taken apart"])
def test_an_object_without_an_id_is_named_and_left_out(
    account: Emulator, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    odd = account.ids("charge")[7]
    edit(account, "charge", odd, "id", None)
    output = read(config_of(account, **settings), "charges")
    assert set(output.ids("charges")) == set(account.ids("charge")) - {odd}
    assert len([r for r in caplog.records if "without `id`" in r.message]) == 1


@pytest.mark.parametrize(
    ("text", "came"), [('"x \\u0000"', "x \ufffd"), ('"x \\ud800"', "x \ufffd")]
)
def test_a_changed_object_with_an_odd_value_comes(account: Emulator, text: str, came: str) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    config = config_of(account)
    state = read(config, "customers", "events").state
    account.clock_advance(3_600)
    customer = account.ids("customer")[0]
    client.v1.customers.update(customer, {"description": "first"})
    event = account.objects("event")[0]
    snapshot = json.dumps({**event["data"]["object"], "description": "?"}).replace('"?"', text)
    edit(account, "event", event["id"], "data", f'{{"object": {snapshot}}}')
    output = read(config, "customers", "events", state=state)
    assert one(output, "customers", customer)["description"] == came
    assert event["id"] in output.ids("events")


def test_an_event_whose_object_has_a_time_beyond_all_calendars_comes(account: Emulator) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    config = config_of(account)
    state = read(config, "customers").state
    account.clock_advance(3_600)
    customer = account.ids("customer")[0]
    client.v1.customers.update(customer, {"description": "first"})
    event = account.objects("event")[0]
    snapshot = {**event["data"]["object"], "created": LATER_THAN_9999}
    edit(account, "event", event["id"], "data", json.dumps({"object": snapshot}))
    row = one(read(config, "customers", state=state), "customers", customer)
    assert row["description"] == "first"
    assert row["created"] is None


def without_id_named(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "without `id`" in r.message]


@pytest.mark.parametrize("place", [10, 15, -1])
def test_a_nested_entry_without_an_id_is_named_and_left_out(
    place: int, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator(customers=40) as emulator:
        whole = read(config_of(emulator), "invoices", "invoice_line_items")
        long = max(whole.records["invoices"], key=lambda row: len(row["lines"]["data"]))
        ids = [line["id"] for line in long["lines"]["data"]]
        assert len(ids) > 16
        edit(emulator, "line_item", ids[place], "id", None)
        output = read(config_of(emulator), "invoices", "invoice_line_items")
        lines = one(output, "invoices", long["id"])["lines"]["data"]
        assert [line["id"] for line in lines] == [found for found in ids if found != ids[place]]
        left = set(whole.ids("invoice_line_items")) - set(output.ids("invoice_line_items"))
        assert left == {ids[place]}
        assert len(without_id_named(caplog)) == 1


def test_a_list_that_ends_after_its_only_further_entry_without_an_id_ends() -> None:
    with Emulator(customers=0) as emulator:
        first = [{"id": "il_1"}, {"object": "line_item"}]
        invoice = {"id": "in_1", "lines": listing(first, "/v1/invoices/in_1/lines")}
        emulator.faults.add(
            "answer",
            "/v1/invoices",
            body={"object": "list", "data": [invoice], "has_more": False},
        )
        body = {"object": "list", "data": [{"object": "line_item"}], "has_more": False}
        emulator.faults.add("answer", "/v1/invoices/in_1/lines", body=body, times=None)
        output = read(config_of(emulator), "invoice_line_items")
        assert list(output.ids("invoice_line_items")) == ["il_1"]


def listing(entries: list[Any], url: str) -> dict[str, Any]:
    return {"object": "list", "data": entries, "has_more": True, "url": url}


@pytest.mark.parametrize("kind", ["test_helpers.test_clock", "customer", "invoice"])
def test_an_object_without_an_id_on_a_test_clock_is_named_and_left_out(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator(customers=30) as emulator:
        config = config_of(emulator, include_test_clocks=True)
        whole = set(read(config, "invoices").ids("invoices"))
        elsewhere = set(emulator.ids("invoice"))
        on_clock = next(
            found
            for found in emulator.objects("invoice", everything=True)
            if found["id"] not in elsewhere
        )
        [customer] = [
            found
            for found in emulator.objects("customer", everything=True)
            if found["id"] == on_clock["customer"]
        ]
        odd = {"customer": customer["id"], "invoice": on_clock["id"]}
        edit(emulator, kind, odd.get(kind) or str(customer["test_clock"]), "id", None)
        output = read(config, "invoices")
        assert on_clock["id"] in whole - set(output.ids("invoices"))
        assert elsewhere <= set(output.ids("invoices"))
        assert len(without_id_named(caplog)) == 1


@pytest.mark.parametrize("without", ["customer", "method"])
@pytest.mark.parametrize("unscoped", ["serve", "empty"])
def test_the_payment_methods_come_but_for_what_has_no_id(
    unscoped: str, without: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator(customers=0, unscoped_payment_methods=unscoped) as emulator:
        emulator.add("customer", id="cus_1")
        emulator.add("customer", id="cus_2")
        for number in (1, 2):
            fields = {"id": f"pm_{number}", "customer": f"cus_{number}", "type": "card"}
            emulator.add("payment_method", **fields)
        kind, odd = ("customer", "cus_2") if without == "customer" else ("payment_method", "pm_2")
        edit(emulator, kind, odd, "id", None)
        output = read(config_of(emulator), "payment_methods")
        reached = ["pm_1", "pm_2"] if (unscoped, without) == ("serve", "customer") else ["pm_1"]
        assert sorted(output.ids("payment_methods")) == reached
        assert len(without_id_named(caplog)) == 1


def test_a_removed_child_has_its_tombstone_beside_one_without_an_id(account: Emulator) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    config = config_of(account)
    state = read(config, "subscription_items").state
    account.clock_advance(3_600)
    subscription = next(s for s in account.objects("subscription") if s["status"] == "active")
    client.v1.subscriptions.update(subscription["id"], {"metadata": {"a": "b"}})
    event = account.objects("event")[0]
    snapshot = event["data"]["object"]
    items = snapshot["items"]["data"]
    before = {"items": {**snapshot["items"], "data": [{**items[0], "id": "si_former"}]}}
    del items[1:]
    del items[0]["id"]
    data = {"object": snapshot, "previous_attributes": before}
    edit(account, "event", event["id"], "data", json.dumps(data))
    output = read(config, "subscription_items", state=state)
    assert [(r["id"], r["deleted"]) for r in output.records["subscription_items"]] == [
        ("si_former", True)
    ]
