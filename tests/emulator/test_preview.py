"""Preview invoices: what a change would be billed, as it then is, and nothing left of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import Emulator
from tests.emulator.helpers import NOW, client_of, refused
from tests.emulator.test_subscriptions import Shelf, item_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulator.helpers import Events

JSON = dict[str, Any]
PATH = "/v1/invoices/create_preview"
PERIOD = 30 * DAY  # November


@dataclass
class Moment:
    """A clock that is set by hand."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Account:
    """An account whose time is set by hand, with a customer who can pay."""

    emulator: Emulator
    clock: Moment
    shelf: Shelf

    @property
    def api(self) -> stripe.StripeClient:
        return self.shelf.api

    def preview(self, **params: Any) -> JSON:
        data: JSON = self.api.raw_request("post", PATH, **params).data
        return data

    def invoice(self, subscription: JSON) -> JSON:
        path = f"/v1/invoices/{subscription['latest_invoice']}"
        data: JSON = self.api.raw_request("get", path).data
        return data

    def pending(self) -> list[JSON]:
        found = self.emulator.objects("invoiceitem")
        return [row for row in found if row["invoice"] is None]


@pytest.fixture
def account() -> Iterator[Account]:
    clock = Moment()
    with Emulator(customers=0, clock=clock) as emulator:
        yield Account(emulator, clock, Shelf(client_of(emulator)))


def amounts(invoice: JSON) -> list[tuple[str, int, int]]:
    """Description, amount and begin of each line, in order."""
    rows = invoice["lines"]["data"]
    return [(row["description"], row["amount"], row["period"]["start"]) for row in rows]


def sums(invoice: JSON) -> tuple[int, int, int]:
    return invoice["subtotal"], invoice["total"], invoice["amount_due"]


def prorations(invoice: JSON) -> list[JSON]:
    return [
        row
        for row in invoice["lines"]["data"]
        if (row["parent"]["subscription_item_details"] or {}).get("proration")
    ]


def details(subscription: JSON, **item: Any) -> JSON:
    return {"items": [{"id": item_of(subscription)["id"], **item}]}


# ---------------------------------------------------------------------- it is no invoice


def test_the_path_is_no_id(account: Account) -> None:
    with refused(404, "resource_missing", "id"):
        account.api.v1.invoices.update("create_previews", {})
    assert account.preview(subscription=account.shelf.subscribe()["id"])["object"] == "invoice"


def test_its_id_says_that_it_is_a_preview(account: Account) -> None:
    found = account.preview(subscription=account.shelf.subscribe()["id"])
    assert found["id"].startswith("upcoming_in_")
    assert (found["status"], found["billing_reason"]) == ("draft", "upcoming")


def test_the_official_client_reads_one(account: Account) -> None:
    made = account.shelf.subscribe()
    found = account.api.v1.invoices.create_preview({"subscription": made["id"]})
    assert found.amount_due == 1000


def test_nothing_is_stored_and_no_event_is_made(
    api: stripe.StripeClient, events: Events, emu: Emulator
) -> None:
    shelf = Shelf(api)
    made = shelf.subscribe()
    kinds = ("invoices", "subscriptions", "subscription_items", "invoiceitem", "customers")
    before = {kind: emu.objects(kind) for kind in kinds}
    told = len(events.all())
    change = {**details(made, quantity=9), "proration_behavior": "always_invoice"}
    api.raw_request("post", PATH, subscription=made["id"], subscription_details=change)
    api.raw_request("post", PATH, subscription_details={"items": [{"price": shelf.dear}]})
    assert {kind: emu.objects(kind) for kind in kinds} == before
    assert len(events.all()) == told


def test_ids_made_after_a_preview_are_those_without_it() -> None:
    made = []
    for previews in (0, 2):
        with Emulator(customers=0, clock=lambda: NOW) as emulator:
            shelf = Shelf(client_of(emulator))
            subscription = shelf.subscribe()["id"]
            for _ in range(previews):
                shelf.api.raw_request("post", PATH, subscription=subscription)
            made.append(shelf.subscribe()["id"])
    assert made[0] == made[1]


def test_it_is_in_no_list_but_can_be_read_again(account: Account) -> None:
    found = account.preview(subscription=account.shelf.subscribe()["id"])
    assert found["id"] not in [row.id for row in account.api.v1.invoices.list().data]
    again = account.api.raw_request("get", f"/v1/invoices/{found['id']}").data
    assert again["amount_due"] == found["amount_due"]


def test_lines_beyond_the_tenth_are_read_from_its_list(account: Account) -> None:
    prices = [{"price": account.shelf.price(100 + number)} for number in range(13)]
    found = account.preview(customer=account.shelf.customer, subscription_details={"items": prices})
    assert (len(found["lines"]["data"]), found["lines"]["has_more"]) == (10, True)
    last = found["lines"]["data"][-1]["id"]
    rest = account.api.raw_request("get", found["lines"]["url"], starting_after=last).data
    assert [row["amount"] for row in rest["data"]] == [110, 111, 112]
    assert not rest["has_more"]


# ---------------------------------------------------------------------- a new subscription


def test_a_new_subscription_is_billed_as_previewed(account: Account) -> None:
    shelf = account.shelf
    chosen = [{"price": shelf.cheap, "quantity": 3}, {"price": shelf.dear}]
    found = account.preview(customer=shelf.customer, subscription_details={"items": chosen})
    came = account.invoice(shelf.subscribe(items=chosen))
    assert amounts(found) == amounts(came)
    assert sums(found) == sums(came) == (8000, 8000, 8000)


def test_a_new_subscription_in_trial_costs_nothing_yet(account: Account) -> None:
    chosen = {"items": [{"price": account.shelf.cheap}], "trial_end": int(NOW) + DAY}
    found = account.preview(customer=account.shelf.customer, subscription_details=chosen)
    assert found["amount_due"] == 0


@pytest.mark.parametrize(("behavior", "due"), [("create_prorations", 323), ("none", 0)])
def test_a_first_period_that_is_short_is_charged_in_part(
    account: Account, behavior: str, due: int
) -> None:
    chosen = {"items": [{"price": account.shelf.cheap}], "proration_behavior": behavior}
    anchor = int(NOW) + 10 * DAY  # of a period of 31 days
    dated = {"billing_cycle_anchor": {"type": "timestamp", "timestamp": anchor}}
    found = account.preview(
        customer=account.shelf.customer, subscription_details={**chosen, **dated}
    )
    came = account.invoice(account.shelf.subscribe(**chosen, billing_cycle_anchor=anchor))
    assert amounts(found) == amounts(came)
    assert sums(found) == sums(came) == (due, due, due)


def test_without_a_customer_a_new_subscription_can_be_previewed(account: Account) -> None:
    chosen = {"items": [{"price": account.shelf.dear, "quantity": 2}]}
    assert account.preview(subscription_details=chosen)["total"] == 10000


def test_a_card_is_not_needed(account: Account) -> None:
    poor = account.api.v1.customers.create({}).id
    chosen = {"items": [{"price": account.shelf.dear}]}
    assert account.preview(customer=poor, subscription_details=chosen)["amount_due"] == 5000


def test_invoice_items_come_along(account: Account) -> None:
    chosen = {"items": [{"price": account.shelf.cheap}]}
    fee = [{"amount": 500, "currency": "usd", "description": "Setup"}]
    found = account.preview(
        customer=account.shelf.customer, subscription_details=chosen, invoice_items=fee
    )
    assert [row[:2] for row in amounts(found)] == [("1 x Plan of 1000", 1000), ("Setup", 500)]


def test_invoice_items_alone_are_an_invoice(account: Account) -> None:
    fee = [{"amount": 500, "currency": "usd"}, {"amount": 7, "currency": "usd"}]
    found = account.preview(customer=account.shelf.customer, invoice_items=fee)
    assert sums(found) == (507, 507, 507)


@pytest.mark.parametrize("currency", ["usd", "jpy", "kwd"])
def test_amounts_are_in_the_minor_units_of_the_currency(account: Account, currency: str) -> None:
    price = account.api.v1.prices.create(
        {
            "currency": currency,
            "unit_amount": 12345,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Plan"},
        }
    )
    found = account.preview(
        customer=account.shelf.customer, subscription_details={"items": [{"price": price.id}]}
    )
    assert (found["currency"], found["amount_due"]) == (currency, 12345)


# ---------------------------------------------------------------------- a change


def test_without_details_it_is_the_next_invoice(account: Account) -> None:
    made = account.shelf.subscribe(items=[{"price": account.shelf.cheap, "quantity": 2}])
    found = account.preview(subscription=made["id"])
    assert amounts(found) == [("2 x Plan of 1000", 2000, NOW + PERIOD)]
    assert found["period_end"] == NOW + PERIOD


def test_what_is_pending_is_on_the_next_invoice(account: Account) -> None:
    made = account.shelf.subscribe()
    fee: Any = {"customer": account.shelf.customer, "amount": 70, "currency": "usd"}
    account.api.v1.invoice_items.create(fee)
    assert account.preview(subscription=made["id"])["total"] == 1070


def test_prorations_are_by_the_second(account: Account) -> None:
    made = account.shelf.subscribe(items=[{"price": account.shelf.price(PERIOD), "quantity": 1}])
    account.clock.now = NOW + 12_345  # a price of one minor unit a second
    found = account.preview(subscription=made["id"], subscription_details=details(made, quantity=3))
    left = PERIOD - 12_345
    assert [row["amount"] for row in prorations(found)] == [-left, 3 * left]
    assert found["total"] == 3 * PERIOD + 2 * left


def test_a_proration_says_that_it_is_one(account: Account) -> None:
    made = account.shelf.subscribe()
    found = account.preview(subscription=made["id"], subscription_details=details(made, quantity=3))
    credit, debit = prorations(found)
    assert credit["description"].startswith("Unused time on 1 x Plan of 1000 after")
    assert debit["description"].startswith("Remaining time on 3 x Plan of 1000 after")
    assert debit["parent"]["type"] == "subscription_item_details"
    assert found["parent"]["subscription_details"]["subscription_proration_date"] == NOW


def test_the_proration_date_counts(account: Account) -> None:
    made = account.shelf.subscribe(items=[{"price": account.shelf.price(PERIOD)}])
    wanted = {**details(made, quantity=2), "proration_date": int(NOW) + DAY}
    found = account.preview(subscription=made["id"], subscription_details=wanted)
    account.clock.now = NOW + 5 * DAY
    account.shelf.update(made, **wanted)
    assert [row["amount"] for row in prorations(found)] == [-29 * DAY, 58 * DAY]
    assert sorted(row["amount"] for row in account.pending()) == [-29 * DAY, 58 * DAY]


def test_no_prorations_if_none_are_wanted(account: Account) -> None:
    made = account.shelf.subscribe()
    wanted = {**details(made, quantity=3), "proration_behavior": "none"}
    found = account.preview(subscription=made["id"], subscription_details=wanted)
    assert amounts(found) == [("3 x Plan of 1000", 3000, NOW + PERIOD)]


def test_a_removed_item_is_credited(account: Account) -> None:
    shelf = account.shelf
    made = shelf.subscribe(items=[{"price": shelf.cheap}, {"price": shelf.dear}])
    gone = next(i["id"] for i in made["items"]["data"] if i["price"]["id"] == shelf.dear)
    account.clock.now = NOW + PERIOD // 2
    found = account.preview(
        subscription=made["id"], subscription_details={"items": [{"id": gone, "deleted": True}]}
    )
    assert [row["amount"] for row in prorations(found)] == [-2500]
    assert found["total"] == 1000 - 2500
    assert found["amount_due"] == 0


def test_an_added_item_is_charged_for_the_rest(account: Account) -> None:
    made = account.shelf.subscribe()
    account.clock.now = NOW + PERIOD // 2
    found = account.preview(
        subscription=made["id"], subscription_details={"items": [{"price": account.shelf.dear}]}
    )
    assert [row["amount"] for row in prorations(found)] == [2500]


def test_another_interval_begins_a_new_period_at_once(account: Account) -> None:
    made = account.shelf.subscribe()
    yearly = account.api.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 9000,
            "recurring": {"interval": "year"},
            "product_data": {"name": "Year"},
        }
    ).id
    account.clock.now = NOW + PERIOD // 2
    wanted = details(made, price=yearly)
    found = account.preview(subscription=made["id"], subscription_details=wanted)
    came = account.invoice(account.shelf.update(made, **wanted))
    assert [row[1] for row in amounts(found)] == [9000, -500]
    assert amounts(found) == amounts(came)


@pytest.mark.parametrize("anchor", [{"type": "now"}], ids=["now"])
def test_a_new_anchor_is_billed_as_previewed(account: Account, anchor: JSON) -> None:
    made = account.shelf.subscribe()
    account.clock.now = NOW + PERIOD // 4
    wanted = {"billing_cycle_anchor": anchor}
    found = account.preview(subscription=made["id"], subscription_details=wanted)
    came = account.invoice(account.shelf.update(made, **wanted))
    assert amounts(found) == amounts(came)
    assert [row[1] for row in amounts(found)] == [1000, -750]


def test_a_trial_that_ends_now_is_billed_as_previewed(account: Account) -> None:
    made = account.shelf.subscribe(trial_end=int(NOW) + 9 * DAY)
    account.clock.now = NOW + DAY
    found = account.preview(subscription=made["id"], subscription_details={"trial_end": "now"})
    came = account.invoice(account.shelf.update(made, trial_end="now"))
    assert sums(found) == sums(came) == (1000, 1000, 1000)


def test_a_trial_that_begins_credits_what_was_paid(account: Account) -> None:
    made = account.shelf.subscribe()
    account.clock.now = NOW + PERIOD // 2
    wanted = {"trial_end": int(account.clock.now) + DAY}
    found = account.preview(subscription=made["id"], subscription_details=wanted)
    account.shelf.update(made, **wanted)
    assert [row["amount"] for row in prorations(found)] == [-500]
    assert [row["amount"] for row in account.pending()] == [-500]


def test_an_end_within_the_period_credits_the_rest(account: Account) -> None:
    made = account.shelf.subscribe()
    wanted = {"cancel_at": int(NOW) + PERIOD // 2}
    found = account.preview(subscription=made["id"], subscription_details=wanted)
    account.shelf.update(made, **wanted)
    assert amounts(found)[0][1:] == (-500, NOW + PERIOD // 2)
    assert [row["amount"] for row in account.pending()] == [-500]


def test_the_end_of_all_is_its_last_invoice(account: Account) -> None:
    made = account.shelf.subscribe()
    account.clock.now = NOW + PERIOD // 2
    found = account.preview(subscription=made["id"], subscription_details={"cancel_now": True})
    assert [row[1] for row in amounts(found)] == [-500]


@pytest.mark.parametrize(("balance", "due"), [(-300, 700), (-5000, 0), (250, 1250)])
def test_the_balance_of_the_customer_is_used(account: Account, balance: int, due: int) -> None:
    account.api.v1.customers.update(account.shelf.customer, {"balance": balance})
    chosen = [{"price": account.shelf.cheap}]
    found = account.preview(customer=account.shelf.customer, subscription_details={"items": chosen})
    came = account.invoice(account.shelf.subscribe(items=chosen))
    assert sums(found) == sums(came) == (1000, 1000, due)


def test_what_an_invoice_uses_of_the_balance_is_gone(account: Account) -> None:
    account.api.v1.customers.update(account.shelf.customer, {"balance": -1700})
    came = account.invoice(account.shelf.subscribe())
    assert (came["starting_balance"], came["ending_balance"]) == (-1700, -700)
    assert account.api.v1.customers.retrieve(account.shelf.customer).balance == -700


def test_what_is_credited_goes_to_the_balance(account: Account) -> None:
    shelf = account.shelf
    made = shelf.subscribe(items=[{"price": shelf.dear}])
    less = {**details(made, price=shelf.cheap), "proration_behavior": "always_invoice"}
    found = account.preview(subscription=made["id"], subscription_details=less)
    shelf.update(made, **less)
    assert sums(found) == (-4000, -4000, 0)
    assert account.api.v1.customers.retrieve(shelf.customer).balance == -4000


@pytest.mark.parametrize(
    ("coupon", "total"),
    [
        ({"percent_off": 15}, 5100),
        ({"percent_off": 33.3}, 4002),
        ({"amount_off": 700, "currency": "usd"}, 5300),
        ({"amount_off": 99999, "currency": "usd"}, 0),
        ({"amount_off": 700, "currency": "eur"}, 6000),
    ],
    ids=str,
)
def test_a_coupon_is_taken_off_as_previewed(account: Account, coupon: JSON, total: int) -> None:
    shelf = account.shelf
    account.api.raw_request("post", "/v1/coupons", id="OFF", **coupon)
    chosen = [{"price": shelf.cheap}, {"price": shelf.dear}]
    off = [{"coupon": "OFF"}]
    found = account.preview(
        customer=shelf.customer, subscription_details={"items": chosen}, discounts=off
    )
    came = account.invoice(shelf.subscribe(items=chosen, discounts=off))
    assert sums(found) == sums(came) == (6000, total, total)


def test_the_shares_of_a_coupon_add_up(account: Account) -> None:
    shelf = account.shelf
    account.api.v1.coupons.create({"id": "OFF", "amount_off": 1000, "currency": "usd"})
    chosen = [{"price": shelf.price(amount)} for amount in (333, 333, 334, 777)]
    found = account.preview(subscription_details={"items": chosen}, discounts=[{"coupon": "OFF"}])
    taken = [entry["amount"] for row in found["lines"]["data"] for entry in row["discount_amounts"]]
    assert sum(taken) == found["total_discount_amounts"][0]["amount"] == 1000


def test_a_coupon_for_one_invoice_is_not_on_the_next(account: Account) -> None:
    account.api.v1.coupons.create({"id": "ONCE", "percent_off": 50, "duration": "once"})
    account.api.v1.coupons.create({"id": "EVER", "percent_off": 10, "duration": "forever"})
    off = [{"coupon": "ONCE"}, {"coupon": "EVER"}]
    made = account.shelf.subscribe(discounts=off)
    assert account.invoice(made)["total"] == 450
    assert account.preview(subscription=made["id"])["total"] == 900


def test_a_coupon_that_is_added_counts_on_the_next_invoice(account: Account) -> None:
    account.api.v1.coupons.create({"id": "HALF", "percent_off": 50, "duration": "forever"})
    made = account.shelf.subscribe()
    found = account.preview(subscription=made["id"], discounts=[{"coupon": "HALF"}])
    assert found["total"] == 500
    assert account.preview(subscription=made["id"])["total"] == 1000


# ---------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("params", "status", "code", "param"),
    [
        ({}, 400, None, None),
        ({"customer": "CUSTOMER"}, 400, None, None),
        ({"subscription": "sub_no"}, 400, "resource_missing", "subscription"),
        ({"customer": "cus_no", "invoice_items": [{"amount": 1}]}, 400, "resource_missing",
         "customer"),
        ({"schedule": "sub_sched_1"}, 400, "resource_missing", "schedule"),
        ({"subscription_details": {"items": [{"price": "price_no"}]}}, 400, "resource_missing",
         "subscription_details[items][0][price]"),
        ({"subscription": "SUB", "subscription_details": {"items": [{"id": "si_no"}]}}, 400,
         "resource_missing", "subscription_details[items][0][id]"),
        ({"subscription": "SUB", "subscription_details": {"items": [{"quantity": 1}]}}, 400,
         "parameter_missing", "subscription_details[items][0][price]"),
        ({"subscription": "SUB", "nonsense": 1}, 400, "parameter_unknown", "nonsense"),
        ({"subscription": "SUB", "subscription_details": {"proration_behavior": "often"}}, 400,
         None, "subscription_details[proration_behavior]"),
        ({"subscription": "SUB", "subscription_details": {"proration_date": 1}}, 400, None,
         "subscription_details[proration_date]"),
        ({"subscription": "SUB", "subscription_details": {"trial_end": 5}}, 400, None,
         "trial_end"),
        ({"subscription": "SUB", "schedule_details": {"end_behavior": "cancel"}}, 400, None,
         "schedule_details"),
        ({"subscription": "SUB", "subscription_details": {"start_date": 1}}, 400, None,
         "subscription_details[start_date]"),
        ({"subscription": "SUB", "currency": "eur"}, 400, None, "currency"),
        ({"subscription": "SUB", "discounts": [{"coupon": "NO"}]}, 400, "resource_missing",
         "coupon"),
        ({"subscription": "SUB", "subscription_details": {"cancel_at_period_end": True}}, 404,
         "invoice_upcoming_none", None),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_refused(
    account: Account, params: JSON, status: int, code: str | None, param: str | None
) -> None:
    names = {"SUB": account.shelf.subscribe()["id"], "CUSTOMER": account.shelf.customer}
    asked = {k: names.get(v, v) if isinstance(v, str) else v for k, v in params.items()}
    with refused(status, code, param):
        account.preview(**asked)


def test_a_proration_date_outside_of_the_period_is_refused(account: Account) -> None:
    made = account.shelf.subscribe()
    wanted = {**details(made, quantity=2), "proration_date": int(NOW) - 1}
    with refused(400, None, "proration_date"):
        account.preview(subscription=made["id"], subscription_details=wanted)


def test_a_subscription_of_another_customer_is_refused(account: Account) -> None:
    made = account.shelf.subscribe()
    other = account.api.v1.customers.create({}).id
    with refused(400, None, "subscription"):
        account.preview(subscription=made["id"], customer=other)


def test_a_canceled_subscription_has_no_next_invoice(account: Account) -> None:
    made = account.shelf.subscribe()
    account.api.v1.subscriptions.cancel(made["id"])
    with refused(404, "invoice_upcoming_none"):
        account.preview(subscription=made["id"])


def test_a_restricted_key_needs_its_permission(account: Account) -> None:
    account.emulator.keys.add("rk_test_reader", {"*": "read", "invoice": "none"})
    made = account.shelf.subscribe()
    with pytest.raises(stripe.PermissionError, match="rak_invoice_write"):
        client_of(account.emulator, "rk_test_reader").v1.invoices.create_preview(
            {"subscription": made["id"]}
        )


# ---------------------------------------------------------------------- whatever the numbers

plans = st.lists(
    st.tuples(st.sampled_from([0, 1, 7, 333, 1000, 99_999]), st.integers(0, 12)),
    min_size=1,
    max_size=3,
)
behaviors = st.sampled_from(["always_invoice", "create_prorations"])


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plans, plans, st.integers(0, PERIOD), st.integers(-9000, 9000), st.booleans(), behaviors)
def test_what_comes_is_what_was_previewed(
    account: Account,
    old: list[tuple[int, int]],
    new: list[tuple[int, int]],
    elapsed: int,
    balance: int,
    percent: bool,
    behavior: str,
) -> None:
    account.clock.now = NOW
    shelf = account.shelf
    account.api.v1.customers.update(shelf.customer, {"balance": balance})
    off = {"percent_off": 12.5} if percent else {"amount_off": 450, "currency": "usd"}
    coupon = account.api.raw_request("post", "/v1/coupons", duration="forever", **off).data["id"]

    def chosen(entries: list[tuple[int, int]]) -> list[JSON]:
        return [{"price": shelf.price(amount), "quantity": n} for amount, n in entries]

    first = {"items": chosen(old)}
    discounts = [{"coupon": coupon}]
    planned = account.preview(
        customer=shelf.customer, subscription_details=first, discounts=discounts
    )
    made = shelf.subscribe(**first, discounts=discounts)
    assert (amounts(planned), sums(planned)) == compared(account.invoice(made))

    account.clock.now = NOW + elapsed
    held = [item["id"] for item in made["items"]["data"]]
    entries = chosen(new)
    for entry, item in zip(entries, held, strict=False):
        entry["id"] = item
    entries += [{"id": item, "deleted": True} for item in held[len(entries) :]]
    wanted = {"items": entries, "proration_behavior": behavior}
    planned = account.preview(subscription=made["id"], subscription_details=wanted)
    found = shelf.update(made, **wanted)
    if behavior == "always_invoice" and prorations(planned):
        assert (amounts(planned), sums(planned)) == compared(account.invoice(found))
    else:
        mine = [row for row in account.pending() if _of(row) == made["id"]]
        assert sorted(r["amount"] for r in mine) == sorted(r["amount"] for r in prorations(planned))
        assert compared(account.preview(subscription=made["id"])) == (
            amounts(planned),
            sums(planned),
        )


def compared(invoice: JSON) -> tuple[list[tuple[str, int, int]], tuple[int, int, int]]:
    return amounts(invoice), sums(invoice)


def _of(item: JSON) -> str:
    subscription: str = item["parent"]["subscription_details"]["subscription"]
    return subscription
