"""How far a run is: on a terminal, in the log, in the SDK's metrics."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest

from stripe_alloy.api.timestamps import rfc3339
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy import progress
from tests.conftest import Command, catalog_of, config_of, parse, read

STREAMS = ("charges", "customers")


def test_a_terminal_shows_a_table_and_stdout_stays_clean(command: Command) -> None:
    with Emulator(customers=400, latency=0.05) as emulator:
        begins = rfc3339(min(found["created"] for found in emulator.objects("charge")))
        config = config_of(emulator, max_concurrency=2, start_date=begins)
        options = command.files(config=config, catalog=catalog_of(config, "charges"))
        out, screen = on_a_terminal(options)
        records = [message for message in parse(out) if message["type"] == "RECORD"]
        assert len(records) == emulator.count("charge")
    assert re.search(r"│ charges\s+│\s+[\d,]+ │\s+\d+ │\s+[\d,]+ │", screen)
    assert re.search(r"\d+ s │", screen)
    assert "rate-limited: 0" in screen
    assert f"Records: {len(records)}" in screen
    *_, last = re.findall(r"│ charges\s+│\s+([\d,]+) │", screen)
    assert int(last.replace(",", "")) == len(records)


def on_a_terminal(options: list[str]) -> tuple[bytes, str]:
    """stdout, and what a terminal as stderr got."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tap_stripe_alloy.tap", *options],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=env,
    )
    os.close(theirs)
    screen = bytearray()

    def watch() -> None:
        try:
            while part := os.read(ours, 4096):
                screen.extend(part)
        except OSError:
            return  # Linux says so that the other side is closed

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = process.communicate(timeout=60)
    watcher.join(10)
    os.close(ours)
    assert process.returncode == 0, screen.decode()
    return out, screen.decode()


def test_without_a_terminal_a_line_comes_every_so_often(
    account: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        read(config_of(account), "charges")
    lines = [text for text in caplog.messages if text.startswith("Reading: ")]
    assert any(
        re.match(r"Reading: charges [\d,]+ records, \d+ pages, [\d,]+/s", line) for line in lines
    )
    assert all(re.search(r"Requests: \d+, rate-limited: 0\.$", line) for line in lines)


def test_a_long_silence_of_stripe_is_told(
    account: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    account.faults.add("delay", "/v1/charges", seconds=1.2)
    with caplog.at_level(logging.INFO):
        read(config_of(account), "charges")
    assert any("no records yet" in text for text in caplog.messages)


def test_metrics_are_the_sdks_where_debugging_is_asked_for(
    account: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAP_STRIPE_ALLOY_LOGLEVEL", "debug")
    with caplog.at_level(logging.INFO):
        output = read(config_of(account), *STREAMS)
    points = [point_of(record) for record in caplog.records if record.name == "singer_sdk.metrics"]
    counts: Counter[str] = Counter()
    for point in points:
        if point["metric"] == "record_count":
            counts[point["tags"]["stream"]] += point["value"]
    assert counts == {stream: len(output.records[stream]) for stream in STREAMS}
    requests = {p["tags"]["endpoint"]: p["value"] for p in points if "request" in p["metric"]}
    assert requests["GET /v1/charges"] >= 1
    assert any(point["metric"] == "sync_duration" for point in points)


def test_metrics_are_no_lines_of_an_ordinary_run(command: Command) -> None:
    with Emulator(customers=5) as emulator:
        config = config_of(emulator)
        _, _, log = command.text(config=config, catalog=catalog_of(config, "customers"))
    assert "METRIC" not in log
    assert "Records: " in log


def point_of(record: logging.LogRecord) -> dict[str, Any]:
    point: dict[str, Any] = json.loads(record.getMessage().removeprefix("METRIC: "))
    return point


def test_a_slow_reader_slows_the_requests(command: Command) -> None:
    """Nobody reads our stdout: no more pages are asked for than may be under way."""
    with Emulator(customers=600) as emulator:
        config = config_of(emulator, max_concurrency=4)
        options = command.files(config=config, catalog=catalog_of(config, "charges"))
        with subprocess.Popen(
            [sys.executable, "-m", "tap_stripe_alloy.tap", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            for _ in range(20):
                process.stdout.readline()
            settled = requests_once_quiet(emulator)
            assert settled <= 16
            assert settled < emulator.count("charge") / 100
            rest = process.stdout.read()
        assert rest.count(b'"type":"RECORD"') > 1_000


def requests_once_quiet(emulator: Emulator) -> int:
    before = -1
    while before != len(emulator.requests):
        before = len(emulator.requests)
        threading.Event().wait(1)
    return before
