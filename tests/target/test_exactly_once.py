"""However a run ends, the next one leaves each record written once: not twice, not never."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import client as transport
from stripe_alloy.emulator import Emulator, Request
from stripe_alloy.emulator.http_messages import HttpRequest, HttpResponse
from stripe_alloy.emulator.service import Service
from target_stripe_alloy import target as module
from target_stripe_alloy.plan.record_keys import COPY_OF
from target_stripe_alloy.target import TargetStripeAlloy
from tests.target.helpers import Message, record, schema, settings_for, state, write

CUSTOMERS = "/v1/customers"
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BASE_DELAY", 0.01)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.1)


@pytest.fixture(autouse=True)
def _only_whole_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe does nothing on half a request; a kill may cut one short."""
    answer = Service.answer

    def guarded(service: Service, incoming: HttpRequest) -> HttpResponse:
        if len(incoming.body) < int(incoming.headers.get("content-length", 0)):
            return HttpResponse(0, b"", cut="all")
        return answer(service, incoming)

    monkeypatch.setattr(Service, "answer", guarded)


def until(met: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.002)


def posts(emulator: Emulator, path: str = CUSTOMERS) -> list[Request]:
    return [r for r in emulator.requests if r.method == "POST" and r.path.startswith(path)]


def events(emulator: Emulator, kind: str) -> Counter[str]:
    """How often it happened, by object: what Stripe did, whatever the requests were."""
    happened = [event for event in emulator.objects("event") if event["type"] == kind]
    return Counter(event["data"]["object"]["id"] for event in happened)


def keys_of(emulator: Emulator, stamp: str, kind: str = "customer") -> Counter[str]:
    """How many objects there are of each key."""
    return Counter(found["metadata"].get(stamp) for found in emulator.objects(kind))


@dataclass(frozen=True)
class Target:
    """The command, on one account and one journal."""

    emulator: Emulator
    folder: Path
    messages: list[Message]
    settings: dict[str, Any]

    def start(self, **settings: Any) -> subprocess.Popen[bytes]:
        config, lines = self.folder / "config.json", self.folder / "input.jsonl"
        merged = settings_for(self.emulator, self.folder, **self.settings, **settings)
        config.write_text(json.dumps(merged))
        lines.write_text("".join(json.dumps(message) + "\n" for message in self.messages))
        command = [sys.executable, "-m", "target_stripe_alloy.target"]
        return subprocess.Popen(
            [*command, "--config", str(config), "--input", str(lines)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def again(self) -> dict[str, int]:
        """What a run in this process does, that goes through."""
        stream = self.messages[0]["stream"]
        return write(self.emulator, self.folder, self.messages, **self.settings).counts(stream)

    def statuses(self) -> list[str]:
        """How the journal's intents stand, oldest first; none while there is no journal."""
        query = "SELECT status FROM stripe_alloy_operations ORDER BY seq"
        return [str(row[0]) for row in self.ask(query)]

    def ask(self, query: str) -> list[Any]:
        with closing(self.connect()) as connection:
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "journal.db", isolation_level=None)

    @contextmanager
    def no_commits(self) -> Iterator[None]:
        """While it lasts, the journal takes nothing."""
        with closing(self.connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    assert process.wait(10) == -signal.SIGKILL


def pending(target: Target) -> bool:
    return "open" in target.statuses()


# ---------------------------------------------------------------------- points around a POST


def before_it_is_sent(target: Target) -> None:
    """The intent is on the disk, the request waits for its turn."""
    sent = len(posts(target.emulator))
    process = target.start(max_requests_per_second=1)
    until(lambda: pending(target), "an intent")
    kill(process)
    assert len(posts(target.emulator)) == sent


def before_stripe_does_it(target: Target) -> None:
    """The request is sent and gets lost."""
    sent = len(posts(target.emulator))
    target.emulator.faults.add("cut_before", CUSTOMERS, method="POST", times=None)
    process = target.start()
    until(lambda: len(posts(target.emulator)) > sent, "a POST")
    kill(process)
    target.emulator.faults.clear()


def before_the_answer(target: Target) -> None:
    """Stripe did it, the answer gets lost."""
    sent = len(posts(target.emulator))
    target.emulator.faults.add("cut_after", CUSTOMERS, method="POST", times=None)
    process = target.start()
    until(lambda: len(posts(target.emulator)) > sent, "a POST")
    kill(process)
    target.emulator.faults.clear()


def before_the_answer_is_noted(target: Target) -> None:
    """The answer is there, the journal did not take it yet."""
    sent = len(posts(target.emulator))
    target.emulator.faults.add("delay", CUSTOMERS, method="POST", seconds=2.0)
    process = target.start()
    until(lambda: pending(target), "an intent")
    with target.no_commits():
        assert len(posts(target.emulator)) == sent
        until(lambda: len(posts(target.emulator)) > sent, "a POST")
        time.sleep(0.2)
        assert process.poll() is None
        kill(process)


POINTS = [before_it_is_sent, before_stripe_does_it, before_the_answer, before_the_answer_is_noted]


@pytest.fixture(params=["external", "copy"])
def target(request: pytest.FixtureRequest, empty: Emulator, tmp_path: Path) -> Target:
    """A target with one record of a customer that does not exist yet."""
    return one_customer(empty, tmp_path, request.param, name="Ada")


@pytest.fixture
def external(empty: Emulator, tmp_path: Path) -> Target:
    return one_customer(empty, tmp_path, "external", name="Ada")


def one_customer(emulator: Emulator, folder: Path, id_mode: str, name: str) -> Target:
    key = "crm_id" if id_mode == "external" else "id"
    fields = {key: "cus_a1", "name": name, "email": "ada@example.com"}
    messages = [schema("customers", key), record("customers", **fields), state(at=1)]
    return Target(emulator, folder, messages, {"id_mode": id_mode})


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_a_creation_killed_anywhere_is_done_once(
    target: Target, point: Callable[[Target], None]
) -> None:
    point(target)
    assert target.statuses() == ["open"]
    target.again()
    stamp = "crm_id" if target.settings["id_mode"] == "external" else COPY_OF
    assert keys_of(target.emulator, stamp) == {"cus_a1": 1}
    assert target.again() == {"read": 1, "unchanged": 1}
    assert target.emulator.count("customer") == 1
    assert target.statuses() == ["done"]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_an_update_killed_anywhere_is_done_once(
    external: Target, point: Callable[[Target], None]
) -> None:
    external.again()
    renamed = one_customer(external.emulator, external.folder, "external", name="Ada Lovelace")
    point(renamed)
    assert renamed.statuses() == ["done", "open"]
    renamed.again()
    (found,) = renamed.emulator.objects("customer")
    assert found["name"] == "Ada Lovelace"
    assert events(renamed.emulator, "customer.updated") == {found["id"]: 1}
    assert renamed.again() == {"read": 1, "unchanged": 1}


def test_a_run_killed_before_the_intent_has_sent_nothing(external: Target) -> None:
    external.emulator.faults.add("delay", CUSTOMERS, method="GET", seconds=2.0)
    process = external.start()
    until(lambda: not external.emulator.faults._faults, "the listing of customers")
    with external.no_commits():
        until(lambda: external.emulator.requests[-1].path == CUSTOMERS, "its answer")
        time.sleep(0.2)
        kill(process)
    assert posts(external.emulator) == []
    assert external.statuses() == []
    assert external.again() == {"read": 1, "created": 1}
    assert external.emulator.count("customer") == 1


def test_a_write_still_under_way_at_stripe_is_waited_for(
    external: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ATTEMPTS", 1_000)
    external.emulator.faults.add("delay", CUSTOMERS, method="POST", seconds=3.0)
    process = external.start()
    until(lambda: external.emulator.service.answers._running, "a POST")
    kill(process)
    external.again()
    assert 409 in [post.status for post in posts(external.emulator)]
    assert external.emulator.count("customer") == 1
    assert external.statuses() == ["done"]


def test_a_recovery_that_is_killed_is_recovered(external: Target) -> None:
    before_the_answer(external)
    for _ in range(2):
        before_the_answer(external)
        assert external.statuses() == ["open"]
    external.again()
    assert external.emulator.count("customer") == 1
    assert len({post.idempotency_key for post in posts(external.emulator)}) == 1


def test_a_write_that_worked_and_is_answered_with_500_is_looked_up(target: Target) -> None:
    options = {"status": 500, "executed": True}
    target.emulator.faults.add("status", CUSTOMERS, method="POST", times=None, **options)
    before_the_answer(target)
    target.again()
    assert 500 in [post.status for post in posts(target.emulator)]
    assert target.emulator.count("customer") == 1
    assert target.statuses()[0] == "abandoned"


def test_what_is_sent_again_is_the_same_to_the_byte(external: Target) -> None:
    before_it_is_sent(external)
    noted = external.ask("SELECT idempotency_key FROM stripe_alloy_operations")
    external.again()
    (post,) = posts(external.emulator)
    assert [(post.idempotency_key,)] == noted


@pytest.mark.parametrize("point", [before_it_is_sent, before_the_answer])
def test_a_write_of_the_day_before_is_looked_up_not_sent_again(
    target: Target, point: Callable[[Target], None]
) -> None:
    point(target)
    target.emulator.clock_advance(25 * HOUR)
    first = {post.idempotency_key for post in posts(target.emulator)}
    since = len(posts(target.emulator))
    target.again()
    assert not first & {post.idempotency_key for post in posts(target.emulator)[since:]}
    assert target.emulator.count("customer") == 1
    assert target.statuses()[0] == "abandoned"


def test_an_update_of_the_day_before_is_looked_up_not_sent_again(external: Target) -> None:
    external.again()
    renamed = one_customer(external.emulator, external.folder, "external", name="Ada Lovelace")
    before_the_answer(renamed)
    since = len(posts(renamed.emulator))
    renamed.emulator.clock_advance(25 * HOUR)
    assert renamed.again() == {"read": 1, "unchanged": 1}
    assert posts(renamed.emulator)[since:] == []


# ---------------------------------------------------------------------- any moment

RECORDS = 30
AGAIN = 10
"""Records of a round that come again, changed, in the next one."""
KILLS = 25
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__])


def run_here(config: str, lines: str, output: str) -> None:
    """A run in a process of its own, forked from one that has everything imported."""
    for number, path in ((1, output), (2, output + ".err")):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    module.PULSE = 0.01  # states go out as soon as they may
    with open(lines) as file:  # noqa: PTH123
        TargetStripeAlloy(config=json.loads(config)).listen(file)


@dataclass
class Rounds:
    """Batches of records, each run until a run goes through."""

    emulator: Emulator
    folder: Path
    id_mode: str
    dice: random.Random
    kills: int = 0
    usual: float = 0.3
    """Seconds that a run takes when nobody ends it."""

    def messages(self, number: int) -> list[Message]:
        external = self.id_mode == "external"
        key = "crm_id" if external else "id"
        out = [schema("customers", key)]
        first = number * (RECORDS - AGAIN)
        for place in range(first, first + RECORDS):
            fields = {key: f"cus_{place}", "name": f"{place} of {number}", "email": "a@example.com"}
            out.append(record("customers", **fields))
            if place % 5 == 4:
                out.append(state(up_to=place))
        return out

    def run(self, messages: list[Message], *, end: float | None) -> bool:
        """Whether the run went through before the end came."""
        lines, output = self.folder / "input.jsonl", self.folder / "output.jsonl"
        lines.write_text("".join(json.dumps(message) + "\n" for message in messages))
        config = settings_for(self.emulator, self.folder, id_mode=self.id_mode)
        process = _forks.Process(
            target=run_here, args=(json.dumps(config), str(lines), str(output))
        )
        began = time.monotonic()
        process.start()
        process.join(end)
        if process.exitcode is None and process.pid:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode == 0:
            self.usual = 0.8 * self.usual + 0.2 * (time.monotonic() - began)
        else:
            assert process.exitcode == -signal.SIGKILL, Path(f"{output}.err").read_text()
            self.kills += 1
        self.state_is_covered(output)
        return process.exitcode == 0

    def state_is_covered(self, output: Path) -> None:
        text = output.read_text() if output.exists() else ""
        states = [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]
        if states:
            names = {found["name"].partition(" ")[0] for found in self.emulator.objects("customer")}
            assert names >= {str(place) for place in range(states[-1]["up_to"] + 1)}

    def each_is_there_once(self, number: int) -> None:
        found = keys_of(self.emulator, "crm_id" if self.id_mode == "external" else COPY_OF)
        total = number * (RECORDS - AGAIN) + RECORDS
        assert found == {f"cus_{place}": 1 for place in range(total)}
        updated = events(self.emulator, "customer.updated")
        assert set(updated.values()) <= {1}
        assert len(updated) == number * AGAIN


@pytest.mark.parametrize("id_mode", ["external", "copy"])
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_moment_costs_nothing(id_mode: str, seed: int, tmp_path: Path) -> None:
    with Emulator(customers=0) as emulator:
        rounds = Rounds(emulator, tmp_path, id_mode, random.Random(f"{id_mode}{seed}"))
        number = -1
        while rounds.kills < KILLS:
            number += 1
            messages = rounds.messages(number)
            while True:
                last = rounds.kills >= KILLS
                end = None if last else rounds.usual * rounds.dice.uniform(0.2, 1.0)
                if rounds.run(messages, end=end):
                    break
            rounds.each_is_there_once(number)
        assert rounds.kills == KILLS
