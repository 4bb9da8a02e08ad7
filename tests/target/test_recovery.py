"""What was under way when a run ended: it is repeated only if it is still the right request."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api.errors import StripeUnavailable
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.write.record_writer import ConflictError
from tests.emulator.helpers import client_of
from tests.target.helpers import Message, one, record, schema, write

EMAIL = "ada@example.com"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


@contextmanager
def crash(emulator: Emulator, path: str, kind: str, method: str = "POST") -> Iterator[None]:
    """A run inside ends while a request is under way: `cut_before` or `cut_after` Stripe did it."""
    emulator.faults.add(kind, path, method=method, times=None)
    with pytest.raises(StripeUnavailable):
        yield
    emulator.faults.clear()


def statuses(folder: Path) -> list[str]:
    return [row[0] for row in ask(folder, "SELECT status FROM stripe_alloy_operations ORDER BY 1")]


def ask(folder: Path, query: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as connection:
        return connection.execute(query, values).fetchall()


def as_noted_before(folder: Path) -> None:
    """Let the open intents be those of a release that did not note what it had seen."""
    query = "SELECT seq, context FROM stripe_alloy_operations WHERE status = 'open'"
    for seq, context in ask(folder, query):
        kept = {name: value for name, value in json.loads(context).items() if name != "seen"}
        update = "UPDATE stripe_alloy_operations SET context = ? WHERE seq = ?"
        ask(folder, update, json.dumps(kept).encode(), seq)


def as_noted_now(folder: Path) -> None:
    """The open intents are those of this release."""


def events(emulator: Emulator, kind: str) -> int:
    return sum(event["type"] == kind for event in emulator.objects("event"))


class Customer:
    """A customer that is in step, and a run that ended while it was renamed to "Ada L"."""

    def __init__(self, emulator: Emulator, folder: Path, kind: str, **settings: Any) -> None:
        self.emulator, self.folder, self.settings = emulator, folder, settings
        self.id = client_of(emulator).v1.customers.create({"name": "?", "email": EMAIL}).id
        self.write("Ada")
        with crash(emulator, f"/v1/customers/{self.id}", kind):
            self.write("Ada L")
        assert statuses(folder) == ["done", "open"]

    def messages(self, name: str) -> list[Message]:
        return [schema("customers"), record("customers", id=self.id, name=name)]

    def write(self, name: str, **settings: Any) -> dict[str, int]:
        run = write(
            self.emulator, self.folder, self.messages(name), **{**self.settings, **settings}
        )
        return run.counts("customers")

    def others(self, **fields: Any) -> None:
        client_of(self.emulator).v1.customers.update(self.id, fields)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        return str(one(self.emulator, "customers", self.id)["name"])


NOTED = [as_noted_now, as_noted_before]


@pytest.mark.parametrize("noted", NOTED)
def test_what_others_changed_since_is_a_conflict(
    empty: Emulator, tmp_path: Path, noted: Callable[[Path], None], caplog: Any
) -> None:
    customer = Customer(empty, tmp_path, "cut_before")
    noted(tmp_path)
    customer.others(name="Grace")
    with pytest.raises(ConflictError, match="name changed in Stripe as well"):
        customer.write("Ada L")
    assert customer.name == "Grace"
    assert "not sent again" in caplog.text
    assert statuses(tmp_path) == ["abandoned", "done"]


@pytest.mark.parametrize(
    ("on_conflict", "name"), [("skip", "Grace"), ("merge", "Grace"), ("overwrite", "Ada L")]
)
def test_what_others_changed_since_is_settled_by_the_setting(
    empty: Emulator, tmp_path: Path, on_conflict: str, name: str
) -> None:
    customer = Customer(empty, tmp_path, "cut_before", on_conflict=on_conflict)
    customer.others(name="Grace")
    customer.write("Ada L")
    assert customer.name == name


@pytest.mark.parametrize("noted", NOTED)
def test_what_others_changed_besides_is_no_conflict(
    empty: Emulator, tmp_path: Path, noted: Callable[[Path], None]
) -> None:
    customer = Customer(empty, tmp_path, "cut_before")
    noted(tmp_path)
    customer.others(phone="1")
    assert customer.write("Ada L") == {"read": 1, "updated": 1}
    assert one(empty, "customers", customer.id)["phone"] == "1"
    assert customer.name == "Ada L"


@pytest.mark.parametrize("noted", NOTED)
def test_what_others_changed_after_it_was_done_stays(
    empty: Emulator, tmp_path: Path, noted: Callable[[Path], None]
) -> None:
    customer = Customer(empty, tmp_path, "cut_after")
    noted(tmp_path)
    assert customer.name == "Ada L"
    customer.others(name="Grace")
    assert customer.write("Ada L") == {"read": 1, "unchanged": 1}
    assert customer.name == "Grace"
    assert statuses(tmp_path) == ["done", "done"]


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
def test_what_nobody_changed_is_done_once(empty: Emulator, tmp_path: Path, kind: str) -> None:
    customer = Customer(empty, tmp_path, kind)
    before = events(empty, "customer.updated")
    assert customer.write("Ada L") == {"read": 1, "unchanged": 1}
    assert customer.name == "Ada L"
    assert events(empty, "customer.updated") == before + (kind == "cut_before")
    assert statuses(tmp_path) == ["done", "done"]


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
def test_without_the_permission_for_events_others_are_not_overwritten(
    empty: Emulator, tmp_path: Path, kind: str
) -> None:
    empty.keys.add("rk_test_no_events", {"customer": "write", "account": "read"})
    customer = Customer(empty, tmp_path, kind, api_key="rk_test_no_events")
    customer.others(name="Grace")
    with pytest.raises(ConflictError):
        customer.write("Ada L")
    assert customer.name == "Grace"


# ---------------------------------------------------------------------- what a permission rests on


def test_a_default_price_that_others_set_is_not_replaced(empty: Emulator, tmp_path: Path) -> None:
    api = client_of(empty).v1
    product = api.products.create({"name": "P"}).id
    params: Any = {"product": product, "currency": "usd", "unit_amount": 5}
    ours, theirs = (api.prices.create(params).id for _ in range(2))
    messages = [schema("products"), record("products", id=product, default_price=ours)]
    with crash(empty, f"/v1/products/{product}", "cut_before"):
        write(empty, tmp_path, messages)
    api.products.update(product, {"default_price": theirs})
    run = write(empty, tmp_path, messages)
    assert run.counts("products") == {"read": 1, "blocked": 1}
    assert one(empty, "products", product)["default_price"] == theirs


@pytest.mark.parametrize("change", [{"auto_advance": True}, None])
def test_a_line_is_not_added_to_a_draft_that_advanced(
    account: Emulator, tmp_path: Path, change: Any
) -> None:
    api = client_of(account).v1
    customer = account.objects("customers")[0]["id"]
    draft: Any = {"customer": customer, "auto_advance": False}
    invoice = api.invoices.create(draft).id
    row = record("invoice_line_items", no="1", invoice=invoice, amount=5, description="x")
    messages = [schema("invoice_line_items", "no"), row]
    with crash(account, f"/v1/invoices/{invoice}/add_lines", "cut_before"):
        write(account, tmp_path, messages, id_mode="external")
    if change:
        api.invoices.update(invoice, change)
    run = write(account, tmp_path, messages, id_mode="external")
    count = "blocked" if change else "unchanged"
    assert run.counts("invoice_line_items") == {"read": 1, count: 1}
    assert len(one(account, "invoices", invoice)["lines"]["data"]) == (0 if change else 1)


@pytest.mark.parametrize("may_read_events", [True, False])
@pytest.mark.parametrize("noted", NOTED)
def test_an_action_that_others_undid_is_not_done_again(
    account: Emulator, tmp_path: Path, noted: Callable[[Path], None], *, may_read_events: bool
) -> None:
    key = account.api_key
    if not may_read_events:
        key = "rk_test_no_events"
        account.keys.add(key, {"subscription": "write", "account": "read"})
    found = next(s["id"] for s in account.objects("subscriptions") if s["status"] == "active")
    messages = [schema("subscriptions"), record("subscriptions", id=found, _action="pause")]
    settings: dict[str, Any] = {"allow_actions": ["subscriptions.pause"], "api_key": key}
    with crash(account, f"/v1/subscriptions/{found}", "cut_after"):
        write(account, tmp_path, messages, **settings)
    assert one(account, "subscriptions", found)["status"] == "paused"
    noted(tmp_path)
    client_of(account).v1.subscriptions.resume(found)
    write(account, tmp_path, messages, **settings)
    assert one(account, "subscriptions", found)["status"] == "active"


# ---------------------------------------------------------------------- of another pipeline

OVERWRITE: dict[str, Any] = {"on_conflict": "overwrite"}


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
def test_what_another_pipeline_finds_out_is_known_to_the_one_that_wrote(
    empty: Emulator, tmp_path: Path, kind: str
) -> None:
    found = client_of(empty).v1.customers.create({"name": "?"}).id

    def messages(name: str) -> list[Message]:
        return [schema("customers"), record("customers", id=found, name=name)]

    with crash(empty, f"/v1/customers/{found}", kind):
        write(empty, tmp_path, messages("Q"), pipeline="q", **OVERWRITE)
    names = []
    for pipeline, name in (("p", "P"), ("q", "Q"), ("p", "P"), ("q", "Q")):
        write(empty, tmp_path, messages(name), pipeline=pipeline, **OVERWRITE)
        names.append(one(empty, "customer", found)["name"])
    assert names == ["P"] * 4
    assert events(empty, "customer.updated") == 2


def test_an_effect_that_another_pipeline_finds_out_is_not_repeated(
    account: Emulator, tmp_path: Path
) -> None:
    found = next(s["id"] for s in account.objects("subscriptions") if s["status"] == "active")
    messages = [schema("subscriptions"), record("subscriptions", id=found, _action="pause")]
    allowed: dict[str, Any] = {"allow_actions": ["subscriptions.pause"]}
    with crash(account, f"/v1/subscriptions/{found}", "cut_after"):
        write(account, tmp_path, messages, pipeline="q", **allowed)
    write(account, tmp_path, [schema("customers")], pipeline="p", **allowed)
    client_of(account).v1.subscriptions.resume(found)
    run = write(account, tmp_path, messages, pipeline="q", **allowed)
    assert run.writes == []
    assert one(account, "subscriptions", found)["status"] == "active"


def test_what_is_found_out_later_is_as_old_as_its_record(account: Emulator, tmp_path: Path) -> None:
    """A record that came after it and was rejected is newer, and may be replayed."""
    found = account.ids("customers")[0]
    with crash(account, f"/v1/customers/{found}", "cut_after"):
        write(account, tmp_path, [schema("customers"), record("customers", id=found, name="New")])
    between = time.time() * 1000
    write(account, tmp_path, [schema("customers")])
    ((run, number),) = ask(tmp_path, "SELECT run, number FROM stripe_alloy_images")
    assert (run < between, number) == (True, 1)


# ---------------------------------------------------------------------- new objects

BY_EMAIL: dict[str, Any] = {"match_by": {"customers": ["email"]}}


@pytest.mark.parametrize("mode", [BY_EMAIL, {"id_mode": "external"}])
@pytest.mark.parametrize("now", ["skip", "reject"])
def test_a_creation_that_is_not_wanted_any_more_is_not_repeated(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], now: str, caplog: Any
) -> None:
    key = "crm_id" if "id_mode" in mode else "email"
    messages = [schema("customers", key), record("customers", **{"email": EMAIL, key: EMAIL})]
    with crash(empty, "/v1/customers", "cut_before"):
        write(empty, tmp_path, messages, on_missing="create", **mode)
    run = write(empty, tmp_path, messages, on_missing=now, **mode)
    counts = {"read": 1, "skipped" if now == "skip" else "rejected": 1}
    assert (run.counts("customers"), empty.count("customers")) == (counts, 0)
    assert "on_missing=create is not allowed any more" in caplog.text
    assert statuses(tmp_path) == ["abandoned"]


@pytest.mark.parametrize("mode", [BY_EMAIL, {**BY_EMAIL, "id_mode": "external"}])
@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
def test_what_others_created_since_is_not_created_again(
    empty: Emulator, tmp_path: Path, mode: dict[str, Any], kind: str
) -> None:
    key = "crm_id" if "id_mode" in mode else "email"
    fields = {"email": EMAIL, key: EMAIL, "name": "Ada"}
    messages = [schema("customers", key), record("customers", **fields)]
    with crash(empty, "/v1/customers", kind):
        write(empty, tmp_path, messages, on_missing="create", **mode)
    if kind == "cut_before":
        client_of(empty).v1.customers.create({"email": EMAIL})
    write(empty, tmp_path, messages, on_missing="create", **mode)
    assert [found["name"] for found in empty.objects("customers")] == ["Ada"]
