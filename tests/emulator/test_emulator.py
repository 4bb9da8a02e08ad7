"""The emulator as a thing: starting, stopping, its file, many users at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.emulator.helpers import NOW, client_of

if TYPE_CHECKING:
    from pathlib import Path


def test_importing_it_is_light() -> None:
    code = (
        "import sys, stripe_alloy.emulator\n"
        "print(*(name in sys.modules for name in ('msgspec', 'stripe')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_running_it_needs_no_stripe_package_in_memory() -> None:
    code = (
        "import sys; from stripe_alloy.emulator import Emulator\n"
        "from urllib.request import Request, urlopen\n"
        "with Emulator(customers=1) as e:\n"
        "    headers = {'Authorization': 'Bearer ' + e.api_key}\n"
        "    urlopen(Request(e.url + '/v1/customers', b'name=x', headers)).read()\n"
        "print('stripe' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_is_quick_to_start() -> None:
    begun = time.process_time()
    with Emulator():
        pass
    assert time.process_time() - begun < 2


def test_starting_twice_changes_nothing() -> None:
    with Emulator(customers=0) as emu:
        url = emu.url
        assert emu.start().url == url


def test_stopping_twice_does_no_harm() -> None:
    emu = Emulator(customers=0).start()
    emu.stop()
    emu.stop()


def test_a_stopped_emulator_answers_nothing() -> None:
    emu = Emulator(customers=0).start()
    client = client_of(emu)
    client.v1.charges.list()
    emu.stop()
    with pytest.raises(stripe.APIConnectionError):
        client.v1.charges.list()


def test_an_emulator_that_never_started_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        _ = Emulator(customers=0).url


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        Emulator(unscoped_payment_methods="maybe")


def test_a_port_is_taken_once() -> None:
    with Emulator(customers=0) as emu:
        port = int(emu.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            Emulator(customers=0, port=port).start()


def test_a_file_survives_a_restart(tmp_path: Path) -> None:
    db = str(tmp_path / "stripe.db")
    with Emulator(customers=3, db=db, accounts=1) as emu:
        made = client_of(emu).v1.customers.create({"name": "Ada"})
        before = (emu.account_id, emu.account_ids, emu.objects("customers"), emu.objects("events"))
    with Emulator(customers=3, db=db) as emu:
        after = (emu.account_id, emu.account_ids, emu.objects("customers"), emu.objects("events"))
        assert client_of(emu).v1.customers.retrieve(made.id).name == "Ada"
    assert after == before


def test_a_replay_survives_a_restart(tmp_path: Path) -> None:
    db = str(tmp_path / "stripe.db")
    key: stripe.RequestOptions = {"idempotency_key": "k1"}
    with Emulator(customers=0, db=db) as emu:
        made = client_of(emu).v1.customers.create({"name": "Ada"}, key)
    with Emulator(customers=0, db=db) as emu:
        assert client_of(emu).v1.customers.create({"name": "Ada"}, key).id == made.id


def test_ids_are_new_after_a_restart(tmp_path: Path) -> None:
    db = str(tmp_path / "stripe.db")
    ids = []
    for _ in range(3):
        with Emulator(customers=0, db=db) as emu:
            ids.append(client_of(emu).v1.customers.create({}).id)
    assert len(set(ids)) == 3


def test_rows_that_come_while_paging_shift_nothing(emu: Emulator) -> None:
    client = client_of(emu)
    before = emu.ids("customers")
    seen: list[str] = []
    for row in client.v1.customers.list({"limit": 2}).auto_paging_iter():
        seen.append(row.id)
        client.v1.customers.create({})
    assert seen == before


def test_many_threads_page_and_write(emu: Emulator) -> None:
    before = set(emu.ids("customers"))
    walks: list[list[str]] = []
    made: list[str] = []
    problems: list[BaseException] = []

    def work(number: int) -> None:
        client = client_of(emu)
        try:
            for n in range(6):
                made.append(client.v1.customers.create({"name": f"{number}-{n}"}).id)
                rows = client.v1.customers.list({"limit": 7}).auto_paging_iter()
                walks.append([row.id for row in rows])
        except BaseException as problem:  # noqa: BLE001 - told by the test
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert all(len(set(walk)) == len(walk) and before <= set(walk) for walk in walks)
    assert set(emu.ids("customers")) == before | set(made)
    assert len(made) == 48


def test_writes_to_one_object_are_not_lost(emu: Emulator) -> None:
    customer = emu.ids("customers")[0]

    def work(number: int) -> None:
        client = client_of(emu)
        for n in range(5):
            client.v1.customers.update(customer, {"metadata": {f"{number}-{n}": "x"}})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = client_of(emu).v1.customers.retrieve(customer).metadata
    assert found is not None
    assert len([name for name in found.to_dict() if "-" in name]) == 40


def test_counts_by_object_and_by_stream(emu: Emulator) -> None:
    assert emu.count("charge") == emu.count("charges") == len(emu.objects("charges"))


def test_the_clock_can_be_advanced(emu: Emulator) -> None:
    emu.clock_advance(60)
    assert client_of(emu).v1.customers.create({}).created == NOW + 60
