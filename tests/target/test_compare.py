"""The target says where records and Stripe differ, sends nothing but GETs, and guards its way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import stripe
import yaml

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.compare import ABSENT, differences
from target_stripe_alloy.target import TargetStripeAlloy
from tests.conftest import FAST, config_of, read

KINDS = ("customers", "products", "prices", "subscriptions", "payouts")


def run(
    messages: Iterable[dict[str, Any]], config: dict[str, Any], folder: Path
) -> subprocess.CompletedProcess[str]:
    (folder / "config.json").write_text(json.dumps(config))
    return subprocess.run(
        [sys.executable, "-m", "target_stripe_alloy.target", "--config", folder / "config.json"],
        input="".join(json.dumps(message) + "\n" for message in messages),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def settings(account: Emulator, **more: Any) -> dict[str, Any]:
    own = {"api_key": account.api_key, "api_url": account.url, "max_requests_per_second": FAST}
    return {**own, "dry_run": True, **more}


def test_the_taps_own_output_shows_no_difference(account: Emulator, tmp_path: Path) -> None:
    output = read(config_of(account), *KINDS)
    since = len(account.requests)
    done = run(output.messages, settings(account), tmp_path)
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        count = len(output.records[kind])
        assert f"{kind}: read {count}, unchanged {count}, different 0, missing 0" in done.stderr
    assert {request.method for request in account.requests[since:]} == {"GET"}
    assert json.loads(done.stdout.splitlines()[-1]) == output.state


def test_a_change_in_stripe_is_named(account: Emulator, tmp_path: Path) -> None:
    output = read(config_of(account), "customers")
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    customer = output.records["customers"][0]
    client.v1.customers.update(customer["id"], {"name": "New"})
    done = run(output.messages, settings(account), tmp_path)
    assert f"{customer['id']}.name: 'New' in Stripe, {customer['name']!r} here" in done.stderr
    assert "different 1, missing 0" in done.stderr


def test_a_record_that_stripe_does_not_have_is_missing(account: Emulator, tmp_path: Path) -> None:
    output = read(config_of(account), "products")
    for message in output.messages:
        if message["type"] == "RECORD":
            message["record"]["id"] += "x"
    done = run(output.messages, settings(account), tmp_path)
    assert f"missing {len(output.records['products'])}" in done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dry_run": False}, "set `dry_run` to true"),
        ({"api_key": "pk_test_1"}, "a publishable key ('pk_') cannot read"),
        ({"api_key": "sk_test_wrong"}, "Check `api_key`"),
    ],
)
def test_what_stands_in_the_way_is_one_clear_line(
    account: Emulator, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    output = read(config_of(account), "products")
    done = run(output.messages, settings(account, **more), tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "STATE" not in done.stdout


def test_a_stream_of_another_name_is_refused(account: Emulator, tmp_path: Path) -> None:
    schema = {"type": "SCHEMA", "stream": "people", "schema": {"properties": {}}}
    done = run([{**schema, "key_properties": []}], settings(account), tmp_path)
    assert done.returncode == 1
    assert "Stream 'people' names no kind of object" in done.stderr


def test_an_absent_field_is_no_difference() -> None:
    assert differences({"id": "cus_1", "name": None}, {"id": "cus_1", "name": "A"}) == {
        "name": ("A", None)
    }
    assert differences({"id": "cus_1"}, {"id": "cus_1", "name": "A"}) == {}
    assert differences({"crm": 1}, {}) == {"crm": (ABSENT, 1)}


def test_meltano_declares_the_settings_there_are() -> None:
    schema = dict(TargetStripeAlloy.config_jsonschema)
    TargetStripeAlloy.append_builtin_config(schema)
    meltano = yaml.safe_load((Path(__file__).parents[2] / "meltano.yml").read_text("utf-8"))
    loader = next(
        found for found in meltano["plugins"]["loaders"] if found["name"] == "target-stripe-alloy"
    )
    named = [setting["name"] for setting in loader["settings"]]
    assert sorted(named) == sorted(schema["properties"])
    assert all(setting["description"] for setting in loader["settings"])
