"""Emulated accounts and the ways the tests run the tap against them."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import stripe
from hypothesis import settings

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.emulator import Emulator, Request
from tap_stripe_alloy.tap import TapStripeAlloy

settings.register_profile("no deadline", deadline=None)  # a busy machine is no fault
settings.load_profile("no deadline")
stripe.enable_telemetry = False  # it would leave a file in the home directory
FAST = 100_000
"""Requests a second: the emulator has no limit of its own unless a test asks for one."""


@dataclass
class Output:
    """What a run of the tap wrote."""

    messages: list[dict[str, Any]]
    exit_code: int = 0
    errors: str = ""
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for message in self.messages:
            if message["type"] == "RECORD":
                self.records.setdefault(message["stream"], []).append(message["record"])

    def ids(self, stream: str) -> Counter[str]:
        return Counter(record["id"] for record in self.records.get(stream, []))

    @property
    def states(self) -> list[dict[str, Any]]:
        return [message["value"] for message in self.messages if message["type"] == "STATE"]

    @property
    def state(self) -> dict[str, Any]:
        return self.states[-1]

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        return {m["stream"]: m["schema"] for m in self.messages if m["type"] == "SCHEMA"}


def config_of(emulator: Emulator, **settings: Any) -> dict[str, Any]:
    return {
        "api_key": emulator.api_key,
        "api_url": emulator.url,
        "max_requests_per_second": FAST,
        **settings,
    }


def catalog_of(config: Mapping[str, Any], *streams: str) -> dict[str, Any]:
    """The catalog of the default streams and these, with just these selected."""
    names = dict.fromkeys([*(kind.name for kind in DEFAULT_TYPES), *streams])
    catalog = tap_with(list(names))(config=dict(config)).catalog_dict
    for entry in catalog["streams"]:
        root = next(row for row in entry["metadata"] if not row["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] in streams
    return catalog


def tap_with(select: Sequence[str]) -> type[TapStripeAlloy]:
    """The tap as `--select` makes it."""
    return type("Tap", (TapStripeAlloy,), {"selection": select})


def read(
    config: Mapping[str, Any],
    *streams: str,
    state: dict[str, Any] | None = None,
    catalog: dict[str, Any] | None = None,
    select: Sequence[str] = (),
) -> Output:
    """Run the tap in this process; errors come out as raised. `select` is its `--select`."""
    if streams:
        catalog = catalog_of(config, *streams)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(stdout):
        tap = tap_with(select)(
            config=dict(config), catalog=catalog, state=json.loads(json.dumps(state or {}))
        )
        tap.sync_all()
    return Output(parse(stdout.buffer.getvalue()))


def parse(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@dataclass(frozen=True)
class Command:
    """Runs `tap-stripe-alloy` as users do, in a process of its own."""

    folder: Path

    def files(self, **contents: Any) -> list[str]:
        """The options for --config, --state, --catalog and their files."""
        options = []
        for name, content in contents.items():
            if content is not None:
                path = self.folder / f"{name}.json"
                path.write_text(json.dumps(content))
                options += [f"--{name}", str(path)]
        return options

    def start(self, *options: str, **contents: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tap_stripe_alloy.tap", *self.files(**contents), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *options: str, **contents: Any) -> Output:
        """Only for output that is Singer messages or nothing."""
        process = self.start(*options, **contents)
        out, err = process.communicate(timeout=120)
        return Output(parse(out), process.returncode, err.decode())

    def text(self, *options: str, **contents: Any) -> tuple[int, str, str]:
        process = self.start(*options, **contents)
        out, err = process.communicate(timeout=120)
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="session")
def business() -> Iterator[Emulator]:
    """The default emulated account; read it, don't change it."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def account() -> Iterator[Emulator]:
    """A small account of the test's own."""
    with Emulator(customers=12) as emulator:
        yield emulator


@pytest.fixture
def empty() -> Iterator[Emulator]:
    """An account with nothing in it."""
    with Emulator(customers=0) as emulator:
        yield emulator


@dataclass
class FullRead:
    """Everything of the default account, read once, and the requests it took."""

    output: Output
    requests: list[Request]


@pytest.fixture(scope="session")
def full_read() -> FullRead:
    with Emulator() as emulator:
        output = read(config_of(emulator))
        return FullRead(output, list(emulator.requests))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A server of the test's own, where PostgreSQL is installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # not in PATH there
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, debian)])
    initdb, pg_ctl = (shutil.which(name, path=places) for name in ("initdb", "pg_ctl"))
    if not initdb or not pg_ctl:
        pytest.skip("no PostgreSQL server here: initdb and pg_ctl are not installed")
    # Not in pytest's own folder, which each start of pytest closes to all other users.
    with TemporaryDirectory(prefix="postgres-") as folder:
        user = None
        if os.geteuid() == 0:  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            user = "nobody"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = f"{folder}/data"

        def run(*command: str) -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=user)

        run(initdb, "-D", data, "-A", "trust", "-U", "test")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
        run(pg_ctl, "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"
        run(pg_ctl, "-D", data, "-w", "-m", "immediate", "stop")
