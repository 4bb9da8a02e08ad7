"""The examples' answers: as documented, and worked out anew from the account's objects."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import stripe

from examples.ask import ask, markdown
from stripe_alloy.emulator import Emulator
from tests.e2e.answers import ROOT, Row, answer, at, load, query

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.sql"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, business: Emulator, programs: Path) -> Path:
    """The default account in DuckDB."""
    return load(business, programs, tmp_path_factory.mktemp("uses"))


@pytest.fixture(scope="module")
def today(business: Emulator) -> datetime:
    return at(max(event["created"] for event in business.objects("event")))


# ---------------------------------------------------------------------- documents and programs


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_documents_show_what_an_example_answers(database: Path, name: str) -> None:
    text = (ROOT / "docs/uses.md").read_text(encoding="utf-8")
    before, after = text.split(f"<!-- output of examples/{name}.sql -->\n")
    command = before.rsplit("```sh\n")[-1].partition("\n")[0]
    asked = re.fullmatch(rf"\./run python examples/ask\.py examples/{name}\.sql(.*)", command)
    assert asked
    rows = int(asked[1].removeprefix(" --rows ")) if asked[1] else None
    shown = after.split("\n<!-- end -->")[0]
    assert shown.strip() == markdown(*ask(query(name), database), rows)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_loaders_own_duckdb_answers_the_same(database: Path, programs: Path, name: str) -> None:
    command = ["examples/ask.py", f"examples/{name}.sql", str(database), "--csv"]
    older, newer = (
        subprocess.run([python, *command], cwd=ROOT, capture_output=True, check=True).stdout
        for python in (str(programs / "python"), sys.executable)
    )
    assert older == newer
    assert older.count(b"\n") > 3


def test_a_cell_does_not_break_its_table() -> None:
    assert markdown(["a"], [["one | two\nthree"]]) == "| a |\n| --- |\n| one \\| two three |"


def test_what_is_left_out_is_counted() -> None:
    assert markdown(["a"], [[1], [2], [3]], 1).endswith("| 1 |\n\n… and 2 more.")


def test_who_asks_before_the_job_ran_is_told_to_run_it(tmp_path: Path) -> None:
    command = [sys.executable, "examples/ask.py", "examples/revenue.sql", str(tmp_path / "none")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert run.returncode == 2
    assert b"`./run meltano run stripe-to-duckdb` makes it" in run.stderr


def listed(business: Emulator, kind: str) -> list[Row]:
    """Objects that are not on a test clock, as lists show them."""
    ids = set(business.ids(kind))
    return [found for found in business.objects(kind) if found["id"] in ids]


# ---------------------------------------------------------------------- onboarding and renewals


def test_who_left_is_who_was_canceled_in_the_last_30_days(
    database: Path, business: Emulator
) -> None:
    oldest = min(event["created"] for event in business.objects("event"))
    left = {
        found["id"]
        for found in business.objects("subscription")
        if found["status"] == "canceled" and found["ended_at"] >= oldest
    }
    rows = answer("onboarding", database)
    assert {row["subscription"] for row in rows if row["what"] == "left"} == left
    assert len(left) == 3


def test_a_trial_begun_is_one_of_a_new_subscription(database: Path, business: Emulator) -> None:
    rows = [row for row in answer("onboarding", database) if row["what"] == "trial begun"]
    subscriptions = {found["id"]: found for found in business.objects("subscription")}
    assert rows
    for row in rows:
        assert at(subscriptions[row["subscription"]]["trial_start"]) == row["moment"]


def test_who_recovered_had_a_payment_that_failed_before(database: Path) -> None:
    rows = answer("onboarding", database)
    failed = {row["subscription"]: row for row in rows if row["what"] == "payment failed"}
    recovered = [row for row in rows if row["what"] == "recovered"]
    assert len(recovered) == 3
    for row in recovered:
        assert failed[row["subscription"]]["moment"] < row["moment"]


def test_renewals_are_the_periods_and_trials_that_end_soon(
    database: Path, business: Emulator, today: datetime
) -> None:
    ends: dict[str, list[int]] = defaultdict(list)
    for item in business.objects("subscription_item"):
        ends[item["subscription"]].append(item["current_period_end"])
    due = set()
    for found in listed(business, "subscription"):
        days, end = (
            (7, found["trial_end"])
            if found["status"] == "trialing"
            else (14, min(ends[found["id"]], default=0))
        )
        soon = today <= at(end) < today + timedelta(days=days)
        if found["status"] in ("trialing", "active") and soon:
            due.add((found["id"], at(end).date()))
    rows = answer("renewals", database)
    assert {(row["subscription"], row["on_day"]) for row in rows} == due
    assert len(rows) == len(due) > 20


def test_the_amount_of_a_renewal_is_what_the_one_before_was_billed(
    database: Path, business: Emulator
) -> None:
    """Where nothing but the renewal was on that invoice, and no usage."""
    subscriptions = {found["id"]: found for found in business.objects("subscription")}
    invoices = {found["id"]: found for found in business.objects("invoice")}
    before = {
        row["subscription"]: invoices[subscriptions[row["subscription"]]["latest_invoice"]]
        for row in answer("renewals", database)
        if row["what"] == "renews" and row["amount"] is not None
    }
    cycles = {
        key: latest["subtotal"]
        for key, latest in before.items()
        if latest["billing_reason"] == "subscription_cycle"
        and len(latest["lines"]["data"]) == len(subscriptions[key]["items"]["data"])
    }
    amounts = {row["subscription"]: row["amount"] for row in answer("renewals", database)}
    assert len(cycles) > 10
    assert {key: amounts[key] for key in cycles} == cycles


def test_another_day_gives_other_renewals(database: Path) -> None:
    rows = answer("renewals", database, "2027-01-01")
    assert all(date(2027, 1, 1) <= row["on_day"] <= date(2027, 1, 15) for row in rows)


# ---------------------------------------------------------------------- revenue and payouts


def test_the_revenue_of_a_month_checked_by_hand(database: Path) -> None:
    """October 2026 in dollars: fees are 37,175 of movements and 311 on their own."""
    [row] = [
        row
        for row in answer("revenue", database)
        if (row["month"], row["currency"]) == ("2026-10", "usd")
    ]
    assert row == {
        "month": "2026-10",
        "currency": "usd",
        "gross": 1_178_515,
        "refunds": -49_809,
        "disputes": -24_000,
        "fees": -37_486,
        "other": 0,
        "net": 1_067_220,
    }


def test_the_parts_of_each_months_revenue_add_up(database: Path) -> None:
    for row in answer("revenue", database):
        parts = ("gross", "refunds", "disputes", "fees", "other")
        assert sum(row[part] for part in parts) == row["net"]


def test_all_months_net_is_all_that_moved_but_payouts(database: Path, business: Emulator) -> None:
    moved: Counter[str] = Counter()
    for found in business.objects("balance_transaction"):
        if found["type"] != "payout":
            moved[found["currency"]] += found["net"]
    net: Counter[str] = Counter()
    for row in answer("revenue", database):
        net[row["currency"]] += row["net"]
    assert net == moved


def test_every_payout_is_the_sum_of_its_movements(database: Path, business: Emulator) -> None:
    rows = answer("payout_reconciliation", database)
    assert {row["payout"] for row in rows} == set(business.ids("payout"))
    assert {row["difference"] for row in rows} == {0}


def test_a_payouts_movements_are_those_that_stripe_lists_for_it(
    database: Path, business: Emulator
) -> None:
    api = stripe.StripeClient(business.api_key, base_addresses={"api": business.url}).v1
    for row in answer("payout_reconciliation", database)[:12]:
        found = api.balance_transactions.list({"payout": row["payout"], "limit": 100}).data
        kinds = Counter(
            entry.reporting_category == "charge" for entry in found if entry.type != "payout"
        )
        assert (row["charges"], row["others"]) == (kinds[True], kinds[False])


# ---------------------------------------------------------------------- lifecycle


def test_every_customer_is_in_one_stage(database: Path, business: Emulator) -> None:
    rows = answer("lifecycle", database)
    assert sum(row["customers"] for row in rows) == len(business.ids("customer")) == 148


def test_the_stages_are_those_of_subscriptions_and_payments(
    database: Path, business: Emulator
) -> None:
    statuses: dict[str, set[str]] = defaultdict(set)
    for found in listed(business, "subscription"):
        leaving = found["status"] == "active" and found["cancel_at_period_end"]
        statuses[found["customer"]].add("leaving" if leaving else found["status"])
    paid = Counter(
        found["customer"]
        for found in business.objects("charge")
        if found["paid"] and found["amount_refunded"] < found["amount"]
    )
    outside = [found for found in listed(business, "invoice") if found["amount_paid_off_stripe"]]
    assert outside
    paid.update(found["customer"] for found in outside)
    order = {
        "past_due": "at risk",
        "active": "subscriber",
        "leaving": "leaving",
        "trialing": "trial",
        "canceled": "former subscriber",
    }
    stages: Counter[str] = Counter()
    for customer in business.ids("customer"):
        fits = [stage for status, stage in order.items() if status in statuses[customer]]
        buyer = ["lead", "buyer", "repeat buyer"][min(paid[customer], 2)]
        stages[(fits or [buyer])[0]] += 1
    rows = {row["stage"]: row["customers"] for row in answer("lifecycle", database)}
    assert rows == stages


# ---------------------------------------------------------------------- dunning


def test_the_failed_payments_are_the_open_invoices_that_were_tried(
    database: Path, business: Emulator
) -> None:
    tried = {
        found["id"]: (found["customer"], found["amount_remaining"], found["currency"])
        for found in listed(business, "invoice")
        if found["status"] == "open" and found["attempt_count"] and found["amount_remaining"]
    }
    rows = [row for row in answer("dunning", database) if row["why"] == "payment failed"]
    assert {
        row["invoice"]: (row["customer"], row["amount"], row["currency"]) for row in rows
    } == tried
    assert all(row["decline_code"] and row["email"] and row["pay_at"] for row in rows)


def test_an_invoices_decline_code_is_that_of_its_last_attempt(
    database: Path, business: Emulator
) -> None:
    intents = {
        found["invoice"]: found["payment"]["payment_intent"]
        for found in business.objects("invoice_payment")
    }
    reasons = {  # the later ones replace the earlier ones
        found["payment_intent"]: found["outcome"]["reason"]
        for found in sorted(business.objects("charge"), key=lambda found: found["created"])
        if found["status"] == "failed"
    }
    rows = [row for row in answer("dunning", database) if row["why"] == "payment failed"]
    assert rows
    for row in rows:
        assert row["decline_code"] == reasons[intents[row["invoice"]]]


def test_the_overdue_invoices_are_those_sent_and_not_paid_in_time(
    database: Path, business: Emulator, today: datetime
) -> None:
    late = {
        found["id"]: (found["customer"], found["amount_remaining"], at(found["due_date"]).date())
        for found in listed(business, "invoice")
        if found["collection_method"] == "send_invoice"
        and (found["status"], found["attempt_count"]) == ("open", 0)
        and at(found["due_date"]) < today
    }
    rows = [row for row in answer("dunning", database) if row["why"] == "invoice overdue"]
    assert rows
    assert {
        row["invoice"]: (row["customer"], row["amount"], row["next_on"]) for row in rows
    } == late
    assert not any(row["decline_code"] or row["card"] or row["last4"] for row in rows)


def test_the_expiring_cards_are_those_gone_by_the_next_renewal(
    database: Path, business: Emulator, today: datetime
) -> None:
    customers = {found["id"]: found for found in listed(business, "customer")}
    cards = {
        found["id"]: found["card"]
        for found in business.objects("payment_method")
        if found["type"] == "card"
    }
    items: dict[str, list[int]] = defaultdict(list)
    for item in business.objects("subscription_item"):
        items[item["subscription"]].append(item["current_period_end"])
    expected: Counter[tuple[str, date]] = Counter()
    for found in listed(business, "subscription"):
        if found["status"] not in ("active", "trialing") or found["cancel_at_period_end"]:
            continue
        customer = customers[found["customer"]]
        default = customer["invoice_settings"]["default_payment_method"]
        card = cards.get(found["default_payment_method"] or default)
        renews = at(min(items[found["id"]]))
        soon = today <= renews < today + timedelta(days=60)
        if card and soon and (card["exp_year"], card["exp_month"]) < (renews.year, renews.month):
            expected[customer["id"], renews.date()] += 1
    rows = [row for row in answer("dunning", database) if row["why"] == "card expires"]
    assert Counter((row["customer"], row["next_on"]) for row in rows) == expected
    assert rows


def test_the_list_goes_to_a_dunning_tool_as_csv(database: Path) -> None:
    command = [sys.executable, "examples/ask.py", "examples/dunning.sql", str(database), "--csv"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    lines = run.stdout.decode().splitlines()
    assert lines[0] == (
        "why,email,customer,amount,currency,subscription,invoice,attempts,next_on,decline_code,"
        "card,last4,expires,pay_at"
    )
    assert len(lines) == 1 + len(answer("dunning", database))


# ---------------------------------------------------------------------- currencies


def test_totals_are_of_one_currency_each_in_its_whole_units(
    database: Path, business: Emulator
) -> None:
    units = {"jpy": Decimal(1), "usd": Decimal(100), "eur": Decimal(100), "gbp": Decimal(100)}
    charged: Counter[str] = Counter()
    net: Counter[str] = Counter()
    for found in business.objects("charge"):
        charged[found["currency"]] += found["amount_captured"]
    for found in business.objects("balance_transaction"):
        if found["type"] != "payout":
            net[found["currency"]] += found["net"]
    rows = {row["currency"]: row for row in answer("currencies", database)}
    assert rows.keys() == units.keys()
    for currency, row in rows.items():
        assert row["charged"] == charged[currency] / units[currency]
        assert row["net"] == net[currency] / units[currency]


def test_the_months_of_a_currency_add_up_to_its_total(database: Path) -> None:
    units = {"jpy": Decimal(1), "usd": Decimal(100), "eur": Decimal(100), "gbp": Decimal(100)}
    months = answer("revenue", database)
    for row in answer("currencies", database):
        for part in ("gross", "refunds", "disputes", "fees", "net"):
            of_months = sum(m[part] for m in months if m["currency"] == row["currency"])
            assert row[part] * units[row["currency"]] == of_months


def test_yen_have_no_hundredths(database: Path) -> None:
    [yen] = [row for row in answer("currencies", database) if row["currency"] == "jpy"]
    assert (yen["gross"], yen["refunds"]) == (1_948_734, -69_752)
