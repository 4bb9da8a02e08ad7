"""Whatever goes wrong: a clear word, a non-zero exit code, nothing lost, nothing written twice."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.api import errors
from stripe_alloy.emulator import Emulator, Request
from target_stripe_alloy.target import REJECTED_EXIT
from target_stripe_alloy.write.journal import Journal, Scope
from tests.target.helpers import Message, lines_of, record, schema, settings_for, state, write

CUSTOMERS = "/v1/customers"
EXTERNAL = {"id_mode": "external"}
MANY = 60
QUICK = """
from stripe_alloy.api import client as transport
transport.BASE_DELAY, transport.MAX_DELAY = 0.01, 0.05
from target_stripe_alloy.target import main
main()
"""
"""The command, less patient."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BASE_DELAY", 0.001)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.01)


def people(number: int, **others: Any) -> list[Message]:
    """So many customers, a STATE after each."""
    out = [schema("customers", "crm_id")]
    for place in range(number):
        fields = {"crm_id": f"c{place}", "name": f"Number {place}", "email": "a@example.com"}
        out += [record("customers", **fields, **others), state(up_to=place)]
    return out


def places(emulator: Emulator) -> list[int]:
    """Whose customers there are, in order."""
    found = [customer["metadata"]["crm_id"] for customer in emulator.objects("customer")]
    return sorted(int(key[1:]) for key in found)


def posts(emulator: Emulator) -> list[Request]:
    return [request for request in emulator.requests if request.method == "POST"]


def not_ahead(emulator: Emulator, states: list[dict[str, Any]]) -> None:
    """What the last STATE covers is written."""
    covered = states[-1]["up_to"] + 1 if states else 0
    assert set(range(covered)) <= set(places(emulator))


def intents(folder: Path) -> list[tuple[str, str]]:
    """Key and status of each, oldest first."""
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        query = "SELECT idempotency_key, status FROM stripe_alloy_operations ORDER BY seq"
        return connection.execute(query).fetchall()


def until(met: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)


@dataclass
class Ended:
    """How a run of the command ended."""

    code: int
    states: list[dict[str, Any]]
    errors: str


@dataclass(frozen=True)
class Command:
    """Runs `target-stripe-alloy` in a process of its own."""

    emulator: Emulator
    folder: Path

    def start(self, messages: Iterable[Message], **settings: Any) -> subprocess.Popen[bytes]:
        text = "".join(json.dumps(message) + "\n" for message in messages)
        return self.start_on(text.encode(), **settings)

    def start_on(
        self, content: bytes, stdout: Any = subprocess.PIPE, closed: bool = False, **settings: Any
    ) -> subprocess.Popen[bytes]:
        config, lines = self.folder / "config.json", self.folder / "input.jsonl"
        merged = settings_for(self.emulator, self.folder, **{**EXTERNAL, **settings})
        config.write_text(json.dumps(merged))
        lines.write_bytes(content)
        return subprocess.Popen(
            [
                *(("sh", "-c", 'exec "$@" >&-', "sh") if closed else ()),
                *(sys.executable, "-c", QUICK, "--config", config, "--input", lines),
            ],
            stdout=stdout,
            stderr=subprocess.PIPE,
        )

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> Ended:
        out, err = process.communicate(timeout=60)
        return Ended(
            process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()
        )

    def run(self, messages: Iterable[Message], **settings: Any) -> Ended:
        return self.end(self.start(messages, **settings))

    def feed(self, content: bytes, **settings: Any) -> Ended:
        return self.end(self.start_on(content, **settings))


@pytest.fixture
def command(empty: Emulator, tmp_path: Path) -> Command:
    return Command(empty, tmp_path)


def refused(ended: Ended, *said: str) -> None:
    assert ended.code == 1, ended.errors
    assert "Traceback" not in ended.errors
    for text in said:
        assert text in ended.errors


# ---------------------------------------------------------------------- bad days

WEATHER: dict[str, dict[str, Any]] = {
    "a storm of 429s": {
        "kind": "status",
        "status": 429,
        "headers": {"Stripe-Rate-Limited-Reason": "global-rate"},
    },
    "lock timeouts": {"kind": "status", "status": 429, "code": "lock_timeout"},
    "500s, nothing done": {"kind": "status", "status": 500},
    "500s, all done": {"kind": "status", "status": 500, "executed": True},
    "cut before": {"kind": "cut_before"},
    "cut after": {"kind": "cut_after"},
    "cut amid the answer": {"kind": "truncate"},
    "a proxy's pages": {"kind": "html"},
    "no JSON": {"kind": "garbage"},
}


@pytest.mark.parametrize("weather", WEATHER)
@pytest.mark.parametrize("after", [0, 7])
def test_bad_weather_loses_and_repeats_nothing(
    empty: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weather: str, after: int
) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 1_000)  # all of it may strike one request
    empty.faults.add(path=CUSTOMERS, method="POST", times=20, after=after, **WEATHER[weather])
    at_once = 1 if weather == "500s, all done" else 8
    run = write(empty, tmp_path, people(MANY), **EXTERNAL, max_concurrency=at_once)
    assert places(empty) == list(range(MANY))
    assert run.rejects == []
    assert run.states[-1] == {"up_to": MANY - 1}


@pytest.mark.parametrize("weather", WEATHER)
def test_updates_in_bad_weather_are_all_done(
    empty: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weather: str
) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 1_000)
    write(empty, tmp_path, people(MANY), **EXTERNAL)
    empty.faults.add(path=CUSTOMERS, method="POST", times=20, after=3, **WEATHER[weather])
    run = write(empty, tmp_path, people(MANY, phone="1"), **EXTERNAL)
    assert [found["phone"] for found in empty.objects("customer")] == ["1"] * MANY
    assert run.rejects == []
    updated = [e for e in empty.objects("event") if e["type"] == "customer.updated"]
    assert len(updated) == MANY


def test_an_object_made_under_its_own_id_by_a_500_is_found(empty: Emulator, tmp_path: Path) -> None:
    messages = [schema("products"), record("products", id="prod_1", name="Gold")]
    empty.faults.add("status", "/v1/products", method="POST", status=500, executed=True)
    run = write(empty, tmp_path, messages, id_mode="copy")
    assert run.rejects == []
    assert empty.ids("product") == ["prod_1"]


def test_updates_that_are_always_answered_with_500_are_found_done(
    empty: Emulator, tmp_path: Path
) -> None:
    write(empty, tmp_path, people(3), **EXTERNAL)
    worst = next(f for f in empty.objects("customer") if f["metadata"]["crm_id"] == "c1")
    path = f"{CUSTOMERS}/{worst['id']}"
    empty.faults.add("status", path, method="POST", status=500, executed=True, times=None)
    run = write(empty, tmp_path, people(3, phone="1"), **EXTERNAL)
    assert {found["phone"] for found in empty.objects("customer")} == {"1"}
    assert run.states[-1] == {"up_to": 2}


@pytest.mark.parametrize("after", [0, 25])
def test_an_outage_stops_the_run_and_the_next_completes_it(
    empty: Emulator, command: Command, after: int
) -> None:
    empty.faults.add("status", CUSTOMERS, method="POST", status=503, times=None, after=after)
    ended = command.run(people(MANY))
    refused(ended, "Something went wrong on Stripe's end", "try again later: nothing is lost")
    assert len(places(empty)) <= after
    not_ahead(empty, ended.states)
    empty.faults.clear()
    assert command.run(people(MANY)).states[-1] == {"up_to": MANY - 1}
    assert places(empty) == list(range(MANY))


def test_an_outage_of_reading_stops_the_run_before_anything_is_sent(
    empty: Emulator, tmp_path: Path
) -> None:
    empty.faults.add("status", CUSTOMERS, method="GET", status=500, times=None)
    with pytest.raises(errors.StripeUnavailable):
        write(empty, tmp_path, people(3), **EXTERNAL)
    assert posts(empty) == []


def test_stripe_going_away_amid_a_run_stops_it(tmp_path: Path) -> None:
    with Emulator(customers=0, db=tmp_path / "stripe.db", latency=0.02) as emulator:
        command = Command(emulator, tmp_path)
        process = command.start(people(MANY))
        until(lambda: len(posts(emulator)) > 10, "ten writes")
        assert emulator._server is not None
        emulator._server.stop()  # it still does what has arrived, and nobody hears of it
        ended = command.end(process)
    refused(ended, "No response from http://127.0.0.1")
    with Emulator(customers=0, db=tmp_path / "stripe.db") as emulator:
        not_ahead(emulator, ended.states)
        again = write(emulator, tmp_path, people(MANY), **EXTERNAL)
        assert again.states[-1] == {"up_to": MANY - 1}
        assert places(emulator) == list(range(MANY))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AuthenticationError),
        (403, errors.MissingPermissionError),
        (429, errors.RateLimited),
    ],
)
def test_a_refusal_of_the_key_or_pace_stops_the_run_and_rejects_nothing(
    empty: Emulator, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    empty.faults.add("status", CUSTOMERS, method="POST", status=status, times=None, after=9)
    with pytest.raises(kind):
        write(empty, tmp_path, people(MANY), **EXTERNAL)
    assert len(places(empty)) == 9
    assert lines_of(tmp_path / "rejects.jsonl") == []
    empty.faults.clear()
    write(empty, tmp_path, people(MANY), **EXTERNAL)
    assert places(empty) == list(range(MANY))


# ---------------------------------------------------------------------- bad records


def test_one_bad_record_among_a_thousand_is_set_aside(empty: Emulator, command: Command) -> None:
    messages = people(1_000)
    messages[1 + 2 * 500]["record"]["tax_exempt"] = "perhaps"
    ended = command.run(messages)
    assert ended.code == REJECTED_EXIT, ended.errors
    assert places(empty) == [place for place in range(1_000) if place != 500]
    assert ended.states[-1] == {"up_to": 999}
    (reject,) = lines_of(command.folder / "rejects.jsonl")
    validation_error = next(post for post in posts(empty) if post.status == 400)
    assert reject["record"] == messages[1 + 2 * 500]["record"]
    assert (reject["stream"], reject["key"], reject["status"]) == ("customers", "c500", 400)
    assert (reject["param"], reject["request_id"]) == ("tax_exempt", validation_error.request_id)
    assert reject["code"]


def test_more_rejects_than_allowed_stop_the_run(empty: Emulator, command: Command) -> None:
    ended = command.run(people(MANY, tax_exempt="perhaps"), max_rejects=5)
    refused(ended, "`max_rejects` is 5", "rejects.jsonl")
    assert len(lines_of(command.folder / "rejects.jsonl")) >= 6


# ---------------------------------------------------------------------- journal and files


def held(emulator: Emulator, folder: Path) -> Journal:
    """The journal as a run under way has it."""
    scope = Scope(emulator.account_id, live=False, id_mode="external")
    return Journal(f"sqlite:///{folder}/journal.db", scope)


def test_a_second_run_on_a_journal_is_refused(empty: Emulator, command: Command) -> None:
    journal = held(empty, command.folder)
    with pytest.raises(errors.SettingsError, match="Another run is writing with the journal"):
        write(empty, command.folder, people(1), **EXTERNAL)
    refused(command.run(people(1)), "Another run is writing with the journal")
    assert posts(empty) == []
    journal.close()
    assert command.run(people(1)).code == 0
    assert places(empty) == [0]


def test_a_journal_where_no_file_can_be_is_an_error(empty: Emulator, command: Command) -> None:
    (command.folder / "file").touch()
    ended = command.run(people(3), journal=f"sqlite:///{command.folder}/file/journal.db")
    refused(ended, f"{command.folder}/file")
    assert posts(empty) == []


def test_a_journal_that_is_no_database_is_an_error(empty: Emulator, command: Command) -> None:
    (command.folder / "journal.db").write_text("No database, certainly. " * 100)
    refused(command.run(people(3)), "The journal cannot be used: file is not a database")
    assert posts(empty) == []


def test_a_full_disk_stops_the_run_and_what_was_sent_is_known(
    empty: Emulator, command: Command
) -> None:
    process = command.start(people(400))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (150_000, 150_000))
    ended = command.end(process)
    refused(ended, "The journal cannot be used: ", "Check `journal`")
    sent = {post.idempotency_key for post in posts(empty)}
    assert 0 < len(sent) < 400
    assert sent <= dict(intents(command.folder)).keys()
    not_ahead(empty, ended.states)
    write(empty, command.folder, people(400), **EXTERNAL)
    assert places(empty) == list(range(400))


@pytest.mark.parametrize("path", ["file/rejects.jsonl", "/dev/full"])
def test_rejects_that_cannot_be_written_stop_the_run(command: Command, path: str) -> None:
    (command.folder / "file").touch()
    messages = people(MANY)
    messages[1]["record"]["tax_exempt"] = "perhaps"
    ended = command.run(messages, rejects=str(command.folder / path))
    refused(ended, "`rejects`: ", "cannot be written")
    assert ended.states == []


# ---------------------------------------------------------------------- stops


def test_sigterm_ends_with_143_and_the_next_run_completes(tmp_path: Path) -> None:
    with Emulator(customers=0, latency=0.02) as emulator:
        command = Command(emulator, tmp_path)
        process = command.start(people(MANY))
        until(lambda: len(posts(emulator)) > 10, "ten writes")
        process.terminate()
        ended = command.end(process)
        assert ended.code == 128 + signal.SIGTERM, ended.errors
        assert "Traceback" not in ended.errors
        assert 10 < len(places(emulator)) < MANY
        assert ended.states
        not_ahead(emulator, ended.states)
        assert {status for _, status in intents(tmp_path)} <= {"done", "open"}
        write(emulator, tmp_path, people(MANY), **EXTERNAL)
        assert places(emulator) == list(range(MANY))


def test_sigterm_does_not_wait_for_what_waits(empty: Emulator, command: Command) -> None:
    headers = {"Retry-After": "60"}
    empty.faults.add("status", CUSTOMERS, method="POST", status=429, headers=headers)
    process = command.start(people(1))
    until(lambda: posts(empty), "a write")
    process.terminate()
    began = time.monotonic()
    assert command.end(process).code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    write(empty, command.folder, people(1), **EXTERNAL)
    assert places(empty) == [0]


# ---------------------------------------------------------------------- stdout


def said(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code, and the one line of its error."""
    _, err = process.communicate(timeout=60)
    text = err.decode()
    assert "Traceback" not in text
    assert "Exception ignored" not in text
    (line,) = [line for line in text.splitlines() if "CRITICAL" in line]
    return process.returncode, line


def content(messages: Iterable[Message]) -> bytes:
    return "".join(json.dumps(message) + "\n" for message in messages).encode()


def test_a_closed_stdout_is_said_before_anything_is_written(
    empty: Emulator, command: Command
) -> None:
    code, line = said(command.start_on(content(people(3)), closed=True))
    assert (code, posts(empty)) == (1, [])
    assert "stdout is closed" in line


def test_a_plan_needs_no_stdout(empty: Emulator, command: Command) -> None:
    process = command.start_on(content(people(3)), closed=True, dry_run=True)
    assert command.end(process).code == 0


@pytest.fixture(params=["a broken pipe", "a full device"])
def lost(request: pytest.FixtureRequest) -> Iterator[int]:
    """A stdout that nothing can be written to."""
    if request.param == "a full device":
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    yield descriptor
    os.close(descriptor)


def test_a_stdout_that_takes_nothing_is_said(empty: Emulator, command: Command, lost: int) -> None:
    code, line = said(command.start_on(content(people(3)), stdout=lost))
    assert code == 1
    assert "STATE cannot be written to stdout" in line


def test_after_a_lost_stdout_nothing_is_done_twice(
    empty: Emulator, command: Command, lost: int
) -> None:
    said(command.start_on(content(people(3)), stdout=lost))
    run = write(empty, command.folder, people(3), **EXTERNAL)
    assert sorted(places(empty)) == [0, 1, 2]
    assert run.states != []


# ---------------------------------------------------------------------- secrets


def test_nothing_that_is_left_shows_the_key(
    empty: Emulator, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "51VerySecret"
    empty.keys.add(f"sk_test_{secret}", None)
    monkeypatch.setenv("TARGET_STRIPE_ALLOY_LOGLEVEL", "DEBUG")
    headers = {"Stripe-Should-Retry": "false"}
    empty.faults.add(
        "status", CUSTOMERS, method="POST", status=402, message=f"No: sk_test_{secret}"
    )
    empty.faults.add(
        "status", CUSTOMERS, method="POST", status=500, after=9, times=None,
        message=f"Oh: sk_test_{secret}", headers=headers,
    )  # fmt: skip
    ended = command.run(people(MANY), api_key=f"sk_test_{secret}")
    assert ended.code == 1
    assert secret not in ended.errors
    (command.folder / "config.json").unlink()
    left = {path.name: path.read_bytes() for path in command.folder.iterdir() if path.is_file()}
    assert {"journal.db", "rejects.jsonl"} <= left.keys()
    assert [name for name, content in left.items() if secret.encode() in content] == []


def test_a_revoked_key_is_refused_and_not_told(empty: Emulator, command: Command) -> None:
    empty.keys.add("sk_test_51Revoked9", None)
    empty.keys.revoke("sk_test_51Revoked9")
    ended = command.run(people(3), api_key="sk_test_51Revoked9")
    refused(ended, "Check `api_key`")
    assert "51Revoked9" not in ended.errors
