"""A month of events, read by runs that are stopped long before its end."""

from __future__ import annotations

import copy
import io
import signal
import threading
from contextlib import redirect_stdout, suppress
from typing import Any

from stripe_alloy.api.errors import AuthenticationError
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, Output, catalog_of, config_of, parse, read, tap_with
from tests.tap.histories import Destination

STREAMS = ("customers", "events")
REQUESTS = 100
"""What each run may ask for."""


def stopped(account: Emulator, process_of: Command, **files: object) -> Output:
    """What a run writes that gets SIGTERM once it has asked for so much."""
    enough = len(account.requests) + REQUESTS
    process = process_of.start(**files)
    pause, out = threading.Event(), list[bytes]()
    reader = threading.Thread(target=lambda: out.append(process.communicate()[0]), daemon=True)
    reader.start()
    while reader.is_alive() and len(account.requests) < enough:
        pause.wait(0.02)
    process.send_signal(signal.SIGTERM)
    reader.join()
    return Output(parse(out[0]), process.returncode)


def test_runs_that_are_stopped_again_and_again_come_to_an_end(
    account: Emulator, command: Command
) -> None:
    # Expanded, each customer that changed is asked for by itself: the slowest walk there is.
    expand = {"customers": ["invoice_settings.default_payment_method"]}
    config = config_of(account, expand=expand, max_requests_per_second=100)
    catalog = catalog_of(config, *STREAMS)
    destination = Destination()
    destination.take(read(config, state=None, catalog=catalog).messages)
    for _ in range(25):
        account.clock_advance(DAY)
        account.bulk(40)
    for _ in range(60):
        state = destination.state
        output = stopped(account, command, config=config, state=state, catalog=catalog)
        destination.take(output.messages)
        if output.exit_code == 0:
            break
        assert destination.state["bookmarks"] != state["bookmarks"]
    assert output.exit_code == 0
    there = {found["id"]: found["metadata"] for found in account.objects("customer")}
    rows = destination.of("customers")
    assert {key: rows[key]["metadata"] for key in there} == there
    assert set(destination.of("events")) >= {event["id"] for event in account.objects("event")}


def test_new_objects_after_a_long_pause_are_read_in_steps(empty: Emulator) -> None:
    stream, config = "balance_transactions", config_of(empty)
    destination = Destination()
    add_transactions(empty, 5)
    destination.take(read(config, select=[stream, "events"]).messages)
    for _ in range(20):
        empty.clock_advance(DAY)
        add_transactions(empty, 150)
    runs, positions = 0, set()
    while runs < 40:
        runs += 1
        empty.faults.clear()
        empty.faults.add("status", "/v1/balance_transactions", status=401, after=12, times=None)
        output = stopped_by_error(config, destination.state, stream)
        destination.take(output.messages)
        positions.add(destination.state["bookmarks"][stream]["replication_key_value"])
        if set(destination.of(stream)) == set(empty.ids("balance_transaction")):
            break
    assert 3 < runs < 12
    assert len(positions) >= runs - 1
    empty.faults.clear()
    assert read(config, state=destination.state, select=[stream]).exit_code == 0
    rows = [m for m in output.messages if m["type"] == "RECORD"]
    assert len(rows) < 12 * 100


def add_transactions(emulator: Emulator, number: int) -> None:
    """Add balance transactions, one every few minutes."""
    with emulator.store.transaction():
        session = emulator.service.session(emulator.account_id)
        for at in range(number):
            session.add("balance_transaction", created=session.now - 500 * at)
        session.flush()


def stopped_by_error(config: dict[str, Any], state: dict[str, Any], stream: str) -> Output:
    """What a run writes until Stripe refuses its key."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(stdout), suppress(AuthenticationError):
        tap_with([stream, "events"])(config=config, state=copy.deepcopy(state)).sync_all()
    return Output(parse(stdout.buffer.getvalue()))
