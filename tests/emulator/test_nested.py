"""Lists inside objects: the first ten, and where the rest is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.emulator.helpers import get, refused

if TYPE_CHECKING:
    import stripe

    from stripe_alloy.emulator import Emulator


def long_invoice(business: Emulator) -> dict[str, Any]:
    return max(
        (row for row in business.objects("invoices") if row["lines"]["has_more"]),
        key=lambda row: row["amount_due"],
    )


def busy_subscription(business: Emulator) -> dict[str, Any]:
    return next(row for row in business.objects("subscriptions") if row["items"]["has_more"])


def test_an_invoice_holds_its_first_ten_lines(business: Emulator) -> None:
    assert len(long_invoice(business)["lines"]["data"]) == 10


def test_the_rest_of_the_lines_is_at_their_url(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    invoice = long_invoice(business)
    rows = list(reader.v1.invoices.line_items.list(invoice["id"]).auto_paging_iter())
    assert len(rows) == 250


def test_the_lines_endpoint_begins_with_the_same_ten(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    lines = long_invoice(business)["lines"]
    first = get(reader, lines["url"], limit=10)
    assert [row["id"] for row in first["data"]] == [row["id"] for row in lines["data"]]


def test_a_subscription_holds_its_first_ten_items(business: Emulator) -> None:
    assert len(busy_subscription(business)["items"]["data"]) == 10


def test_the_rest_of_the_items_is_at_its_own_endpoint(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    subscription = busy_subscription(business)
    rows = reader.v1.subscription_items.list({"subscription": subscription["id"]})
    assert len(list(rows.auto_paging_iter())) == 15


def test_the_url_inside_a_subscription_can_be_followed(
    business: Emulator, reader: stripe.StripeClient
) -> None:
    url = busy_subscription(business)["items"]["url"]
    assert len(get(reader, url + "&limit=100")["data"]) == 15


def test_snapshots_in_events_hold_ten_items_too(business: Emulator) -> None:
    snapshots = [event["data"]["object"] for event in business.objects("events")]
    subscriptions = [s for s in snapshots if s["object"] == "subscription"]
    assert any(s["items"]["has_more"] and len(s["items"]["data"]) == 10 for s in subscriptions)


def test_lines_of_an_unknown_invoice_are_missing(reader: stripe.StripeClient) -> None:
    with refused(404, "resource_missing", "id"):
        get(reader, "/v1/invoices/in_none/lines")


def test_payment_methods_of_a_customer(business: Emulator, reader: stripe.StripeClient) -> None:
    method = next(row for row in business.objects("payment_methods") if row["customer"])
    listed = reader.v1.customers.payment_methods.list(method["customer"])
    assert method["id"] in [row.id for row in listed.data]


def test_a_payment_method_of_a_customer(business: Emulator, reader: stripe.StripeClient) -> None:
    method = next(row for row in business.objects("payment_methods") if row["customer"])
    found = reader.v1.customers.payment_methods.retrieve(method["customer"], method["id"])
    assert found.id == method["id"]
