"""Runs the server, the tap and its peers as processes, each side on a core of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEBHOOK_SECRET = "whsec_benchmark"
SERVER, CLIENT = 0, -1
"""The first core serves, the last one reads."""


@dataclass(frozen=True)
class Took:
    """What one process took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all threads."""
    peak_mb: float


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Keep this process and those it starts meanwhile on one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.server", *options]
    with on_core(SERVER):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def counts(url: str) -> tuple[int, int]:
    """Requests that a server answered so far, and those that it refused with 429."""
    with urllib.request.urlopen(f"{url}/_counts") as answer:
        found = json.load(answer)
    refused = found.pop("429", 0)
    return sum(found.values()), refused


def timed(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Took:
    """Run a command, its output to `folder/out`."""
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log, on_core(CLIENT):
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=out, stderr=log, env={**os.environ, **(env or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
    if status:
        raise SystemExit((folder / "log").read_text()[-5_000:])
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


TAP = [sys.executable, "-m", "tap_stripe_alloy.tap"]


def tap_options(
    folder: Path, url: str, key: str, streams: Sequence[str] = ("charges",), **more: Any
) -> list[str]:
    """The tap's options for reading just these streams."""
    config, catalog = folder / "config.json", folder / "catalog.json"
    config.write_text(json.dumps({"api_key": key, "api_url": url, **more}))
    discover = [*TAP, "--config", str(config), "--discover"]
    found = json.loads(subprocess.run(discover, capture_output=True, check=True).stdout)
    for entry in found["streams"]:
        root = next(row for row in entry["metadata"] if not row["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] in streams
    catalog.write_text(json.dumps(found))
    return ["--config", str(config), "--catalog", str(catalog)]


TARGET = [sys.executable, "-m", "target_stripe_alloy.target"]


def target_command(
    folder: Path,
    url: str,
    key: str,
    records: Sequence[tuple[str, Mapping[str, Any]]],
    name: str = "records",
    **more: Any,
) -> list[str]:
    """The command that writes these (stream, record) pairs."""
    config, messages = folder / "target.json", folder / f"{name}.jsonl"
    live = {"mode": "live", "expected_account_id": "acct_bench"} if "live" in key else {}
    files = {name: str(folder / f"target.{name}") for name in ("rejects", "summary")}
    journal = {"journal": f"sqlite:///{folder}/journal.db"}
    settings = {"api_key": key, "api_url": url, **live, **files, **journal, **more}
    config.write_text(json.dumps(settings))
    schema = {"type": "object", "properties": {"id": {"type": "string"}}}
    with messages.open("w") as out:
        for stream in dict.fromkeys(stream for stream, _ in records):
            head = {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": ["id"]}
            out.write(json.dumps(head) + "\n")
        for stream, record in records:
            message = {"type": "RECORD", "stream": stream, "record": record}
            out.write(json.dumps(message) + "\n")
    return [*TARGET, "--config", str(config), "--input", str(messages)]


@contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """The URL of `stripe-alloy listen` in a process of its own, its inbox in the folder."""
    inbox = f"sqlite:///{folder}/inbox.db"
    command = [
        sys.executable,
        "-m",
        "stripe_alloy_cli.cli",
        "listen",
        "--inbox",
        inbox,
        "--port",
        "0",
    ]
    env = {**os.environ, "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET}
    with on_core(SERVER):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    with process, on_core(CLIENT):
        assert process.stderr is not None
        try:
            yield process.stderr.readline().split("Listening at ")[1].split("/ ")[0]
        finally:
            process.terminate()
