"""`null_policy`, and the files that have no name in the settings."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import stripe

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.target import TargetStripeAlloy
from tests.target.helpers import record, schema, settings_for, write

IGNORE = {"null_policy": "ignore"}


def held(account: Emulator, found: str) -> dict[str, Any]:
    return next(c for c in account.objects("customers") if c["id"] == found)


@pytest.fixture
def full(account: Emulator) -> str:
    """A customer with something in each field."""
    api = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    found = account.ids("customers")[0]
    api.v1.customers.update(
        found,
        {
            "phone": "+1",
            "address": {"city": "Bonn", "line1": "1 A Street"},
            "metadata": {"a": "1", "b": "2"},
        },
    )
    return found


NULLS: list[dict[str, Any]] = [
    {"phone": None},
    {"phone": ""},
    {"address": None},
    {"address": {"city": None, "line1": ""}},
    {"metadata": None},
    {"metadata": {"a": None, "b": ""}},
    {"invoice_settings": {"default_payment_method": None, "custom_fields": None}},
    {"balance": None, "tax_exempt": "", "created": None, "livemode": ""},
]


@pytest.mark.parametrize("fields", NULLS, ids=str)
def test_ignored_nulls_change_nothing(
    account: Emulator, tmp_path: Path, full: str, fields: dict[str, Any]
) -> None:
    before = held(account, full)
    row = record("customers", id=full, **fields)
    run = write(account, tmp_path, [schema("customers"), row], **IGNORE)
    assert run.writes == []
    assert run.counts("customers") == {"read": 1, "unchanged": 1}
    assert held(account, full) == before


def test_what_is_beside_a_null_is_written(account: Emulator, tmp_path: Path, full: str) -> None:
    row = record(
        "customers", id=full, name="New", phone=None, address={"city": "Köln", "line1": None}
    )
    write(account, tmp_path, [schema("customers"), row], **IGNORE)
    after = held(account, full)
    assert (after["name"], after["phone"]) == ("New", "+1")
    assert (after["address"]["city"], after["address"]["line1"]) == ("Köln", "1 A Street")


def test_a_metadata_key_that_becomes_null_stays(
    account: Emulator, tmp_path: Path, full: str
) -> None:
    for metadata in ({"a": "1", "b": "2", "c": "3"}, {"a": None, "b": "", "c": "4"}):
        row = record("customers", id=full, metadata=metadata)
        write(account, tmp_path, [schema("customers"), row], **IGNORE)
    metadata = held(account, full)["metadata"]
    assert (metadata["a"], metadata["b"], metadata["c"]) == ("1", "2", "4")


def test_a_metadata_key_that_is_gone_is_still_unset(
    account: Emulator, tmp_path: Path, full: str
) -> None:
    for metadata in ({"a": "1", "b": "3"}, {"a": None, "c": "4"}):
        row = record("customers", id=full, metadata=metadata)
        write(account, tmp_path, [schema("customers"), row], pipeline="crm", **IGNORE)
    metadata = held(account, full)["metadata"]
    assert metadata["a"] == "1"
    assert "b" not in metadata


def test_another_null_is_no_other_record(account: Emulator, tmp_path: Path, full: str) -> None:
    row = record("customers", id=full, name="A", phone=None)
    write(account, tmp_path, [schema("customers"), row], **IGNORE)
    run = write(account, tmp_path, [schema("customers"), record("customers", id=full, name="A")],
                **IGNORE)  # fmt: skip
    assert [request.path for request in run.requests] == ["/v1/account"]


def test_another_policy_looks_again(account: Emulator, tmp_path: Path, full: str) -> None:
    messages = [schema("customers"), record("customers", id=full, phone=None)]
    write(account, tmp_path, messages, **IGNORE)
    assert held(account, full)["phone"] == "+1"
    write(account, tmp_path, messages)
    assert held(account, full)["phone"] is None


def test_the_empty_tier_is_still_the_last_one(empty: Emulator, tmp_path: Path) -> None:
    price = {
        "crm_id": "p", "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated",
        "recurring": {"interval": "month"}, "product_data": {"name": "P"},
        "tiers": [{"up_to": 10, "unit_amount": 5}, {"up_to": None, "unit_amount": 4}],
    }  # fmt: skip
    messages = [schema("prices", "crm_id"), record("prices", **price)]
    run = write(empty, tmp_path, messages, id_mode="external", **IGNORE)
    assert run.counts("prices") == {"read": 1, "created": 1}


# ---------------------------------------------------------------------- names of files


def unnamed(account: Emulator, folder: Path, **settings: Any) -> dict[str, Any]:
    named = settings_for(account, folder, **settings)
    return {name: value for name, value in named.items() if name not in ("journal", "rejects")}


def go(account: Emulator, folder: Path, name: str, **settings: Any) -> list[str]:
    """Write a customer and reject one; the files that are there then."""
    found = account.ids("customers")[0]
    rows = [record("customers", id=found, name=name), record("customers", id="cus_no", name="A")]
    text = "".join(json.dumps(message) + "\n" for message in [schema("customers"), *rows])
    TargetStripeAlloy(config=unnamed(account, folder, **settings)).listen(io.StringIO(text))
    assert held(account, found)["name"] == name
    return sorted(p.name for p in folder.iterdir() if p.suffix in (".db", ".jsonl"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_files_are_named_by_account_and_mode(account: Emulator, tmp_path: Path) -> None:
    begin = f"target-stripe-alloy-{account.account_id}-test"
    assert go(account, tmp_path, "A") == [f"{begin}-rejects.jsonl", f"{begin}.db"]
    assert go(account, tmp_path, "B") == [f"{begin}-rejects.jsonl", f"{begin}.db"]


def test_files_of_an_earlier_release_go_on_being_used(account: Emulator, tmp_path: Path) -> None:
    older = ["target-stripe-alloy-rejects.jsonl", "target-stripe-alloy.db"]
    for name in older:
        (tmp_path / name).touch()
    assert go(account, tmp_path, "A") == older
    assert (tmp_path / older[0]).read_text().count("\n") == 1


def test_a_new_name_wins_once_it_is_there(account: Emulator, tmp_path: Path) -> None:
    go(account, tmp_path, "A")
    older = tmp_path / "target-stripe-alloy.db"
    older.touch()
    go(account, tmp_path, "B")
    assert older.read_bytes() == b""


def test_an_account_that_cannot_be_read_has_one_name(account: Emulator, tmp_path: Path) -> None:
    files = []
    for key in ("rk_test_one", "rk_test_two"):
        account.keys.add(key, {"customer": "write"})
        files.append(go(account, tmp_path, key, api_key=key))
    begin = "target-stripe-alloy-unknown-account-test"
    assert files == [[f"{begin}-rejects.jsonl", f"{begin}.db"]] * 2


def test_a_permission_that_comes_or_goes_leaves_no_journal_behind(
    account: Emulator, tmp_path: Path
) -> None:
    account.keys.add("rk_test_one", {"customer": "write"})
    first = go(account, tmp_path, "A", api_key="rk_test_one")
    assert go(account, tmp_path, "B") == first
    for name in first:
        known = name.replace("unknown-account", account.account_id)
        (tmp_path / name).rename(tmp_path / known)
    second = go(account, tmp_path, "C", api_key="rk_test_one")
    assert len(second) == 2
    assert all(account.account_id in name for name in second)


def test_journals_of_several_accounts_are_not_guessed_at(account: Emulator, tmp_path: Path) -> None:
    for name in ("acct_1", "acct_2"):
        (tmp_path / f"target-stripe-alloy-{name}-test.db").touch()
    account.keys.add("rk_test_one", {"customer": "write"})
    with pytest.raises(SettingsError, match=r"acct_1.*acct_2.*Set `journal`"):
        go(account, tmp_path, "A", api_key="rk_test_one")
