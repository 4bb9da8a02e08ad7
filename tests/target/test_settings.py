"""Settings: refused before the first write where they cannot be meant; the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.settings import read_target_settings
from target_stripe_alloy.target import TargetStripeAlloy
from tests.target.helpers import record, schema, write

LIVE_KEY = "sk_live_" + "x" * 24


def declared() -> dict[str, Any]:
    settings = dict(TargetStripeAlloy.config_jsonschema)
    TargetStripeAlloy.append_builtin_config(settings)
    properties: dict[str, Any] = settings["properties"]
    return properties


def in_meltano() -> list[dict[str, Any]]:
    meltano = yaml.safe_load((Path(__file__).parents[2] / "meltano.yml").read_text("utf-8"))
    loaders = meltano["plugins"]["loaders"]
    loader = next(found for found in loaders if found["name"] == "target-stripe-alloy")
    settings: list[dict[str, Any]] = loader["settings"]
    return settings


def test_meltano_declares_the_settings_there_are() -> None:
    assert sorted(setting["name"] for setting in in_meltano()) == sorted(declared())
    assert all(setting["description"] for setting in in_meltano())


def test_defaults_and_choices_are_the_same_in_meltano() -> None:
    for setting in in_meltano():
        here = declared()[setting["name"]]
        if here.get("default") and setting["name"] not in ("add_record_metadata", "load_method"):
            assert setting["value"] == here["default"]
        if "enum" in here and setting["kind"] == "options":
            assert [option["value"] for option in setting["options"]] == here["enum"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"api_key": LIVE_KEY}, "`mode` is `test`"),
        ({"api_key": "rk_test_1", "mode": "live"}, "`api_key` is not a live key"),
        ({"api_key": LIVE_KEY, "mode": "live"}, "`expected_account_id`"),
        ({"api_key": "rk_test_1", "allow_actions": ["money"]}, "names no action: 'money'"),
        ({"api_key": "rk_test_1", "expected_account_id": "me"}, "is not an account ID: 'me'"),
        ({"api_key": "rk_test_1", "max_rejects": "-1"}, "0 or more"),
        ({"api_key": "pk_test_1"}, "a publishable key"),
        ({}, "`api_key` is not set"),
    ],
)
def test_what_cannot_be_meant_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_target_settings(config)
    assert said in str(refused.value)
    assert LIVE_KEY not in str(refused.value)


def test_another_account_is_refused_before_the_first_write(
    account: Emulator, tmp_path: Path
) -> None:
    row = record("customers", id=account.ids("customers")[0], name="New")
    with pytest.raises(SettingsError, match="`expected_account_id` is acct_other: refused"):
        write(account, tmp_path, [schema("customers"), row], expected_account_id="acct_other")
    assert {request.method for request in account.requests} == {"GET"}


def test_the_account_that_is_meant_is_written(account: Emulator, tmp_path: Path) -> None:
    row = record("customers", id=account.ids("customers")[0], name="New")
    messages = [schema("customers"), row]
    run = write(account, tmp_path, messages, expected_account_id=account.account_id)
    assert len(run.writes) == 1


def test_an_account_that_cannot_be_checked_is_refused_if_one_is_expected(
    account: Emulator, tmp_path: Path
) -> None:
    key = "rk_test_customers"
    account.keys.add(key, {"customer": "write"})
    row = record("customers", id=account.ids("customers")[0], name="New")
    with pytest.raises(SettingsError, match="cannot be checked"):
        write(
            account, tmp_path, [schema("customers"), row],
            api_key=key, expected_account_id=account.account_id,
        )  # fmt: skip
    run = write(account, tmp_path, [schema("customers"), row], api_key=key)
    assert len(run.writes) == 1


def test_a_connected_account_is_written_with_its_header(tmp_path: Path) -> None:
    with Emulator(customers=6, accounts=1) as platform:
        connected = platform.account_ids[0]
        found = platform.ids("customers", connected)[0]
        messages = [schema("customers"), record("customers", id=found, name="New")]
        run = write(platform, tmp_path, messages, account_id=connected)
        assert [request.account for request in run.writes] == [connected]


def test_a_stream_of_another_name_is_refused(account: Emulator, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Stream 'people' cannot be written"):
        write(account, tmp_path, [schema("people")])
    alias = {"people": {"__alias__": "customers"}}
    row = record("people", id=account.ids("customers")[0], name="New")
    run = write(account, tmp_path, [schema("people"), row], stream_maps=alias)
    assert run.counts("customers") == {"read": 1, "updated": 1}


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        ("sqlite://", "must be a file"),
        ("mysql://localhost/x", "must be a sqlite:/// or a postgresql:// URL"),
        ("nonsense", "not a URL of a database that can be opened"),
    ],
)
def test_a_journal_that_would_not_last_is_refused(
    account: Emulator, tmp_path: Path, journal: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        write(account, tmp_path, [schema("customers")], journal=journal)
