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
