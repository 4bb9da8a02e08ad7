"""The column `updated` never goes back: destinations keep the row whose `updated` is latest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.conftest import Output, catalog_of, config_of, read

DAY = 86_400
Rows = dict[str, dict[str, Any]]


@pytest.fixture
def client(account: Emulator) -> stripe.StripeClient:
    return stripe.StripeClient(account.api_key, base_addresses={"api": account.url})


def deduped(stream: str, outputs: Iterable[Output]) -> Rows:
    """What Airbyte's append + deduped leaves: by `updated`, then by arrival."""
    rows: Rows = {}
    for output in outputs:
        for row in output.records.get(stream, []):
            if row["id"] not in rows or row["updated"] >= rows[row["id"]]["updated"]:
                rows[row["id"]] = row
    return rows


@pytest.mark.parametrize("timestamps", ["rfc3339", "unix"])
@pytest.mark.parametrize(
    ("stream", "edit"),
    [
        ("customers", lambda api, i, text: api.customers.update(i, {"description": text})),
        ("products", lambda api, i, text: api.products.update(i, {"description": text})),
        ("invoices", lambda api, i, text: api.invoices.update(i, {"description": text})),
        ("payment_methods", lambda api, i, text: api.payment_methods.update(i, billing(text))),
    ],
)
def test_a_row_listed_again_after_a_pause_is_the_newest(
    account: Emulator, client: stripe.StripeClient, stream: str, edit: Any, timestamps: str
) -> None:
    config = config_of(account, timestamps=timestamps)
    source_id = editable(account, client, stream)
    outputs = [read(config, stream)]
    account.clock_advance(3_600)
    edit(client.v1, source_id, "first change")
    outputs.append(read(config, stream, state=outputs[-1].state))
    account.clock_advance(60)
    edit(client.v1, source_id, "second change")
    account.clock_advance(40 * DAY)
    outputs.append(read(config, stream, state=outputs[-1].state))
    assert "second change" in str(deduped(stream, outputs)[source_id])


def editable(account: Emulator, client: stripe.StripeClient, stream: str) -> str:
    """The id of an object that may be edited."""
    if stream == "invoices":
        customer = account.ids("customer")[0]
        return client.v1.invoices.create({"customer": customer, "auto_advance": False}).id
    found = account.objects(stream.removesuffix("s"))
    return str(next(f["id"] for f in found if f.get("customer", "") is not None))


def billing(text: str) -> Any:
    return {"billing_details": {"name": text}}


def test_children_of_a_list_read_again_do_not_go_back(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    found = next(f for f in account.objects("subscription") if f["status"] == "active")
    item = client.v1.subscription_items.list({"subscription": found["id"]}).data[0].id
    outputs = [read(config, "subscription_items")]
    for quantity in (2, 3):
        account.clock_advance(3_600)
        client.v1.subscription_items.update(item, {"quantity": quantity})
        if quantity == 2:
            outputs.append(read(config, "subscription_items", state=outputs[-1].state))
    account.clock_advance(40 * DAY)
    outputs.append(read(config, "subscription_items", state=outputs[-1].state))
    assert deduped("subscription_items", outputs)[item]["quantity"] == 3


def test_the_first_listing_says_when_objects_were_created(account: Emulator) -> None:
    rows = read(config_of(account), "customers", "charges").records
    assert all(row["updated"] == row["created"] for row in rows["customers"] + rows["charges"])


def test_a_full_table_does_not_go_back_behind_its_events(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    customer = account.ids("customer")[0]
    outputs = [read(config, "customers")]
    account.clock_advance(3_600)
    client.v1.customers.update(customer, {"name": "first"})
    outputs.append(read(config, "customers", state=outputs[-1].state))
    account.clock_advance(3_600)
    client.v1.customers.update(customer, {"name": "second"})
    catalog = catalog_of(config, "customers")
    for entry in catalog["streams"]:
        entry["replication_method"] = "FULL_TABLE"
    outputs.append(read(config, catalog=catalog, state=outputs[-1].state))
    assert deduped("customers", outputs)[customer]["name"] == "second"


def test_what_cannot_change_keeps_its_time(account: Emulator) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "balance_transactions")
    for entry in catalog["streams"]:
        entry["replication_method"] = "FULL_TABLE"
    state = read(config, catalog=catalog).state
    account.clock_advance(3_600)
    rows = read(config, catalog=catalog, state=state).records["balance_transactions"]
    assert all(row["updated"] == row["created"] for row in rows)


def test_a_late_event_brings_no_older_time_than_the_row_before(
    account: Emulator, client: stripe.StripeClient
) -> None:
    config = config_of(account)
    customer = account.ids("customer")[0]
    outputs = [read(config, "customers")]
    account.clock_advance(3_600)
    account.faults.add("late_events", "/v1/events", times=2, seconds=20)
    client.v1.customers.update(customer, {"name": "early"})
    outputs.append(read(config, "customers", state=outputs[-1].state))
    account.clock_advance(30)
    client.v1.customers.update(customer, {"name": "late"})
    outputs.append(read(config, "customers", state=outputs[-1].state))
    updated = [
        r["updated"] for o in outputs for r in o.records.get("customers", []) if r["id"] == customer
    ]
    assert updated == sorted(updated)


def test_a_deletion_that_a_late_event_leads_to_wins(
    account: Emulator, client: stripe.StripeClient
) -> None:
    """The event shows after a newer one was read; by then the object is gone."""
    config = config_of(account)
    customer = account.ids("customer")[0]
    outputs = [read(config, "customers")]
    account.clock_advance(3_600)
    client.v1.customers.update(customer, {"name": "hidden for now"})
    hidden = account.objects("event")[0]["id"]
    account.faults.add("hide", "/v1/events", times=1, ids=[hidden])
    account.clock_advance(10)
    client.v1.customers.update(customer, {"name": "read"})
    outputs.append(read(config, "customers", state=outputs[-1].state))
    client.v1.customers.delete(customer)
    gone = account.objects("event")[0]["id"]
    account.faults.add("hide", "/v1/events", times=1, ids=[gone])
    outputs.append(read(config, "customers", state=outputs[-1].state))
    assert deduped("customers", outputs)[customer]["deleted"]
