"""The JSONL loader's versions: what a full refresh, a cut and a change do to a stream's file."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCHEMA = {"type": "SCHEMA", "stream": "prices", "schema": {}, "key_properties": ["id"]}


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example, with target-jsonl's place left empty: only where rows go is looked at."""
    monkeypatch.setitem(sys.modules, "target_jsonl", types.ModuleType("target_jsonl"))
    spec = importlib.util.spec_from_file_location("load_jsonl", ROOT / "examples/load_jsonl.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(number: int, version: int | None) -> dict[str, Any]:
    message = {"type": "RECORD", "stream": "prices", "record": {"id": number}}
    return message if version is None else {**message, "version": version}


def load(loader: Any, folder: Path, *messages: dict[str, Any]) -> None:
    """Route messages, and append each row to its file as target-jsonl does."""
    lines = [json.dumps(message) for message in (SCHEMA, *messages)]
    folder.mkdir(exist_ok=True)
    for line in loader.routed(lines, loader.Versions(folder)):
        message = json.loads(line)
        if message["type"] == "RECORD":
            with (folder / f"{message['stream']}.jsonl").open("a") as file:
                file.write(json.dumps(message["record"]) + "\n")


def ids(folder: Path, name: str = "prices") -> list[int]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line)["id"] for line in lines]


def activate(version: int) -> dict[str, Any]:
    return {"type": "ACTIVATE_VERSION", "stream": "prices", "version": version}


def test_a_change_is_appended(loader: Any, tmp_path: Path) -> None:
    load(loader, tmp_path, row(1, 7), activate(7))
    load(loader, tmp_path, row(1, 7))
    assert ids(tmp_path) == [1, 1]


def test_a_full_refresh_replaces_the_file_when_it_is_complete(loader: Any, tmp_path: Path) -> None:
    load(loader, tmp_path, row(1, 7), row(2, 7), activate(7))
    load(loader, tmp_path, row(2, 8))
    assert ids(tmp_path) == [1, 2]
    load(loader, tmp_path, row(3, 8), activate(8))
    assert ids(tmp_path) == [2, 3]
    assert not (tmp_path / "prices.8.jsonl").exists()


def test_a_complete_listing_without_rows_leaves_an_empty_file(loader: Any, tmp_path: Path) -> None:
    load(loader, tmp_path, row(1, 7), activate(7))
    load(loader, tmp_path, activate(8))
    assert ids(tmp_path) == []


def test_rows_without_a_version_are_appended(loader: Any, tmp_path: Path) -> None:
    load(loader, tmp_path, row(1, None))
    load(loader, tmp_path, row(2, None))
    assert ids(tmp_path) == [1, 2]


def test_a_file_from_before_there_were_versions_is_gone_on_with(
    loader: Any, tmp_path: Path
) -> None:
    (tmp_path / "prices.jsonl").write_text('{"id": 1}\n')
    load(loader, tmp_path, row(2, 7))
    assert ids(tmp_path) == [1, 2]
