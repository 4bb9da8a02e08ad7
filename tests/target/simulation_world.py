"""The simulation's world: an emulated Stripe, a target that runs in this process, and its crashes.

Hooked are the outer edges only: the emulator's HTTP service, the commits of SQLAlchemy, `os.fsync`
and standard output. Each passage over an edge is a step. A crash at a step copies what is on the
disk at that moment; from then on the dying run reaches neither Stripe nor standard output, and the
next run starts from the copies, as it would after `kill -9`.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

import sqlalchemy as sa
import stripe

from stripe_alloy.api import client as transport
from stripe_alloy.api.errors import AlloyError
from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.effects import disputes
from stripe_alloy.emulator.http_messages import HttpRequest, HttpResponse
from target_stripe_alloy import target as module
from target_stripe_alloy.target import TargetStripeAlloy
from tests.conftest import FAST

JSON = dict[str, Any]

START = 1_793_500_000.0
"""When each history begins, Unix seconds on the emulator's clock."""
FULL = "sk_test_emulator"
OTHERS = "sk_test_others"
RESTRICTED = ("rk_test_sim_1", "rk_test_sim_2")
"""Restricted keys that may write all and read the account."""
BLIND = ("rk_test_sim_3", "rk_test_sim_4")
"""Restricted keys that may write all and not read the account."""
KEYS = (FULL, *RESTRICTED, *BLIND)
EXECUTED = "Done, and answered with an error all the same."
"""The message of a 500 that follows a write that worked."""
PATIENCE = 0.03
"""Seconds in which a STATE may come out before the input goes on."""
JOURNAL = ("journal.db-wal", "journal.db")
"""In this order a copy is whole even if the one is written into the other meanwhile."""
REJECTS = "rejects.jsonl"
MEMORY = "/dev/shm"


# ---------------------------------------------------------------------- steps and crashes


class Steps:
    """Counts a run's steps; at one of them the run dies or is asked to end."""

    def __init__(
        self,
        crash_at: int | str | None,
        end_at: int | None,
        crash: Callable[[], None] | None,
    ) -> None:
        self.lock = threading.RLock()
        self.count = 0
        self.dead = False
        self.where = ""
        self._crash_at, self._end_at, self._crash = crash_at, end_at, crash

    def step(self, name: str) -> bool:
        """Pass a step; whether the run is dead, so that nothing of it counts any more."""
        with self.lock:
            if self.dead:
                return True
            self.count += 1
            if self._crash and self._is_meant(name):
                self._crash()
                self.dead, self.where = True, name
            elif self.count == self._end_at:
                self.where = name
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            return self.dead

    def _is_meant(self, name: str) -> bool:
        at = self._crash_at
        return at in name if isinstance(at, str) else at == self.count


class _Disk:
    """Turns commits and appended lines into steps."""

    def __init__(self) -> None:
        self.steps: Steps | None = None
        self.folder = ""
        self._mine = threading.local()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Listen to every engine while it lasts."""
        hooks = (
            (sa.Engine, "before_cursor_execute", self._statement),
            (sa.Engine, "commit", self._commit),
            (sa.pool.Pool, "checkin", self._committed),
        )
        for owner, name, hook in hooks:
            sa.event.listen(owner, name, hook)
        try:
            with patch.object(os, "fsync", self._fsync):
                yield
        finally:
            for owner, name, hook in hooks:
                sa.event.remove(owner, name, hook)

    def _statement(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.lstrip()[:6].upper().startswith(("SELECT", "PRAGMA", "BEGIN")):
            self._mine.wrote = True

    def _commit(self, connection: sa.Connection) -> None:
        steps = self.steps
        if not str(connection.engine.url.database).startswith(f"{self.folder}/"):
            steps = None  # of a run that is over
        if steps is None or not getattr(self._mine, "wrote", False):
            return
        self._mine.wrote = False
        steps.lock.acquire()
        if steps.step("before a commit"):
            steps.lock.release()
            raise sa.exc.OperationalError("COMMIT", None, Exception("killed"))
        self._mine.held = steps  # nobody copies the files while they change

    def _committed(self, *_: Any) -> None:
        steps: Steps | None = getattr(self._mine, "held", None)
        if steps is not None:
            self._mine.held = None
            steps.step("after a commit")
            steps.lock.release()

    def _fsync(self, _: int) -> None:
        if self.steps is not None:
            self.steps.step("after a line of a file")


DISK = _Disk()


class _Output(io.TextIOBase):
    """Standard output of a run: each STATE is a step before and after."""

    def __init__(self, steps: Steps, came: Callable[[Any], None]) -> None:
        self.states: list[Any] = []
        self._steps, self._came = steps, came
        self._text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if self._steps.step("before a STATE"):
            return len(text)
        self._text += text
        *lines, self._text = self._text.split("\n")
        for line in lines:
            value = json.loads(line)
            self.states.append(value)
            self._came(value)
        self._steps.step("after a STATE")
        return len(text)


class _Input(io.TextIOBase):
    """Standard input of a run; after a STATE it waits a little, as a slow tap does."""

    def __init__(self, messages: Sequence[Mapping[str, Any]], output: _Output) -> None:
        self._messages, self._output = messages, output
        self.records = 0
        """Records that were handed over."""

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        last = len(self._messages) - 1
        for number, message in enumerate(self._messages):
            self.records += message["type"] == "RECORD"
            yield json.dumps(message) + "\n"
            if message["type"] == "STATE" and number < last:
                self._wait(message["value"])

    def _wait(self, value: Any) -> None:
        end = time.monotonic() + PATIENCE
        while value not in self._output.states and time.monotonic() < end:
            time.sleep(0.001)


# ---------------------------------------------------------------------- the wire


@dataclass(frozen=True)
class Sent:
    """A write that Stripe carried out for the target."""

    run: int
    method: str
    path: str
    params: Mapping[str, str]
    before: Mapping[str, Any] | None
    """The object of the path, as it was."""
    made: Mapping[str, Any]
    """The answer's object; empty where the answer was an error."""
    status: int
    idempotency_key: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} {dict(self.params)}"


COLLECTIONS = {
    "customers": "customer",
    "products": "product",
    "prices": "price",
    "payment_methods": "payment_method",
    "subscriptions": "subscription",
    "subscription_items": "subscription_item",
    "invoices": "invoice",
    "invoice_line_items": "line_item",
    "payment_intents": "payment_intent",
    "charges": "charge",
    "refunds": "refund",
    "disputes": "dispute",
    "payouts": "payout",
}
"""Stream → what Stripe calls its objects."""


_RUN = re.compile(r"^/run-(\d+)")
"""What each run's `api_url` ends with, so that nothing of an ended run counts any more."""


class Wire:
    """The emulator's HTTP service, with an ear at it."""

    def __init__(self, emulator: Emulator) -> None:
        self.steps: Steps | None = None
        self.run = 0
        self.sent: list[Sent] = []
        self.refused = 0
        self.bugs: list[str] = []
        self.lock = threading.Lock()
        """While it is held, `sent` and what Stripe has agree: no write is under way."""
        self._emulator = emulator
        server = emulator._server
        assert server is not None
        self._answer = server.answer
        server.answer = self.answer

    def answer(self, incoming: HttpRequest) -> HttpResponse:
        """Answer a request, unless its sender is dead."""
        match = _RUN.match(incoming.path)
        if match is None:
            return self._answer(incoming)
        incoming = replace(incoming, path=incoming.path[match.end() :])
        steps = self.steps if self.run == int(match[1]) else None
        if steps is None:  # of a run that is over
            return HttpResponse(0, b"", cut="all")
        if steps.step(f"{incoming.method} {incoming.path} before Stripe has it"):
            return HttpResponse(0, b"", cut="all")
        if incoming.method == "GET":
            return self._answer(incoming)
        with self.lock:
            before = self._object(incoming.path)
            given = self._answer(incoming)
            self._note(incoming, given, before)
        if steps.step(f"{incoming.method} {incoming.path} before the answer"):
            return HttpResponse(0, b"", cut="all")
        return given

    def _note(self, incoming: HttpRequest, given: HttpResponse, before: JSON | None) -> None:
        text = given.body.decode(errors="replace")
        if "Emulator bug" in text:
            self.bugs.append(f"{incoming.method} {incoming.path} {incoming.form}: {text}")
        replayed = "Idempotent-Replayed" in given.headers
        good = 200 <= given.status < 300
        if replayed or not (good or EXECUTED in text):
            self.refused += 1
            return
        self.sent.append(
            Sent(
                self.run,
                incoming.method,
                incoming.path,
                dict(parse_qsl(incoming.form, keep_blank_values=True)),
                before,
                json.loads(text) if good else {},
                given.status,
                incoming.headers.get("idempotency-key", ""),
            )
        )

    def _object(self, path: str) -> JSON | None:
        parts = path.split("/")[2:]
        if len(parts) < 2:
            return None
        kind, object_id = COLLECTIONS.get(parts[0], ""), parts[1]
        if len(parts) == 4 and parts[2] == "lines":
            kind, object_id = "line_item", parts[3]
        return find(self._emulator, kind, object_id)


def find(emulator: Emulator, kind: str, object_id: str) -> JSON | None:
    """An object as it is now; None where there is none."""
    found = emulator.store.get(emulator.account_id, kind, object_id)
    return json.loads(found.body) if found else None


def objects(emulator: Emulator, kind: str) -> list[JSON]:
    """All objects of a kind, deleted ones left out, oldest first."""
    rows = emulator.store.execute(
        "SELECT body FROM objects WHERE account = ? AND object = ? AND shown != 1 ORDER BY seq",
        emulator.account_id,
        kind,
    )
    return [json.loads(row[0]) for row in rows]


# ---------------------------------------------------------------------- what others made


@cache
def _template() -> tuple[Path, JSON]:
    """An account as others made it: the file, and the ids of what is in it. Made once a process."""
    folder = TemporaryDirectory(prefix="simulation-", dir=_memory())
    _KEPT.append(folder)
    path = Path(folder.name) / "account.db"
    with Emulator(customers=0, db=path, clock=lambda: START - 3600) as emulator:
        emulator.keys.add(OTHERS)
        made = _furnish(emulator, others(emulator))
    return path, made


_KEPT: list[TemporaryDirectory[str]] = []


def _memory() -> str | None:
    return MEMORY if Path(MEMORY).is_dir() and os.access(MEMORY, os.W_OK) else None


def others(emulator: Emulator) -> Any:
    """A client of somebody else's."""
    return stripe.StripeClient(OTHERS, base_addresses={"api": emulator.url}).v1


def _furnish(emulator: Emulator, api: Any) -> JSON:
    made: JSON = {}
    for name in ("tea", "mug"):
        made[name] = api.products.create({"name": name}).id
    monthly = {"currency": "usd", "recurring": {"interval": "month"}}
    made["monthly"] = api.prices.create(
        {"product": made["tea"], "unit_amount": 1000, "lookup_key": "m", **monthly}
    ).id
    made["second"] = api.prices.create({"product": made["mug"], "unit_amount": 300, **monthly}).id
    made["once"] = api.prices.create(
        {"product": made["mug"], "unit_amount": 700, "currency": "usd"}
    ).id
    api.products.update(made["tea"], {"default_price": made["monthly"]})
    for name in ("ada", "bob"):
        customer = api.customers.create({"name": name, "email": f"{name}@example.com"}).id
        method = api.payment_methods.attach("pm_card_visa", {"customer": customer}).id
        default = {"invoice_settings": {"default_payment_method": method}}
        api.customers.update(customer, default)
        made[name], made[f"{name}_card"] = customer, method
    made |= _subscribe(api, made) | _invoice(api, made) | _charge(api, made)
    made["payout"] = api.payouts.create({"amount": 100, "currency": "usd"}).id
    with emulator.store.transaction():
        ledger = emulator.service.session(emulator.account_id)
        charge = ledger.get("charge", made["disputed"])
        made["dispute"] = disputes.open_dispute(ledger, charge, "fraudulent")["id"]
        ledger.flush()
    return made


def _subscribe(api: Any, made: JSON) -> JSON:
    items = [{"price": made["monthly"], "quantity": 2}]
    mailed = api.subscriptions.create(
        {
            "customer": made["ada"],
            "items": items,
            "collection_method": "send_invoice",
            "days_until_due": 30,
        }
    )
    charged = api.subscriptions.create({"customer": made["bob"], "items": items})
    return {
        "mailed": mailed.id,
        "mailed_item": mailed["items"].data[0].id,
        "charged": charged.id,
        "charged_item": charged["items"].data[0].id,
    }


def _invoice(api: Any, made: JSON) -> JSON:
    ids = {}
    for name in ("draft", "unpaid"):
        invoice = api.invoices.create(
            {"customer": made["ada"], "collection_method": "send_invoice", "days_until_due": 30}
        )
        line = {"amount": 500, "description": "tea"}
        lines = api.invoices.add_lines(invoice.id, {"lines": [line]}).lines
        ids[name], ids[f"{name}_line"] = invoice.id, lines.data[0].id
    api.invoices.finalize_invoice(ids["unpaid"])
    return ids


def _charge(api: Any, made: JSON) -> JSON:
    ids = {}
    for name, how in (("paid", "automatic"), ("disputed", "automatic"), ("held", "manual")):
        intent = api.payment_intents.create(
            {
                "amount": 1000,
                "currency": "usd",
                "customer": made["bob"],
                "payment_method": made["bob_card"],
                "capture_method": how,
                "confirm": True,
            }
        )
        ids[f"{name}_intent"], ids[name] = intent.id, intent.latest_charge
    waiting = {"amount": 800, "currency": "usd", "customer": made["bob"]}
    waiting["payment_method"] = made["bob_card"]
    ids["waiting_intent"] = api.payment_intents.create(waiting).id
    ids["refund"] = api.refunds.create({"charge": ids["paid"], "amount": 10}).id
    return ids


# ---------------------------------------------------------------------- runs


@dataclass
class Outcome:
    """How a run ended, and what it left."""

    ended: str = ""
    """`done`, `stopped` by an error that is foreseen, `killed`, `terminated`, or `broken`."""
    error: BaseException | None = None
    steps: int = 0
    where: str = ""
    states: list[Any] = field(default_factory=list)
    summary: dict[str, dict[str, int]] = field(default_factory=dict)
    rejects: list[JSON] = field(default_factory=list)
    """Lines that the run appended."""
    sent: list[Sent] = field(default_factory=list)


class World:
    """One history's Stripe and disk."""

    def __init__(self) -> None:
        template, self.made = _template()
        self._temporary = TemporaryDirectory(prefix="simulation-", dir=_memory())
        self._root = Path(self._temporary.name)
        shutil.copy(template, self._root / "account.db")
        self.now = START
        """Stripe's clock, Unix seconds."""
        self.drift = 0.0
        """Seconds that the target's machine is ahead of it."""
        self.emulator = Emulator(
            customers=0, db=self._root / "account.db", clock=lambda: self.now
        ).start()
        self.emulator.keys.add(OTHERS)
        for keys, account in ((RESTRICTED, "read"), (BLIND, "none")):
            for key in keys:
                self.emulator.keys.add(key, {"*": "write", "account": account})
        self.wire = Wire(self.emulator)
        self.api = others(self.emulator)
        self._folders = 0
        self.folder = self._new_folder()

    def close(self) -> None:
        """Let go of everything."""
        self.emulator.stop()
        self._temporary.cleanup()

    def _new_folder(self) -> Path:
        self._folders += 1
        folder = self._root / str(self._folders)
        folder.mkdir()
        return folder

    # -------------------------------------------------------------- the disk

    def copy_disk(self, names: Sequence[str] = (*JOURNAL, REJECTS)) -> Path:
        """Copy files of the run's folder as they are now."""
        copied = self._new_folder()
        for name in names:
            with suppress(FileNotFoundError):
                shutil.copy(self.folder / name, copied / name)
        return copied

    def lose_journal(self) -> None:
        """Delete the journal."""
        for path in self.folder.glob("journal.db*"):
            path.unlink()

    def restore_journal(self, copied: Path) -> None:
        """Put an older journal in the place of this one."""
        self.lose_journal()
        for name in JOURNAL:
            with suppress(FileNotFoundError):
                shutil.copy(copied / name, self.folder / name)

    def rejected(self) -> list[JSON]:
        """The lines of the rejects file."""
        path = self.folder / REJECTS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    # -------------------------------------------------------------- a run

    def run(
        self,
        messages: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        *,
        crash_at: int | str | None = None,
        end_at: int | None = None,
        came: Callable[[Any, int], None] = lambda _, __: None,
    ) -> Outcome:
        """Run the target on messages.

        `came` is called with each STATE as it comes out, and the number of records read by then.

        `crash_at` is the number of a step, or a part of its name.
        """
        after: list[Path] = []
        steps = Steps(crash_at, end_at, lambda: after.append(self.copy_disk()))
        output = _Output(steps, lambda value: came(value, source.records))
        source = _Input(messages, output)
        rejects = len(self.rejected())
        first = len(self.wire.sent)
        self.wire.run += 1
        self.wire.steps = DISK.steps = steps
        DISK.folder = str(self.folder)
        outcome = Outcome()
        config = {
            "api_url": f"{self.emulator.url}/run-{self.wire.run}",
            "max_requests_per_second": FAST,
            "journal": f"sqlite:///{self.folder}/journal.db",
            "rejects": str(self.folder / REJECTS),
            "summary": str(self.folder / "summary.json"),
            **settings,
        }
        began = time.monotonic()

        def local() -> float:
            return self.now + self.drift + time.monotonic() - began

        try:
            with patch.object(time, "time", local):
                outcome.ended, outcome.error = _listen(config, source, output)
        finally:
            self.wire.steps = DISK.steps = None
        if steps.dead:
            outcome.ended, self.folder = "killed", after[0]
        elif outcome.ended == "terminated":  # the end of a process lets go of its locks
            self.folder = self.copy_disk()
        self.emulator.faults.clear()
        if outcome.ended == "done":
            outcome.summary = json.loads((self.folder / "summary.json").read_text())
        outcome.steps, outcome.where, outcome.states = steps.count, steps.where, output.states
        outcome.rejects = self.rejected()[rejects:]
        outcome.sent = self.wire.sent[first:]
        return outcome


def _listen(
    config: Mapping[str, Any], source: _Input, output: _Output
) -> tuple[str, BaseException | None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with redirect_stdout(output):
            TargetStripeAlloy(config=dict(config)).listen(source)  # type: ignore[arg-type]
    except (SystemExit, SystemError) as error:  # the latter: Python, where a signal meets `ast`
        return "terminated", error
    except (AlloyError, OSError) as error:
        return "stopped", error
    except Exception as error:  # noqa: BLE001 - it is looked at
        return "broken", error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return "done", None


@contextmanager
def quick() -> Iterator[None]:
    """Make runs quick while it lasts: short delays, no log, no pause of the collector's."""
    with ExitStack() as stack:
        for owner, name, value in (
            (transport, "BASE_DELAY", 0.0005),
            (transport, "MAX_DELAY", 0.001),
            (module, "PULSE", 0.002),
        ):
            stack.enter_context(patch.object(owner, name, value))
        stack.enter_context(DISK.hooked())
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        stack.callback(gc.collect)
        yield
