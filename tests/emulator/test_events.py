"""Events: names, snapshots, older shapes."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import stripe

from stripe_alloy.api.schemas import api_version
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import Emulator, effects
from stripe_alloy.emulator.api_versions import VINTAGES
from stripe_alloy.emulator.events import previous
from stripe_alloy.emulator.templates import fields_of
from tests.emulator.helpers import NOW, Events, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = "2024-06-20"


def known_types() -> set[str]:
    return set(typing.get_args(stripe.Event.__annotations__["type"]))


def emitted_types() -> set[str]:
    """All names of events that stand in the emulator's source."""
    sources = [path.read_text() for path in Path(effects.__file__).parents[1].rglob("*.py")]
    dotted = re.compile(r'"((?:[a-z_]+\.)+[a-z_]+)"')
    verbs = re.compile(r"\.(created|updated|deleted|[a-z_]*(?:ed|paid|sent))$")
    names = {name for source in sources for name in dotted.findall(source)}
    return {name for name in names if verbs.search(name) and name.split(".")[0] in EMITTERS}


EMITTERS = {"charge", "customer", "invoice", "invoiceitem", "payment_intent", "payment_method"}
EMITTERS |= {"coupon", "invoice_payment", "payout", "price", "product", "refund"}


def test_every_event_that_can_happen_has_a_type_that_stripe_has() -> None:
    assert emitted_types() <= known_types()
    assert len(emitted_types()) > 50


def test_every_event_has_a_type_that_stripe_has(business: Emulator) -> None:
    rows = business.objects("events", everything=True)
    assert {row["type"] for row in rows} <= known_types()


def test_events_carry_the_accounts_version(business: Emulator) -> None:
    versions = {row["api_version"] for row in business.objects("events")}
    assert versions == {api_version()}


def test_only_updates_have_previous_attributes(business: Emulator) -> None:
    told = {
        row["type"] for row in business.objects("events") if "previous_attributes" in row["data"]
    }
    others = {"charge.refunded", "payment_method.detached"}
    assert {name for name in told - others if not name.endswith(".updated")} == set()


def test_an_event_that_anybody_can_retrieve(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    event = business.objects("events")[0]
    assert reader.v1.events.retrieve(event["id"]).type == event["type"]


def test_balance_transactions_have_no_events(business: Emulator) -> None:
    kinds = {row["data"]["object"]["object"] for row in business.objects("events")}
    assert "balance_transaction" not in kinds


def test_new_events_move_the_horizon(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.clock_advance(20 * DAY)
    api.v1.customers.create({})
    oldest = emu.objects("events")[-1]["created"]
    assert oldest >= NOW - 10 * DAY


def test_time_alone_hides_no_events(emu: Emulator) -> None:
    before = emu.count("events")
    emu.clock_advance(365 * DAY)
    assert emu.count("events") == before


def test_previous_names_what_was_added() -> None:
    assert previous({"a": 1}, {"a": 1, "b": 2}) == {"b": None}


def test_previous_keeps_lists_whole() -> None:
    assert previous({"a": [1, 2]}, {"a": [1, 3]}) == {"a": [1, 2]}


def test_previous_goes_into_hashes() -> None:
    assert previous({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == {"a": {"c": 2}}


def test_previous_of_a_hash_that_came_is_null() -> None:
    assert previous({"a": None}, {"a": {"b": 1}}) == {"a": None}


def test_after_many_writes_the_newest_snapshots_are_the_truth(
    emu: Emulator, api: stripe.StripeClient, events: Events
) -> None:
    """Except for invoice items: Stripe has no event that one was put on an invoice."""
    customer = api.v1.customers.create({}).id
    method = api.v1.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    settings: Any = {"default_payment_method": method}
    api.v1.customers.update(customer, {"invoice_settings": settings})
    price = next(p for p in emu.objects("prices") if p["lookup_key"] == "team_usd_month")
    made = api.v1.subscriptions.create({"customer": customer, "items": [{"price": price["id"]}]})
    item = made["items"].data[0].id
    path = f"/v1/subscriptions/{made.id}"
    for behavior in ("always_invoice", "create_prorations", "none"):
        entry = {"id": item, "quantity": 2 + len(behavior)}
        api.raw_request("post", path, items=[entry], proration_behavior=behavior)
    invoice = api.v1.invoices.create({"customer": customer})
    lines: Any = [{"amount": 900}]
    api.v1.invoices.add_lines(invoice.id, {"lines": lines})
    api.v1.invoices.pay(invoice.id)
    charge = emu.ids("charges")[0]
    api.v1.refunds.create({"charge": charge, "amount": 100})
    api.v1.payment_methods.detach(method)
    api.v1.customers.delete(customer)
    newest = {event["data"]["object"]["id"]: event for event in events.all()}
    assert len(newest) > 10
    for object_id, event in newest.items():
        snapshot = event["data"]["object"]
        found = emu.store.get(emu.account_id, snapshot["object"], object_id)
        if event["type"] not in ("customer.deleted", "invoiceitem.created"):
            assert found is not None
            assert msgspec.json.decode(found.body) == snapshot, event["type"]


# ---------------------------------------------------------------------- older accounts


@pytest.fixture(scope="module")
def old() -> Iterator[Emulator]:
    with Emulator(customers=14, clock=lambda: NOW, account_api_version=OLD) as emulator:
        yield emulator


def snapshots(emulator: Emulator, kind: str) -> list[dict[str, Any]]:
    found = [event["data"]["object"] for event in emulator.objects("events")]
    return [snapshot for snapshot in found if snapshot["object"] == kind]


def test_events_of_an_old_account_say_so(old: Emulator) -> None:
    assert {row["api_version"] for row in old.objects("events")} == {OLD}


@pytest.mark.parametrize("kind", ["invoice", "subscription", "customer", "charge"])
def test_their_snapshots_lack_what_is_new(old: Emulator, kind: str) -> None:
    assert not set(VINTAGES[kind].lacks) & snapshots(old, kind)[0].keys()


@pytest.mark.parametrize("kind", ["invoice", "subscription", "customer", "charge"])
def test_their_snapshots_carry_what_is_gone(old: Emulator, kind: str) -> None:
    carried = set(VINTAGES[kind].carries)
    assert carried <= snapshots(old, kind)[0].keys()
    assert not carried & fields_of(kind)


def test_an_old_subscription_has_its_period(old: Emulator) -> None:
    snapshot = snapshots(old, "subscription")[0]
    first = snapshot["items"]["data"][0]
    assert snapshot["current_period_end"] == first["current_period_end"]


def test_lines_inside_are_old_too(old: Emulator) -> None:
    invoice = next(row for row in snapshots(old, "invoice") if row["lines"]["data"])
    assert "pricing" not in invoice["lines"]["data"][0]


def test_objects_themselves_are_as_pinned(old: Emulator) -> None:
    assert "parent" in old.objects("invoices")[0]


def test_new_events_are_old_too(old: Emulator) -> None:
    events = Events(old)
    client_of(old).v1.customers.create({})
    assert events.one("customer.created")["api_version"] == OLD
