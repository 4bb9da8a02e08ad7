"""What lists leave out: inactive prices, inline ones, custom payment methods."""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import redirect_stdout, suppress
from typing import Any, Literal

import pytest
import stripe

from stripe_alloy.api.errors import StripeError
from stripe_alloy.api.timestamps import rfc3339
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.tap import TapStripeAlloy
from tests.conftest import Output, catalog_of, config_of, parse, read
from tests.tap.histories import Destination

DAY = 86_400


@pytest.fixture
def client(account: Emulator) -> stripe.StripeClient:
    return stripe.StripeClient(account.api_key, base_addresses={"api": account.url})


def sell(client: stripe.StripeClient, number: int = 1) -> list[str]:
    """Make prices that are no product's default, so that they can be archived."""
    product = client.v1.products.create({"name": "Sold in many ways"}).id
    params: Any = {"product": product, "currency": "eur", "unit_amount": 100}
    return [client.v1.prices.create(params).id for _ in range(number)]


def archive(client: stripe.StripeClient, *prices: str) -> None:
    for price in prices:
        client.v1.prices.update(price, {"active": False})


def activated(output: Output) -> set[str]:
    return {m["stream"] for m in output.messages if m["type"] == "ACTIVATE_VERSION"}


@pytest.mark.parametrize("unfiltered", ["active", "all"])
def test_active_and_inactive_prices_come_once(unfiltered: Literal["active", "all"]) -> None:
    with Emulator(customers=12, unfiltered_prices=unfiltered) as account:
        client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
        [archived] = sell(client)
        archive(client, archived)
        output = read(config_of(account), "prices")
        assert output.ids("prices") == Counter(account.ids("price"))
        assert archived in output.ids("prices")


def test_active_and_inactive_products_come_once(
    account: Emulator, client: stripe.StripeClient
) -> None:
    archived = client.v1.products.create({"name": "Old", "active": False}).id
    output = read(config_of(account), "products")
    assert output.ids("products") == Counter(account.ids("product"))
    assert archived in output.ids("products")


def test_each_list_takes_one_request_more(business: Emulator) -> None:
    since = len(business.requests)
    read(config_of(business), "prices", "products")
    paths = Counter(request.path for request in business.requests[since:])
    assert (paths["/v1/prices"], paths["/v1/products"]) == (2, 2)


def test_the_idle_run_is_one_request_still(account: Emulator) -> None:
    config = config_of(account)
    state = read(config, "prices", "products").state
    since = len(account.requests)
    read(config, "prices", "products", state=state)
    assert [request.path for request in account.requests[since:]] == ["/v1/events"]


def subscribe_inline(account: Emulator, client: stripe.StripeClient) -> str:
    price: Any = {
        "currency": "eur",
        "unit_amount": 500,
        "product": account.ids("product")[0],
        "recurring": {"interval": "month"},
    }
    customer = client.v1.customers.create({"name": "A"}).id
    params: Any = {
        "customer": customer,
        "items": [{"price_data": price}],
        "collection_method": "send_invoice",
        "days_until_due": 30,
    }
    made = client.v1.subscriptions.create(params)
    return str(made["items"].data[0].price.id)


@pytest.mark.parametrize("kind", ["inline price", "custom payment method"])
def test_what_is_in_no_list_is_not_dropped(
    account: Emulator, client: stripe.StripeClient, kind: str
) -> None:
    """Only its event brought it; after a pause the list is read again."""
    config = config_of(account)
    destination = Destination()
    outputs = [read(config)]
    account.clock_advance(3_600)
    if kind == "inline price":
        stream, source_id = "prices", subscribe_inline(account, client)
    else:
        stream = "payment_methods"
        custom: Any = {"type": "custom", "custom": {"type": "cpmt_1"}}
        source_id = client.v1.payment_methods.create(custom).id
        customer = account.ids("customer")[0]
        client.v1.payment_methods.attach(source_id, {"customer": customer})
    outputs.append(read(config, state=outputs[-1].state))
    assert source_id in outputs[-1].ids(stream)
    account.clock_advance(40 * DAY)
    outputs.append(read(config, state=outputs[-1].state))
    for output in outputs:
        destination.take(output.messages)
    assert source_id in destination.of(stream)
    assert stream not in activated(outputs[-1])
    assert "customers" in activated(outputs[-1])


def test_inline_prices_are_in_no_list(account: Emulator, client: stripe.StripeClient) -> None:
    inline = subscribe_inline(account, client)
    for active in (True, False):
        found = client.v1.prices.list({"active": active, "limit": 100}).auto_paging_iter()
        assert inline not in {price.id for price in found}
    assert client.v1.prices.retrieve(inline).id == inline


def test_a_list_of_prices_has_active_ones_only_unless_asked(
    account: Emulator, client: stripe.StripeClient
) -> None:
    [archived] = sell(client)
    archive(client, archived)
    assert archived not in {p.id for p in client.v1.prices.list({"limit": 100}).data}
    assert archived in {p.id for p in client.v1.prices.list({"active": False}).data}


@pytest.mark.parametrize("of_customer", [True, False])
def test_custom_payment_methods_are_in_no_list(
    account: Emulator, client: stripe.StripeClient, of_customer: bool
) -> None:
    custom: Any = {"type": "custom", "custom": {"type": "cpmt_1"}}
    made = client.v1.payment_methods.create(custom).id
    customer = account.ids("customer")[0]
    client.v1.payment_methods.attach(made, {"customer": customer})
    params: Any = {"limit": 100, **({"customer": customer} if of_customer else {})}
    found = client.v1.payment_methods.list(params).auto_paging_iter()
    assert made not in {method.id for method in found}


def test_an_open_backfill_from_before_there_were_parts_goes_on(account: Emulator) -> None:
    newest = account.objects("price")[0]["created"]
    account.clock_advance(60)
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    [archived] = sell(client)
    archive(client, archived)
    account.clock_advance(3_600)
    anchor = rfc3339(int(account.service.clock()))
    left = {"anchor": anchor, "missing": [[0, newest - DAY, None]]}
    state = {"bookmarks": {"prices": {"backfill": left}}}
    output = read(config_of(account), "prices", state=state)
    older = {p["id"] for p in account.objects("price") if p["created"] < newest - DAY}
    inactive = {p["id"] for p in account.objects("price") if not p["active"]}
    assert set(output.ids("prices")) == older | inactive
    assert archived in inactive
    assert output.state["bookmarks"]["prices"]["replication_key_value"]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("after", range(6))
def test_an_interruption_loses_no_part(account: Emulator, after: int) -> None:
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    archive(client, *sell(client, 12)[::2])
    account.clock_advance(3_600)
    config = config_of(account, max_concurrency=1)
    account.faults.add("status", "/v1/prices", status=401, after=after)
    states: list[Any] = []
    first = interrupted(config, states)
    second = read(config, "prices", state=states[-1])
    assert set(first) | set(second.ids("prices")) == set(account.ids("price"))
    again = read(config, "prices", state=second.state)
    assert again.records == {}


def interrupted(config: dict[str, Any], states: list[Any]) -> Counter[str]:
    """The ids that a run brings which an error ends; its states go into `states`."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(stdout):
        tap = TapStripeAlloy(config=dict(config), catalog=catalog_of(config, "prices"))
        with suppress(StripeError):
            tap.sync_all()
    output = Output(parse(stdout.buffer.getvalue()))
    states += json.loads(json.dumps(output.states))
    return output.ids("prices")
