"""`./run python -m benchmarks`: what tap and target reach, printed as tables.

Per core: a server on loopback that does no work, stdout to a file, beside the bare loop that only
parses and serialises the same pages, and beside what users pick today. Under Stripe's limits:
300 ms mean latency, 25 requests a second for each endpoint, 100 for the account, 429 beyond.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.peers import FEW, PEERS, speed
from benchmarks.processes import (
    CLIENT,
    TAP,
    counts,
    on_core,
    receiver,
    server,
    tap_options,
    target_command,
    timed,
)
from benchmarks.server import HISTORIES, PAGE, History, charge_rest
from benchmarks.webhooks import request, send
from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.emulator import Emulator

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
KINDS = ("customers", "products", "prices", "payment_intents")
TEST_KEY, LIVE_KEY = "sk_test_bench", "sk_live_bench"
UNLIMITED = 100_000
"""Requests a second."""
ROUNDS = 8
"""Two shared cores are noisy: each figure is the best of so many, taken in turns."""


def bare(pages: list[bytes]) -> float:
    """Records a CPU second of a loop that parses pages and writes each object as a message."""
    encode = msgspec.json.Encoder().encode
    with on_core(CLIENT), tempfile.TemporaryFile() as out:
        started, count = time.process_time(), 0
        for page in pages:
            for found in msgspec.json.decode(page)["data"]:
                out.write(encode({"type": "RECORD", "stream": "charges", "record": found}) + b"\n")
                count += 1
        return count / (time.process_time() - started)


def ours(objects: int, **more: Any) -> float:
    """Records a CPU second of the tap, start-up left out."""
    took = []
    for number in (FEW, objects):
        with server("--objects", str(number)) as url, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            options = tap_options(folder, url, TEST_KEY, max_requests_per_second=UNLIMITED, **more)
            took.append(timed([*TAP, *options], folder).cpu)
            assert (folder / "out").read_bytes().count(b'{"type":"RECORD"') == number
    return (objects - FEW) / (took[1] - took[0])


def per_core(objects: int) -> None:
    """The tap's speed beside the bare loop's and its peers'."""
    history = History(HISTORIES["even"](objects, random.Random(1)))
    pages = [
        history.page({"limit": [str(PAGE)], "starting_after": [f"ch_{first - 1:08d}"]})
        for first in range(1, objects - PAGE, PAGE)
    ]
    rounds = [(bare(pages), ours(objects)) for _ in range(ROUNDS)]
    loop, tap = (max(figures) for figures in zip(*rounds, strict=True))
    print("| per core | records per CPU second | relative to the bare loop | tap-stripe-alloy is |")
    print("|---|---|---|---|")
    print(f"| bare loop: parse and serialise | {loop:,.0f} | 1.00 | |")
    print(f"| **tap-stripe-alloy** | **{tap:,.0f}** | **{tap / loop:.2f}** | |", flush=True)
    for what, settings in (
        ("a stream map", {"stream_maps": {"charges": {"paid": "bool(paid)"}}}),
        ("flattened", {"flattening_enabled": True, "flattening_max_depth": 1}),
    ):
        figure = ours(objects // 5, **settings)
        print(f"| tap-stripe-alloy, {what} | {figure:,.0f} | {figure / loop:.2f} | |", flush=True)
    for peer in PEERS:
        figure = speed(peer)
        print(f"| {peer.name} | {figure:,.0f} | {figure / loop:.3f} | {tap / figure:,.0f} x |")


def under_limits(objects: int) -> None:
    """What share of Stripe's own limit is reached, on uneven histories too."""
    print("| distribution of `created` | records/s | share of the limit | extra requests | 429 |")
    print("|---|---|---|---|---|")
    cases: list[tuple[str, tuple[str, ...], int]] = [("even", EIGHT, 10_000)]
    cases += [(history, ("charges",), 2_500) for history in HISTORIES]
    for history, streams, limit in cases:
        idle = start_up_seconds(streams)
        options = ["--objects", str(objects), "--history", history, "--latency", "0.3", "--limits"]
        with server(*options) as url, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            wall = timed([*TAP, *tap_options(folder, url, LIVE_KEY, streams)], folder).wall - idle
            records = (folder / "out").read_bytes().count(b'{"type":"RECORD"')
            requests, refused = counts(url)
        pages = len(streams) * objects / PAGE
        print(
            f"| {history}, {len(streams)} stream(s) | {records / wall:,.0f} "
            f"| {records / wall / limit:.0%} | {requests / pages - 1:+.1%} "
            f"| {refused / (requests + refused):.2%} |",
            flush=True,
        )


def start_up_seconds(streams: Sequence[str]) -> float:
    """Seconds that a run takes to read empty lists."""
    with server("--objects", "0") as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return timed([*TAP, *tap_options(folder, url, LIVE_KEY, streams)], folder).wall


def memory(_: int) -> None:
    """Whether memory grows with the data, or with a slow reader of stdout."""
    print("| memory | peak |")
    print("|---|---|")
    for objects in (50_000, 1_000_000):
        with server("--objects", str(objects)) as url, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = tap_options(folder, url, TEST_KEY, max_requests_per_second=UNLIMITED)
            peak = timed([*TAP, *files], folder).peak_mb
        print(f"| {objects:,} charges | {peak:.1f} MB |", flush=True)
    with server("--objects", "1000000") as url, tempfile.TemporaryDirectory() as name:
        files = tap_options(Path(name), url, TEST_KEY, max_requests_per_second=UNLIMITED)
        print(f"| 1,000,000 charges, 10 read a second for 30 s | {slow_reader(url, files)} |")


def slow_reader(url: str, files: list[str]) -> str:
    """Read ten records a second for a while: peak memory, and pages asked for."""
    with subprocess.Popen([*TAP, *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        for _ in range(300):
            run.stdout.readline()
            time.sleep(0.1)
        status = Path(f"/proc/{run.pid}/status").read_text()
        run.kill()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return f"{peak:.1f} MB, {counts(url)[0]} requests sent"


def start_up(_: int) -> None:
    """What the commands cost that read nothing."""
    print("| start-up | CPU seconds |")
    print("|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.json"
        config.write_text(json.dumps({"api_key": TEST_KEY}))
        for option in ("--version", "--about", "--discover"):
            command = [*TAP, "--config", str(config), option]
            env = {"PYTHONDONTWRITEBYTECODE": ""}
            took = min(timed(command, folder, env).cpu for _ in range(ROUNDS))
            print(f"| `{option}` | {took:.2f} |", flush=True)


def writes(objects: int) -> None:
    """What share of Stripe's limits updates reach: one GET and one POST each.

    Four types, one stream after the other, as most taps send them.
    """
    records = [
        (KINDS[n * len(KINDS) // (objects // 10)], {"id": f"x_{n:08d}", "metadata": {"step": "1"}})
        for n in range(objects // 10)
    ]
    print("| updates of four types | updates/s | requests/s of 100 | answered 429 |")
    print("|---|---|---|---|")
    with server("--latency", "0.3", "--limits") as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        idle = timed(target_command(folder, url, LIVE_KEY, []), folder).wall
        before = sum(counts(url))
        wall = timed(target_command(folder, url, LIVE_KEY, records), folder).wall - idle
        requests, refused = counts(url)
    requests -= before
    assert requests == 2 * len(records)
    print(
        f"| {len(records):,} | {len(records) / wall:,.1f} | {requests / wall:,.1f} "
        f"| {refused / (requests + refused):.2%} |",
        flush=True,
    )


def unchanged(objects: int) -> None:
    """Records that the journal proves to be unchanged: no request, and how many a CPU second."""
    rest = json.loads(b"{" + charge_rest())
    records = [("charges", {"id": f"ch_{n:08d}", **rest}) for n in range(objects)]
    print("| unchanged records | records per CPU second | requests |")
    print("|---|---|---|")
    with server() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"max_requests_per_second": UNLIMITED}
        few = target_command(folder, url, TEST_KEY, records[:FEW], "few", **settings)
        many = target_command(folder, url, TEST_KEY, records, "many", **settings)
        timed(many, folder)
        before = sum(counts(url))
        spent = [timed(many, folder).cpu - timed(few, folder).cpu for _ in range(ROUNDS // 2)]
        requests = sum(counts(url)) - before
    print(f"| {objects:,} | {(objects - FEW) / min(spent):,.0f} | {requests} |", flush=True)


def webhooks(_: int) -> None:
    """How many events a second the receiver verifies and puts on the disk, and how soon."""
    rest = json.loads(b"{" + charge_rest())
    print("| webhooks | events/s | median | p99 | refused |")
    print("|---|---|---|---|---|")
    numbers = iter(range(10_000_000))

    def some(count: int) -> list[bytes]:
        return [request(next(numbers), rest) for _ in range(count)]

    with tempfile.TemporaryDirectory() as name, receiver(Path(name)) as url:
        send(url, some(500))
        best = max((send(url, some(10_000)) for _ in range(3)), key=lambda result: result.rate)
        half = send(url, some(10_000), rate=500)
    for what, result in (("maximum throughput", best), ("500 per second", half)):
        print(
            f"| {what} | {result.rate:,.0f} | {result.p50:.1f} ms | {result.p99:.1f} ms "
            f"| {result.refused} |",
            flush=True,
        )


def every_stream(_: int) -> None:
    """What a full read of all streams of the default emulated account takes, within its limits."""
    print("| streams | records | requests | seconds | peak |")
    print("|---|---|---|---|---|")
    choices = {
        "selected by default": [kind.name for kind in DEFAULT_TYPES],
        "all": [kind.name for kind in OBJECT_TYPES],
    }
    for what, names in choices.items():
        with Emulator() as account, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = folder / "config.json"
            config.write_text(json.dumps({"api_key": account.api_key, "api_url": account.url}))
            took = timed([*TAP, "--config", str(config), "--select", ",".join(names)], folder)
            records = (folder / "out").read_bytes().count(b'{"type":"RECORD"')
            requests = len(account.requests)
        print(
            f"| {len(names)}, {what} | {records:,} | {requests:,} | {took.wall:.1f} "
            f"| {took.peak_mb:.0f} MB |",
            flush=True,
        )


PARTS: dict[str, Callable[[int], None]] = {
    "core": per_core,
    "limits": under_limits,
    "memory": memory,
    "start": start_up,
    "writes": writes,
    "unchanged": unchanged,
    "webhooks": webhooks,
    "streams": every_stream,
}


def main() -> None:
    """Run the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("which", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    options = parser.parse_args()
    for part in options.which or PARTS:
        if len(options.which) == 1:
            PARTS[part](options.objects)
        else:  # a process of its own: the peak of what one starts is never below its own
            command = [sys.executable, "-m", "benchmarks", part, "--objects", str(options.objects)]
            subprocess.run(command, check=True)
            print()


if __name__ == "__main__":
    main()
