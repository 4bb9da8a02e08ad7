"""PyAirbyte, Airbyte's own client: full and incremental reads into its DuckDB cache."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.emulator import Emulator
from tests.conftest import config_of, read
from tests.e2e.environments import environment
from tests.tap.histories import COMPARED, History, assert_the_same_are_there

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="PyAirbyte does not run on this Python"
)
SOURCE = Path(sys.executable).parent / "source-stripe-alloy"
NAMES = [stream.name for stream in DEFAULT_TYPES]
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the locked PyAirbyte."""
    folder = tmp_path_factory.mktemp("pyairbyte")
    return environment(folder, "pyairbyte.txt") / "python"


class Cache:
    """A DuckDB cache, and the client that fills it."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder
        self.path = folder / "cache.duckdb"

    def read(self, config: dict[str, Any], *streams: str) -> dict[str, Any]:
        asked = {
            "executable": str(SOURCE),
            "config": config,
            "streams": list(streams or NAMES),
            "cache": str(self.path),
        }
        run = subprocess.run(
            [self.python, Path(__file__).with_name("pyairbyte_client.py")],
            input=json.dumps(asked).encode(),
            capture_output=True,
            cwd=self.folder,
            env={
                **os.environ,
                "HOME": str(self.folder),
                "AIRBYTE_OFFLINE_MODE": "1",
                "AIRBYTE_LOGGING_ROOT": str(self.folder / "logs"),
                "DO_NOT_TRACK": "1",
            },
            timeout=180,
            check=False,
        )
        assert run.returncode == 0, run.stderr.decode()[-3000:]
        answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return answer

    def rows(self, stream: str) -> Rows:
        """id → row, with JSON columns read."""
        with closing(duckdb.connect(str(self.path), read_only=True)) as connection:
            found = connection.sql(f"select * from main.{stream}")
            kinds = dict(zip(found.columns, map(str, found.types), strict=True))
            rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        assert len({row["id"] for row in rows}) == len(rows)
        return {
            row["id"]: {name: _plain(value, kinds[name]) for name, value in row.items()}
            for row in rows
        }

    def there(self, stream: str) -> set[str]:
        """Ids of the rows that are not deleted."""
        return {key for key, row in self.rows(stream).items() if not row["deleted"]}


def _plain(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    return json.loads(value) if kind == "JSON" and value is not None else value


def as_singer_has_it(record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What a row says of the fields of a record, times as the record has them."""
    found = {}
    for name, value in record.items():
        there = row.get(name.lower())
        time = isinstance(there, float) and isinstance(value, str)
        if time and datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp() == there:
            there = value
        found[name] = there
    return found


@pytest.fixture
def cache(python: Path, tmp_path: Path) -> Cache:
    return Cache(python, tmp_path)


@pytest.fixture(scope="module")
def filled(python: Path, tmp_path_factory: pytest.TempPathFactory, business: Emulator) -> Cache:
    """Everything of the default account, read once."""
    cache = Cache(python, tmp_path_factory.mktemp("filled"))
    answer = cache.read(config_of(business))
    assert answer == {
        "records": sum(len(business.ids(stream.object_name)) for stream in DEFAULT_TYPES)
    }
    return cache


@pytest.mark.parametrize("stream", NAMES)
def test_the_cache_holds_the_rows_that_come_through_singer(
    filled: Cache, business: Emulator, stream: str
) -> None:
    rows = filled.rows(stream)
    records = read(config_of(business), stream).records[stream]
    assert {record["id"] for record in records} == set(rows)
    for record in records:
        assert as_singer_has_it(record, rows[record["id"]]) == record


def test_incremental_reads_after_a_random_history_leave_what_stripe_has(cache: Cache) -> None:
    with Emulator(customers=5) as emulator:
        history = History(emulator, random.Random(11), emulator.account_id)
        counts = []
        for things in (25, 25, 0):
            counts.append(cache.read(config_of(emulator))["records"])
            for _ in range(things):
                history.happen()
                emulator.clock_advance(40)
        assert_the_same_are_there(emulator, cache.there)
    buried = [row for name in COMPARED for row in cache.rows(name).values() if row["deleted"]]
    assert len(buried) > 2
    assert counts[0] > max(counts[1:]) >= min(counts[1:]) > 0


def test_a_read_that_was_interrupted_is_completed_by_the_next(cache: Cache) -> None:
    with Emulator() as emulator:
        emulator.faults.add("status", "/v1/charges", status=400, after=3, times=1)
        config = config_of(emulator, max_concurrency=1)
        streams = ("customers", "charges", "invoices")
        assert "error" in cache.read(config, *streams)
        assert "records" in cache.read(config, *streams)
        for stream, kind in zip(streams, ("customer", "charge", "invoice"), strict=True):
            assert set(cache.rows(stream)) == set(emulator.ids(kind))
