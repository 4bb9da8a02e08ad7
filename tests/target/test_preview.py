"""The plan of money: a plan says what Stripe will invoice, and Stripe then invoices that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stripe_alloy.api.client import PREVIEW_PATH, StripeClient
from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.rate_limiter import RateLimiter
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.clock import SEED_END
from stripe_alloy_cli.cli import main
from target_stripe_alloy.plan.plan_types import PlannedRequest
from target_stripe_alloy.write.id_resolver import PLANNED
from target_stripe_alloy.write.invoice_preview import (
    NoQuestion,
    Question,
    Totals,
    customer_details,
    decimals_of,
    lines_of,
    money,
    question,
    shown,
)
from tests.emulator.helpers import NOW, client_of
from tests.emulator.test_subscriptions import Shelf, item_of
from tests.target.helpers import Message, Run, record, schema, settings_for, write
from tests.target.helpers import lines_of as json_lines

JSON = dict[str, Any]
DOCUMENT = Path(__file__).parents[2] / "docs/writing.md"
PERIOD = 30 * DAY


@dataclass
class Account:
    """An account with a customer who can pay, and plans of what is written to it."""

    emulator: Emulator
    folder: Path
    shelf: Shelf
    time: list[float]
    planned: list[JSON] = field(default_factory=list)

    def plan(self, *messages: Message, **settings: Any) -> Run:
        file = self.folder / "plan.jsonl"
        run = self.write(*messages, dry_run=True, plan=str(file), **settings)
        self.planned = json_lines(file)
        return run

    def write(self, *messages: Message, **settings: Any) -> Run:
        return write(self.emulator, self.folder, messages, **settings)

    def preview(self, *messages: Message, **settings: Any) -> JSON:
        """The preview of the only record."""
        self.plan(*messages, **settings)
        (line,) = self.planned
        preview: JSON = line["preview"]
        return preview

    def price(self, currency: str, amount: int) -> str:
        made = self.shelf.api.v1.prices.create(
            {
                "currency": currency,
                "unit_amount": amount,
                "recurring": {"interval": "month"},
                "product_data": {"name": "Plan"},
            }
        )
        return made.id

    def invoice(self, subscription: str) -> JSON:
        found = self.shelf.api.v1.subscriptions.retrieve(subscription).latest_invoice
        data: JSON = self.shelf.api.raw_request("get", f"/v1/invoices/{found}").data
        return data


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    time = [NOW]
    with Emulator(customers=0, clock=lambda: time[0]) as emulator:
        yield Account(emulator, tmp_path, Shelf(client_of(emulator)), time)


def change(subscription: JSON, *, how: str = "", **item: Any) -> tuple[Message, Message]:
    """A record that changes the subscription's one item."""
    more = {"proration_behavior": how} if how else {}
    items = [{"id": item_of(subscription)["id"], **item}]
    row = record("subscriptions", id=subscription["id"], items=items, **more)
    return schema("subscriptions"), row


def new(account: Account, key: str = "s1", **more: Any) -> tuple[Message, Message]:
    fields = {"customer": account.shelf.customer, "items": [{"price": account.shelf.cheap}]}
    return schema("subscriptions", "crm_id"), record(
        "subscriptions", crm_id=key, **{**fields, **more}
    )


def previews_of(run: Run) -> list[str]:
    return [request.path for request in run.writes]


def amounts(preview: JSON) -> list[int]:
    return [line["amount"] for line in preview["lines"]]


# ---------------------------------------------------------------------- what Stripe then does


def test_a_change_is_invoiced_as_the_plan_said(account: Account) -> None:
    made = account.shelf.subscribe()
    account.time[0] = NOW + 12_345
    messages = change(made, how="always_invoice", price=account.shelf.dear, quantity=7)
    allow = ["subscriptions.items"]
    preview = account.preview(*messages, allow_actions=allow)
    account.write(*messages, allow_actions=allow)
    came = account.invoice(made["id"])
    assert amounts(preview) == [line["amount"] for line in came["lines"]["data"]]
    assert (preview["total"], preview["amount_due"]) == (came["total"], came["amount_due"])
    assert preview["invoiced"] == "now"


def test_a_new_subscription_is_invoiced_as_the_plan_said(account: Account) -> None:
    items = [{"price": account.shelf.cheap, "quantity": 2}, {"price": account.shelf.dear}]
    messages = new(account, items=items)
    settings: JSON = {"id_mode": "external", "allow_actions": ["subscriptions.create"]}
    preview = account.preview(*messages, **settings)
    account.write(*messages, **settings)
    (made,) = account.emulator.objects("subscriptions")
    came = account.invoice(made["id"])
    assert amounts(preview) == [line["amount"] for line in came["lines"]["data"]] == [2000, 5000]
    assert (preview["amount_due"], preview["invoiced"]) == (came["amount_due"], "now")


def test_a_change_waits_for_the_next_invoice(account: Account) -> None:
    made = account.shelf.subscribe()
    account.time[0] = NOW + PERIOD // 2
    preview = account.preview(*change(made, quantity=3), allow_actions=["subscriptions.items"])
    assert sorted(amounts(preview)) == [-500, 1500, 3000]
    assert (preview["invoiced"], preview["invoiced_at"]) == ("next", "2026-12-01T01:00:00Z")


def test_another_interval_is_invoiced_now(account: Account) -> None:
    made = account.shelf.subscribe()
    yearly: Any = {
        "currency": "usd",
        "unit_amount": 9000,
        "recurring": {"interval": "year"},
        "product_data": {"name": "Year"},
    }
    price = account.shelf.api.v1.prices.create(yearly).id
    account.time[0] = NOW + PERIOD // 2
    preview = account.preview(*change(made, price=price), allow_actions=["subscriptions.items"])
    assert (amounts(preview), preview["invoiced"]) == ([9000, -500], "now")


def test_a_discount_is_in_the_preview(account: Account) -> None:
    account.shelf.api.v1.coupons.create({"id": "HALF", "percent_off": 50, "duration": "forever"})
    made = account.shelf.subscribe()
    row = record("subscriptions", id=made["id"], discounts=[{"coupon": "HALF"}])
    preview = account.preview(schema("subscriptions"), row)
    assert (preview["subtotal"], preview["total"]) == (1000, 500)


def test_the_end_of_a_trial_is_in_the_preview(account: Account) -> None:
    made = account.shelf.subscribe(trial_end=int(NOW) + 5 * DAY)
    row = record("subscriptions", id=made["id"], trial_end=int(NOW) + 9 * DAY)
    preview = account.preview(schema("subscriptions"), row)
    assert (preview["total"], preview["invoiced_at"][:10]) == (1000, "2026-11-10")


def test_fees_of_a_new_subscription_are_in_the_preview(account: Account) -> None:
    one_time: Any = {"currency": "usd", "unit_amount": 2500, "product_data": {"name": "Setup"}}
    setup = account.shelf.api.v1.prices.create(one_time).id
    preview = account.preview(
        *new(account, add_invoice_items=[{"price": setup}]), id_mode="external"
    )
    assert amounts(preview) == [1000, 2500]


@pytest.mark.parametrize(
    ("fields", "prorated"),
    [
        ({"id": "OLD", "quantity": 3}, [-1000, 3000]),
        ({"id": "OLD", "price": "DEAR", "quantity": 1}, [-1000, 5000]),
        ({"id": "OLD", "deleted": True}, [-1000]),
    ],
    ids=["quantity", "price", "removed"],
)
def test_items_by_themselves_are_previewed(
    account: Account, fields: JSON, prorated: list[int]
) -> None:
    both = [{"price": account.shelf.cheap}, {"price": account.shelf.price(1)}]
    made = account.shelf.subscribe(items=both)
    old = next(i for i in made["items"]["data"] if i["price"]["id"] == account.shelf.cheap)
    names = {"OLD": old["id"], "DEAR": account.shelf.dear}
    row = record("subscription_items", **{k: names.get(v, v) for k, v in fields.items()})
    preview = account.preview(schema("subscription_items"), row, delete_policy="delete")
    assert [line["amount"] for line in preview["lines"] if line["proration"]] == prorated


def test_an_item_that_is_added_is_previewed(account: Account) -> None:
    made = account.shelf.subscribe()
    fields = {"subscription": made["id"], "price": account.shelf.dear, "quantity": 2}
    row = record("subscription_items", crm_id="i1", **fields)
    preview = account.preview(schema("subscription_items", "crm_id"), row, id_mode="external")
    assert [line["amount"] for line in preview["lines"] if line["proration"]] == [10000]


def test_all_lines_are_shown(account: Account) -> None:
    items = [{"price": account.shelf.price(100 + number)} for number in range(13)]
    preview = account.preview(*new(account, items=items), id_mode="external")
    assert amounts(preview) == [100 + number for number in range(13)]


# ---------------------------------------------------------------------- what is sent


def test_a_plan_sends_gets_and_one_preview_a_record(account: Account) -> None:
    made = account.shelf.subscribe()
    run = account.plan(*change(made, quantity=3), allow_actions=["subscriptions.items"])
    assert previews_of(run) == [PREVIEW_PATH]
    assert run.counts("subscriptions") == {"read": 1, "updated": 1}


def test_nothing_changes_by_a_plan(account: Account) -> None:
    made = account.shelf.subscribe()
    kinds = ("subscriptions", "subscription_items", "invoices", "invoiceitem", "events")
    before = {kind: account.emulator.objects(kind) for kind in kinds}
    account.plan(*change(made, quantity=3), allow_actions=["subscriptions.items"])
    assert {kind: account.emulator.objects(kind) for kind in kinds} == before


def test_previews_can_be_switched_off(account: Account) -> None:
    made = account.shelf.subscribe()
    run = account.plan(*change(made, quantity=3), preview=False)
    assert previews_of(run) == []
    assert "preview" not in account.planned[0]


def test_a_run_that_writes_asks_for_none(account: Account) -> None:
    made = account.shelf.subscribe()
    run = account.write(*change(made, quantity=3), allow_actions=["subscriptions.items"])
    assert previews_of(run) == [f"/v1/subscriptions/{made['id']}"]


@pytest.mark.parametrize(
    "fields", [{"description": "x"}, {"metadata": {"a": "b"}}, {"items": "METADATA"}], ids=str
)
def test_what_invoices_nothing_is_not_asked(account: Account, fields: JSON) -> None:
    made = account.shelf.subscribe()
    if "items" in fields:
        fields = {"items": [{"id": item_of(made)["id"], "metadata": {"a": "b"}}]}
    row = record("subscriptions", id=made["id"], **fields)
    allow = ["subscriptions.items"]
    run = account.plan(schema("subscriptions"), row, allow_actions=allow)
    assert run.counts("subscriptions") == {"read": 1, "updated": 1}
    assert previews_of(run) == []


def test_what_is_unchanged_is_not_asked(account: Account) -> None:
    made = account.shelf.subscribe()
    run = account.plan(*change(made, quantity=1))
    assert run.counts("subscriptions") == {"read": 1, "unchanged": 1}
    assert previews_of(run) == []


def test_a_preview_goes_out_again_after_a_failure(account: Account) -> None:
    made = account.shelf.subscribe()
    account.emulator.faults.add("status", PREVIEW_PATH, status=500)
    preview = account.preview(*change(made, quantity=3))
    assert preview["total"] == 5000


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/invoices"),
        ("POST", "/v1/invoices/create_preview/pay"),
        ("POST", "/v1/invoices/create_preview/../in_1/pay"),
        ("POST", "/v1/invoices/create_preview?x=1"),
        ("DELETE", PREVIEW_PATH),
        ("PUT", PREVIEW_PATH),
        ("post", PREVIEW_PATH),
    ],
)
def test_a_transport_that_only_reads_lets_nothing_else_through(
    account: Account, method: str, path: str
) -> None:
    transport = StripeClient(
        api_key=account.emulator.api_key,
        api_url=account.emulator.url,
        api_version="2026-10-28.endive",
        budget=RateLimiter(None),
        max_concurrency=1,
        read_only=True,
    )
    before = len(account.emulator.requests)
    with pytest.raises(SettingsError, match="only reads"):
        transport.request(method, path)
    assert len(account.emulator.requests) == before


# ---------------------------------------------------------------------- where there is none


def test_a_blocked_record_has_its_preview(account: Account) -> None:
    made = account.shelf.subscribe()
    preview = account.preview(*change(made, quantity=3))
    assert account.planned[0]["verdict"] == "blocked"
    assert account.planned[0]["requests"] == []
    path = f"/v1/subscriptions/{made['id']}"
    assert account.planned[0]["withheld"] == [{"method": "POST", "path": path}]
    assert preview["total"] == 5000


def test_a_blocked_creation_has_its_preview(account: Account) -> None:
    preview = account.preview(*new(account), id_mode="external")
    assert account.planned[0]["verdict"] == "blocked"
    assert preview["amount_due"] == 1000


def test_a_record_that_is_blocked_for_good_has_none(account: Account) -> None:
    made = account.shelf.subscribe()
    other = account.shelf.api.v1.customers.create({}).id
    row = record("subscriptions", id=made["id"], customer=other)
    run = account.plan(schema("subscriptions"), row)
    assert run.counts("subscriptions") == {"read": 1, "blocked": 1}
    assert previews_of(run) == []


def test_what_stripe_refuses_is_said_and_the_plan_goes_on(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    ending, other = account.shelf.subscribe(), account.shelf.subscribe()
    rows = [
        schema("subscriptions"),
        record("subscriptions", id=ending["id"], cancel_at_period_end=True),
        change(other, quantity=3)[1],
    ]
    with caplog.at_level("INFO"):
        account.plan(*rows)
    found = {line["key"]: line["preview"] for line in account.planned}
    assert found[ending["id"]]["unavailable"].startswith("No upcoming invoices for customer")
    assert found[other["id"]]["total"] == 5000
    assert "    no preview: No upcoming invoices for customer" in caplog.text
    assert "plan: no preview: 1 record\n" in caplog.text


def test_a_key_without_the_permission_is_told_once(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.emulator.keys.add("rk_test_planner", {"*": "read", "invoice": "none"})
    rows = [change(account.shelf.subscribe(), quantity=3)[1] for _ in range(4)]
    run = account.plan(schema("subscriptions"), *rows, api_key="rk_test_planner")
    assert run.counts("subscriptions") == {"read": 4, "blocked": 4}
    said = [r.message for r in caplog.records if "without previews" in r.message]
    assert len(said) == 1
    assert "rak_invoice" in said[0]


def test_a_customer_who_is_only_planned_is_left_out(account: Account) -> None:
    rows = [
        schema("customers", "crm_id"),
        record("customers", crm_id="c1", name="New", address={"country": "DE"}),
        *new(account, customer="c1"),
    ]
    run = account.plan(*rows, id_mode="external")
    (preview,) = [line["preview"] for line in account.planned if line["stream"] == "subscriptions"]
    assert preview["note"] == "without the customer, who does not exist yet"
    assert preview["amount_due"] == 1000
    (asked,) = run.writes
    assert asked.params["customer_details[address][country]"] == ["DE"]
    assert "customer" not in asked.params


def test_a_price_that_is_only_planned_cannot_be_previewed(account: Account) -> None:
    product = account.shelf.api.v1.products.create({"name": "P"}).id
    rows = [
        schema("prices", "crm_id"),
        record("prices", crm_id="p1", product=product, currency="usd", unit_amount=5,
               recurring={"interval": "month"}),
        *new(account, items=[{"price": "p1"}]),
    ]  # fmt: skip
    run = account.plan(*rows, id_mode="external")
    (preview,) = [line["preview"] for line in account.planned if line["stream"] == "subscriptions"]
    assert preview == {"unavailable": "prices p1 does not exist yet"}
    assert run.writes == []


# ---------------------------------------------------------------------- what is shown


def test_totals_are_by_currency_in_its_own_decimals(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [schema("subscriptions", "crm_id")]
    for number, currency in enumerate(["jpy", "kwd", "usd", "usd"]):
        items = [{"price": account.price(currency, 12345)}]
        rows.append(new(account, f"s{number}", items=items)[1])
    with caplog.at_level("INFO"):
        account.plan(*rows, id_mode="external", allow_actions=["subscriptions.create"])
    said = [r.message for r in caplog.records if "preview" in r.message and "plan: " in r.message]
    assert said == [
        "plan: JPY invoiced now: 1 preview, total 12345 JPY, amount due 12345 JPY",
        "plan: KWD invoiced now: 1 preview, total 12.345 KWD, amount due 12.345 KWD",
        "plan: USD invoiced now: 2 previews, total 246.90 USD, amount due 246.90 USD",
    ]


def test_what_is_blocked_is_in_a_total_of_its_own(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        account.plan(*new(account), id_mode="external")
    assert "plan: USD blocked, would be invoiced now: 1 preview, total 10.00 USD" in caplog.text


def test_the_balance_of_the_customer_is_shown(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.shelf.api.v1.customers.update(account.shelf.customer, {"balance": -300})
    with caplog.at_level("INFO"):
        account.plan(*new(account), id_mode="external")
    told = "\n".join(row.message for row in caplog.records if "report" in row.name)
    assert re.search(
        r"total +10\.00 USD\n +customer balance +-3\.00 USD\n +amount due +7\.00 USD", told
    )


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (-1999, "usd", "-19.99 USD"),
        (5, "eur", "0.05 EUR"),
        (0, "jpy", "0 JPY"),
        (-500, "JPY", "-500 JPY"),
        (1, "kwd", "0.001 KWD"),
        (-123456, "bhd", "-123.456 BHD"),
        (500, "ugx", "5.00 UGX"),
        (100, "isk", "1.00 ISK"),
        (1999, "huf", "19.99 HUF"),
    ],
)
def test_money_has_the_decimals_of_its_currency(amount: int, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def test_the_decimals_are_those_of_the_example_in_sql() -> None:
    text = (DOCUMENT.parents[1] / "examples/currencies.sql").read_text(encoding="utf-8")
    whole, thousandths = text.split("union all")[:2]
    zero = re.findall(r"'(\w{3})'", whole)
    three = re.findall(r"'(\w{3})'", thousandths.split("0.001")[0])
    assert {decimals_of(name) for name in zero} == {0}
    assert {decimals_of(name) for name in three} == {3}
    assert len(zero) + len(three) == 20


def test_a_subscription_with_several_records_is_named_in_the_totals() -> None:
    totals = Totals()
    preview = {"currency": "usd", "invoiced": "next", "total": 5, "amount_due": 5}
    for _ in range(2):
        totals.add({**preview, "subscription": "sub_1"}, blocked=False)
    assert list(totals.lines())[1].startswith("1 subscription has more than one record")


def test_two_records_of_one_subscription_count_once(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    made = account.shelf.subscribe()
    rows = [change(made, how="always_invoice", quantity=number)[1] for number in (2, 3)]
    with caplog.at_level("INFO"):
        account.plan(schema("subscriptions"), *rows, allow_actions=["subscriptions.items"])
    last = account.planned[1]["preview"]
    assert (last["invoiced"], last["total"]) == ("now", 2000)
    assert "plan: USD invoiced now: 1 preview, total 20.00 USD" in caplog.text
    assert "1 subscription has more than one record: only the preview of the last" in caplog.text


def test_the_second_record_of_a_subscription_is_marked(account: Account) -> None:
    made = account.shelf.subscribe()
    rows = [change(made, how="always_invoice", quantity=number)[1] for number in (2, 3)]
    account.plan(schema("subscriptions"), *rows, allow_actions=["subscriptions.items"])
    notes = [line["preview"]["note"] for line in account.planned]
    assert notes == [
        "",
        "without what an earlier record of this plan does to the same subscription",
    ]


def test_a_record_of_an_item_counts_for_its_subscription(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    made = account.shelf.subscribe()
    how: JSON = {"proration_behavior": "always_invoice"}
    item = record("subscription_items", id=item_of(made)["id"], quantity=4, **how)
    allow = ["subscriptions.items", "subscription_items.update"]
    with caplog.at_level("INFO"):
        account.plan(
            *change(made, how="always_invoice", quantity=2),
            schema("subscription_items"),
            item,
            allow_actions=allow,
        )
    assert "plan: USD invoiced now: 1 preview, " in caplog.text


def test_a_new_subscription_that_comes_twice_counts_once(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = new(account), new(account, description="again")
    allow = ["subscriptions.create"]
    with caplog.at_level("INFO"):
        account.plan(*first, second[1], id_mode="external", allow_actions=allow)
    assert "plan: USD invoiced now: 1 preview, total 10.00 USD" in caplog.text


# ---------------------------------------------------------------------- actions


def test_a_resumed_subscription_is_invoiced_now(account: Account) -> None:
    made = account.shelf.subscribe()
    account.shelf.api.raw_request("post", f"/v1/subscriptions/{made['id']}/pause")
    row = record("subscriptions", id=made["id"], _action="resume")
    preview = account.preview(schema("subscriptions"), row, allow_actions=["subscriptions.resume"])
    assert (preview["invoiced"], preview["total"]) == ("now", 1000)


def test_what_changes_with_it_is_in_the_preview_of_a_resumed_one(account: Account) -> None:
    made = account.shelf.subscribe()
    account.shelf.api.raw_request("post", f"/v1/subscriptions/{made['id']}/pause")
    head, row = change(made, how="none", quantity=3)
    row["record"]["_action"] = "resume"
    preview = account.preview(
        head, row, allow_actions=["subscriptions.resume", "subscriptions.items"]
    )
    assert (preview["invoiced"], preview["total"]) == ("now", 3000)


def test_a_resumption_that_is_blocked_has_its_preview(account: Account) -> None:
    made = account.shelf.subscribe()
    account.shelf.api.raw_request("post", f"/v1/subscriptions/{made['id']}/pause")
    row = record("subscriptions", id=made["id"], _action="resume")
    assert account.preview(schema("subscriptions"), row)["total"] == 1000


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ({"_action": "cancel"}, "without proration and without a last invoice"),
        ({"deleted": True}, "without proration and without a last invoice"),
        ({"_action": "pause"}, "which Stripe does not preview"),
        ({"_action": "cancel", "cancel_at_period_end": True}, "without a last invoice"),
    ],
    ids=str,
)
def test_an_end_without_an_invoice_says_so(account: Account, marks: JSON, said: str) -> None:
    made = account.shelf.subscribe()
    row = record("subscriptions", id=made["id"], **marks)
    allow = ["subscriptions.cancel", "subscriptions.pause"]
    preview = account.preview(
        schema("subscriptions"), row, allow_actions=allow, delete_policy="delete"
    )
    assert said in preview["unavailable"]


def test_what_is_invoiced_before_an_end_is_previewed(account: Account) -> None:
    made = account.shelf.subscribe()
    head, row = change(made, how="always_invoice", quantity=2)
    row["record"]["_action"] = "cancel"
    allow = ["subscriptions.cancel", "subscriptions.items"]
    assert account.preview(head, row, allow_actions=allow)["total"] == 1000


@pytest.mark.parametrize("days", [0, "0"])
def test_no_days_are_no_trial(account: Account, days: Any) -> None:
    allow = ["subscriptions.create"]
    rows = new(account, trial_period_days=days)
    preview = account.preview(*rows, id_mode="external", allow_actions=allow)
    assert (preview.get("unavailable"), preview["invoiced"], preview["total"]) == (
        None,
        "now",
        1000,
    )


# ---------------------------------------------------------------------- from request to question


def asked(stream: str, request: PlannedRequest, current: JSON | None = None, **more: Any) -> JSON:
    found = question(stream, [request], current, NOW, **more)
    assert isinstance(found, Question)
    return dict(found.params)


def test_only_what_a_preview_takes_is_asked() -> None:
    params = {
        "customer": "cus_1",
        "description": "x",
        "payment_behavior": "allow_incomplete",
        "metadata": {"a": "b"},
        "discounts": [{"coupon": "C"}],
        "items": [{"price": "price_1", "quantity": "2", "metadata": {"a": "b"}}],
        "trial_period_days": "7",
        "billing_cycle_anchor": "1800000000",
    }
    assert asked(
        "subscriptions", PlannedRequest("create", "POST", "/v1/subscriptions", params)
    ) == {
        "customer": "cus_1",
        "discounts": [{"coupon": "C"}],
        "subscription_details": {
            "items": [{"price": "price_1", "quantity": "2"}],
            "trial_end": str(int(NOW) + 7 * DAY),
        },
    }


def test_what_is_cleared_is_cleared_in_the_preview() -> None:
    request = PlannedRequest("update", "POST", "/v1/subscriptions/sub_1", {"discounts": None})
    found = asked("subscriptions", request, {"id": "sub_1"})
    assert found == {"subscription": "sub_1", "discounts": None}


def test_a_planned_subscription_has_no_preview_of_its_items() -> None:
    params = {"subscription": f"{PLANNED}subscriptions:s1", "price": "price_1"}
    request = PlannedRequest("create", "POST", "/v1/subscription_items", params)
    found = question("subscription_items", [request], None, NOW)
    assert found == NoQuestion("subscriptions s1 does not exist yet")


def test_a_planned_customer_is_described() -> None:
    tree = customer_details(
        {
            "name": "A",
            "address": {"country": "DE"},
            "tax_exempt": "reverse",
            "tax_id_data": [{"type": "eu_vat", "value": "DE1"}],
        }
    )
    assert tree == {
        "address": {"country": "DE"},
        "tax_exempt": "reverse",
        "tax_ids": [{"type": "eu_vat", "value": "DE1"}],
    }


@pytest.mark.parametrize(
    ("start", "invoiced"), [(0, "now"), (5, "now"), (PERIOD, "next"), (-PERIOD, "next")]
)
def test_a_preview_says_when(start: int, invoiced: str) -> None:
    row = {"amount": 1, "period": {"start": NOW + start, "end": NOW}, "parent": None}
    answer = {"currency": "usd", "subtotal": 1, "total": 1, "amount_due": 1, "period_end": 0}
    found = shown(Question({}, at_once=False), answer, [row], NOW)
    assert found["invoiced"] == invoiced
    assert next(iter(lines_of(found))).startswith("preview: ")


# ---------------------------------------------------------------------- the example of the docs


def example() -> tuple[JSON, str, str]:
    """Settings, messages and the plan, as docs/writing.md shows them."""
    text = DOCUMENT.read_text(encoding="utf-8").split("## Example: plan what a change costs\n")[1]
    messages, console = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL).group(1)  # type: ignore[union-attr]
        for kind in ("json", "console")
    )
    config = re.search(r"echo '(\{.*\})' > target.json", console)
    assert config
    return json.loads(config.group(1)), messages, console.split("--input changes.jsonl\n")[1]


def blocks(text: str) -> list[str]:
    """Records with their indented lines, and single lines, without why one is blocked."""
    text = re.sub(r"(?m)^(! .* blocked: ).*$", r"\1…", text)
    return sorted(re.findall(r"(?m)^[~+!-] .*(?:\n    .*)*|^plan: .*", text))


def test_the_example_in_the_docs_is_what_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, messages, expected = example()
    (tmp_path / "changes.jsonl").write_text(messages)
    with Emulator(clock=lambda: SEED_END) as emulator, caplog.at_level("INFO"):
        config = settings_for(emulator, tmp_path, allow_actions=settings["allow_actions"])
        (tmp_path / "target.json").write_text(json.dumps(config))
        arguments = ["--config", f"{tmp_path}/target.json", "--input", f"{tmp_path}/changes.jsonl"]
        result = CliRunner().invoke(main, ["plan", *arguments])
    assert result.exit_code == 0
    came = "\n".join(row.message for row in caplog.records if "target" in row.name)
    assert blocks(came) == blocks(expected)
    assert len(blocks(expected)) == 8
