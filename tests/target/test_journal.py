"""The journal keeps what it was given, whatever the database; only one run may have it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stripe_alloy.api.errors import SettingsError
from target_stripe_alloy.plan.plan_types import BaseImage
from target_stripe_alloy.write.journal import (
    IntentResult,
    IntentStatus,
    Journal,
    JournalEntry,
    Scope,
)

SCOPE = Scope("acct_1", live=False, id_mode="copy")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path}/journal.db"


def test_it_keeps_intents_answers_and_images(url: str) -> None:
    base = BaseImage({"name": "A", "metadata": {"k": None}}, {"name": "a"}, {"created": 5})
    image = msgspec.json.encode(base)
    journal = Journal(url, SCOPE)
    first = journal.intend("customers", "k1", "create", "POST", "/v1/customers", "name=A")
    second = journal.intend("customers", "k2", "create", "POST", "/v1/customers", "name=B")
    known = JournalEntry("customers", "k1", "cus_1", b"d", image)
    journal.answer(first, IntentResult(IntentStatus.DONE, 200, "req_1", "cus_1"), [known])
    journal.save([JournalEntry("customers", "k1", "cus_1", b"e", image)])
    journal.save_scan("customers", 7.0, [JournalEntry("customers", "k3", "cus_3")])
    journal.close()

    journal = Journal(url, SCOPE)
    assert journal.unanswered() == [second]
    held = journal.load("customers", ["k1", "k2", "k3"])
    assert {key: row.object_id for key, row in held.items()} == {"k1": "cus_1", "k3": "cus_3"}
    assert held["k1"].digest == b"e"
    assert held["k1"].image() == base
    assert journal.scanned_until("customers") == 7.0
    third = journal.intend("customers", "k1", "create", "POST", "/v1/customers", "name=A")
    assert len({first.idempotency_key, second.idempotency_key, third.idempotency_key}) == 3
    for intent in (second, third):
        journal.answer(intent, IntentResult(IntentStatus.DONE))
    journal.close()


def test_what_is_of_another_account_or_way_of_naming_is_not_seen(url: str) -> None:
    journal = Journal(url, SCOPE)
    intent = journal.intend("products", "p", "create", "POST", "/v1/products", "name=A")
    journal.save([JournalEntry("products", "p", "prod_1")])
    journal.close()
    others = [
        Scope("acct_2", live=False, id_mode="copy"),
        Scope("acct_1", live=True, id_mode="copy"),
    ]
    external = Scope("acct_1", live=False, id_mode="external")
    for scope in (*others, external):
        journal = Journal(url, scope)
        assert journal.load("products", ["p"]) == {}
        unanswered = [found.seq for found in journal.unanswered()]
        assert unanswered == ([intent.seq] if scope == external else [])
        journal.close()
    journal = Journal(url, SCOPE)
    assert [found.seq for found in journal.unanswered()] == [intent.seq]
    journal.answer(intent, IntentResult(IntentStatus.DONE))
    journal.close()


def test_only_one_run_may_have_it(url: str) -> None:
    journal = Journal(url, SCOPE)
    with pytest.raises(SettingsError, match="Another run is writing with the journal"):
        Journal(url, SCOPE)
    journal.close()
    Journal(url, SCOPE).close()


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    Journal(f"sqlite:///{tmp_path}/new/journal.db", SCOPE).close()
    assert (tmp_path / "new/journal.db").stat().st_mode & 0o077 == 0
