"""Lists: order, limits, filters, what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.params import param_type
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.emulated_types import RESOURCES
from tests.emulator.helpers import client_of, get, refused

if TYPE_CHECKING:
    import stripe

    from stripe_alloy.emulator import Emulator

STREAMS = {kind.name: kind.object_name for kind in DEFAULT_TYPES}
"""What the generated business has objects of."""
LISTED = [name for name, kind in STREAMS.items() if RESOURCES[kind].listed]
SLICED = [name for name in LISTED if name not in ("payment_methods", "subscription_items")]
UNSLICED = ["/v1/payment_methods", "/v1/subscription_items", "/v1/invoices/{id}/lines"]


def path_of(stream: str) -> str:
    return RESOURCES[STREAMS[stream]].path


@pytest.mark.parametrize("stream", SLICED)
def test_a_list_is_newest_first(reader: stripe.StripeClient, stream: str) -> None:
    times = [row["created"] for row in get(reader, path_of(stream), limit=100)["data"]]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("stream", SLICED)
def test_auto_paging_gives_every_row_once(
    business: Emulator, reader: stripe.StripeClient, stream: str
) -> None:
    params: dict[str, Any] = {"limit": 100}
    if stream == "subscriptions":
        params["status"] = "all"
    service = getattr(reader.v1, stream)
    ids = [row.id for row in service.list(params).auto_paging_iter()]
    rows = business.objects(stream)
    if stream == "prices":  # active ones, unless asked otherwise
        rows = [row for row in rows if row["active"]]
    assert ids == [row["id"] for row in rows]


def test_ties_in_created_come_in_reverse_order_of_insertion(
    empty: Emulator,
) -> None:
    client = client_of(empty)
    made = [client.v1.customers.create({"name": str(n)}).id for n in range(5)]
    assert [row["id"] for row in get(client, "/v1/customers")["data"]] == made[::-1]


def test_the_default_limit_is_ten(reader: stripe.StripeClient) -> None:
    assert len(get(reader, "/v1/charges")["data"]) == 10


def test_a_list_says_its_url(reader: stripe.StripeClient) -> None:
    assert get(reader, "/v1/charges", limit=1)["url"] == "/v1/charges"


@pytest.mark.parametrize("limit", [0, -1, 101, 1000])
def test_limits_outside_1_to_100_are_refused(reader: stripe.StripeClient, limit: int) -> None:
    with refused(400, "parameter_invalid_integer", "limit"):
        get(reader, "/v1/charges", limit=limit)


def test_a_limit_must_be_an_integer(reader: stripe.StripeClient) -> None:
    with refused(400, "parameter_invalid_integer", "limit"):
        get(reader, "/v1/charges", limit="ten")


def test_starting_after_continues_a_list(business: Emulator, reader: stripe.StripeClient) -> None:
    ids = business.ids("charges")
    page = get(reader, "/v1/charges", limit=3, starting_after=ids[4])
    assert [row["id"] for row in page["data"]] == ids[5:8]


def test_ending_before_goes_back(business: Emulator, reader: stripe.StripeClient) -> None:
    ids = business.ids("charges")
    page = get(reader, "/v1/charges", limit=3, ending_before=ids[8])
    assert [row["id"] for row in page["data"]] == ids[5:8]


def test_has_more_looks_in_the_direction_of_travel(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    ids = business.ids("charges")
    assert not get(reader, "/v1/charges", limit=5, ending_before=ids[5])["has_more"]


def test_the_last_page_has_no_more(business: Emulator, reader: stripe.StripeClient) -> None:
    ids = business.ids("charges")
    assert not get(reader, "/v1/charges", limit=5, starting_after=ids[-6])["has_more"]


@pytest.mark.parametrize("cursor", ["starting_after", "ending_before"])
def test_a_cursor_that_names_nothing_is_refused(reader: stripe.StripeClient, cursor: str) -> None:
    with refused(400, "resource_missing", cursor):
        get(reader, "/v1/charges", **{cursor: "ch_none"})


def test_both_cursors_are_refused(business: Emulator, reader: stripe.StripeClient) -> None:
    one, other, *_ = business.ids("charges")
    with refused(400, None, "starting_after"):
        get(reader, "/v1/charges", starting_after=one, ending_before=other)


@pytest.mark.parametrize("stream", SLICED)
def test_created_windows_are_half_open(
    business: Emulator, reader: stripe.StripeClient, stream: str
) -> None:
    params: dict[str, Any] = {"status": "all"} if stream == "subscriptions" else {}
    rows = business.objects(stream)
    start, end = rows[len(rows) * 2 // 3]["created"], rows[len(rows) // 3]["created"]
    window = {"gte": start, "lt": end}
    page = get(reader, path_of(stream), limit=100, created=window, **params)
    wanted = [row["id"] for row in rows if start <= row["created"] < end]
    assert [row["id"] for row in page["data"]] == wanted[:100]


def test_created_takes_a_single_second(business: Emulator, reader: stripe.StripeClient) -> None:
    row = business.objects("charges")[3]
    page = get(reader, "/v1/charges", created=row["created"])
    assert row["id"] in [found["id"] for found in page["data"]]


@pytest.mark.parametrize("template", UNSLICED)
def test_created_does_not_exist_everywhere(
    business: Emulator, reader: stripe.StripeClient, template: str
) -> None:
    path = template.format(id=business.ids("invoices")[0])
    params = {"subscription": "sub_x"} if path.endswith("items") else {}
    with refused(400, "parameter_unknown", "created"):
        get(reader, path, created=1, **params)


@pytest.mark.parametrize("stream", LISTED)
def test_every_documented_filter_is_taken(reader: stripe.StripeClient, stream: str) -> None:
    shape = param_type(f"{RESOURCES[STREAMS[stream]].params}ListParams")
    paging = {"limit", "starting_after", "ending_before", "expand", "types"}
    params: dict[str, Any] = {}
    for name, wanted in (shape.fields or {}).items():
        if name in paging:
            continue
        if wanted.items is not None:
            params[name] = ["x"]
        elif wanted.literals:
            params[name] = wanted.literals[0]
        elif "integer" in wanted.scalars:
            params[name] = {"gte": 1, "lt": 2_000_000_000} if wanted.fields else 1
        elif wanted.fields is not None:
            inner = next(iter(wanted.fields))
            params[name] = {inner: "true" if "boolean" in wanted.fields[inner].scalars else "month"}
        else:
            params[name] = "true" if "boolean" in wanted.scalars else "x"
    assert get(reader, path_of(stream), **params)["object"] == "list"


FILTERS = [
    ("charges", "customer"),
    ("charges", "payment_intent"),
    ("payment_intents", "customer"),
    ("invoices", "customer"),
    ("invoices", "status"),
    ("invoices", "collection_method"),
    ("subscriptions", "customer"),
    ("customers", "email"),
    ("prices", "product"),
    ("prices", "currency"),
    ("prices", "type"),
    ("refunds", "charge"),
    ("disputes", "payment_intent"),
    ("payouts", "status"),
    ("events", "type"),
    ("payment_methods", "customer"),
    ("balance_transactions", "type"),
    ("balance_transactions", "source"),
    ("balance_transactions", "currency"),
]


@pytest.mark.parametrize(("stream", "name"), FILTERS)
def test_a_filter_gives_what_matches(
    business: Emulator, reader: stripe.StripeClient, stream: str, name: str
) -> None:
    rows = business.objects(stream)
    value = rows[len(rows) // 2][name]
    wanted = [row["id"] for row in rows if row[name] == value]
    page = get(reader, path_of(stream), limit=100, **{name: value})
    unasked = {"subscriptions": ("status", "canceled"), "prices": ("active", False)}
    field, not_listed = unasked.get(stream, ("id", None))
    left_out = {row["id"] for row in rows if row[field] == not_listed}
    assert [row["id"] for row in page["data"]] == [i for i in wanted if i not in left_out][:100]


def test_inactive_prices_can_be_asked_for(reader: stripe.StripeClient) -> None:
    page = get(reader, "/v1/prices", active=False)
    assert page["data"]
    assert not any(row["active"] for row in page["data"])


def test_prices_are_found_by_lookup_keys(reader: stripe.StripeClient) -> None:
    page = get(reader, "/v1/prices", lookup_keys=["team_usd_month", "team_eur_month"])
    found = {row["lookup_key"] for row in page["data"]}
    assert found == {"team_usd_month", "team_eur_month"}


def test_products_are_found_by_ids(business: Emulator, reader: stripe.StripeClient) -> None:
    ids = business.ids("products")[2:4]
    assert [row["id"] for row in get(reader, "/v1/products", ids=ids)["data"]] == ids


def test_subscriptions_are_found_by_price(business: Emulator, reader: stripe.StripeClient) -> None:
    item = business.objects("subscription_items")[0]
    page = get(reader, "/v1/subscriptions", price=item["price"]["id"], status="all", limit=100)
    assert item["subscription"] in [row["id"] for row in page["data"]]


def test_invoices_are_found_by_subscription(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    subscription = business.objects("subscriptions")[5]
    page = get(reader, "/v1/invoices", subscription=subscription["id"], limit=100)
    assert subscription["latest_invoice"] in [row["id"] for row in page["data"]]


def test_canceled_subscriptions_are_left_out(reader: stripe.StripeClient) -> None:
    rows = reader.v1.subscriptions.list({"limit": 100}).auto_paging_iter()
    assert "canceled" not in {row.status for row in rows}


def test_status_all_shows_canceled_subscriptions(reader: stripe.StripeClient) -> None:
    rows = reader.v1.subscriptions.list({"limit": 100, "status": "all"}).auto_paging_iter()
    assert "canceled" in {row.status for row in rows}


def test_status_canceled_shows_only_these(reader: stripe.StripeClient) -> None:
    rows = reader.v1.subscriptions.list({"limit": 100, "status": "canceled"}).auto_paging_iter()
    assert {row.status for row in rows} == {"canceled"}


def test_an_unknown_status_is_refused(reader: stripe.StripeClient) -> None:
    with refused(400, None, "status"):
        get(reader, "/v1/subscriptions", status="sleeping")


def test_test_clock_objects_are_left_out(business: Emulator) -> None:
    assert business.count("customers", everything=True) > business.count("customers")


def test_the_clocks_that_customers_are_on_are_listed(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    everybody = business.objects("customer", everything=True)
    used = {row["test_clock"] for row in everybody} - {None}
    assert {clock.id for clock in reader.v1.test_helpers.test_clocks.list().data} == used


def test_a_clock_can_be_retrieved(business: Emulator, reader: stripe.StripeClient) -> None:
    (clock,) = reader.v1.test_helpers.test_clocks.list().data
    assert reader.v1.test_helpers.test_clocks.retrieve(clock.id).name == "Renewal rehearsal"


def test_a_test_clock_shows_its_objects(business: Emulator, reader: stripe.StripeClient) -> None:
    everybody = business.objects("customers", everything=True)
    (clock,) = {row["test_clock"] for row in everybody} - {None}
    (found,) = reader.v1.customers.list({"test_clock": clock}).data
    assert found.test_clock == clock


def test_types_are_exact_names(reader: stripe.StripeClient) -> None:
    names = ["charge.succeeded", "charge.refunded"]
    rows = reader.v1.events.list({"types": names, "limit": 100}).auto_paging_iter()
    assert {row.type for row in rows} == set(names)


def test_a_type_may_end_in_a_wildcard(reader: stripe.StripeClient) -> None:
    rows = reader.v1.events.list({"type": "payout.*", "limit": 100}).auto_paging_iter()
    assert {row.type for row in rows} > {"payout.created", "payout.paid"}


def test_more_than_twenty_types_are_refused(reader: stripe.StripeClient) -> None:
    with refused(400, None, "types"):
        reader.v1.events.list({"types": [f"charge.x{n}" for n in range(21)]})


def test_type_and_types_exclude_each_other(reader: stripe.StripeClient) -> None:
    with refused(400, None, "types"):
        reader.v1.events.list({"type": "charge.*", "types": ["charge.succeeded"]})


def test_events_go_back_thirty_days(business: Emulator, reader: stripe.StripeClient) -> None:
    newest = business.objects("events")[0]["created"]
    rows = list(reader.v1.events.list({"limit": 100}).auto_paging_iter())
    assert min(row.created for row in rows) >= newest - 30 * DAY


def test_older_events_are_kept_but_not_shown(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    oldest = business.ids("events", everything=True)[-1]
    with refused(404, "resource_missing", "id"):
        reader.v1.events.retrieve(oldest)


def test_unknown_parameters_are_refused(reader: stripe.StripeClient) -> None:
    with refused(400, "parameter_unknown", "colour"):
        get(reader, "/v1/charges", colour="red")


def test_subscription_items_need_their_subscription(reader: stripe.StripeClient) -> None:
    with refused(400, "parameter_missing", "subscription"):
        get(reader, "/v1/subscription_items")


def test_payouts_hold_their_transactions(business: Emulator, reader: stripe.StripeClient) -> None:
    payout = business.objects("payouts")[10]
    listed = reader.v1.balance_transactions.list({"payout": payout["id"], "limit": 100})
    assert sum(row.net for row in listed.auto_paging_iter()) == payout["amount"]
