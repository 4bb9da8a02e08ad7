"""Settings, files and variables that are wrong: one line, exit code 1, no traceback, no secret."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.target import TargetStripeAlloy, main
from tests.target.helpers import record, schema, settings_for

Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Call:
    """Run the command; returns what it says of its end with exit code 1."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        caplog.clear()
        monkeypatch.setattr(sys, "argv", ["target-stripe-alloy", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        found = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert len(found) == 1
        assert found[0].exc_info is None
        text = found[0].getMessage()
        assert "\n" not in text
        assert "VerySecret" not in text
        return text

    return run


BROKEN = {
    "a list": (b'[{"api_key": "sk_test_VerySecret"}]', "must be a JSON object"),
    "a text": (b'"sk_test_VerySecret"', "must be a JSON object"),
    "half": (b'{"api_key": "sk_test_VerySecret', "is not valid JSON"),
    "empty": (b"", "is not valid JSON"),
    "UTF-16": ('{"api_key": "sk_test_VerySecret"}'.encode("utf-16"), "is not UTF-8"),
    "Latin-1": ('{"api_key": "sk_test_VerySecret\xe9"}'.encode("latin-1"), "is not UTF-8"),
    "without end": (b"[" * 100_000, "is not valid JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_configuration_that_is_none(call: Call, tmp_path: Path, kind: str) -> None:
    content, said = BROKEN[kind]
    (tmp_path / "config.json").write_bytes(content)
    told = call("--config", "config.json")
    assert said in told
    assert "config.json" in told


def test_a_configuration_may_have_a_byte_order_mark(
    account: Emulator, call: Call, tmp_path: Path
) -> None:
    config = json.dumps({**settings_for(account, tmp_path), "mode": "prod"})
    (tmp_path / "config.json").write_text(config, encoding="utf-8-sig")
    assert "`mode` must be one of" in call("--config", "config.json")


@pytest.mark.parametrize("file", ["missing.json", ".", ""])
def test_a_configuration_that_cannot_be_read(call: Call, file: str) -> None:
    assert "cannot be read" in call("--config", file)


@pytest.mark.parametrize("file", ["missing.jsonl", ".", ""])
def test_an_input_that_cannot_be_read(call: Call, tmp_path: Path, file: str) -> None:
    (tmp_path / "config.json").write_text('{"api_key": "emulator"}')
    told = call("--config", "config.json", "--input", file)
    assert told.startswith("`--input`: ")


WRONG: dict[str, Any] = {
    "max_rejects": [-1, "-1", "many", True, 1.5, [1]],
    "allow_actions": ["customers.balance", {"customers.balance": True}, [1], ["money"]],
    "mode": ["prod", 1, ["test"]],
    "null_policy": ["keep", True],
    "id_mode": ["mine"],
    "on_conflict": [5],
    "dry_run": ["yes", "false", 1],
    "journal": [
        5,
        ["sqlite:///x.db"],
        "sqlite://",
        "sqlite:///folder/",
        "sqlite:///folder",
        "x",
        "sqlite:///a\0b.db",
        "sqlite:///\ud800.db",
        f"sqlite:///{'x' * 300}.db",
    ],
    "rejects": [
        "folder",
        5,
        "folder/",
        "file/rejects.jsonl",
        "a\0b",
        "\ud800",
        "x" * 300,
        f"{'x' * 300}/a",
    ],
    "plan": ["folder", 5, ["plan"], "file/plan.jsonl", "a\0b", "\ud800", "x" * 300],
    "summary": ["folder", 5, {}, "file/summary.json", "a\0b", "\udfff", "x" * 300],
    "pipeline": ["a\0b", "\ud800"],
    "match_by": [{"customers": ["metadata.a\0b"]}, {"customers": ["metadata.\ud800"]}],
    "account_id": ["me", 5],
    "expected_account_id": ["me", 5],
    "max_concurrency": [0, -1, "many"],
    "api_key": [5, ["sk_test_VerySecret"], "", "pk_test_VerySecret"],
    "stream_maps": [5, [], {"customers": 5}, {"customers": {"name": "1 +"}}],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=str,
)
def test_a_setting_that_is_wrong(
    account: Emulator, call: Call, tmp_path: Path, name: str, value: Any
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    config = {**settings_for(account, tmp_path), name: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    messages = [schema("customers"), record("customers", id="cus_no", name="A")]
    text = "".join(json.dumps(message) + "\n" for message in messages)
    (tmp_path / "input.jsonl").write_text(text)
    told = call("--config", "config.json", "--input", "input.jsonl")
    assert name in told
    assert [request for request in account.requests if request.method != "GET"] == []


@pytest.mark.parametrize("name", ["journal", "rejects", "plan", "summary"])
def test_a_long_name_is_not_told_in_full(
    account: Emulator, call: Call, tmp_path: Path, name: str
) -> None:
    long = "x" * 300
    value = f"sqlite:///{long}" if name == "journal" else long
    (tmp_path / "config.json").write_text(
        json.dumps({**settings_for(account, tmp_path), name: value})
    )
    told = call("--config", "config.json")
    assert told.startswith(f"`{name}`: …x")
    assert told.endswith("File name too long")
    assert len(told) < 200


@pytest.mark.parametrize("name", ["rejects", "plan", "summary"])
def test_a_name_as_long_as_may_be_is_a_file(account: Emulator, tmp_path: Path, name: str) -> None:
    file = tmp_path / ("x" * 255)
    messages = [schema("customers"), record("customers", id="cus_no", name="A")]
    text = "".join(json.dumps(message) + "\n" for message in messages)
    config = {**settings_for(account, tmp_path), name: str(file)}
    TargetStripeAlloy(config=config).listen(io.StringIO(text))
    assert file.read_text()


def test_one_file_for_two_purposes_is_refused(
    account: Emulator, call: Call, tmp_path: Path
) -> None:
    config = settings_for(account, tmp_path, plan=f"{tmp_path}/./rejects.jsonl")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "`rejects` and `plan` name one file" in call("--config", "config.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_REJECTS", "abc"), ("DRY_RUN", "ture"), ("STREAM_MAPS", "{"), ("STREAM_MAPS", "[]")],
)
def test_a_variable_that_is_wrong(
    call: Call, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("TARGET_STRIPE_ALLOY_API_KEY", "sk_test_VerySecret")
    monkeypatch.setenv(f"TARGET_STRIPE_ALLOY_{name}", value)
    assert f"TARGET_STRIPE_ALLOY_{name}" in call("--config", "ENV")
