"""What users pick today, each from PyPI in an environment of its own, pointed at the server."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import server, timed

HOME = Path(__file__).parent.parent / ".tools" / "peers"
FEW = 100
"""Objects of the short run whose time is taken off, as start-up."""


@dataclass(frozen=True)
class Peer:
    """How to run another program against the server; it writes a line for each record."""

    name: str
    requirement: str | None
    """What to install; None runs in this environment."""
    objects: int
    """How many it is given: enough to measure, not to wait for."""
    command: Callable[[Path, Path, str], Sequence[str]]
    """From its Python, a folder for its files, and the server's URL."""
    mark: bytes
    """What each record's line contains."""


def speed(peer: Peer) -> float:
    """Records a CPU second, start-up left out."""
    python = Path(sys.executable) if peer.requirement is None else installed(peer)
    took, records = [], []
    for objects in (FEW, peer.objects):
        with server("--objects", str(objects)) as url, TemporaryDirectory() as name:
            folder = Path(name)
            took.append(timed(peer.command(python, folder, url), folder).cpu)
            records.append((folder / "out").read_bytes().count(peer.mark))
    if records != [FEW, peer.objects]:
        raise SystemExit(f"{peer.name} wrote {records} records")
    return (records[1] - records[0]) / (took[1] - took[0])


def installed(peer: Peer) -> Path:
    """The Python of the peer's environment, made if need be."""
    home = HOME / peer.name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", str(peer.requirement)],
            check=True,
            stdout=sys.stderr,
        )
        (home / "ready").touch()
    return python


def _tap_stripe(python: Path, folder: Path, url: str) -> Sequence[str]:
    config = {
        "client_secret": "sk_test_bench",
        "account_id": "acct_bench",
        "start_date": "2020-01-01T00:00:00Z",
        "date_window_size": 365,
    }
    (folder / "peer.json").write_text(json.dumps(config))
    # Its request timer knows no other host than Stripe's.
    start = (
        "import sys, stripe, tap_stripe\n"
        f"stripe.api_base = {url!r}\n"
        "tap_stripe.apply_request_timer_to_client = lambda client: None\n"
        "tap_stripe.main()"
    )
    command = [str(python), "-c", start, "--config", str(folder / "peer.json")]
    found = subprocess.run([*command, "--discover"], check=True, capture_output=True).stdout
    catalog = json.loads(found)
    for entry in catalog["streams"]:
        for row in entry["metadata"]:
            row["metadata"]["selected"] = entry["tap_stream_id"] == "charges"
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return [*command, "--catalog", str(folder / "catalog.json")]


def _airbyte(python: Path, folder: Path, url: str) -> Sequence[str]:
    config = {
        "client_secret": "sk_test_bench",
        "account_id": "acct_bench",
        "start_date": "2020-01-01T00:00:00Z",
    }
    (folder / "peer.json").write_text(json.dumps(config))
    stream = {
        "stream": {
            "name": "charges",
            "json_schema": {},
            "supported_sync_modes": ["full_refresh", "incremental"],
        },
        "sync_mode": "full_refresh",
        "destination_sync_mode": "append",
    }
    (folder / "catalog.json").write_text(json.dumps({"streams": [stream]}))
    # Where it reads from stands in its manifest, which is changed in this environment.
    start = (
        "import pathlib, sys\n"
        "import source_stripe\n"
        "manifest = pathlib.Path(source_stripe.__file__).parent / 'manifest.yaml'\n"
        "text, lines = manifest.read_text(), []\n"
        "for line in text.splitlines():\n"
        "    if line.strip().startswith('url_base:'):\n"
        f"        line = line.split('url_base:')[0] + 'url_base: {url}/v1'\n"
        "    lines.append(line)\n"
        "manifest.write_text('\\n'.join(lines))\n"
        "from source_stripe.run import run\n"
        "run()"
    )
    files = ["--config", str(folder / "peer.json"), "--catalog", str(folder / "catalog.json")]
    return [str(python), "-c", start, "read", *files]


def _stock(python: Path, folder: Path, url: str) -> Sequence[str]:
    (folder / "peer.json").write_text("{}")
    start = f"import os; os.environ['STOCK_URL'] = {url!r}; from benchmarks.stock import Stock; "
    return [str(python), "-c", start + "Stock.cli()", "--config", str(folder / "peer.json")]


RECORD = b'{"type":"RECORD"'
PEERS = [
    Peer("stock SDK tap", None, 20_000, _stock, RECORD),
    Peer("tap-stripe 3.3.0", "tap-stripe==3.3.0", 10_000, _tap_stripe, b'{"type": "RECORD"'),
    Peer(
        "airbyte-source-stripe 5.14.1",
        "airbyte-source-stripe==5.14.1",
        3_000,
        _airbyte,
        RECORD,
    ),
]
