"""A month of events, read by runs that are stopped long before its end."""

from __future__ import annotations

import signal
import threading

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator import Emulator
from tests.conftest import Command, Output, catalog_of, config_of, parse, read
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
