"""The file of rejects: lines are whole, hold their context, and leave it only once written."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.json_lines import JsonLines
from tests.emulator.helpers import client_of
from tests.target.helpers import Message, Run, lines_of, record, schema, settings_for, write
from tests.target.test_commands import call
from tests.target.test_failures import until

ALLOWED = {"allow_actions": ["customers.balance"]}


def customer(account: Emulator, found: str) -> dict[str, Any]:
    return next(c for c in account.objects("customers") if c["id"] == found)


def block(account: Emulator, folder: Path, *rows: Message, **settings: Any) -> list[dict[str, Any]]:
    """Write records that need a permission: lines of the rejects file."""
    run = write(account, folder, [schema("customers"), *rows], **settings)
    assert run.writes == []
    return run.rejects


def replay(account: Emulator, folder: Path, **settings: Any) -> Result:
    config = settings_for(account, folder, **{**ALLOWED, **settings})
    return call(folder, config, "rejects", "replay", str(folder / "rejects.jsonl"))


def file_of(folder: Path) -> Path:
    return folder / "rejects.jsonl"


# ---------------------------------------------------------------------- what a line holds


def test_a_line_holds_what_writing_it_again_needs(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    maps = {"people": {"__alias__": "customers", "balance": "int(balance) * 100"}}
    messages = [
        schema("people", balance={"type": "integer"}),
        record("people", id=found, balance=5),
    ]
    (line,) = write(account, tmp_path, messages, stream_maps=maps).rejects
    run, number = line["position"]
    assert {name: line[name] for name in ("stream", "source", "account", "mode", "id_mode")} == {
        "stream": "customers",
        "source": "people",
        "account": account.account_id,
        "mode": "test",
        "id_mode": "same_account",
    }
    assert line["record"] == {"id": found, "balance": 500}
    assert line["key_properties"] == ["id"]
    assert line["whole"] is True
    assert run > 1_700_000_000_000
    assert number == 1


def test_a_line_says_whether_metadata_came_whole(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    partial = schema("customers", metadata={"type": "object", "properties": {"a": {}}})
    run = write(account, tmp_path, [partial, record("customers", id=found, balance=5)])
    assert [line["whole"] for line in run.rejects] == [False]


def test_numbers_come_back_as_they_were(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    row = record("customers", id=found, balance=5, metadata={"score": 1.5})
    block(account, tmp_path, row)
    assert '"score":1.5' in file_of(tmp_path).read_text()


# ---------------------------------------------------------------------- replay


def test_stream_maps_are_not_applied_again(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    maps = {"customers": {"balance": "int(balance) * 100"}}
    block(account, tmp_path, record("customers", id=found, balance=5), stream_maps=maps)
    assert replay(account, tmp_path, stream_maps=maps).exit_code == 0
    assert customer(account, found)["balance"] == 500
    assert lines_of(file_of(tmp_path)) == []


def test_a_map_that_drops_all_other_streams_drops_no_line(
    account: Emulator, tmp_path: Path
) -> None:
    found = account.ids("customers")[0]
    maps = {"people": {"__alias__": "customers"}, "__else__": None}
    messages = [schema("people"), record("people", id=found, balance=500)]
    write(account, tmp_path, messages, stream_maps=dict(maps))
    assert replay(account, tmp_path, stream_maps=maps).exit_code == 0
    assert customer(account, found)["balance"] == 500


def test_partial_metadata_stays_partial(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    partial = schema("customers", metadata={"type": "object", "properties": {"a": {}}})
    first = record("customers", id=found, metadata={"a": "1", "b": "2"})
    second = record("customers", id=found, metadata={"a": "3"}, balance=500)
    write(account, tmp_path, [partial, first])
    write(account, tmp_path, [partial, second])
    assert replay(account, tmp_path).exit_code == 0
    metadata = customer(account, found)["metadata"]
    assert (metadata["a"], metadata["b"]) == ("3", "2")


@pytest.mark.parametrize(
    ("name", "value"), [("account", "acct_other"), ("mode", "live"), ("id_mode", "copy")]
)
def test_what_was_meant_for_another_place_stays(
    account: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    ids = account.ids("customers")[:2]
    rows = [record("customers", id=i, balance=500, name="Secret") for i in ids]
    lines = block(account, tmp_path, *rows)
    first, second = (line["key"] for line in lines)
    lines[0][name] = value
    file_of(tmp_path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert replay(account, tmp_path).exit_code == 1
    assert lines_of(file_of(tmp_path)) == lines[:1]
    assert customer(account, first)["balance"] != 500
    assert customer(account, second)["balance"] == 500
    assert f"meant for {name} {value}" in caplog.text
    told = [r for r in caplog.records if r.levelname == "ERROR"]
    assert len(told) == 1
    assert "Secret" not in told[0].getMessage()


def test_rejects_of_one_account_are_not_created_in_another(
    account: Emulator, tmp_path: Path
) -> None:
    row = record("customers", crm_id="c1", name="A", balance=500)
    external = {"id_mode": "external"}
    write(account, tmp_path, [schema("customers", "crm_id"), row], **external)
    before = file_of(tmp_path).read_bytes()
    with Emulator(customers=0) as other:
        journal = f"sqlite:///{tmp_path}/other.db"
        other_id = other.account_id
        result = replay(other, tmp_path, journal=journal, **external)
        if other_id != account.account_id:
            assert result.exit_code == 1
            assert other.count("customers") == 0
            assert file_of(tmp_path).read_bytes() == before


def test_a_line_of_an_earlier_release_stays(
    account: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = account.ids("customers")[0]
    old = {
        "stream": "customers", "key": found, "key_properties": ["id"], "verdict": "blocked",
        "reason": "r", "status": None, "code": None, "param": None, "request_id": None,
        "time": "2026-01-01T00:00:00Z", "record": {"id": found, "balance": 500},
    }  # fmt: skip
    file_of(tmp_path).write_text(json.dumps(old) + "\n")
    assert replay(account, tmp_path).exit_code == 1
    assert lines_of(file_of(tmp_path)) == [old]
    assert "of an earlier release" in caplog.text
    assert [r for r in account.requests if r.method != "GET"] == []


@pytest.mark.parametrize("foreign", [b"{}", b'{"stream": "cus', b"\xff\xfe", b"5", b'"x"', b"[]"])
def test_foreign_and_torn_lines_stay(account: Emulator, tmp_path: Path, foreign: bytes) -> None:
    found = account.ids("customers")[0]
    block(account, tmp_path, record("customers", id=found, balance=500))
    file = file_of(tmp_path)
    file.write_bytes(foreign + b"\n" + file.read_bytes())
    assert replay(account, tmp_path).exit_code == 1
    assert customer(account, found)["balance"] == 500
    assert file.read_bytes() == foreign + b"\n"


def test_an_older_record_does_not_overwrite_a_newer_one(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    block(account, tmp_path, record("customers", id=found, balance=500, name="Old"))
    kept = file_of(tmp_path).read_bytes()
    newer = [schema("customers"), record("customers", id=found, balance=700, name="New")]
    write(account, tmp_path, newer, **ALLOWED)
    file_of(tmp_path).write_bytes(kept)
    assert replay(account, tmp_path).exit_code == 3
    after = customer(account, found)
    assert (after["balance"], after["name"]) == (700, "New")
    (line,) = lines_of(file_of(tmp_path))
    assert "a newer record" in line["reason"]


def test_a_newer_record_that_changed_nothing_counts(account: Emulator, tmp_path: Path) -> None:
    found = account.ids("customers")[0]
    same = [schema("customers"), record("customers", id=found, balance=700)]
    write(account, tmp_path, same, **ALLOWED)
    block(account, tmp_path, record("customers", id=found, balance=500))
    kept = file_of(tmp_path).read_bytes()
    write(account, tmp_path, same, **ALLOWED)
    file_of(tmp_path).write_bytes(kept)
    assert replay(account, tmp_path).exit_code == 3
    assert customer(account, found)["balance"] == 700


def test_a_record_is_no_news_because_another_one_of_its_key_is_blocked(
    account: Emulator, tmp_path: Path
) -> None:
    """Or two pipelines would delete an object and make it anew, run after run."""
    same, more = record("customers", no="n9", name="A"), {"balance": 5}
    records = [schema("customers", "no"), same, record("customers", no="n9", name="A", **more)]
    settings = {"id_mode": "external", "on_conflict": "overwrite"}
    first = write(account, tmp_path, records, **settings)
    made = first.writes[0]
    assert (len(first.writes), made.method, made.path) == (1, "POST", "/v1/customers")
    found = next(one for one in account.objects("customer") if one["metadata"].get("no") == "n9")
    client_of(account).v1.customers.delete(found["id"])
    again = write(account, tmp_path, records, **settings)
    assert again.writes == []
    assert again.summary["customers"]["unchanged"] == 1


@pytest.mark.parametrize("run_between", [True, False])
def test_a_journal_that_does_not_know_the_run_does_not_overwrite_what_is_newer(
    account: Emulator, tmp_path: Path, run_between: bool
) -> None:
    found = account.ids("customers")[0]
    block(account, tmp_path, record("customers", id=found, name="Old", balance=500))
    kept = file_of(tmp_path).read_bytes()
    write(account, tmp_path, [schema("customers"), record("customers", id=found, name="New")])
    for file in tmp_path.glob("journal.db*"):
        file.unlink()
    if run_between:
        write(account, tmp_path, [schema("products")])
    file_of(tmp_path).write_bytes(kept)
    told = replay(account, tmp_path)
    assert told.exit_code == 1
    assert customer(account, found)["name"] == "New"
    assert file_of(tmp_path).read_bytes() == kept


BY_EMAIL: dict[str, Any] = {"match_by": {"customers": ["email"]}}
BY_KEY: dict[str, Any] = {"id_mode": "external"}


def with_email_and_number(account: Emulator) -> str:
    found = account.ids("customers")[0]
    client_of(account).v1.customers.update(
        found, {"email": "me@example.com", "metadata": {"no": "n1"}}
    )
    return found


Ways = tuple[dict[str, Any], dict[str, Any]]
"""How a record names a customer, and the settings that go with it; `id` is filled in."""
EMAIL: Ways = ({"email": "me@example.com"}, BY_EMAIL)
NUMBER: Ways = ({"no": "n1"}, BY_KEY)
ID: Ways = ({"id": ""}, {})


def named(way: Ways, found: str, **fields: Any) -> list[Message]:
    keys = {name: value or found for name, value in way[0].items()}
    return [schema("customers", *keys), record("customers", **keys, **fields)]


@pytest.mark.parametrize(
    ("older", "newer"), [(EMAIL, ID), (NUMBER, ID), (ID, NUMBER), (ID, EMAIL), (EMAIL, NUMBER)]
)
@pytest.mark.parametrize("before", [True, False])
def test_an_older_record_of_another_key_does_not_overwrite_the_objects_newest(
    account: Emulator, tmp_path: Path, older: Ways, newer: Ways, before: bool
) -> None:
    found = with_email_and_number(account)
    if before:  # then the newer record is the same as last time, and proven by the journal
        write(account, tmp_path, named(newer, found, name="New"), **newer[1])
    run = write(account, tmp_path, named(older, found, name="Old", balance=5), **older[1])
    assert run.writes == []
    kept = file_of(tmp_path).read_bytes()
    write(account, tmp_path, named(newer, found, name="New"), **newer[1])
    file_of(tmp_path).write_bytes(kept)
    assert replay(account, tmp_path, **older[1]).exit_code == 3
    assert customer(account, found)["name"] == "New"


@pytest.mark.parametrize("pipelines", [("p", "p"), ("p", "q"), ("q", "p")])
def test_a_newer_record_of_another_source_that_changed_nothing_counts(
    account: Emulator, tmp_path: Path, pipelines: tuple[str, str]
) -> None:
    found = account.ids("customers")[0]
    maps = {"stream_maps": {"a": {"__alias__": "customers"}, "b": {"__alias__": "customers"}}}
    same = [schema("a"), record("a", id=found, name="A")]
    write(account, tmp_path, same, pipeline=pipelines[0], **maps)
    other = [schema("b"), record("b", id=found, name="B", balance=5)]
    assert write(account, tmp_path, other, pipeline=pipelines[1], **maps).writes == []
    kept = file_of(tmp_path).read_bytes()
    write(account, tmp_path, same, pipeline=pipelines[0], **maps)
    file_of(tmp_path).write_bytes(kept)
    assert replay(account, tmp_path, pipeline=pipelines[1]).exit_code == 3
    assert customer(account, found)["name"] == "A"


def test_a_record_of_another_object_does_not_hold_back_a_replay(
    account: Emulator, tmp_path: Path
) -> None:
    first, second = account.ids("customers")[:2]
    block(account, tmp_path, record("customers", id=first, balance=500))
    kept = file_of(tmp_path).read_bytes()
    write(account, tmp_path, [schema("customers"), record("customers", id=second, name="New")])
    file_of(tmp_path).write_bytes(kept)
    assert replay(account, tmp_path).exit_code == 0
    assert customer(account, first)["balance"] == 500


def test_records_of_one_key_are_replayed_in_the_order_they_came(
    account: Emulator, tmp_path: Path
) -> None:
    found = account.ids("customers")[0]
    block(account, tmp_path, *(record("customers", id=found, balance=n) for n in (1, 2, 3)))
    lines = lines_of(file_of(tmp_path))
    file_of(tmp_path).write_text("".join(json.dumps(line) + "\n" for line in lines[::-1]))
    assert replay(account, tmp_path).exit_code == 0
    assert customer(account, found)["balance"] == 3
    assert lines_of(file_of(tmp_path)) == []


def test_what_is_rejected_again_keeps_its_place_and_position(
    account: Emulator, tmp_path: Path
) -> None:
    found = account.ids("customers")[:2]
    lines = block(account, tmp_path, *(record("customers", id=i, balance=5) for i in found))
    assert replay(account, tmp_path, allow_actions=[]).exit_code == 0
    left = lines_of(file_of(tmp_path))
    assert [line["position"] for line in left] == [line["position"] for line in lines]
    assert [line["record"] for line in left] == [line["record"] for line in lines]


def test_a_dry_run_takes_nothing_out(account: Emulator, tmp_path: Path) -> None:
    block(account, tmp_path, record("customers", id=account.ids("customers")[0], balance=5))
    before = file_of(tmp_path).read_bytes()
    assert replay(account, tmp_path, dry_run=True).exit_code == 0
    assert file_of(tmp_path).read_bytes() == before


def test_what_an_earlier_release_left_aside_comes_back(account: Emulator, tmp_path: Path) -> None:
    first, second = account.ids("customers")[:2]
    block(account, tmp_path, *(record("customers", id=i, balance=500) for i in (first, second)))
    whole = file_of(tmp_path).read_bytes().splitlines(keepends=True)
    aside = tmp_path / "rejects.jsonl.replaying"
    aside.write_bytes(whole[0])
    file_of(tmp_path).write_bytes(whole[1])
    assert replay(account, tmp_path).exit_code == 0
    assert not aside.exists()
    assert {customer(account, i)["balance"] for i in (first, second)} == {500}
    assert lines_of(file_of(tmp_path)) == []


def replaying(config: Path, file: Path) -> subprocess.Popen[bytes]:
    command: list[str] = [
        sys.executable,
        "-m",
        "stripe_alloy_cli.cli",
        "rejects",
        "replay",
        "--config",
        str(config),
        str(file),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("after", [1, 5])
def test_a_kill_loses_nothing_and_the_next_replay_ends_clean(tmp_path: Path, after: int) -> None:
    with Emulator(customers=20, latency=0.03) as account:
        ids = account.ids("customers")[:12]
        rows = [record("customers", id=i, balance=n) for i in ids for n in (400, 500)]
        lines = block(account, tmp_path, *rows)
        config = tmp_path / "config.json"
        config.write_text(json.dumps(settings_for(account, tmp_path, max_concurrency=2, **ALLOWED)))

        def sent() -> int:
            return sum(r.method == "POST" for r in account.requests)

        process = replaying(config, file_of(tmp_path))
        until(lambda: sent() >= after, "a write")
        process.kill()
        process.communicate()
        assert lines_of(file_of(tmp_path)) == lines
        late = {**lines[0], "stream": "nowhere"}
        with file_of(tmp_path).open("a") as file:
            file.write(json.dumps(late) + "\n")
        again = replaying(config, file_of(tmp_path))
        assert again.wait(60) == 1  # for the line of an unknown stream
        assert lines_of(file_of(tmp_path)) == [late]
        assert {customer(account, i)["balance"] for i in ids} == {500}


def test_what_is_appended_meanwhile_stays(tmp_path: Path) -> None:
    with Emulator(customers=6, latency=0.1) as account:
        found = account.ids("customers")[0]
        block(account, tmp_path, record("customers", id=found, balance=500))
        config = tmp_path / "config.json"
        config.write_text(json.dumps(settings_for(account, tmp_path, **ALLOWED)))
        appending = JsonLines(str(file_of(tmp_path)), "rejects")
        process = replaying(config, file_of(tmp_path))
        until(lambda: any(r.method == "POST" for r in account.requests), "a write")
        appending.add({"number": 1})
        assert process.wait(60) == 0
        appending.add({"number": 2})  # the file is another one now
        assert lines_of(file_of(tmp_path)) == [{"number": 1}, {"number": 2}]


# ---------------------------------------------------------------------- whole lines


def rejected(account: Emulator, folder: Path, number: int) -> Run:
    rows = [record("customers", id=f"cus_no{n}", name="A" * 500) for n in range(number)]
    return write(account, folder, [schema("customers"), *rows])


def test_nothing_is_glued_to_a_torn_line(
    account: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_of(tmp_path)
    file.write_bytes(b'{"stream": "customers", "rec')
    lines = JsonLines(str(file), "rejects")
    lines.add({"number": 1})
    lines.add({"number": 2})
    lines.close()
    assert file.read_bytes() == b'{"stream": "customers", "rec\n{"number":1}\n{"number":2}\n'
    assert "ends in the middle of a line" in caplog.text


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    lines = JsonLines(str(file), "rejects")
    lines.add({"number": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(AlloyError, match=r"`rejects`: .* cannot be written"):
            lines.add({"text": "A" * 500})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b'{"number":1}\n'
    lines.add({"number": 2})
    assert lines_of(file) == [{"number": 1}, {"number": 2}]


def test_a_summary_is_replaced_at_once(account: Emulator, tmp_path: Path) -> None:
    rejected(account, tmp_path, 1)
    summary = tmp_path / "summary.json"
    before = summary.stat().st_ino
    rejected(account, tmp_path, 1)
    assert summary.stat().st_ino != before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_lines_of_many_writers_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    code = (
        "import sys; from target_stripe_alloy.json_lines import JsonLines\n"
        "lines = JsonLines(sys.argv[1], 'rejects')\n"
        "for n in range(50): lines.add({'by': sys.argv[2], 'text': 'A' * 5000})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, file, str(n)]) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(lines_of(file)) == 150


def test_rejects_may_go_to_a_device(account: Emulator, tmp_path: Path) -> None:
    rows = [record("customers", id=i, balance=5) for i in account.ids("customers")[:2]]
    run = write(account, tmp_path, [schema("customers"), *rows], rejects="/dev/null")
    assert run.counts("customers") == {"read": 2, "blocked": 2}
