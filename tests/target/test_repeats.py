"""What leaves no trace is done once: however the run ends, with any key and any journal."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api.errors import StripeUnavailable
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.plan.effects import MARK
from target_stripe_alloy.plan.permissions import ALLOWED
from tests.emulator.helpers import client_of
from tests.target.helpers import Message, Run, record, schema, write

ALL = [
    "customers.source",
    "disputes.submit",
    "invoices.create",
    "invoices.finalize",
    "invoices.send",
    "subscriptions.cancel",
    "subscriptions.create",
    "subscriptions.items",
    "subscriptions.pause",
    "subscriptions.resume",
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


@pytest.fixture
def allowed() -> list[str]:
    return [name for name in ALL if name in ALLOWED]


def sent(emulator: Emulator) -> int:
    """Mails that Stripe sent."""
    return sum(event["type"] == "invoice.sent" for event in emulator.objects("event"))


def open_invoice(emulator: Emulator) -> str:
    api = client_of(emulator)
    customer = emulator.objects("customers")[0]["id"]
    params: Any = {"customer": customer, "collection_method": "send_invoice", "days_until_due": 9}
    invoice = api.v1.invoices.create(params).id
    line: Any = {"customer": customer, "invoice": invoice, "amount": 500}
    api.v1.invoice_items.create(line)
    return str(api.v1.invoices.finalize_invoice(invoice).id)


def fees(emulator: Emulator) -> int:
    """Setup fees on invoices or waiting for one."""
    return sum(entry["amount"] == 999 for entry in emulator.objects("invoiceitem"))


def fee_for(emulator: Emulator, **more: Any) -> list[Message]:
    """A record that adds a setup fee to a subscription, and one field besides."""
    subscription = next(s for s in emulator.objects("subscriptions") if s["status"] == "active")
    item = subscription["items"]["data"][0]
    fee = {
        "price_data": {
            "currency": item["price"]["currency"],
            "product": item["price"]["product"],
            "unit_amount": 999,
        }
    }
    row = record("subscriptions", id=subscription["id"], add_invoice_items=[fee], **more)
    return [schema("subscriptions"), row]


def outage_after(emulator: Emulator, path: str) -> None:
    """Stripe does it, and is gone before it answers."""
    emulator.faults.add("cut_after", path, method="POST", times=None)


def outage_of_reading(emulator: Emulator, path: str) -> None:
    """Stripe does it and answers; nothing can be read afterwards."""
    emulator.faults.add("cut_before", path, method="GET", times=None, after=1)


def nothing_wrong(emulator: Emulator, path: str) -> None:
    """The run goes through."""


def keep_the_journal(folder: Path) -> None:
    """Nothing happens between the runs."""


def lose_the_journal(folder: Path) -> None:
    for file in folder.glob("journal.db*"):
        file.unlink()


@pytest.mark.parametrize("journal", [keep_the_journal, lose_the_journal])
@pytest.mark.parametrize("weather", [nothing_wrong, outage_after, outage_of_reading])
def test_an_invoice_is_mailed_once(
    account: Emulator,
    tmp_path: Path,
    allowed: list[str],
    weather: Callable[[Emulator, str], None],
    journal: Callable[[Path], None],
) -> None:
    invoice = open_invoice(account)
    messages = [schema("invoices"), record("invoices", id=invoice, _action="send")]
    weather(account, f"/v1/invoices/{invoice}")
    with contextlib.suppress(StripeUnavailable):
        write(account, tmp_path, messages, allow_actions=allowed)
    account.faults.clear()
    assert sent(account) == 1
    journal(tmp_path)
    for _ in range(2):
        write(account, tmp_path, messages, allow_actions=allowed)
    assert sent(account) == 1


@pytest.mark.parametrize("journal", [keep_the_journal, lose_the_journal])
@pytest.mark.parametrize("weather", [nothing_wrong, outage_after])
def test_a_setup_fee_is_added_once(
    account: Emulator,
    tmp_path: Path,
    allowed: list[str],
    weather: Callable[[Emulator, str], None],
    journal: Callable[[Path], None],
) -> None:
    messages = fee_for(account)
    subscription = messages[1]["record"]["id"]
    weather(account, f"/v1/subscriptions/{subscription}")
    before = fees(account)
    with contextlib.suppress(StripeUnavailable):
        write(account, tmp_path, messages, allow_actions=allowed)
    account.faults.clear()
    assert fees(account) == before + 1
    journal(tmp_path)
    for _ in range(2):
        write(account, tmp_path, messages, allow_actions=allowed)
    assert fees(account) == before + 1


def test_a_setup_fee_is_not_added_again_by_another_field(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    before = fees(account)
    for text in ("one", "two", "one"):
        write(account, tmp_path, fee_for(account, description=text), allow_actions=allowed)
    assert fees(account) == before + 1


def test_another_setup_fee_is_another_effect(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    before = fees(account)
    messages = fee_for(account)
    write(account, tmp_path, messages, allow_actions=allowed)
    messages[1]["record"]["add_invoice_items"][0]["quantity"] = 2
    for _ in range(2):
        write(account, tmp_path, messages, allow_actions=allowed)
    assert fees(account) >= before + 1
    marks = next(
        s["metadata"][MARK]
        for s in account.objects("subscriptions")
        if s["id"] == messages[1]["record"]["id"]
    )
    assert len(marks.split()) == 2


def test_an_older_journal_mails_nothing_again(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    """The journal is put back from a copy that was made before the mail."""
    row = record("customers", id=account.ids("customers")[0], name="A")
    write(account, tmp_path, [schema("customers"), row])
    shutil.copy(tmp_path / "journal.db", tmp_path / "copy.db")
    invoice = open_invoice(account)
    messages = [schema("invoices"), record("invoices", id=invoice, _action="send")]
    write(account, tmp_path, messages, allow_actions=allowed)
    lose_the_journal(tmp_path)
    shutil.copy(tmp_path / "copy.db", tmp_path / "journal.db")
    write(account, tmp_path, messages, allow_actions=allowed)
    assert sent(account) == 1


def test_a_mail_that_somebody_else_sent_is_not_ours(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    invoice = open_invoice(account)
    client_of(account).v1.invoices.send_invoice(invoice)
    messages = [schema("invoices"), record("invoices", id=invoice, _action="send")]
    write(account, tmp_path, messages, allow_actions=allowed)
    assert sent(account) == 2


def test_a_reminder_of_another_month_is_sent(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    invoice = open_invoice(account)
    for month in ("2026-10", "2026-11", "2026-11", "2026-10"):
        row = record("invoices", id=invoice, _action="send", _action_id=month)
        write(account, tmp_path, [schema("invoices"), row], allow_actions=allowed)
    assert sent(account) == 2


def test_an_action_that_comes_again_after_a_broken_run_is_not_repeated(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    """Pause, then resume; the run breaks before STATE, and the source sends both again."""
    subscription = next(s for s in account.objects("subscriptions") if s["status"] == "active")
    found = subscription["id"]
    rows = [record("subscriptions", id=found, _action=name) for name in ("pause", "resume")]
    messages = [schema("subscriptions"), *rows]

    def times(kind: str) -> int:
        return sum(e["type"] == f"customer.subscription.{kind}" for e in account.objects("event"))

    account.faults.add("cut_after", f"/v1/subscriptions/{found}/resume", method="POST", times=None)
    with pytest.raises(StripeUnavailable):
        write(account, tmp_path, messages, allow_actions=allowed)
    account.faults.clear()
    write(account, tmp_path, messages, allow_actions=allowed)
    assert (times("paused"), times("resumed")) == (1, 1)
    write(account, tmp_path, messages, allow_actions=allowed)  # that one ended well: asked anew
    assert (times("paused"), times("resumed")) == (2, 2)


# ---------------------------------------------------------------------- another key

READS = {"invoices": "write", "customers": "write", "events": "read"}
"""What the keys may do; none may read the account."""


def mail(emulator: Emulator, folder: Path, key: str, messages: list[Message], **more: Any) -> Run:
    emulator.keys.add(key, {**READS, **more})
    settings: Any = {"api_key": key, "allow_actions": ["invoices.send"]}
    return write(emulator, folder, messages, **settings)


def test_another_key_of_the_account_knows_what_the_first_one_did(
    account: Emulator, tmp_path: Path
) -> None:
    invoice = open_invoice(account)
    row = record("customers", id=account.ids("customers")[0], name="Ada")
    messages = [
        schema("customers"),
        row,
        schema("invoices"),
        record("invoices", id=invoice, _action="send"),
    ]
    mail(account, tmp_path, "rk_test_first_0123456789", messages)
    for key in ("rk_test_second_0123456789", "rk_test_first_0123456789"):
        run = mail(account, tmp_path, key, messages)
        assert run.writes == []
        assert all(counts["unchanged"] == counts["read"] for counts in run.summary.values())
        assert not any(request.path.startswith("/v1/customers/cus") for request in run.requests[2:])
    assert sent(account) == 1


def test_a_key_that_may_read_the_account_at_last_knows_it_too(
    account: Emulator, tmp_path: Path
) -> None:
    row = [schema("customers"), record("customers", id=account.ids("customers")[0], name="Ada")]
    mail(account, tmp_path, "rk_test_first_0123456789", row)
    assert write(account, tmp_path, row).writes == []
    run = mail(account, tmp_path, "rk_test_second_0123456789", row)
    assert run.counts("customers") == {"read": 1, "unchanged": 1}


def test_a_key_of_another_account_is_not_taken_for_the_first_one(
    account: Emulator, tmp_path: Path
) -> None:
    """What the journal proves of one account proves nothing of another."""
    row = [schema("customers", "no"), record("customers", no="1", name="Ada")]
    account.keys.add("rk_test_first_0123456789", READS)
    write(account, tmp_path, row, api_key="rk_test_first_0123456789", id_mode="external")
    with Emulator(customers=0) as other:
        other.keys.add("rk_test_other_0123456789", READS)
        write(other, tmp_path, row, api_key="rk_test_other_0123456789", id_mode="external")
        assert other.count("customer") == 1


# ---------------------------------------------------------------------- what sets and is not read


@pytest.mark.parametrize("values", [(30, 60, 30), (30, 30, 60, 60)])
def test_a_setting_that_cannot_be_read_follows_the_record(
    account: Emulator, tmp_path: Path, values: tuple[int, ...]
) -> None:
    api = client_of(account)
    customer = account.objects("customers")[0]["id"]
    params: Any = {"customer": customer, "collection_method": "send_invoice", "days_until_due": 9}
    invoice = api.v1.invoices.create(params).id
    settings: Any = {"allow_actions": ["invoices.schedule"]}
    sent_values = []
    for value in values:
        row = [schema("invoices"), record("invoices", id=invoice, days_until_due=value)]
        run = write(account, tmp_path, row, **settings)
        sent_values += [w.params["days_until_due"] for w in run.writes]
    lose_the_journal(tmp_path)
    assert write(account, tmp_path, row, **settings).writes == []
    changes = [v for n, v in enumerate(values) if n == 0 or v != values[n - 1]]
    assert sent_values == [[str(value)] for value in changes]


def test_a_setting_that_cannot_be_read_is_cleared(account: Emulator, tmp_path: Path) -> None:
    customer = account.objects("customers")[0]["id"]
    invoice = client_of(account).v1.invoices.create({"customer": customer}).id
    settings: Any = {"allow_actions": ["invoices.connect"]}
    runs = [
        write(
            account,
            tmp_path,
            [schema("invoices"), record("invoices", id=invoice, transfer_data=value)],
            **settings,
        )
        for value in ({"destination": "acct_1AAAAAAAAAAAAAAA"}, None, None)
    ]
    assert [w.params.get("transfer_data") for w in runs[1].writes] == [[""]]
    assert runs[2].writes == []


def test_an_item_with_a_price_of_its_own_is_one_item(account: Emulator, tmp_path: Path) -> None:
    subscription = next(s for s in account.objects("subscriptions") if s["status"] == "active")
    item = subscription["items"]["data"][0]
    recurring = item["price"]["recurring"]
    data = {
        "currency": subscription["currency"],
        "product": item["price"]["product"],
        "recurring": {"interval": recurring["interval"], "interval_count": 1},
        "unit_amount": 1234,
    }
    extra = {"price_data": data, "quantity": 2}

    def items() -> int:
        return sum(
            i["subscription"] == subscription["id"] for i in account.objects("subscription_items")
        )

    def run(*entries: Any) -> int:
        row = record("subscriptions", id=subscription["id"], items=[{"id": item["id"]}, *entries])
        settings: Any = {"allow_actions": ["subscriptions.items"], "pipeline": "p"}
        return len(write(account, tmp_path, [schema("subscriptions"), row], **settings).writes)

    before = items()
    assert (run(extra), items()) == (1, before + 1)
    lose_the_journal(tmp_path)
    assert (run(extra), items()) == (0, before + 1)
    assert (run({**extra, "quantity": 5}), items()) == (1, before + 1)
    assert (run(), items()) == (1, before)
    assert (run(extra), items()) == (1, before + 1)


# ---------------------------------------------------------------------- one account, however named


def test_what_one_id_mode_began_is_done_once_in_another(account: Emulator, tmp_path: Path) -> None:
    invoice = open_invoice(account)
    api = client_of(account)
    api.v1.invoices.update(invoice, {"metadata": {"no": "1"}})
    external = [schema("invoices", "no"), record("invoices", no="1", _action="send")]
    account.faults.add("cut_before", f"/v1/invoices/{invoice}/send", method="POST", times=None)
    with pytest.raises(StripeUnavailable):
        write(account, tmp_path, external, id_mode="external", allow_actions=["invoices.send"])
    account.faults.clear()
    own = [schema("invoices"), record("invoices", id=invoice, _action="send")]
    write(account, tmp_path, own, allow_actions=["invoices.send"])
    write(account, tmp_path, external, id_mode="external", allow_actions=["invoices.send"])
    assert sent(account) == 1


def test_a_deletion_of_long_ago_is_not_sent_again(account: Emulator, tmp_path: Path) -> None:
    subscription = next(
        s["id"] for s in account.objects("subscriptions") if s["status"] == "active"
    )
    row = [schema("subscriptions"), record("subscriptions", id=subscription, _action="cancel")]
    path = f"/v1/subscriptions/{subscription}"
    account.faults.add("cut_before", path, method="DELETE", times=None)
    with pytest.raises(StripeUnavailable):
        write(account, tmp_path, row, allow_actions=["subscriptions.cancel"])
    account.faults.clear()
    account.clock_advance(25 * 3600.0)
    write(account, tmp_path, row[:1], allow_actions=["subscriptions.cancel"])
    other = [schema("customers"), record("customers", id=account.ids("customers")[0], name="x")]
    run = write(account, tmp_path, other, allow_actions=["subscriptions.cancel"])
    assert not [w for w in run.writes if w.path == path]


def test_an_action_that_is_wanted_last_is_done_after_a_broken_run(
    account: Emulator, tmp_path: Path, allowed: list[str]
) -> None:
    found = next(s["id"] for s in account.objects("subscriptions") if s["status"] == "active")
    names = ("pause", "resume", "pause")
    rows = [record("subscriptions", id=found, _action=name) for name in names]
    account.faults.add("cut_after", f"/v1/subscriptions/{found}/resume", method="POST", times=None)
    with pytest.raises(StripeUnavailable):
        write(account, tmp_path, [schema("subscriptions"), *rows], allow_actions=allowed)
    account.faults.clear()
    write(account, tmp_path, [schema("subscriptions"), *rows], allow_actions=allowed)
    status = next(s["status"] for s in account.objects("subscriptions") if s["id"] == found)
    assert status == "paused"


def test_a_record_cannot_make_itself_another_ones(account: Emulator, tmp_path: Path) -> None:
    """Metadata as a tap has read it, with what this target keeps there."""
    charge = next(
        c["id"] for c in account.objects("charges") if c["paid"] and not c["amount_refunded"]
    )
    before = account.count("refund")
    for note in ("a", "b"):
        metadata = {"note": note, "stripe_alloy_key_types": '{"no":"text"}'}
        row = record("refunds", no=9, charge=charge, amount=50, metadata=metadata)
        write(
            account,
            tmp_path,
            [schema("refunds", "no"), row],
            id_mode="external",
            allow_actions=["refunds.create"],
        )
    assert account.count("refund") == before + 1


def test_a_price_that_is_active_again_stays_so(account: Emulator, tmp_path: Path) -> None:
    old = next(p for p in account.objects("prices") if p["active"] and p["unit_amount"])
    settings: Any = {"allow_actions": ["prices.replace"]}
    row = record("prices", id=old["id"], unit_amount=old["unit_amount"] + 100)
    write(account, tmp_path, [schema("prices"), row], **settings)
    new = next(
        p["id"]
        for p in account.objects("prices")
        if (p["metadata"] or {}).get("stripe_alloy_replaces") == old["id"]
    )
    client_of(account).v1.prices.update(old["id"], {"active": True})
    named = record("prices", id=new, nickname="n")
    write(account, tmp_path, [schema("prices"), named], **settings)
    victim = next(
        p["id"]
        for p in account.objects("prices")
        if p["active"] and p["id"] not in (old["id"], new)
    )
    forged = record("prices", id=new, metadata={"stripe_alloy_replaces": victim})
    write(account, tmp_path, [schema("prices"), forged], **settings)
    active = {p["id"]: p["active"] for p in account.objects("prices")}
    assert (active[old["id"]], active[victim]) == (True, True)
