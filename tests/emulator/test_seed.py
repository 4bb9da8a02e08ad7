"""The seeded business: complete, consistent, and always the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.clock import SEED_END
from stripe_alloy.emulator.effects.money import processing_fee
from stripe_alloy.emulator.emulated_types import RESOURCES
from stripe_alloy.emulator.schemas import expandable, included, schema_of
from stripe_alloy.emulator.templates import template
from tests.emulator.helpers import NOW, client_of, get
from tests.emulator.jsonschema_lite import problems

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = {kind.name: kind.object_name for kind in DEFAULT_TYPES}
"""What the generated business has objects of."""
JSON = dict[str, Any]


def rows_of(emu: Emulator) -> list[Any]:
    return emu.store.execute("SELECT * FROM objects ORDER BY seq")


def all_accounts(emu: Emulator, kind: str) -> list[JSON]:
    accounts = [emu.account_id, *emu.account_ids]
    return [row for a in accounts for row in emu.objects(kind, a, everything=True)]


@pytest.mark.parametrize("stream", STREAMS)
def test_every_object_fits_its_schema(business: Emulator, stream: str) -> None:
    schema = schema_of(STREAMS[stream])
    found = {p for row in all_accounts(business, stream) for p in problems(schema, row, stream)}
    assert not found


@pytest.mark.parametrize("stream", STREAMS)
def test_every_object_has_every_field(business: Emulator, stream: str) -> None:
    kind = STREAMS[stream]
    lacking = {
        name
        for row in all_accounts(business, stream)
        for name in template(kind).keys() - row.keys()
    }
    assert not lacking


@pytest.mark.parametrize("stream", STREAMS)
def test_no_object_has_what_must_be_expanded(business: Emulator, stream: str) -> None:
    names = {path for path in included(STREAMS[stream]) if "." not in path}
    assert not any(names & row.keys() for row in all_accounts(business, stream))


@pytest.mark.parametrize("kind", ["invoice_payment", "account", "tax_id"])
def test_objects_that_are_no_stream_fit_their_schema(business: Emulator, kind: str) -> None:
    schema = schema_of(kind)
    found = {p for row in all_accounts(business, kind) for p in problems(schema, row, kind)}
    assert not found


MANY = [
    "balance_transactions",
    "charges",
    "customers",
    "events",
    "invoice_line_items",
    "invoices",
    "payment_intents",
    "payment_methods",
    "payouts",
    "subscription_items",
    "subscriptions",
]


@pytest.mark.parametrize("stream", MANY)
def test_streams_that_grow_exceed_a_page(business: Emulator, stream: str) -> None:
    assert business.count(stream) > 100


@pytest.mark.parametrize("stream", sorted(STREAMS))
def test_no_stream_is_empty(business: Emulator, stream: str) -> None:
    assert business.count(stream) > 0


def test_connected_accounts_have_a_smaller_business(business: Emulator) -> None:
    (account,) = business.account_ids
    assert 0 < business.count("charges", account) < business.count("charges")


# ---------------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_bytes() -> None:
    one = Emulator(seed=5, customers=25, accounts=1)
    other = Emulator(seed=5, customers=25, accounts=1, clock=lambda: 0.0)
    with one, other:
        assert rows_of(one) == rows_of(other)


def test_another_seed_gives_another_business() -> None:
    with Emulator(seed=5, customers=5) as one, Emulator(seed=6, customers=5) as other:
        assert not {row[3] for row in rows_of(one)} & {row[3] for row in rows_of(other)}


def test_no_customers_is_an_empty_account(empty: Emulator) -> None:
    assert {name: empty.count(name) for name in STREAMS} == dict.fromkeys(STREAMS, 0)


def test_ids_are_unique(business: Emulator) -> None:
    ids = [row[0] for row in business.store.execute("SELECT id FROM objects")]
    assert len(set(ids)) == len(ids)


def test_ids_look_like_stripes(business: Emulator) -> None:
    for kind, resource in RESOURCES.items():
        for object_id in business.ids(kind):
            tail = object_id.removeprefix(resource.prefix)
            assert tail != object_id
            assert tail.isalnum()
            assert 14 <= len(tail) <= 24


def test_everything_happened_before_the_end(business: Emulator) -> None:
    (newest,) = business.store.execute("SELECT max(created) FROM objects")[0]
    assert newest <= SEED_END + 2 * DAY  # payouts of the last Monday arrive two days later


def test_the_business_goes_back_two_years(business: Emulator) -> None:
    assert business.objects("charges")[-1]["created"] < SEED_END - 600 * DAY


# ---------------------------------------------------------------------- money


def test_an_invoice_is_the_sum_of_its_lines(business: Emulator) -> None:
    sums: Counter[str] = Counter()
    for line in all_accounts(business, "line_item"):
        sums[line["invoice"]] += line["amount"]
    invoices = all_accounts(business, "invoice")
    assert {row["id"]: row["total"] for row in invoices} == {
        row["id"]: sums[row["id"]] for row in invoices
    }


def test_amounts_of_an_invoice_agree(business: Emulator) -> None:
    for row in all_accounts(business, "invoice"):
        assert row["amount_due"] == max(row["total"], 0)
        if row["status"] != "void":
            assert row["amount_remaining"] == row["amount_due"] - row["amount_paid"]


def test_an_invoice_was_paid_by_its_charge(business: Emulator) -> None:
    charges = {row["id"]: row for row in all_accounts(business, "charge")}
    intents = {row["id"]: row for row in all_accounts(business, "payment_intent")}
    invoices = {row["id"]: row for row in all_accounts(business, "invoice")}
    for payment in all_accounts(business, "invoice_payment"):
        invoice = invoices[payment["invoice"]]
        intent = intents[payment["payment"]["payment_intent"]]
        if payment["status"] == "paid":
            assert charges[intent["latest_charge"]]["amount"] == invoice["amount_paid"]


def test_fees_are_exact(business: Emulator) -> None:
    for row in all_accounts(business, "balance_transaction"):
        assert row["net"] == row["amount"] - row["fee"]
        assert row["fee"] == sum(detail["amount"] for detail in row["fee_details"])
        if row["type"] == "charge":
            assert row["fee"] == processing_fee(row["amount"])


def test_a_fee_is_2_9_percent_and_30() -> None:
    assert processing_fee(10_000) == 320


def test_a_charge_knows_what_was_refunded(business: Emulator) -> None:
    back: Counter[str] = Counter()
    for refund in all_accounts(business, "refund"):
        if refund["status"] in ("succeeded", "pending"):
            back[refund["charge"]] += refund["amount"]
    for charge in all_accounts(business, "charge"):
        assert charge["amount_refunded"] == back[charge["id"]]
        assert charge["refunded"] == (charge["amount"] == back[charge["id"]] > 0)


def test_a_payout_is_the_sum_of_its_transactions(business: Emulator) -> None:
    statement = (
        "SELECT payout, sum(json_extract(body, '$.net')) FROM objects "
        "WHERE object = 'balance_transaction' AND payout IS NOT NULL GROUP BY 1"
    )
    sums = dict(business.store.execute(statement))
    payouts = all_accounts(business, "payout")
    assert {row["id"]: row["amount"] for row in payouts} == sums


def test_payouts_leave_on_mondays(business: Emulator) -> None:
    assert {(row["created"] - 4 * DAY) % (7 * DAY) for row in business.objects("payouts")} == {0}


def test_all_kinds_of_movements_occur(business: Emulator) -> None:
    kinds = {row["type"] for row in business.objects("balance_transactions")}
    assert kinds >= {"charge", "refund", "adjustment", "payout", "stripe_fee"}


def test_several_currencies_occur(business: Emulator) -> None:
    assert {row["currency"] for row in business.objects("charges")} == {"usd", "eur", "gbp", "jpy"}


# ---------------------------------------------------------------------- references


def references(row: JSON, kind: str) -> Iterator[tuple[list[str], str]]:
    for path, entry in expandable(kind).items():
        if entry["kind"] != "include":
            for value in at(row, path.split(".")):
                yield entry["objects"], value


def at(node: Any, path: list[str]) -> Iterator[str]:
    if isinstance(node, list):
        for entry in node:
            yield from at(entry, path)
    elif path and isinstance(node, dict):
        yield from at(node.get(path[0]), path[1:])
    elif not path and isinstance(node, str):
        yield node


@pytest.mark.parametrize("stream", STREAMS)
def test_references_resolve(business: Emulator, stream: str) -> None:
    kept = {row[0] for row in business.store.execute("SELECT id FROM objects")}
    elsewhere = ("txcd_", "ba_", "clock_")
    dangling = {
        value
        for row in all_accounts(business, stream)
        for kinds, value in references(row, STREAMS[stream])
        if value not in kept and not value.startswith(elsewhere)
    }
    assert not dangling


def test_every_parent_holds_its_children(business: Emulator) -> None:
    counted = Counter(row["subscription"] for row in all_accounts(business, "subscription_item"))
    for row in all_accounts(business, "subscription"):
        assert row["items"]["has_more"] == (counted[row["id"]] > 10)
        assert len(row["items"]["data"]) == min(counted[row["id"]], 10)


# ---------------------------------------------------------------------- the cast


def statuses(business: Emulator, stream: str) -> set[str]:
    return {row["status"] for row in business.objects(stream)}


def test_subscriptions_are_in_every_state(business: Emulator) -> None:
    assert statuses(business, "subscriptions") >= {
        "active",
        "canceled",
        "incomplete_expired",
        "past_due",
        "trialing",
    }


def test_invoices_are_in_every_state(business: Emulator) -> None:
    assert statuses(business, "invoices") == {"draft", "open", "paid", "uncollectible", "void"}


def test_refunds_are_in_every_state(business: Emulator) -> None:
    assert statuses(business, "refunds") >= {"failed", "pending", "succeeded"}


def test_disputes_are_in_every_state(business: Emulator) -> None:
    assert statuses(business, "disputes") >= {"lost", "needs_response", "won"}


def test_payment_methods_are_of_two_kinds(business: Emulator) -> None:
    kinds = {row["type"] for row in business.objects("payment_methods")}
    assert kinds == {"card", "sepa_debit"}


def test_a_payment_method_has_only_its_own_hash(business: Emulator) -> None:
    for row in business.objects("payment_methods"):
        assert ("card" in row) == (row["type"] == "card")
        assert ("sepa_debit" in row) == (row["type"] == "sepa_debit")


def test_some_cards_have_expired(business: Emulator) -> None:
    cards = [row["card"] for row in business.objects("payment_methods") if "card" in row]
    assert any((card["exp_year"], card["exp_month"]) < (2026, 11) for card in cards)


def test_some_lines_are_prorations(business: Emulator) -> None:
    parents = [row["parent"]["subscription_item_details"] for row in business.objects("line_item")]
    assert any(parent and parent["proration"] for parent in parents)


def test_some_invoices_have_11_to_40_lines(business: Emulator) -> None:
    counted = Counter(row["invoice"] for row in business.objects("line_item"))
    assert {11, 23, 40, 250} <= set(counted.values())


def test_some_prices_are_archived(business: Emulator) -> None:
    assert {row["active"] for row in business.objects("prices")} == {True, False}


def test_a_subscription_is_paused(business: Emulator) -> None:
    assert any(row["pause_collection"] for row in business.objects("subscriptions"))


def test_a_deleted_customer_left_a_tombstone(business: Emulator) -> None:
    deleted = [e for e in business.objects("events") if e["type"] == "customer.deleted"]
    assert deleted[0]["data"]["object"]["id"] not in business.ids("customers")


def test_the_newest_snapshot_is_the_truth(business: Emulator) -> None:
    seen: set[str] = set()
    for event in business.objects("events"):
        snapshot = event["data"]["object"]
        if snapshot["id"] not in seen and not event["type"].endswith(".deleted"):
            found = business.store.get(business.account_id, snapshot["object"], snapshot["id"])
            assert found is not None
            now: JSON = msgspec.json.decode(found.body)
            assert untold(now) == untold(snapshot), event["type"]
        seen.add(snapshot["id"])


def untold(row: JSON) -> JSON:
    """Without what Stripe has no event for: a charge's dispute, a price inside its items."""
    told = {name: value for name, value in row.items() if name not in ("disputed", "price", "plan")}
    if row["object"] == "subscription":
        told["items"] = [untold(item) for item in row["items"]["data"]]
    return told


def test_the_clock_has_no_part_in_it() -> None:
    with Emulator(customers=3, clock=lambda: NOW + 900 * DAY) as emu:
        assert emu.count("events", everything=True) > 0


def test_an_account_has_settings_and_a_bank_account(business: Emulator) -> None:
    client = client_of(business)
    own = get(client, "/v1/account")
    assert own["settings"]["dashboard"]["display_name"] == "Alloy Instruments"
    assert own["settings"]["payouts"]["schedule"]["interval"] == "daily"
    [bank] = own["external_accounts"]["data"]
    assert (bank["object"], bank["account"]) == ("bank_account", own["id"])
    [connected] = get(client, "/v1/accounts")["data"]
    assert connected["external_accounts"]["data"][0]["id"] != bank["id"]
    assert own["settings"]["payments"]["statement_descriptor"] == "ALLOY INSTRUMENTS"
