"""PostgreSQL, by MeltanoLabs' target-postgres: whole, incrementally, deletions, a long pause."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import stripe
from psycopg import sql
from psycopg.rows import dict_row

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.emulator import Emulator
from tests.conftest import FullRead, config_of
from tests.e2e.environments import environment
from tests.e2e.test_meltano import meltano, project
from tests.tap.histories import COMPARED, KINDS, History, assert_the_same_are_there
from tests.webhooks.helpers import wait_for

__all__ = ["project"]

DAY = 86_400
NAMES = [stream.name for stream in DEFAULT_TYPES]
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked target-postgres."""
    folder = tmp_path_factory.mktemp("target-postgres")
    return environment(folder, "target-postgres.txt") / "target-postgres"


class Warehouse:
    """A schema of a server, and the pipeline that fills it."""

    numbers = count()

    def __init__(self, server: str, loader: Path, folder: Path, **settings: Any) -> None:
        self.url = sa.make_url(server)
        self.loader = loader
        self.folder = folder
        self.schema = f"stripe_{next(self.numbers)}"
        self.state: dict[str, Any] = {}
        self.settings = {
            **connection_of(server),
            "default_target_schema": self.schema,
            "load_method": "upsert",
            **settings,
        }

    def load(self, config: dict[str, Any], *, kill_when: Callable[[], bool] | None = None) -> None:
        """Run tap | target from the last state that came out of it."""
        for name, content in {
            "config": config,
            "state": self.state,
            "target": self.settings,
        }.items():
            (self.folder / f"{name}.json").write_text(json.dumps(content))
        tap = [sys.executable, "-m", "tap_stripe_alloy.tap"]
        tap += ["--config", "config.json", "--state", "state.json"]
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=log, cwd=self.folder) as reading,
            subprocess.Popen(
                [self.loader, "--config", "target.json"],
                stdin=reading.stdout,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
            ) as writing,
        ):
            assert reading.stdout
            reading.stdout.close()  # the target alone holds it: when that is gone, the tap ends
            assert writing.stdout
            if kill_when:
                wait_for(kill_when)
                writing.kill()
            for line in writing.stdout:
                self.state = json.loads(line)
        failed = (reading.returncode != 0, writing.returncode != 0)
        assert failed == (bool(kill_when),) * 2, (self.folder / "log").read_text()[-2000:]

    def rows(self, stream: str) -> Rows:
        """id → row; each id once."""
        query = sql.SQL("select * from {}.{}").format(
            sql.Identifier(self.schema), sql.Identifier(stream)
        )
        rows = self.ask(query)
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: row for row in rows}

    def there(self, stream: str) -> set[str]:
        """Ids of the rows that are not deleted."""
        return {key for key, row in self.rows(stream).items() if not row["deleted"]}

    def ask(self, query: sql.Composed) -> list[dict[str, Any]]:
        with psycopg.connect(
            host=self.url.host, port=self.url.port, user=self.url.username, dbname="postgres"
        ) as connection:
            return connection.cursor(row_factory=dict_row).execute(query).fetchall()


def connection_of(server: str) -> dict[str, Any]:
    url = sa.make_url(server)
    return {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": "none is asked for",
        "database": url.database,
    }


@pytest.fixture
def warehouse(postgres: str, loader: Path, tmp_path: Path) -> Warehouse:
    return Warehouse(postgres, loader, tmp_path)


@pytest.fixture(scope="module")
def filled(
    postgres: str, loader: Path, tmp_path_factory: pytest.TempPathFactory, business: Emulator
) -> Warehouse:
    """Everything of the default account."""
    warehouse = Warehouse(postgres, loader, tmp_path_factory.mktemp("filled"))
    warehouse.load(config_of(business))
    return warehouse


@pytest.mark.parametrize("stream", NAMES)
def test_a_full_run_brings_every_object_once(
    filled: Warehouse, business: Emulator, stream: str
) -> None:
    assert sorted(filled.rows(stream)) == sorted(business.ids(KINDS[stream]))


@pytest.mark.parametrize("stream", NAMES)
def test_each_row_is_the_record(filled: Warehouse, full_read: FullRead, stream: str) -> None:
    rows = filled.rows(stream)
    for record in full_read.output.records[stream]:
        row = rows[record["id"]]
        assert {
            name: as_singer_has_it(row[name.lower()], value) for name, value in record.items()
        } == record


def as_singer_has_it(there: Any, value: Any) -> Any:
    """What a column holds; where it is the time that the record has, as the record has it."""
    if isinstance(there, datetime) and isinstance(value, str):
        time = datetime.fromisoformat(value.replace("Z", "+00:00")).replace(tzinfo=None)
        return value if there == time else there
    return there


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("amount", "bigint"),
        ("metadata", "jsonb"),
        ("created", "timestamp without time zone"),
        ("paid", "boolean"),
        ("currency", "text"),
    ],
)
def test_a_column_has_the_type_that_the_documents_say(
    filled: Warehouse, column: str, kind: str
) -> None:
    query = sql.SQL(
        "select data_type from information_schema.columns "
        "where table_schema = {} and table_name = 'charges' and column_name = {}"
    ).format(sql.Literal(filled.schema), sql.Literal(column))
    assert filled.ask(query) == [{"data_type": kind}]


def test_after_a_random_history_the_tables_hold_what_stripe_has(warehouse: Warehouse) -> None:
    with Emulator(customers=5) as emulator:
        history = History(emulator, random.Random(7), emulator.account_id)
        for things in (25, 25, 0):
            warehouse.load(config_of(emulator))
            for _ in range(things):
                history.happen()
                emulator.clock_advance(40)
        assert_the_same_are_there(emulator, warehouse.there)
    buried = [row for name in COMPARED for row in warehouse.rows(name).values() if row["deleted"]]
    assert len(buried) > 2


def test_an_edit_and_a_deletion_come_with_the_next_run(
    warehouse: Warehouse, account: Emulator
) -> None:
    warehouse.load(config_of(account))
    api = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    edited, gone = account.ids("customer")[:2]
    name = api.customers.retrieve(gone).name
    api.customers.update(edited, {"metadata": {"tier": "gold"}})
    api.customers.delete(gone)
    warehouse.load(config_of(account))
    rows = warehouse.rows("customers")
    assert rows[edited]["metadata"]["tier"] == "gold"
    assert (rows[edited]["deleted"], rows[gone]["deleted"]) == (False, True)
    assert rows[gone]["_sdc_deleted_at"] is not None
    assert rows[gone]["name"] == name


def test_a_run_without_news_touches_no_row(warehouse: Warehouse, account: Emulator) -> None:
    warehouse.load(config_of(account))
    before = warehouse.rows("customers"), warehouse.state
    warehouse.load(config_of(account))
    assert (warehouse.rows("customers"), warehouse.state) == before


@pytest.mark.parametrize("hard", [True, False])
def test_after_a_pause_activate_version_drops_what_is_gone_and_nothing_else(
    postgres: str, loader: Path, tmp_path: Path, account: Emulator, *, hard: bool
) -> None:
    warehouse = Warehouse(postgres, loader, tmp_path, hard_delete=hard)
    warehouse.load(config_of(account))
    api = stripe.StripeClient(account.api_key, base_addresses={"api": account.url}).v1
    gone = account.ids("customer")[0]
    api.customers.delete(gone)
    account.clock_advance(40 * DAY)
    warehouse.load(config_of(account))
    rows = warehouse.rows("customers")
    left = {key for key, row in rows.items() if row["_sdc_deleted_at"] is None}
    assert left == set(account.ids("customer"))
    assert (gone in rows) is not hard


def test_after_a_loader_was_killed_the_next_run_brings_each_row_once(
    postgres: str, loader: Path, tmp_path: Path
) -> None:
    warehouse = Warehouse(postgres, loader, tmp_path, batch_size_rows=50)

    def some_are_there() -> bool:
        try:
            return len(warehouse.rows("charges")) >= 100
        except psycopg.errors.UndefinedTable:
            return False

    with Emulator(latency=0.2) as emulator:
        config = config_of(emulator, max_concurrency=1)
        warehouse.load(config, kill_when=some_are_there)
        assert len(warehouse.rows("charges")) < emulator.count("charge")
        warehouse.load(config_of(emulator))
        for stream in NAMES:
            assert set(warehouse.rows(stream)) == set(emulator.ids(KINDS[stream]))


def test_the_meltano_job_fills_the_schema_stripe(
    postgres: str, loader: Path, tmp_path: Path, project: Path
) -> None:
    to = connection_of(postgres)
    env = {f"TARGET_POSTGRES_{name.upper()}": str(value) for name, value in to.items()}
    meltano(project, "run", "stripe-to-postgres", **env)
    warehouse = Warehouse(postgres, loader, tmp_path)
    warehouse.schema = "stripe"
    with Emulator() as emulator:
        for stream in NAMES:
            assert set(warehouse.rows(stream)) == set(emulator.ids(KINDS[stream]))
