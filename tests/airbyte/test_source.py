"""The source over real HTTP: what Airbyte's platform relies on, message by message."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from airbyte_protocol_dataclasses.models import FailureType

from source_stripe_alloy.stream_status import StreamStatusTracker
from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.errors import (
    AccountAccessError,
    AuthenticationError,
    ErrorDetails,
    InvalidRequestError,
    RateLimited,
    StripeError,
    StripeUnavailable,
)
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.emulator import Emulator
from tests.airbyte.helpers import Said, Source, finish, name_of
from tests.conftest import FullRead, config_of, parse

BIG = ("charges", "invoices", "invoice_line_items", "customers")
NAMES = [stream.name for stream in OBJECT_TYPES]
WITH_RECORDS = [stream.name for stream in DEFAULT_TYPES]


@pytest.fixture
def source(account: Emulator, tmp_path: Path) -> Source:
    return Source(tmp_path, config_of(account))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    """Everything of the default account."""
    with Emulator() as emulator:
        source = Source(tmp_path_factory.mktemp("whole"), config_of(emulator))
        yield source.read(source.catalog())


def test_the_spec_hides_secrets_and_requires_the_key(source: Source) -> None:
    [spec] = source.run("spec").of("spec")
    settings = spec["connectionSpecification"]
    secret = {n for n, field in settings["properties"].items() if field.get("airbyte_secret")}
    assert secret == {"api_key", "webhook_inbox", "ignore_own_writes"}
    assert settings["required"] == ["api_key"]
    assert {type(field["type"]) for field in settings["properties"].values()} == {str}


def test_discovery_names_cursor_and_key_of_each_stream(source: Source) -> None:
    [catalog] = source.run("discover", config=source.config).of("catalog")
    found = {stream["name"]: stream for stream in catalog["streams"]}
    assert sorted(found) == sorted(NAMES)
    for declared in OBJECT_TYPES:
        stream = found[declared.name]
        assert stream["source_defined_primary_key"] == [["id"]]
        assert stream["default_cursor_field"] == [declared.replication_key]
        assert stream["supported_sync_modes"] == ["full_refresh", "incremental"]
        assert stream["json_schema"]["properties"]["id"]["type"] == "string"


def test_discovery_needs_no_network(source: Source) -> None:
    config = {"api_key": "sk_test_1", "api_url": "http://127.0.0.1:9"}
    assert source.run("discover", config=config).exit_code == 0


@pytest.mark.parametrize("stream", WITH_RECORDS)
def test_the_rows_are_those_that_come_through_singer(
    whole: Said, full_read: FullRead, stream: str
) -> None:
    def rows(records: list[dict[str, Any]]) -> list[Any]:
        return sorted(records, key=lambda record: str(record["id"]))

    assert rows(whole.records[stream]) == rows(full_read.output.records[stream])


@pytest.mark.parametrize("stream", WITH_RECORDS)
def test_each_streams_states_count_all_its_records(whole: Said, stream: str) -> None:
    since, counts, told = 0, [], []
    for message in whole.messages:
        since += message.get("record", {}).get("stream") == stream
        if "state" in message and name_of(message["state"]) == stream:
            counts.append(since)
            told.append(message["state"]["sourceStats"]["recordCount"])
            since = 0
    assert told == counts
    assert since == 0
    assert sum(counts) == len(whole.records[stream])


@pytest.mark.parametrize("stream", WITH_RECORDS)
def test_a_stream_starts_runs_and_completes(whole: Said, stream: str) -> None:
    assert whole.statuses(stream) == ["STARTED", "RUNNING", "COMPLETE"]


def test_the_last_state_comes_before_complete(whole: Said) -> None:
    done = set()
    for message in whole.messages:
        status = message.get("trace", {}).get("stream_status", {})
        if status.get("status") == "COMPLETE":
            done.add(status["stream_descriptor"]["name"])
        assert "state" not in message or name_of(message["state"]) not in done
    assert done == set(NAMES)


def test_nothing_but_messages_is_written(whole: Said) -> None:
    assert whole.exit_code == 0
    assert whole.errors == ""
    kinds = {"RECORD", "STATE", "TRACE", "LOG"}
    assert {message["type"] for message in whole.messages} == kinds


def test_a_second_read_brings_what_changed_and_what_is_gone(
    account: Emulator, source: Source
) -> None:
    catalog = source.catalog("customers")
    first = source.read(catalog)
    api = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    edited, gone = account.ids("customer")[:2]
    api.customers.update(edited, {"name": "Ada"})
    api.customers.delete(gone)
    second = source.read(catalog, first.states)
    assert {record["id"]: record["deleted"] for record in second.records["customers"]} == {
        edited: False,
        gone: True,
    }
    assert source.read(catalog, second.states).of("record") == []


def test_a_read_that_is_killed_goes_on_where_its_states_end(
    business: Emulator, tmp_path: Path
) -> None:
    """From each state on, what is written before and after is the whole; few rows come twice."""
    source = Source(tmp_path, config_of(business))
    catalog = source.catalog(*BIG)
    messages = source.read(catalog).messages
    ends = [n + 1 for n, message in enumerate(messages) if "state" in message]
    assert len(ends) > 12
    for end in ends[1 : -len(BIG) : 4]:
        before = Said(messages[:end], 0, "")
        after = source.read(catalog, before.states)
        for stream in BIG:
            both = before.ids(stream) + after.ids(stream)
            assert set(both) == set(Said(messages, 0, "").ids(stream)), (end, stream)
    assert len(after.of("record")) < len(Said(messages, 0, "").of("record")) / 2


def test_kill_9_amid_a_read_loses_nothing(tmp_path: Path) -> None:
    with Emulator(latency=0.05) as emulator:
        source = Source(tmp_path, {**config_of(emulator), "max_concurrency": 2})
        catalog = source.catalog(*BIG)
        with source.start("read", config=source.config, catalog=catalog, state=[]) as process:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line)
                if sum(b'"STATE"' in line for line in lines) > 8:
                    break
            process.kill()
        before = Said(parse(b"".join(lines)), 0, "")
        after = source.read(catalog, before.states)
        assert len(before.of("record")) > 0
        for stream, kind in (("charges", "charge"), ("customers", "customer")):
            both = before.ids(stream) + after.ids(stream)
            assert set(both) == set(emulator.ids(kind))


def test_sigterm_ends_with_a_state_and_says_that_streams_are_incomplete(tmp_path: Path) -> None:
    with Emulator(latency=0.2) as emulator:
        source = Source(tmp_path, {**config_of(emulator), "max_concurrency": 1})
        catalog = source.catalog("charges")
        process = source.start("read", config=source.config, catalog=catalog, state=[])
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if b'"RECORD"' in line:
                break
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.readlines()
        finish(process)
        said = Said(parse(b"".join(lines)), process.returncode, "")
        assert said.exit_code == 143
        assert said.statuses("charges")[-1] == "INCOMPLETE"
        counted = sum(state["sourceStats"]["recordCount"] for state in said.of("state"))
        assert counted == len(said.records["charges"])
        after = source.read(catalog, said.states)
        assert said.ids("charges") + after.ids("charges") == Counter(emulator.ids("charge"))


def test_a_full_refresh_reads_all_again(source: Source) -> None:
    first = source.read(source.catalog("products", mode="full_refresh", sync=1))
    second = source.read(source.catalog("products", mode="full_refresh", sync=2), first.states)
    assert second.ids("products") == first.ids("products")


def test_a_full_refresh_does_not_repeat_what_an_attempt_before_has_done(source: Source) -> None:
    catalog = source.catalog("products", mode="full_refresh", sync=7)
    first = source.read(catalog)
    again = source.read(catalog, first.states)
    assert again.of("record") == []
    assert again.statuses("products") == ["STARTED", "COMPLETE"]
    assert again.states == [
        {**state, "sourceStats": {"recordCount": 0.0}} for state in first.states
    ]


def test_after_a_full_refresh_a_stream_can_go_on_incrementally(source: Source) -> None:
    first = source.read(source.catalog("products", mode="full_refresh"))
    assert source.read(source.catalog("products"), first.states).of("record") == []


def test_a_stream_without_permission_is_told_and_the_others_complete(
    account: Emulator, source: Source
) -> None:
    account.keys.add("rk_test_products", {"product": "read"})
    said = source.read(source.catalog("products", "charges"), api_key="rk_test_products")
    assert said.exit_code == 1
    assert said.statuses("products")[-1] == "COMPLETE"
    assert said.statuses("charges") == ["STARTED", "INCOMPLETE"]
    [failure] = said.failures
    assert failure["failure_type"] == "config_error"
    assert failure["stream_descriptor"] == {"name": "charges"}
    assert "Charges and Refunds: read" in failure["message"]


def test_the_check_passes_with_a_key_for_one_stream_and_logs_the_others(
    account: Emulator, source: Source
) -> None:
    account.keys.add("rk_test_products", {"product": "read"})
    said = source.run("check", config={**source.config, "api_key": "rk_test_products"})
    assert said.of("connectionStatus") == [{"status": "SUCCEEDED"}]
    assert "Stream charges cannot be read" in said.log
    assert "Stream products" not in said.log


def test_the_check_fails_with_a_key_that_may_read_nothing(
    account: Emulator, source: Source
) -> None:
    account.keys.add("rk_test_nothing", {})
    [status] = source.run("check", config={**source.config, "api_key": "rk_test_nothing"}).of(
        "connectionStatus"
    )
    assert status["status"] == "FAILED"
    assert "Customers: read" in status["message"]


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"api_key": "sk_test_51Unknown9"}, "Check `api_key`"),
        ({"api_key": "pk_test_51Unknown9"}, "publishable"),
        ({"api_key": "sk_test_1", "max_concurrency": "many"}, "max_concurrency"),
        ({}, "api_key"),
    ],
)
def test_the_check_says_what_is_wrong_with_a_configuration(
    account: Emulator, source: Source, config: dict[str, Any], word: str
) -> None:
    said = source.run("check", config={"api_url": account.url, **config})
    [status] = said.of("connectionStatus")
    assert status["status"] == "FAILED"
    assert word in status["message"]
    assert "51Unknown9" not in json.dumps(said.messages) + said.errors


def test_what_stripe_refuses_stops_the_read_and_leaves_its_streams_incomplete(
    account: Emulator, source: Source
) -> None:
    catalog = source.catalog("products")
    account.faults.add("status", "/v1/products", status=400, times=None)
    said = source.read(catalog)
    assert said.exit_code == 1
    assert [failure["failure_type"] for failure in said.failures] == ["system_error"]
    assert said.statuses("products")[-1] == "INCOMPLETE"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StripeUnavailable, FailureType.transient_error),
        (RateLimited, FailureType.transient_error),
        (AuthenticationError, FailureType.config_error),
        (AccountAccessError, FailureType.config_error),
        (InvalidRequestError, FailureType.system_error),
    ],
)
def test_a_failure_says_who_must_act(error: type[StripeError], kind: FailureType) -> None:
    message = StreamStatusTracker().failed(error(ErrorDetails("No.")))
    assert message.trace
    assert message.trace.error
    assert message.trace.error.failure_type is kind
    assert message.trace.error.message.startswith("No.")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("config", "{", "not valid JSON"),
        ("config", "[]", "no settings"),
        ("catalog", {"streams": [{}]}, "not a configured catalog"),
        ("catalog", {"streams": [{"stream": {"name": "x"}, "sync_mode": "incremental"}]}, "'x'"),
        ("state", [{"type": "GLOBAL"}], "not from this source"),
        ("state", {"products": 1}, "not from this source"),
    ],
)
def test_a_file_that_is_wrong_is_a_config_error(
    source: Source, name: str, content: Any, word: str
) -> None:
    files = {"config": source.config, "catalog": source.catalog("products"), "state": []}
    said = source.run("read", **{**files, name: content})
    assert said.exit_code == 1
    [failure] = said.failures
    assert failure["failure_type"] == "config_error"
    assert word in failure["message"]
    assert "Traceback" not in said.errors


def test_a_state_of_another_account_is_refused(source: Source, tmp_path: Path) -> None:
    catalog = source.catalog("products")
    first = source.read(catalog)
    with Emulator(seed=5, customers=2) as other:
        said = Source(tmp_path, config_of(other)).read(catalog, first.states)
    assert said.exit_code == 1
    assert "the key belongs to" in said.failures[0]["message"]
