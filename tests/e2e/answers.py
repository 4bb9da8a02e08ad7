"""The examples' queries, asked of what the main job makes of an account."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from examples.ask import ask
from stripe_alloy.emulator import Emulator
from tests.conftest import config_of

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]


def query(name: str) -> str:
    return (ROOT / f"examples/{name}.sql").read_text(encoding="utf-8")


def answer(name: str, database: Path, today: str | None = None) -> list[Row]:
    columns, rows = ask(query(name), database, today)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def at(unix: int) -> datetime:
    return datetime.fromtimestamp(unix, timezone.utc).replace(tzinfo=None)


def duckdb_loader(programs: Path) -> list[str]:
    """The command of the loader that the jobs in `meltano.yml` use."""
    return [str(programs / "python"), str(ROOT / "examples/load_duckdb.py")]


def selected() -> str:
    """The streams that the main job reads, as `--select` takes them."""
    project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    select: list[str] = project["plugins"]["extractors"][0]["select"]
    return ",".join(pattern.removesuffix(".*") for pattern in select)


def load(emulator: Emulator, programs: Path, folder: Path) -> Path:
    """What the main job makes of an account: the tap into the real target-duckdb.

    In the same folder again, it goes on from where it was.
    """
    (folder / "config.json").write_text(json.dumps(config_of(emulator)))
    target = {"path": str(folder / "emulator.duckdb"), "default_target_schema": "stripe"}
    (folder / "target.json").write_text(json.dumps(target))
    tap = [sys.executable, "-m", "tap_stripe_alloy.tap", "--config", "config.json"]
    tap += ["--select", selected()]
    if (folder / "state.json").exists():
        tap += ["--state", "state.json"]
    with (folder / "records").open("wb") as records:
        subprocess.run(tap, stdout=records, stderr=subprocess.DEVNULL, check=True, cwd=folder)
    with (folder / "records").open("rb") as records:
        command = [*duckdb_loader(programs), "--config", "target.json"]
        run = subprocess.run(command, stdin=records, capture_output=True, check=True, cwd=folder)
    (folder / "state.json").write_bytes(run.stdout.splitlines()[-1])
    return folder / "emulator.duckdb"
