"""A stop at any moment costs nothing but what was under way."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.timestamps import rfc3339, unix_seconds
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, Output, config_of, parse, read

STATES = Path(__file__).parent / "states"
BIG = ("charges", "invoices", "invoice_line_items", "customers", "balance_transactions")


def cut_at(output: Output, number: int) -> tuple[dict[str, Any], Output]:
    """The `number`th STATE, and what was written before it."""
    seen = 0
    for place, message in enumerate(output.messages):
        seen += message["type"] == "STATE"
        if seen > number:
            return message["value"], Output(output.messages[:place])
    raise AssertionError(number)


def asked_for(emulator: Emulator, since: int, path: str) -> list[Any]:
    return [request for request in emulator.requests[since:] if request.path == path]


def test_a_run_resumed_from_any_state_completes_it(business: Emulator) -> None:
    config = config_of(business)
    whole = read(config, *BIG)
    assert len(whole.states) > 4
    for number in range(len(whole.states)):
        state, before = cut_at(whole, number)
        after = read(config, *BIG, state=state)
        for stream in BIG:
            both = before.ids(stream) + after.ids(stream)
            assert set(both) == set(whole.ids(stream)), (number, stream)


def test_state_never_runs_ahead_of_records_of_interleaved_streams() -> None:
    """At every STATE: what it calls read was written before, whichever stream wrote last."""
    with Emulator(latency=0.01) as emulator:
        # Each takes its turn, however busy the machine is: one's first pages, the other, the rest.
        emulator.faults.add("delay", "/v1/customers", seconds=1.5)
        emulator.faults.add("delay", "/v1/charges", after=6, seconds=3.0)
        output = read(config_of(emulator, max_concurrency=8), *BIG)
        created = {
            stream: {found["id"]: found["created"] for found in emulator.objects(name)}
            for stream, name in (("charges", "charge"), ("customers", "customer"))
        }
    written: dict[str, set[str]] = {stream: set() for stream in created}
    turns, last, states = 0, "", 0
    for message in output.messages:
        if message["type"] == "RECORD" and message["stream"] in created:
            written[message["stream"]].add(message["record"]["id"])
            turns += last != message["stream"]
            last = message["stream"]
        elif message["type"] == "STATE":
            states += 1
            for stream, objects in created.items():
                assert covered(message["value"], stream, objects) <= written[stream]
    assert turns > 2
    assert states > 4


def covered(state: dict[str, Any], stream: str, created: dict[str, int]) -> set[str]:
    """The objects that a state calls read; beyond a cursor, only what is in a later second."""
    mark = state["bookmarks"].get(stream, {})
    if "backfill" not in mark:
        return set(created) if "replication_key_value" in mark else set()
    return {
        source_id
        for source_id, at in created.items()
        if not any(low <= at < high for low, high, _ in mark["backfill"]["missing"])
    }


def test_what_was_written_before_a_state_is_not_read_again(business: Emulator) -> None:
    config = config_of(business)
    whole = read(config, "charges")
    state, before = cut_at(whole, len(whole.states) // 2)
    assert sum(before.ids("charges").values()) >= 1_000
    after = read(config, "charges", state=state)
    assert max((before.ids("charges") + after.ids("charges")).values()) == 1


def test_kill_9_amid_a_backfill_loses_nothing(command: Command) -> None:
    with Emulator(latency=0.02) as emulator:
        config = config_of(emulator, max_concurrency=4)
        process = command.start(config=config)
        assert process.stdout is not None
        lines, states = [], 0
        for line in process.stdout:
            lines.append(line)
            states += line.startswith(b'{"type":"STATE"')
            if states == 4:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.communicate()
        first = Output(parse(b"".join(lines)))
        done_before = len(emulator.requests)
        second = command.run(config=config, state=first.state)
        assert process.returncode == -signal.SIGKILL
        assert second.exit_code == 0, second.errors
        for stream, object_name in (("charges", "charge"), ("invoices", "invoice")):
            both = set(first.ids(stream)) | set(second.ids(stream))
            assert both == set(emulator.ids(object_name))
        written = sum(sum(first.ids(stream).values()) for stream in first.records)
        assert written > 2_000
        assert len(emulator.requests) - done_before < done_before + 40


def test_finished_slices_are_not_asked_for_again(business: Emulator) -> None:
    config = config_of(business)
    whole = read(config, "charges")
    state, _ = cut_at(whole, len(whole.states) - 1)
    left = state["bookmarks"]["charges"].get("backfill", {"missing": []})["missing"]
    since = len(business.requests)
    read(config, "charges", state=state)
    for request in asked_for(business, since, "/v1/charges"):
        low = int(request.params.get("created[gte]", ["0"])[0])
        assert any(low >= window[0] for window in left)


def test_sigterm_ends_with_a_state_and_says_so(command: Command) -> None:
    with Emulator(latency=0.05) as emulator:
        config = config_of(emulator, max_concurrency=2)
        process = command.start(config=config)
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(200)]
        process.terminate()
        output = Output(parse(b"".join(first) + process.stdout.read()))
        assert process.wait(60) == 143
        assert process.stderr is not None
        assert b"Run again to resume" in process.stderr.read()
        assert output.messages[-1]["type"] == "STATE"
        after = command.run(config=config, state=output.state)
        both = set(output.ids("charges")) | set(after.ids("charges"))
        assert both == set(emulator.ids("charge"))


def test_a_cursor_deleted_between_two_pages_loses_nothing(account: Emulator) -> None:
    config = config_of(account)
    client = stripe.StripeClient(account.api_key, base_addresses={"api": account.url})
    for _ in range(230):
        client.v1.customers.create()
    whole = read(config, "customers")
    newest = max(unix_seconds(record["created"]) for record in whole.records["customers"])
    cursor = whole.records["customers"][99]["id"]
    anchor = whole.state["bookmarks"]["customers"]["replication_key_value"]
    left = {"anchor": anchor, "missing": [[0, newest + 1, cursor]]}
    client.v1.customers.delete(cursor)
    after = read(config, "customers", state={"bookmarks": {"customers": {"backfill": left}}})
    assert set(account.ids("customer")) <= set(whole.ids("customers") + after.ids("customers"))
    assert cursor not in after.ids("customers")


def test_the_state_of_another_account_is_refused(account: Emulator, command: Command) -> None:
    with Emulator(seed=2, customers=3) as other:
        state = read(config_of(other), "customers").state
    run = command.run(config=config_of(account), state=state)
    assert run.exit_code == 1
    assert f"belongs to account {other.account_id}, but the key belongs to" in run.errors
    assert "Traceback" not in run.errors
    assert run.records == {}


def test_a_new_key_of_the_same_account_goes_on(account: Emulator) -> None:
    first = read(config_of(account), "customers")
    account.keys.add("sk_test_rolled")
    since = len(account.requests)
    read(config_of(account), "customers", state=first.state)
    assert not asked_for(account, since, "/v1/account")
    second = read(config_of(account, api_key="sk_test_rolled"), "customers", state=first.state)
    assert len(asked_for(account, since, "/v1/account")) == 1
    assert second.state == first.state
    assert second.records == {}


def test_the_state_holds_no_key(account: Emulator) -> None:
    assert account.api_key not in json.dumps(read(config_of(account)).state)


@pytest.mark.parametrize("name", sorted(path.stem for path in STATES.glob("*.json")))
def test_states_of_earlier_shapes_still_read(account: Emulator, name: str) -> None:
    text = (STATES / f"{name}.json").read_text().replace("NOW", rfc3339(int(time.time())))
    state = json.loads(text.replace("acct_own", account.account_id))
    output = read(config_of(account), "customers", "charges", state=state)
    assert output.ids("customers").total() == (0 if "listed" in name else account.count("customer"))
    assert output.state["bookmarks"]["customers"]["replication_key_value"]


@pytest.mark.parametrize(
    "state",
    [
        {"bookmarks": {"charges": {"replication_key": "updated", "replication_key_value": 5}}},
        {"bookmarks": {"charges": {"replication_key_value": "2026-11-01", "events_until": "soon"}}},
        {"bookmarks": {"charges": {"backfill": {"missing": "all"}}}},
        {"bookmarks": {"charges": {"backfill": {"anchor": "soon", "missing": []}}}},
    ],
)
def test_a_broken_state_is_refused_with_a_clear_word(
    account: Emulator, command: Command, state: dict[str, Any]
) -> None:
    run = command.run(config=config_of(account), state=state)
    assert run.exit_code == 1
    assert "The state of stream 'charges' cannot be read" in run.errors
    assert "Traceback" not in run.errors


@pytest.mark.parametrize("name", [stream.name for stream in OBJECT_TYPES])
def test_a_backfill_of_which_nothing_is_left_is_done(account: Emulator, name: str) -> None:
    """Else nothing would ever be asked for, and no run would say so."""
    anchor = rfc3339(int(time.time()) - 3_600)
    state = {"bookmarks": {name: {"backfill": {"anchor": anchor, "missing": []}}}}
    bookmark = read(config_of(account), name, state=state).state["bookmarks"][name]
    assert "backfill" not in bookmark
    assert bookmark["replication_key_value"] == anchor


@pytest.mark.parametrize("name", ["products", "prices"])
def test_a_backfill_of_which_no_part_has_anything_left_is_done(
    account: Emulator, name: str
) -> None:
    anchor = rfc3339(int(time.time()) - 3_600)
    left = {"anchor": anchor, "missing": [], "others": [[]]}
    state = {"bookmarks": {name: {"backfill": left}}}
    bookmark = read(config_of(account), name, state=state).state["bookmarks"][name]
    assert "backfill" not in bookmark
    assert bookmark["replication_key_value"] == anchor
