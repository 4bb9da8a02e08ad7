"""What a value means: tombstones, actions and times, over HTTP; anything else is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.params_tree import InvalidRecord
from target_stripe_alloy.settings import ALLOWED
from target_stripe_alloy.write.queued_records import is_deleted
from tests.conftest import config_of, read
from tests.target.helpers import Run, record, schema, state, write

DELETING = {"delete_policy": "delete", "allow_actions": ["customers.delete"]}

TOMBSTONES: list[dict[str, Any]] = [
    {"deleted": True},
    {"deleted": True, "_sdc_deleted_at": ""},
    {"_sdc_deleted_at": "2026-11-01T10:00:00Z"},
    {"_sdc_deleted_at": "2026-11-01T10:00:00.123456+01:00"},
    {"_sdc_deleted_at": "2026-11-01 10:00:00"},
    {"_sdc_deleted_at": "2026-11-01"},
    {"_sdc_deleted_at": 1_793_500_000},
    {"_sdc_deleted_at": "1793500000"},
    {"deleted": False, "_sdc_deleted_at": 1_793_500_000},
    {"deleted": "", "_sdc_deleted_at": 1_793_500_000},
]
EMPTY: list[Any] = ["", None, False, "false"]
NONE: list[dict[str, Any]] = [{m: v} for m in ("deleted", "_sdc_deleted_at") for v in EMPTY]
NO_DELETED: list[Any] = [
    "true", "True", "yes", "no", "False", "0", 0, 1, 1.0, [], [True], {}, " ", "null",
    "2026-11-01T10:00:00Z", 1_793_500_000,
]  # fmt: skip
NO_TIME: list[Any] = [
    "true", "yes", True, 0, 1, "0", "1", "0000-00-00", "0000-00-00 00:00:00", "null", " ",
    "0001-01-01T00:00:00Z", "9999-12-31", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01",
    "1970-01-02", "2000-01-01", "2000-01-01T00:00:00-05:00", "2000-01-01T23:59:59-12:00",
    "2000-01-02", "2001-01-01", "2009-12-31", 946_702_800, "2099-12-31", "2099-12-30T12:00:00",
    "2026-02-30", "20261101", 20_261_101, [],
    ["2026-11-01"], {}, 1_793_500_000_000, -1, "soon",
]  # fmt: skip
WRONG: list[dict[str, Any]] = [
    *({"deleted": value} for value in NO_DELETED),
    *({"_sdc_deleted_at": value} for value in NO_TIME),
    {"deleted": True, "_sdc_deleted_at": "yes"},
    {"deleted": "yes", "_sdc_deleted_at": "2026-11-01"},
]


@pytest.mark.parametrize("marks", TOMBSTONES, ids=str)
def test_a_tombstone(marks: dict[str, Any]) -> None:
    assert is_deleted(marks)


@pytest.mark.parametrize("marks", [{}, *NONE], ids=str)
def test_no_tombstone(marks: dict[str, Any]) -> None:
    assert not is_deleted(marks)


@pytest.mark.parametrize("marks", WRONG, ids=str)
def test_neither(marks: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord):
        is_deleted(marks)


def test_a_tombstone_deletes_and_nothing_else_does(empty: Emulator, tmp_path: Path) -> None:
    rows = [*TOMBSTONES, *NONE, *WRONG]
    api = stripe.StripeClient(empty.api_key, base_addresses={"api": empty.url})
    ids = [api.v1.customers.create({}).id for _ in rows]
    marked = [record("customers", id=i, **marks) for i, marks in zip(ids, rows, strict=False)]
    run = write(empty, tmp_path, [schema("customers"), *marked, state(done=True)], **DELETING)
    assert {w.path for w in run.writes if w.method == "DELETE"} == {
        f"/v1/customers/{i}" for i in ids[: len(TOMBSTONES)]
    }
    assert [w for w in run.writes if w.method != "DELETE"] == []
    wrong = {marks["record"]["id"] for marks in marked[-len(WRONG) :]}
    assert {line["key"] for line in run.rejects} == wrong
    assert all("deleted" in line["reason"] for line in run.rejects)
    assert run.states == [{"done": True}]


@pytest.mark.parametrize("timestamps", ["unix", "rfc3339"])
def test_the_taps_own_tombstones_are_ones(
    account: Emulator, tmp_path: Path, timestamps: str
) -> None:
    config = config_of(account, timestamps=timestamps)
    first = read(config, "customers")
    found = account.ids("customers")[0]
    write(
        account, tmp_path, [schema("customers"), record("customers", id=found, deleted=True)],
        **DELETING,
    )  # fmt: skip
    second = read(config, "customers", state=first.state)
    (tombstone,) = [row for row in second.records["customers"] if row.get("deleted")]
    assert is_deleted(tombstone)


# ---------------------------------------------------------------------- actions


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_action_is_none(account: Emulator, tmp_path: Path, nothing: Any) -> None:
    found = account.ids("customers")[0]
    row = record("customers", id=found, name="New", _action=nothing)
    run = write(account, tmp_path, [schema("customers"), row])
    assert [w.params for w in run.writes] == [{"name": ["New"]}]


@pytest.mark.parametrize("action", [5, True, False, 0, ["void"], {"void": True}, " ", "VOID"])
def test_an_action_that_is_none_is_rejected(account: Emulator, tmp_path: Path, action: Any) -> None:
    invoice = account.objects("invoices")[0]
    row = record("invoices", id=invoice["id"], _action=action)
    run = write(account, tmp_path, [schema("invoices"), row, state(done=True)],
                allow_actions=["invoices.void"])  # fmt: skip
    assert run.writes == []
    assert run.counts("invoices") == {"read": 1, "rejected": 1}
    assert run.rejects[0]["reason"].startswith("_action: ")


@pytest.mark.parametrize("key", ["", None])
def test_an_empty_id_is_rejected(account: Emulator, tmp_path: Path, key: Any) -> None:
    run = write(account, tmp_path, [schema("customers"), record("customers", id=key, name="New")])
    assert run.requests[1:] == []
    assert run.counts("customers") == {"read": 1, "rejected": 1}


# ---------------------------------------------------------------------- numbers and times


@pytest.mark.parametrize(
    "value",
    ["2026-01-31", "2026-01-31T00:00:00Z", True, "1e3", " 10 ", 10.5, 10**30, [500], "NaN", "true"],
)
def test_no_number_is_made_of_what_is_none(account: Emulator, tmp_path: Path, value: Any) -> None:
    found = account.ids("customers")[0]
    row = record("customers", id=found, balance=value)
    run = write(account, tmp_path, [schema("customers"), row], allow_actions=["customers.balance"])
    assert run.writes == []
    assert run.counts("customers") == {"read": 1, "rejected": 1}
    assert run.rejects[0]["reason"].startswith("balance")


@pytest.mark.parametrize("value", [500, 500.0, "500", "500.0", "0500"])
def test_a_number_is_exact(account: Emulator, tmp_path: Path, value: Any) -> None:
    found = account.ids("customers")[0]
    row = record("customers", id=found, balance=value)
    run = write(account, tmp_path, [schema("customers"), row], allow_actions=["customers.balance"])
    assert [w.params for w in run.writes] == [{"balance": ["500"]}]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("2099-01-31", "4073500800"),
        ("2099-01-31T00:00:00+01:00", "4073497200"),
        (4_073_500_800, "4073500800"),
        ("4073500800.0", "4073500800"),
    ],
)
def test_a_time_is_sent_as_seconds(
    account: Emulator, tmp_path: Path, value: Any, sent: str
) -> None:
    run = end_of_subscription(account, tmp_path, value)
    assert [w.params["cancel_at"] for w in run.writes] == [[sent]]


@pytest.mark.parametrize(
    "value", ["soon", 14, 20_990_131, 4_073_500_800_000, "4073500800000", "2099-02-30", True, 0.5]
)
def test_no_time_is_made_of_what_is_none(account: Emulator, tmp_path: Path, value: Any) -> None:
    run = end_of_subscription(account, tmp_path, value)
    assert run.writes == []
    assert run.counts("subscriptions") == {"read": 1, "rejected": 1}
    assert run.rejects[0]["reason"].startswith("cancel_at: must be a time")


@pytest.mark.parametrize(
    "value",
    [
        "2000-01-01", "2000-01-01T00:00:00-05:00", "2099-12-31", "2099-12-31T00:00:00+02:00",
        "9999-12-31", "9999-12-31T23:59:59Z", 253_402_300_799, 4_102_444_799,
    ],
)  # fmt: skip
def test_a_day_that_stands_for_null_is_no_end(
    account: Emulator, tmp_path: Path, value: Any
) -> None:
    run = end_of_subscription(account, tmp_path, value)
    assert run.writes == []


@pytest.mark.parametrize(
    "value",
    ["0001-01-01", "1753-01-01", "1899-12-30", "1900-01-01", "1970-01-01", "2000-01-01", 0, -1,
     "1970-01-01T00:00:00-11:00", "2099-12-31", "9999-12-31"],
)  # fmt: skip
def test_a_day_that_stands_for_null_is_no_time_of_a_new_object(
    account: Emulator, tmp_path: Path, value: Any
) -> None:
    price = next(p for p in account.objects("prices") if p["active"] and p["recurring"])
    row = record(
        "subscriptions",
        no="7",
        customer=account.ids("customers")[0],
        items=[{"price": price["id"]}],
        backdate_start_date=value,
    )
    run = write(
        account, tmp_path, [schema("subscriptions", "no"), row],
        id_mode="external", allow_actions=["subscriptions.create"],
    )  # fmt: skip
    assert run.writes == []
    assert run.rejects[0]["reason"].startswith("backdate_start_date: must be a time")


def end_of_subscription(account: Emulator, folder: Path, value: Any) -> Run:
    found = next(s for s in account.objects("subscriptions") if s["status"] == "active")
    row = record("subscriptions", id=found["id"], cancel_at=value)
    allowed = [name for name in ALLOWED if name.startswith("subscriptions.")]
    return write(account, folder, [schema("subscriptions"), row], allow_actions=allowed)
