"""Whatever goes wrong: a clear word, a non-zero exit code, nothing lost, no secret told."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import jsonschema
import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api import errors
from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, Output, config_of, read

CHARGES = "/v1/charges"
LISTED = [stream for stream in DEFAULT_TYPES if stream.parent is None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


def refused(command: Command, config: dict[str, Any]) -> Output:
    run = command.run(config=config)
    assert run.exit_code == 1
    assert "Traceback" not in run.errors
    return run


def test_a_stream_without_permission_is_named_and_the_others_finish(
    account: Emulator, command: Command
) -> None:
    streams = ("customer", "invoice", "subscription", "product", "price", "event", "refund")
    permissions = dict.fromkeys((*streams, "payment_method", "account"), "read")
    account.keys.add("rk_test_nocharges", permissions)
    run = refused(command, config_of(account, api_key="rk_test_nocharges"))
    assert (
        "Stream charges was not read: the key lacks the permission 'Charges and Refunds: read'"
        in (run.errors)
    )
    assert "rak_charge_read" in run.errors
    assert run.ids("invoices") == Counter(account.ids("invoice"))
    assert "charges" not in run.records


def test_a_stream_without_permission_keeps_its_bookmark(
    account: Emulator, command: Command
) -> None:
    first = command.run(config=config_of(account))
    account.keys.add("rk_test_narrow", {"customer": "read"})
    config = config_of(account, api_key="rk_test_narrow")
    second = command.run(config=config, state=first.state)
    assert second.exit_code == 1
    assert "Events: read" in second.errors or "rak_event_read" in second.errors
    assert second.state["bookmarks"]["charges"] == first.state["bookmarks"]["charges"]


def test_a_key_that_may_read_one_stream_only_reads_that(account: Emulator) -> None:
    account.keys.add("rk_test_products", {"product": "read"})
    output = read(config_of(account, api_key="rk_test_products"), "products")
    assert output.ids("products") == Counter(account.ids("product"))
    assert {record["_account_id"] for record in output.records["products"]} == {account.account_id}


def test_a_revoked_key_is_refused_and_not_told(account: Emulator, command: Command) -> None:
    account.keys.add("sk_test_51Revoked9", None)
    account.keys.revoke("sk_test_51Revoked9")
    run = refused(command, config_of(account, api_key="sk_test_51Revoked9"))
    assert "Check `api_key`" in run.errors
    assert "51Revoked9" not in run.errors


def test_a_key_revoked_amid_a_run_stops_it(account: Emulator) -> None:
    account.faults.add("status", CHARGES, status=401, times=None)
    with pytest.raises(errors.AuthenticationError, match="Check `api_key`"):
        read(config_of(account))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "Check `api_url`"),
        ("api.stripe.com", "`api_url` is not a URL: 'api.stripe.com'"),
        ("ftp://api.stripe.com", "`api_url` is not a URL"),
    ],
)
def test_a_wrong_url_is_named(account: Emulator, url: str, said: str) -> None:
    with pytest.raises(errors.AlloyError, match=said):
        read(config_of(account, api_url=url))


def test_a_url_without_stripe_behind_it_stops_the_run(account: Emulator) -> None:
    with pytest.raises(errors.StripeError):
        read(config_of(account, api_url=f"{account.url}/elsewhere"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_key": ""}, "`api_key` is not set"),
        ({"api_key": "pk_test_1"}, "a publishable key ('pk_') cannot read"),
        ({"api_key": "sk_test_a\nb"}, "characters that are not valid in a key"),
        ({"api_version": "latest"}, "`api_version` is not a version of Stripe's API: 'latest'"),
        ({"account_ids": ["cus_1"]}, "`account_ids` contains an invalid account id: 'cus_1'"),
        ({"start_date": "last week"}, "`start_date` is not a valid date: 'last week'"),
        ({"max_requests_per_second": 0}, "`max_requests_per_second` must be a number above 0"),
        ({"expand": {"charge": []}}, "`expand` contains an unknown stream: 'charge'"),
        ({"expand": {"charges": ["nothing"]}}, "charges has nothing to expand at 'nothing'"),
        ({"expand": {"subscriptions": ["items.data.price.product"]}}, "deeper than the 4 levels"),
    ],
)
def test_a_malformed_setting_is_named_before_any_request(
    account: Emulator, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        read({**config_of(account), **settings})
    assert said in str(caught.value)
    assert account.requests == []


def test_a_malformed_setting_is_one_line_on_the_command_line(
    account: Emulator, command: Command
) -> None:
    run = refused(command, config_of(account, api_version="latest"))
    assert "`api_version` is not a version of Stripe's API" in run.errors


def test_a_missing_key_is_named_on_the_command_line(command: Command) -> None:
    code, out, err = command.text(config={})
    assert code == 1
    assert out == ""
    assert "'api_key' is a required property" in err


def test_a_storm_of_500s_is_weathered(account: Emulator) -> None:
    for stream in LISTED:
        account.faults.add("status", stream.path, status=500, times=5)
    output = read(config_of(account))
    assert output.ids("charges") == Counter(account.ids("charge"))


def test_a_storm_of_429s_is_weathered(account: Emulator) -> None:
    headers = {"Stripe-Rate-Limited-Reason": "global-rate"}
    for stream in LISTED:
        account.faults.add("status", stream.path, status=429, times=3, headers=headers)
    output = read(config_of(account))
    assert output.ids("charges") == Counter(account.ids("charge"))


def test_an_outage_stops_the_run_without_moving_past_what_was_written(
    account: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    account.faults.add("status", CHARGES, status=500, times=None)
    with pytest.raises(errors.StripeUnavailable):
        read(config_of(account), "charges", "customers")


@pytest.mark.parametrize("kind", ["truncate", "cut_before", "cut_after", "garbage", "html"])
def test_broken_answers_lose_and_repeat_nothing(account: Emulator, kind: str) -> None:
    account.faults.add(kind, "/v1/", times=6, after=3)
    output = read(config_of(account))
    for stream, kind_of in (("charges", "charge"), ("invoice_line_items", "line_item")):
        assert output.ids(stream) == Counter(account.ids(kind_of))


def test_an_unknown_field_is_passed_on_and_named_once(
    account: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    account.faults.add("unknown_field", CHARGES, times=None, field="shiny", value={"new": [1]})
    with caplog.at_level(logging.WARNING):
        output = read(config_of(account), "charges")
    told = [text for text in caplog.messages if "charges.shiny is not in the schema" in text]
    assert len(told) == 1
    assert all(record["shiny"] == {"new": [1]} for record in output.records["charges"])


def test_a_null_where_the_schema_has_none_is_passed_on_and_named_once(
    account: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    account.faults.add("null_field", CHARGES, times=None, field="currency")
    with caplog.at_level(logging.WARNING):
        output = read(config_of(account), "charges")
    told = [text for text in caplog.messages if "charges.currency is null" in text]
    assert len(told) == 1
    assert all(record["currency"] is None for record in output.records["charges"])


def test_a_full_disk_ends_the_run_with_an_error(account: Emulator, command: Command) -> None:
    options = command.files(config=config_of(account))
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        run = subprocess.run(
            [sys.executable, "-m", "tap_stripe_alloy.tap", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert run.returncode == 1
    assert b"The output cannot be written: No space left on device" in run.stderr
    assert b"Traceback" not in run.stderr


def test_a_reader_that_goes_away_ends_the_run(account: Emulator, command: Command) -> None:
    process = command.start(config=config_of(account))
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) != 0


def test_all_accounts_of_an_account_without_any_is_an_error(account: Emulator) -> None:
    with pytest.raises(errors.SettingsError, match="no connected accounts"):
        read(config_of(account, account_ids=["all"]))


def test_an_account_that_the_key_has_no_access_to_is_named(account: Emulator) -> None:
    with pytest.raises(errors.AccountAccessError, match="Check `account_ids`"):
        read(config_of(account, account_ids=["acct_nope"]))


def test_a_nested_list_that_is_not_there_is_no_deletion(account: Emulator) -> None:
    account.faults.add("status", "/v1/invoices/", status=404, times=1)
    with pytest.raises(errors.NotFoundError):
        read(config_of(account), "invoices")


def test_a_stop_does_not_wait_for_what_waits(account: Emulator, command: Command) -> None:
    account.faults.add("status", CHARGES, status=429, headers={"Retry-After": "60"})
    process = command.start(config=config_of(account))
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(2)
    process.terminate()
    started = time.monotonic()
    process.stdout.read()
    assert process.wait(30) == 143
    assert time.monotonic() - started < 20


def test_no_output_shows_the_key(account: Emulator, command: Command) -> None:
    account.keys.add("sk_test_51VerySecret", None)
    run = command.run(config=config_of(account, api_key="sk_test_51VerySecret"))
    assert run.exit_code == 0
    assert "51VerySecret" not in run.errors
    assert "51VerySecret" not in str(run.messages)


def test_records_with_a_new_field_still_validate(account: Emulator) -> None:
    account.faults.add("unknown_field", CHARGES, times=None, field="shiny", value=1)
    output = read(config_of(account), "charges")
    for record in output.records["charges"]:
        jsonschema.validate(record, output.schemas["charges"], jsonschema.Draft7Validator)
