"""Plans that write nothing, and rejects that are written again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stripe_alloy.emulator import Emulator
from stripe_alloy_cli.cli import main
from tests.conftest import config_of, read
from tests.target.helpers import lines_of, record, schema, settings_for, state, write


def call(folder: Path, config: dict[str, Any], *options: str) -> Result:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    arguments = [*options[:2], "--config", str(file), *options[2:]]
    return CliRunner().invoke(main, [found for found in arguments if found])


def test_a_dry_run_sends_only_gets_and_no_state(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    messages = [
        schema("customers"),
        record("customers", id=found, name="New"),
        record("customers", id="cus_no", name="New"),
        state(done=True),
    ]
    plan = tmp_path / "plan.jsonl"
    run = write(account, tmp_path, messages, dry_run=True, plan=str(plan))
    assert run.writes == []
    assert run.states == []
    assert run.rejects == []
    assert run.counts("customers") == {"read": 2, "updated": 1, "rejected": 1}
    updated = next(line for line in lines_of(plan) if line["verdict"] == "updated")
    assert updated["changes"][0]["field"] == "name"
    assert updated["changes"][0]["after"] == "New"
    assert updated["requests"] == [{"method": "POST", "path": f"/v1/customers/{found}"}]
    again = write(account, tmp_path, messages)
    assert again.counts("customers") == run.counts("customers")


def test_a_plan_of_a_copy_knows_what_would_be_there(account: Emulator, tmp_path: Path) -> None:
    output = read(config_of(account, expand={"prices": ["tiers"]}), "products", "prices")
    with Emulator(customers=0) as other:
        run = write(other, tmp_path, output.messages, dry_run=True, id_mode="copy")
        assert other.count("products") == 0
    assert run.counts("products") == {"read": 10, "created": 10}
    assert run.counts("prices") == {"read": 35, "created": 35}


def test_the_plan_command_says_what_would_be_written(
    account: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = account.ids("customers")[0]
    input_file = tmp_path / "input.jsonl"
    messages = [schema("customers"), record("customers", id=found, name="New")]
    input_file.write_text("".join(json.dumps(message) + "\n" for message in messages))
    since = len(account.requests)
    with caplog.at_level("INFO"):
        result = call(
            tmp_path, settings_for(account, tmp_path), "plan", "", "--input", str(input_file)
        )
    assert result.exit_code == 0
    assert f"~ customers {found} updated" in caplog.text
    assert '→ "New"' in caplog.text
    assert {request.method for request in account.requests[since:]} == {"GET"}


def test_replay_writes_what_was_mended_once(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    write(
        account,
        tmp_path,
        [
            schema("customers"),
            record("customers", id=found, email="no address"),
            record("customers", id=found, balance=-100),
        ],
    )
    rejects = tmp_path / "rejects.jsonl"
    lines = lines_of(rejects)
    if len(lines) == 1:  # the emulator takes any email
        assert lines[0]["verdict"] == "blocked"
    config = settings_for(account, tmp_path, allow_actions=["customers.balance"])
    assert call(tmp_path, config, "rejects", "replay", str(rejects)).exit_code == 0
    assert next(c for c in account.objects("customers") if c["id"] == found)["balance"] == -100
    assert lines_of(rejects) == []
    since = len(account.requests)
    assert call(tmp_path, config, "rejects", "replay", str(rejects)).exit_code == 0
    assert not [r for r in account.requests[since:] if r.method != "GET"]


def test_what_is_rejected_again_stays_in_the_file(account: Emulator, tmp_path: Path) -> None:
    rows = [record("customers", id=name, name="A") for name in ("cus_a", "cus_b")]
    write(account, tmp_path, [schema("customers"), *rows])
    rejects = tmp_path / "rejects.jsonl"
    lines = lines_of(rejects)
    mended = account.ids("customers")[0]
    lines[0]["record"]["id"] = mended
    rejects.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = call(tmp_path, settings_for(account, tmp_path), "rejects", "replay", str(rejects))
    assert result.exit_code == 3
    assert [line["record"]["id"] for line in lines_of(rejects)] == [lines[1]["record"]["id"]]
    assert next(c for c in account.objects("customers") if c["id"] == mended)["name"] == "A"


def test_a_replay_that_is_stopped_loses_nothing(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    blocked = record("customers", id=found, balance=-100)
    write(account, tmp_path, [schema("customers"), blocked])
    rejects = tmp_path / "rejects.jsonl"
    config = settings_for(account, tmp_path, allow_actions=["customers.balance"])
    account.faults.add("status", "/v1/customers", method="POST", times=None, status=403)
    assert call(tmp_path, config, "rejects", "replay", str(rejects)).exit_code == 1
    account.faults.clear()
    rejects.touch()
    assert call(tmp_path, config, "rejects", "replay", str(rejects)).exit_code == 0
    assert next(c for c in account.objects("customers") if c["id"] == found)["balance"] == -100


def test_a_file_of_something_else_is_refused(account: Emulator, tmp_path: Path) -> None:
    strange = tmp_path / "strange.jsonl"
    strange.write_text("{}\n")
    result = call(tmp_path, settings_for(account, tmp_path), "rejects", "replay", str(strange))
    assert result.exit_code == 1
    assert strange.read_text() == "{}\n"
