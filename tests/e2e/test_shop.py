"""The examples' answers on a small shop, worked out by hand: the figures here are literals."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import duckdb
import pytest

from stripe_alloy.emulator import Emulator
from tests.e2e.answers import Row, answer, load, query
from tests.e2e.shop import OPENED, Shop, first_days, further_days


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """The shop in DuckDB at noon of 21 March, read twice: what was deleted between is there."""
    folder = tmp_path_factory.mktemp("shop")
    with Emulator(customers=0, clock=OPENED.timestamp) as emulator:
        made = Shop(emulator)
        known = first_days(made)
        load(emulator, programs, folder)
        further_days(made, known)
        return load(emulator, programs, folder)


def test_the_shop_has_tombstones_to_leave_out(shop: Path) -> None:
    with duckdb.connect(str(shop), read_only=True) as connection:
        [deleted] = connection.execute(
            "select count(*) from stripe.customers where deleted"
        ).fetchall()
    assert deleted == (2,)


def march(day: int) -> date:
    return date(2027, 3, day)


def test_the_shops_subscriptions_have_a_story(shop: Path) -> None:
    rows = answer("onboarding", shop)
    assert sorted((row["moment"].date(), row["name"], row["what"]) for row in rows) == [
        (march(1), "Ada", "subscribed"),
        (march(1), "Bob", "subscribed"),
        (march(5), "Cleo", "trial begun"),
        (march(10), "Bob", "going to leave"),
        (march(10), "Kim", "subscribed"),
        (march(11), "Quin", "going to leave"),
        (march(11), "Quin", "trial begun"),
        (march(12), "Kim", "left"),
        (march(12), "Quin", "stays after all"),
        (march(12), "Rex", "trial begun"),
        (march(12), "Sam", "going to leave"),
        (march(12), "Sam", "trial begun"),
        (march(12), "Tia", "trial begun"),
        (march(12), "Val", "trial begun"),
    ]


def test_what_happened_more_than_30_days_ago_is_no_news(shop: Path) -> None:
    rows = answer("onboarding", shop, "2027-04-10")
    assert {row["name"] for row in rows} == {"Quin", "Kim", "Rex", "Sam", "Tia", "Val"}


def test_the_shop_reminds_of_what_ends_soon(shop: Path) -> None:
    """Not Quin, whose trial has 8 more days, nor Rex and Val, whose collection is paused."""
    rows = answer("renewals", shop)
    columns = ("on_day", "what", "name", "email", "amount", "currency")
    assert sorted(tuple(row[c] for c in columns) for row in rows) == [
        (march(25), "trial ends", "Cleo", "cleo@example.com", 2_000, "usd"),
        (march(26), "ends", "Sam", "sam@example.com", None, "usd"),
        (march(27), "trial ends", "Tia", "tia@example.com", None, "usd"),
        (date(2027, 4, 1), "ends", "Bob", "bob@example.com", None, "usd"),
        (date(2027, 4, 1), "renews", "Ada", "ada@example.com", 4_000, "usd"),
    ]


@pytest.mark.parametrize(("second", "names"), [("00:00:00", set()), ("00:00:01", {"Cleo"})])
def test_a_time_of_today_is_that_time_in_any_zone(shop: Path, second: str, names: set[str]) -> None:
    """Cleo's trial ends at 2027-03-25 00:00 UTC, and is shown within 7 days of it."""
    with duckdb.connect(str(shop), read_only=True) as connection:
        connection.execute("set timezone = 'Asia/Tokyo'")
        connection.execute(f"set variable today = timestamptz '2027-03-18 {second}+00'")
        rows = connection.execute(query("renewals")).fetchall()
    assert {row[3] for row in rows if row[1] == "trial ends"} == names


def test_the_shops_revenue(shop: Path) -> None:
    parts = ("gross", "refunds", "disputes", "fees", "other", "net")
    rows = {
        (row["month"], row["currency"]): tuple(row[part] for part in parts)
        for row in answer("revenue", shop)
    }
    assert rows == {
        ("2027-03", "gbp"): (1_000, -1_000, 0, -59, 0, -59),
        ("2027-03", "jpy"): (5_000, -1_200, 0, -175, 0, 3_625),
        ("2027-03", "kwd"): (18_010, 0, 0, -582, 0, 17_428),
        ("2027-03", "ugx"): (50_000, 0, 0, -1_480, 0, 48_520),
        ("2027-03", "usd"): (24_660, -3_000, -2_000, -2_425, 0, 17_235),
        ("2027-02", "usd"): (1_500, 0, 0, -74, 0, 1_426),
    }


def test_the_shops_payouts_are_their_movements(shop: Path) -> None:
    """The dispute of the 14th is available on the 16th; the payout in yen is a manual one."""
    rows = answer("payout_reconciliation", shop)
    assert [{key: row[key] for key in row if key != "payout"} for row in rows] == [
        {
            "arrives": march(22),
            "currency": "usd",
            "paid_out": 2_296,
            "left_balance": 2_296,
            "charges": 1,
            "others": 1,
            "gross": 4_000,
            "fees": -1_704,
            "difference": 0,
        },
        {
            "arrives": march(17),
            "currency": "usd",
            "paid_out": 16_365,
            "left_balance": 16_365,
            "charges": 7,
            "others": 1,
            "gross": 17_160,
            "fees": -795,
            "difference": 0,
        },
    ]


def test_a_movement_that_is_missing_is_the_difference(shop: Path, tmp_path: Path) -> None:
    """Uma's 6000 less 204."""
    shutil.copy2(shop, tmp_path / "missing.duckdb")
    with duckdb.connect(str(tmp_path / "missing.duckdb")) as connection:
        connection.execute("delete from stripe.balance_transactions where amount = 6000")
    differences = [
        row["difference"] for row in answer("payout_reconciliation", tmp_path / "missing.duckdb")
    ]
    assert differences == [5_796, 0]


def test_the_shops_customers_by_stage(shop: Path) -> None:
    """Leads: Amy, Dan, Hal, Ida, Jan, Nia, Wes and Zoe, of whom nothing was kept.

    Lea and Mia are deleted. Xia and Yul paid outside Stripe.
    """
    rows = answer("lifecycle", shop)
    assert [tuple(row.values()) for row in rows] == [
        ("lead", 8, 0, None),
        ("buyer", 6, 6, march(16)),  # Eri, Gil, Ola, Pia, Uma, Yul
        ("trial", 5, 0, None),  # Cleo, Quin, Rex, Sam, Tia
        ("repeat buyer", 2, 4, march(10)),  # Fay, Xia
        ("at risk", 1, 0, None),  # Val
        ("former subscriber", 1, 1, march(10)),  # Kim
        ("leaving", 1, 1, march(1)),  # Bob
        ("subscriber", 1, 1, march(1)),  # Ada
    ]


def without(row: Row, *columns: str) -> tuple[object, ...]:
    return tuple(value for column, value in row.items() if column not in columns)


def test_the_shops_list_for_dunning(shop: Path) -> None:
    """Not Bob, whose card expires as well, but who leaves before; nor Mia, who is deleted."""
    hidden = ("customer", "subscription", "invoice", "pay_at")
    failed, overdue = "payment failed", "invoice overdue"
    dan, nia, wes, ada = (f"{name}@example.com" for name in ("dan", "nia", "wes", "ada"))
    april = date(2027, 4, 1)
    no_funds, generic, until = "insufficient_funds", "generic_decline", "2030-12"
    assert [without(row, *hidden) for row in answer("dunning", shop)] == [
        (failed, dan, 700, "usd", 1, march(9), generic, "visa", "0002", until),
        (failed, nia, 1_100, "usd", 1, march(11), generic, "visa", "0002", until),
        (failed, nia, 1_100, "usd", 1, march(13), no_funds, "visa", "9995", until),
        (failed, dan, 5_000, "usd", 2, march(17), no_funds, "visa", "9995", until),
        (overdue, wes, 2_500, "usd", 0, march(12), None, None, None, None),
        ("card expires", ada, 4_000, "usd", None, april, None, "visa", "4242", "2027-03"),
    ]


def test_an_invoice_payment_may_name_a_charge_without_intent(shop: Path, tmp_path: Path) -> None:
    """As with payments of another kind, here of Dan's 700."""
    shutil.copy2(shop, tmp_path / "charge.duckdb")
    with duckdb.connect(str(tmp_path / "charge.duckdb")) as connection:
        [(charge, intent)] = connection.execute(
            "select id, payment_intent from stripe.charges where amount = 700"
        ).fetchall()
        connection.execute("update stripe.charges set payment_intent = null where amount = 700")
        connection.execute(
            "update stripe.invoice_payments"
            " set payment = json_object('type', 'charge', 'charge', ?)"
            " where payment->>'payment_intent' = ?",
            [charge, intent],
        )
    [row] = [row for row in answer("dunning", tmp_path / "charge.duckdb") if row["amount"] == 700]
    assert (row["decline_code"], row["last4"]) == ("generic_decline", "0002")


@pytest.mark.parametrize(
    ("today", "amounts"),
    [
        ("2027-03-12", set()),
        ("2027-03-12 00:00:01", {2_500}),
        ("2027-03-22", {2_500}),
        ("2027-03-23", {2_500, 2_600}),
    ],
)
def test_a_sent_invoice_is_overdue_after_its_due_date(
    shop: Path, today: str, amounts: set[int]
) -> None:
    """Wes's are due on the 12th and the 22nd at 00:00."""
    rows = answer("dunning", shop, today)
    assert {row["amount"] for row in rows if row["why"] == "invoice overdue"} == amounts


def test_an_invoice_to_recover_has_its_page(shop: Path) -> None:
    rows = [row for row in answer("dunning", shop) if row["invoice"]]
    assert all(row["pay_at"].startswith("https://invoice.stripe.com/") for row in rows)
    assert all(row["pay_at"].endswith(row["invoice"]) for row in rows)


def test_the_shops_totals_in_whole_units(shop: Path) -> None:
    """Pia's 6 francs were settled as 6.60 dollars. Stripe counts shillings in hundredths."""
    rows = [tuple(map(str, row.values())) for row in answer("currencies", shop)]
    assert rows == [
        ("usd", "7", "255.000", "261.600", "-30.000", "-20.000", "-24.990", "186.610"),
        ("kwd", "2", "18.010", "18.010", "0.000", "0.000", "-0.582", "17.428"),
        ("chf", "1", "6.000", "0.000", "0.000", "0.000", "0.000", "0.000"),
        ("gbp", "1", "10.000", "10.000", "-10.000", "0.000", "-0.590", "-0.590"),
        ("jpy", "1", "5000.000", "5000.000", "-1200.000", "0.000", "-175.000", "3625.000"),
        ("ugx", "1", "500.000", "500.000", "0.000", "0.000", "-14.800", "485.200"),
    ]
