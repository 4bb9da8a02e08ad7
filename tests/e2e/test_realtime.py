"""Real time into DuckDB, and both ways over it, with the real target-duckdb and Meltano."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import duckdb
import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.conftest import catalog_of
from tests.e2e.answers import duckdb_loader
from tests.e2e.test_meltano import meltano, project
from tests.webhooks.helpers import wait_for
from tests.webhooks.test_realtime import Business

__all__ = ["project"]


@pytest.fixture(scope="module")
def loader(project: Path) -> Path:
    """The environment of the locked target-duckdb, as Meltano installs it."""
    meltano(project, "install", "loader", "target-duckdb")
    return project / ".meltano/loaders/target-duckdb/venv/bin"


def names_in(path: Path) -> dict[str, str]:
    """id → name, as another process sees it; empty while the loader holds the file."""
    try:
        with closing(duckdb.connect(str(path), read_only=True)) as connection:
            return dict(connection.sql("select id, name from stripe.customers").fetchall())
    except duckdb.Error:
        return {}


def test_a_change_is_in_duckdb_within_three_seconds(loader: Path, tmp_path: Path) -> None:
    """What the tap writes is on its way at once; the loader takes rows one by one."""
    with Emulator(customers=12) as emulator:
        business = Business(emulator, tmp_path)
        catalog = catalog_of(business.config, "customers")
        (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        duck = {"path": "w.duckdb", "default_target_schema": "stripe", "batch_size_rows": 1}
        (tmp_path / "duck.json").write_text(json.dumps(duck))
        api = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url}).v1
        tap = [sys.executable, "-m", "tap_stripe_alloy.tap", "--follow"]
        tap += ["--config", str(tmp_path / "config.json"), "--catalog", "catalog.json"]
        with (
            business.receiver(),
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=log, cwd=tmp_path) as reading,
            subprocess.Popen(
                [*duckdb_loader(loader), "--config", "duck.json"],
                stdin=reading.stdout,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=tmp_path,
            ) as writing,
        ):
            loading = "Loading 1 rows"

            def loaded() -> int:
                return (tmp_path / "log").read_text().count(loading)

            def loaded_beyond(rows: int) -> bool:
                return loaded() > rows

            wait_for(lambda: loaded() >= emulator.count("customer"))
            emulator.webhooks.duplicates, emulator.webhooks.disorder = 0.3, 0.3
            took = []
            for number in range(5):
                rows = loaded()
                began = time.monotonic()
                api.customers.create({"name": f"Number {number}"})
                wait_for(partial(loaded_beyond, rows))
                took.append(time.monotonic() - began)
            reading.terminate()
            assert reading.wait(60) == 0
            assert writing.wait(60) == 0
        assert sorted(took)[2] < 3, took
        truth = {row["id"]: row["name"] for row in emulator.objects("customer")}
        assert names_in(tmp_path / "w.duckdb") == truth


@pytest.fixture
def both_ways(project: Path) -> Iterator[tuple[Emulator, dict[str, str], Path]]:
    with Emulator(customers=15) as emulator:
        env = {
            "STRIPE_API_KEY": emulator.api_key,
            "TAP_STRIPE_ALLOY_API_URL": emulator.url,
            "TARGET_STRIPE_ALLOY_API_URL": emulator.url,
        }
        yield emulator, env, project / "output/prod.duckdb"


def test_both_ways_comes_to_rest(
    project: Path, both_ways: tuple[Emulator, dict[str, str], Path]
) -> None:
    emulator, env, file = both_ways
    api = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url}).v1

    def run() -> tuple[str, list[str]]:
        before = len(emulator.requests)
        output = meltano(project, "--environment=prod", "run", "two-way", **env)
        return output, [r.path for r in emulator.requests[before:] if r.method != "GET"]

    run()
    run()
    ours, both, apart, theirs = sorted(emulator.ids("customer"))[:4]
    with closing(duckdb.connect(str(file))) as warehouse:
        for assignment, source_id in (
            ("phone = '+49301234'", ours),
            ("name = 'Named here'", both),
            ("description = 'Described here'", apart),
        ):
            warehouse.execute(f"update stripe.customers set {assignment} where id = ?", [source_id])
    api.customers.update(both, {"name": "Named there"})
    api.customers.update(apart, {"name": "Renamed there"})
    api.customers.update(theirs, {"name": "Only there"})
    output, writes = run()
    assert sorted(writes) == sorted([f"/v1/customers/{ours}", f"/v1/customers/{apart}"])
    assert "updated 2" in output
    assert "conflict 1" in output
    assert f"{both} conflict: name changed in Stripe as well" in output
    for _ in range(2):
        output, writes = run()
        assert writes == []
        assert "conflict" not in output
        assert "Records: 0" in output
    truth = {row["id"]: row for row in emulator.objects("customer")}
    with closing(duckdb.connect(str(file), read_only=True)) as warehouse:
        rows = warehouse.sql("select id, name, phone, description from stripe.customers").fetchall()
    assert {row[0]: row[1:] for row in rows} == {
        key: (row["name"], row["phone"], row["description"]) for key, row in truth.items()
    }
    assert truth[ours]["phone"] == "+49301234"
    assert truth[both]["name"] == "Named there"
    assert (truth[apart]["name"], truth[apart]["description"]) == (
        "Renamed there",
        "Described here",
    )
