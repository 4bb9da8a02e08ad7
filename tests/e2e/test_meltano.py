"""The README's first command, in a copy of what git has: `meltano run` into DuckDB and JSONL."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import duckdb
import msgspec
import pytest

from stripe_alloy.api.default_object_types import DEFAULT_TYPES
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.emulator import Emulator
from tests.tap.histories import COMPARED, History, assert_the_same_are_there

ROOT = Path(__file__).parents[2]
SELECTED = (*DEFAULT_TYPES, BY_NAME["invoice_payments"])
MELTANO = shutil.which("meltano", path=str(Path(sys.executable).parent)) or shutil.which("meltano")


def copy_of_the_project(folder: Path) -> Path:
    """A copy of the project as a clone would have it."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in files.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_project(tmp_path_factory.mktemp("project"))


def meltano(project: Path, *arguments: str, **env: str) -> str:
    assert MELTANO is not None
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(project / ".meltano"),
        "NO_COLOR": "1",
        **env,
    }
    run = subprocess.run(
        [MELTANO, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
    output = (run.stdout + run.stderr).decode()
    assert run.returncode == 0, output[-5000:]
    return output


def duckdb_ids(project: Path) -> dict[str, Counter[str]]:
    with duckdb.connect(str(project / "output/emulator.duckdb"), read_only=True) as connection:
        return {
            stream.name: Counter(
                row[0] for row in connection.sql(f"select id from stripe.{stream.name}").fetchall()
            )
            for stream in SELECTED
        }


@pytest.fixture(scope="module")
def loaded(project: Path) -> dict[str, Counter[str]]:
    meltano(project, "run", "stripe-to-duckdb")
    return duckdb_ids(project)


@pytest.mark.parametrize("stream", SELECTED, ids=lambda stream: stream.name)
def test_duckdb_holds_every_object_of_the_emulator_once(
    loaded: dict[str, Counter[str]], business: Emulator, stream: ObjectType
) -> None:
    assert loaded[stream.name] == Counter(business.ids(stream.object_name))


def test_a_second_run_adds_nothing(project: Path, loaded: dict[str, Counter[str]]) -> None:
    output = meltano(project, "run", "stripe-to-duckdb")
    assert "Loading" not in output
    assert duckdb_ids(project) == loaded


def test_the_readmes_query_prints_what_the_readme_shows(
    project: Path, loaded: dict[str, Counter[str]]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    query, shown = readme.split(".sql('''")[1].split("```")[0].split("''').show()\"\n")
    with duckdb.connect(str(project / "output/emulator.duckdb"), read_only=True) as connection:
        assert str(connection.sql(query)).strip() == shown.strip()
    assert loaded


def test_an_edit_in_duckdb_comes_to_rest_in_the_emulated_account(tmp_path: Path) -> None:
    # A project of its own: the write starts the clock of the emulated account, where events older
    # than 30 days are then no longer listed.
    project = copy_of_the_project(tmp_path)
    meltano(project, "run", "stripe-to-duckdb")
    edited = min(duckdb_ids(project)["customers"])
    with duckdb.connect(str(project / "output/emulator.duckdb")) as connection:
        connection.execute("update stripe.customers set phone = '+49301234' where id = ?", [edited])
    assert "updated 1" in meltano(project, "run", "two-way")
    with Emulator(db=project / "output/emulator-stripe.db") as emulator:
        [customer] = [found for found in emulator.objects("customer") if found["id"] == edited]
    assert customer["phone"] == "+49301234"
    again = meltano(project, "run", "two-way")
    assert re.search(r"customers: read (\d+), unchanged \1\b", again)


def test_a_key_in_the_environment_does_not_make_the_emulators_job_call_stripe(
    project: Path, loaded: dict[str, Counter[str]]
) -> None:
    key = {"TAP_STRIPE_ALLOY_API_KEY": "sk_live_ofSomebody"}
    assert "Run completed" in meltano(project, "run", "stripe-to-duckdb", **key)
    assert "Loaded: nothing new" in meltano(project, "run", "stripe-to-duckdb", **key)


def test_the_jsonl_job_writes_a_file_a_stream(project: Path, business: Emulator) -> None:
    meltano(project, "run", "stripe-to-jsonl")
    for stream in SELECTED:
        lines = (project / f"output/emulator/{stream.name}.jsonl").read_bytes().splitlines()
        ids = Counter(msgspec.json.decode(line)["id"] for line in lines)
        assert ids == Counter(business.ids(stream.object_name))


def test_a_full_refresh_replaces_the_files(project: Path, business: Emulator) -> None:
    assert "Unknown message" not in meltano(project, "run", "--full-refresh", "stripe-to-jsonl")
    lines = (project / "output/emulator/charges.jsonl").read_bytes().splitlines()
    ids = Counter(msgspec.json.decode(line)["id"] for line in lines)
    assert ids == Counter(business.ids("charge"))
    assert not list((project / "output/emulator").glob("charges.*.jsonl"))


def test_after_a_random_history_both_destinations_hold_what_stripe_has(project: Path) -> None:
    def both(name: str) -> dict[str, bool]:
        """id → deleted, the same in both."""
        with duckdb.connect(str(project / "output/prod.duckdb"), read_only=True) as connection:
            rows = connection.sql(f"select id, deleted from stripe.{name}").fetchall()
        file = project / f"output/prod/{name}.jsonl"  # none where there is no record
        lines = file.read_bytes().splitlines() if file.exists() else []
        reduced = {row["id"]: row["deleted"] for row in map(msgspec.json.decode, lines)}
        assert dict(rows) == reduced
        assert len(rows) == len(reduced)
        return reduced

    with Emulator(customers=5) as emulator:
        env = {"STRIPE_API_KEY": emulator.api_key, "TAP_STRIPE_ALLOY_API_URL": emulator.url}
        history = History(emulator, random.Random(4), emulator.account_id)
        for things in (20, 20, 0):
            for job in ("stripe-to-duckdb", "stripe-to-jsonl"):
                meltano(project, "--environment=prod", "run", job, **env)
            for _ in range(things):
                history.happen()
                emulator.clock_advance(40)
        assert_the_same_are_there(
            emulator, lambda name: {key for key, deleted in both(name).items() if not deleted}
        )
    assert sum(sum(both(name).values()) for name in COMPARED) > 3


def test_what_is_selected_in_meltano_is_what_comes(project: Path) -> None:
    folder = project / "output/emulator"
    for path in folder.glob("*.jsonl"):
        path.unlink()
    select = {"TAP_STRIPE_ALLOY__SELECT": '["products.name"]'}
    meltano(project, "run", "--full-refresh", "stripe-to-jsonl", **select)
    written = [path.name for path in folder.glob("*.jsonl")]
    lines = (folder / "products.jsonl").read_bytes().splitlines()
    assert written == ["products.jsonl"]
    assert {frozenset(msgspec.json.decode(line)) for line in lines} == {
        frozenset({"id", "name", "updated"})
    }


def test_the_tap_into_the_target_of_the_same_account_writes_nothing(project: Path) -> None:
    select = {"TAP_STRIPE_ALLOY__SELECT": '["products.*", "prices.*"]'}
    output = meltano(project, "run", "tap-stripe-alloy", "target-stripe-alloy", **select)
    assert "products: read 10, unchanged 10" in output
    assert "prices: read 35, unchanged 35" in output
    assert (project / "output/emulator-journal.db").is_file()
    assert not (project / "output/emulator-rejects.jsonl").exists()
