"""Writing subscriptions and their items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.api.timestamps import DAY
from tests.emulator.helpers import NOW, refused

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator
    from tests.emulator.helpers import Events

UPDATED = "customer.subscription.updated"


class Shelf:
    """A customer who can pay, and prices to choose from."""

    def __init__(self, api: stripe.StripeClient) -> None:
        self.api = api
        self.customer = api.v1.customers.create({}).id
        self.method = api.v1.payment_methods.attach("pm_card_visa", {"customer": self.customer}).id
        settings: Any = {"default_payment_method": self.method}
        api.v1.customers.update(self.customer, {"invoice_settings": settings})
        self.cheap, self.dear = self.price(1000), self.price(5000)

    def price(self, amount: int) -> str:
        made = self.api.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": amount,
                "recurring": {"interval": "month"},
                "product_data": {"name": f"Plan of {amount}"},
            }
        )
        return made.id

    def subscribe(self, **more: Any) -> dict[str, Any]:
        params = {"customer": self.customer, "items": [{"price": self.cheap}], **more}
        data: dict[str, Any] = self.api.raw_request("post", "/v1/subscriptions", **params).data
        return data

    def update(self, subscription: dict[str, Any], **params: Any) -> dict[str, Any]:
        path = f"/v1/subscriptions/{subscription['id']}"
        data: dict[str, Any] = self.api.raw_request("post", path, **params).data
        return data


@pytest.fixture
def shelf(api: stripe.StripeClient) -> Shelf:
    return Shelf(api)


@pytest.fixture
def subscription(shelf: Shelf) -> dict[str, Any]:
    return shelf.subscribe()


def item_of(subscription: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = subscription["items"]["data"][0]
    return item


def test_a_new_subscription_is_billed_and_paid(shelf: Shelf, events: Events) -> None:
    made = shelf.subscribe(items=[{"price": shelf.cheap, "quantity": 3}])
    invoice = shelf.api.v1.invoices.retrieve(made["latest_invoice"])
    assert (made["status"], invoice.status, invoice.amount_paid) == ("active", "paid", 3000)
    assert {"customer.subscription.created", "invoice.paid", "charge.succeeded"} <= set(
        events.types()
    )


def test_the_first_invoice_has_a_line_for_each_item(shelf: Shelf) -> None:
    made = shelf.subscribe(items=[{"price": shelf.cheap}, {"price": shelf.dear, "quantity": 2}])
    lines = shelf.api.v1.invoices.retrieve(made["latest_invoice"]).lines.data
    assert [line.amount for line in lines] == [1000, 10000]


def test_the_period_is_a_month(subscription: dict[str, Any]) -> None:
    item = item_of(subscription)
    assert item["current_period_start"] == NOW
    assert item["current_period_end"] == NOW + 30 * DAY  # November


def test_without_a_payment_method_it_is_refused(api: stripe.StripeClient, shelf: Shelf) -> None:
    poor = api.v1.customers.create({}).id
    with refused(400, "resource_missing"):
        shelf.subscribe(customer=poor)


def test_it_may_wait_for_its_first_payment(api: stripe.StripeClient, shelf: Shelf) -> None:
    poor = api.v1.customers.create({}).id
    made = shelf.subscribe(customer=poor, payment_behavior="default_incomplete")
    assert made["status"] == "incomplete"
    api.v1.invoices.pay(made["latest_invoice"], {"payment_method": "pm_card_visa"})
    assert api.v1.subscriptions.retrieve(made["id"]).status == "active"


def test_a_declined_card_leaves_it_incomplete(api: stripe.StripeClient, shelf: Shelf) -> None:
    unlucky = api.v1.customers.create({}).id
    method = api.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": unlucky})
    made = shelf.subscribe(customer=unlucky, default_payment_method=method.id)
    assert api.v1.subscriptions.retrieve(made["id"]).status == "incomplete"


def test_a_declined_card_may_be_an_error(
    api: stripe.StripeClient, shelf: Shelf, emu: Emulator
) -> None:
    unlucky = api.v1.customers.create({}).id
    method = api.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": unlucky})
    before = emu.count("subscriptions")
    with refused(402, "card_declined"):
        shelf.subscribe(
            customer=unlucky,
            default_payment_method=method.id,
            payment_behavior="error_if_incomplete",
        )
    assert emu.count("subscriptions") == before


def test_a_trial_costs_nothing(shelf: Shelf) -> None:
    made = shelf.subscribe(trial_period_days=7)
    invoice = shelf.api.v1.invoices.retrieve(made["latest_invoice"])
    assert (made["status"], made["trial_end"]) == ("trialing", NOW + 7 * DAY)
    assert (invoice.total, invoice.status) == (0, "paid")


def test_a_trial_in_the_past_is_refused(shelf: Shelf) -> None:
    with refused(400, None, "trial_end"):
        shelf.subscribe(trial_end=int(NOW) - 1)


def test_invoices_may_be_sent(shelf: Shelf) -> None:
    made = shelf.subscribe(collection_method="send_invoice", days_until_due=14)
    invoice = shelf.api.v1.invoices.retrieve(made["latest_invoice"])
    assert (invoice.status, invoice.due_date) == ("draft", NOW + 14 * DAY)


@pytest.mark.parametrize(
    ("items", "code", "param"),
    [
        ([], "parameter_missing", "items"),
        ([{"price": "price_none"}], "resource_missing", "items[0][price]"),
        ([{"quantity": 2}], "parameter_missing", "items[0][price]"),
    ],
)
def test_items_are_checked(shelf: Shelf, items: list[Any], code: str, param: str) -> None:
    with refused(400, code, param):
        shelf.subscribe(items=items)


def test_one_time_prices_are_refused(api: stripe.StripeClient, shelf: Shelf) -> None:
    once = api.v1.prices.create(
        {"currency": "usd", "unit_amount": 1, "product_data": {"name": "Once"}}
    )
    with refused(400, None, "items[0][price]"):
        shelf.subscribe(items=[{"price": once.id}])


def test_a_changed_quantity_tells_the_whole_old_list(
    shelf: Shelf, subscription: dict[str, Any], events: Events
) -> None:
    item = item_of(subscription)
    shelf.update(subscription, items=[{"id": item["id"], "quantity": 4}], proration_behavior="none")
    assert events.previous(UPDATED) == {"items": {"data": [item]}}


def test_an_item_without_id_is_added(shelf: Shelf, subscription: dict[str, Any]) -> None:
    found = shelf.update(subscription, items=[{"price": shelf.dear}])
    assert [item["price"]["id"] for item in found["items"]["data"]] == [shelf.cheap, shelf.dear]


def test_a_removed_item_has_no_event_of_its_own(
    shelf: Shelf, subscription: dict[str, Any], events: Events
) -> None:
    two = shelf.update(subscription, items=[{"price": shelf.dear}], proration_behavior="none")
    gone = item_of(two)["id"]
    shelf.update(subscription, items=[{"id": gone, "deleted": True}], proration_behavior="none")
    assert events.types() == [UPDATED, UPDATED]
    old = events.all()[1]["data"]["previous_attributes"]["items"]["data"]
    assert old[0]["id"] == gone


def test_a_removed_item_is_missing(
    api: stripe.StripeClient, shelf: Shelf, subscription: dict[str, Any]
) -> None:
    gone = item_of(subscription)["id"]
    shelf.update(subscription, items=[{"price": shelf.dear}, {"id": gone, "deleted": True}])
    with refused(404, "resource_missing", "id"):
        api.v1.subscription_items.retrieve(gone)


def test_the_last_item_stays(shelf: Shelf, subscription: dict[str, Any]) -> None:
    with refused(400, None, "items"):
        shelf.update(subscription, items=[{"id": item_of(subscription)["id"], "deleted": True}])


def test_a_new_price_resets_the_quantity(shelf: Shelf) -> None:
    made = shelf.subscribe(items=[{"price": shelf.cheap, "quantity": 5}])
    found = shelf.update(made, items=[{"id": item_of(made)["id"], "price": shelf.dear}])
    assert item_of(found)["quantity"] == 1


def test_a_change_is_prorated_on_the_next_invoice(
    shelf: Shelf, subscription: dict[str, Any], emu: Emulator
) -> None:
    shelf.update(subscription, items=[{"id": item_of(subscription)["id"], "price": shelf.dear}])
    pending = [row for row in emu.objects("invoiceitem") if row["invoice"] is None]
    assert sorted(row["amount"] for row in pending) == [-1000, 5000]


def test_a_change_may_be_invoiced_at_once(shelf: Shelf, subscription: dict[str, Any]) -> None:
    found = shelf.update(
        subscription,
        items=[{"id": item_of(subscription)["id"], "price": shelf.dear}],
        proration_behavior="always_invoice",
    )
    assert shelf.api.v1.invoices.retrieve(found["latest_invoice"]).amount_paid == 4000


def test_metadata_of_a_subscription(
    shelf: Shelf, subscription: dict[str, Any], events: Events
) -> None:
    shelf.update(subscription, metadata={"a": "b"})
    assert events.previous(UPDATED) == {"metadata": {"a": None}}


def test_collection_can_be_paused_and_resumed(shelf: Shelf, subscription: dict[str, Any]) -> None:
    paused = shelf.update(subscription, pause_collection={"behavior": "void"})
    assert paused["pause_collection"] == {"behavior": "void", "resumes_at": None}
    assert shelf.update(subscription, pause_collection="")["pause_collection"] is None


def test_it_may_end_with_its_period(shelf: Shelf, subscription: dict[str, Any]) -> None:
    found = shelf.update(subscription, cancel_at_period_end=True)
    assert found["cancel_at"] == item_of(found)["current_period_end"]


def test_canceled_is_final_but_stays(
    api: stripe.StripeClient, subscription: dict[str, Any], events: Events
) -> None:
    api.v1.subscriptions.cancel(subscription["id"])
    assert events.types() == ["customer.subscription.deleted"]
    assert api.v1.subscriptions.retrieve(subscription["id"]).status == "canceled"
    with refused(404, "resource_missing", "id"):
        api.v1.subscriptions.cancel(subscription["id"])


def test_a_canceled_one_takes_metadata_only(shelf: Shelf, subscription: dict[str, Any]) -> None:
    shelf.api.v1.subscriptions.cancel(subscription["id"])
    assert shelf.update(subscription, metadata={"a": "b"})["metadata"] == {"a": "b"}
    with refused(400):
        shelf.update(subscription, description="x")


def test_pause_and_resume(shelf: Shelf, subscription: dict[str, Any], events: Events) -> None:
    path = f"/v1/subscriptions/{subscription['id']}"
    assert shelf.api.raw_request("post", path + "/pause").data["status"] == "paused"
    assert shelf.api.raw_request("post", path + "/resume").data["status"] == "active"
    assert [t for t in events.types() if t != UPDATED] == [
        "customer.subscription.paused",
        "customer.subscription.resumed",
    ]


def test_discounts_are_kept_and_cleared(shelf: Shelf, subscription: dict[str, Any]) -> None:
    shelf.api.v1.coupons.create({"id": "SPRING", "percent_off": 10})
    found = shelf.update(subscription, discounts=[{"coupon": "SPRING"}], expand=["discounts"])
    assert found["discounts"][0]["source"] == {"coupon": "SPRING", "type": "coupon"}
    assert shelf.update(subscription, discounts="")["discounts"] == []


# ---------------------------------------------------------------------- items by themselves


def test_an_item_can_be_created(
    api: stripe.StripeClient, shelf: Shelf, subscription: dict[str, Any], events: Events
) -> None:
    made = api.v1.subscription_items.create(
        {
            "subscription": subscription["id"],
            "price": shelf.dear,
            "quantity": 2,
            "proration_behavior": "none",
        }
    )
    assert (made.price.id, made.quantity) == (shelf.dear, 2)
    assert events.types() == [UPDATED]


def test_an_item_can_be_updated(
    api: stripe.StripeClient, subscription: dict[str, Any], events: Events
) -> None:
    item = item_of(subscription)
    api.v1.subscription_items.update(item["id"], {"quantity": 9, "proration_behavior": "none"})
    assert events.previous(UPDATED) == {"items": {"data": [item]}}


def test_an_item_can_be_deleted(
    api: stripe.StripeClient, shelf: Shelf, subscription: dict[str, Any]
) -> None:
    made = api.v1.subscription_items.create(
        {"subscription": subscription["id"], "price": shelf.dear}
    )
    gone = api.v1.subscription_items.delete(made.id)
    assert gone.to_dict() == {"id": made.id, "object": "subscription_item", "deleted": True}


def test_more_than_ten_items_are_cut(shelf: Shelf) -> None:
    prices = [{"price": shelf.price(100 + n)} for n in range(12)]
    items = shelf.subscribe(items=prices)["items"]
    assert (len(items["data"]), items["has_more"]) == (10, True)


def test_more_than_twenty_items_are_refused(shelf: Shelf) -> None:
    with refused(400, None, "items"):
        shelf.subscribe(items=[{"price": shelf.cheap}] * 21)


def test_the_first_invoice_tells_how_to_confirm_its_payment(
    api: stripe.StripeClient, shelf: Shelf
) -> None:
    made = shelf.subscribe(
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret", "latest_invoice.payments"],
    )
    invoice = made["latest_invoice"]
    intent = api.v1.payment_intents.retrieve(
        invoice["payments"]["data"][0]["payment"]["payment_intent"]
    )
    secret = {"client_secret": intent.client_secret, "type": "payment_intent"}
    assert invoice["confirmation_secret"] == secret
    assert "confirmation_secret" not in api.v1.invoices.retrieve(invoice["id"]).to_dict()
    draft = api.v1.invoices.create({"customer": shelf.customer}).id
    found = api.v1.invoices.retrieve(draft, {"expand": ["confirmation_secret"]})
    assert found.confirmation_secret is None


def trial_of(shelf: Shelf, missing: str, **more: Any) -> dict[str, Any]:
    """Return a subscription in its trial, of a customer without a payment method."""
    behavior = {"end_behavior": {"missing_payment_method": missing}}
    customer = shelf.api.v1.customers.create({}).id
    return shelf.subscribe(
        **{"customer": customer, "trial_period_days": 7, "trial_settings": behavior, **more}
    )


def test_a_trial_that_ends_now_is_invoiced_and_paid(
    api: stripe.StripeClient, shelf: Shelf, events: Events
) -> None:
    made = trial_of(shelf, "pause", customer=shelf.customer)
    ended = shelf.update(made, trial_end="now")
    assert (ended["status"], ended["trial_end"]) == ("active", int(NOW))
    assert ended["latest_invoice"] != made["latest_invoice"]
    invoice = api.v1.invoices.retrieve(ended["latest_invoice"])
    assert (invoice.total, invoice.status) == (1000, "paid")
    assert ended["items"]["data"][0]["current_period_start"] == int(NOW)
    assert "invoice.paid" in events.types()


def test_a_trial_without_a_payment_method_is_invoiced(
    api: stripe.StripeClient, shelf: Shelf
) -> None:
    made = trial_of(shelf, "create_invoice")
    ended = shelf.update(made, trial_end="now")
    invoice = api.v1.invoices.retrieve(ended["latest_invoice"])
    assert (invoice.total, invoice.status, ended["status"]) == (1000, "open", "past_due")
    paid = api.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    assert paid.status == "paid"
    assert api.v1.subscriptions.retrieve(made["id"]).status == "active"


def test_a_trial_without_a_payment_method_may_pause(shelf: Shelf, events: Events) -> None:
    made = trial_of(shelf, "pause")
    with refused(404, "invoice_upcoming_none"):
        shelf.api.v1.invoices.create_preview(
            {"subscription": made["id"], "subscription_details": {"trial_end": "now"}}
        )
    ended = shelf.update(made, trial_end="now")
    assert (ended["status"], ended["latest_invoice"]) == ("paused", made["latest_invoice"])
    assert events.types()[-2:] == ["customer.subscription.paused", UPDATED]
    assert events.previous(UPDATED)["status"] == "trialing"


def test_a_trial_without_a_payment_method_may_cancel(shelf: Shelf, events: Events) -> None:
    made = trial_of(shelf, "cancel")
    ended = shelf.update(made, trial_end="now")
    assert (ended["status"], ended["ended_at"]) == ("canceled", int(NOW))
    assert ended["latest_invoice"] == made["latest_invoice"]
    assert events.types()[-1] == "customer.subscription.deleted"


def test_a_trial_of_a_sent_invoice_does_not_pause(shelf: Shelf) -> None:
    made = trial_of(shelf, "pause", collection_method="send_invoice", days_until_due=7)
    assert shelf.update(made, trial_end="now")["status"] == "active"
