"""`./run python -m benchmarks`: how fast the tap reads, printed as a table.

Per core: a server on loopback that does no work, stdout to a file, beside the bare loop that only
parses and serialises the same pages. Under Stripe's limits: 300 ms mean latency, 25 requests a
second for each endpoint, 100 for the account, 429 beyond.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.server import HISTORIES, PAGE, History

EIGHT = (
    "charges",
    "customers",
    "payment_intents",
    "prices",
    "products",
    "refunds",
    "disputes",
    "payouts",
)


@dataclass(frozen=True)
class Run:
    """What one run of the tap took."""

    records: int
    wall: float
    """Seconds, start-up left out."""
    cpu: float
    """Seconds of all threads, start-up left out."""
    requests: int
    refused: int
    peak_mb: float


def pin(number: int) -> None:
    """Keep this process on one core, where the system can: the server has another one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})


@contextmanager
def server(*options: str) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.server", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=partial(pin, 0)
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def files(folder: Path, url: str, key: str, streams: tuple[str, ...], **more: Any) -> list[str]:
    """The tap's options for reading just these streams."""
    config = folder / "config.json"
    config.write_text(json.dumps({"api_key": key, "api_url": url, **more}))
    discover = [sys.executable, "-m", "tap_stripe_alloy.tap", "--config", str(config), "--discover"]
    found = subprocess.run(discover, capture_output=True, check=True).stdout
    catalog = json.loads(found)
    for entry in catalog["streams"]:
        root = next(row for row in entry["metadata"] if not row["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] in streams
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return ["--config", str(config), "--catalog", str(folder / "catalog.json")]


def tap(url: str, key: str, streams: tuple[str, ...] = ("charges",), **more: Any) -> Run:
    """Run the tap as users do, its output to a file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = files(folder, url, key, streams, **more)
        idle = measured([*options[:2], "--catalog", empty(folder, options[3])], folder)
        took = measured(options, folder)
        lines = (folder / "out").read_bytes().count(b'{"type":"RECORD"')
    with urllib.request.urlopen(f"{url}/_counts") as answer:
        counts = json.load(answer)
    refused = counts.pop("429", 0)
    wall, cpu = took[0] - idle[0], took[1] - idle[1]
    return Run(lines, wall, cpu, sum(counts.values()), refused, took[2])


def empty(folder: Path, catalog: str) -> str:
    """A catalog with nothing selected: what start-up costs."""
    content = json.loads(Path(catalog).read_text())
    for entry in content["streams"]:
        for row in entry["metadata"]:
            row["metadata"]["selected"] = False
    (folder / "none.json").write_text(json.dumps(content))
    return str(folder / "none.json")


def measured(options: list[str], folder: Path) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds, peak MB) of one process."""
    started = time.monotonic()
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "tap_stripe_alloy.tap", *options]
        process = subprocess.Popen(command, stdout=out, stderr=log, preexec_fn=partial(pin, -1))
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((folder / "log").read_text())
    wall = time.monotonic() - started
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def bare(objects: int) -> float:
    """Records a CPU second of a loop that parses pages and writes each object as a message."""
    history = History(HISTORIES["even"](objects, random.Random(1)))
    pages = [
        history.page({"limit": [str(PAGE)], "starting_after": [f"ch_{first - 1:08d}"]})
        for first in range(1, objects - PAGE, PAGE)
    ]
    encode = msgspec.json.Encoder().encode
    started, count = time.process_time(), 0
    with tempfile.TemporaryFile() as out:
        for page in pages:
            for found in msgspec.json.decode(page)["data"]:
                out.write(encode({"type": "RECORD", "stream": "charges", "record": found}) + b"\n")
                count += 1
    return count / (time.process_time() - started)


def per_core(objects: int) -> None:
    """Print the tap's speed beside the bare loop's."""
    loop = bare(objects)
    with server("--objects", str(objects)) as url:
        run = tap(url, "sk_test_bench", max_requests_per_second=100_000)
    print(f"| bare loop: parse and serialise | {loop:,.0f} records a CPU second | 1.00 |")
    speed = run.records / run.cpu
    print(f"| tap-stripe-alloy | {speed:,.0f} records a CPU second | {speed / loop:.2f} |")


def under_limits(objects: int) -> None:
    """Print what share of Stripe's own limit is reached, on uneven histories too."""
    cases: list[tuple[str, tuple[str, ...], int]] = [("even", EIGHT, 10_000)]
    cases += [(history, ("charges",), 2_500) for history in HISTORIES]
    for history, streams, limit in cases:
        options = ["--objects", str(objects), "--history", history, "--latency", "0.3", "--limits"]
        with server(*options) as url:
            run = tap(url, "sk_live_bench", streams)
        pages = len(streams) * objects / PAGE
        speed = run.records / run.wall
        print(
            f"| {history}, {len(streams)} stream(s) | {speed:,.0f} records/s | {speed / limit:.0%} "
            f"| {run.requests / pages - 1:+.1%} | {run.refused / (run.requests + run.refused):.2%} "
            f"| {run.peak_mb:.0f} MB |",
            flush=True,
        )


def main() -> None:
    """Run the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("which", nargs="?", choices=["all", "core", "limits"], default="all")
    options = parser.parse_args()
    if options.which in ("all", "core"):
        per_core(options.objects)
    if options.which in ("all", "limits"):
        under_limits(options.objects)


if __name__ == "__main__":
    main()
