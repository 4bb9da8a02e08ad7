"""The receiver under attack or without a disk: it goes on, or /healthz says that it does not."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.database import GroupCommit
from stripe_alloy.webhooks.connections import REQUEST_SECONDS, SWEEP_SECONDS
from stripe_alloy.webhooks.coverage import FOREVER, HEARTBEAT_TTL
from stripe_alloy.webhooks.event_writer import MAX_WAITING_BYTES
from stripe_alloy.webhooks.inbox import AccountScope, Inbox, InboxError, UnstorableEvent, row_of
from tests.conftest import catalog_of
from tests.webhooks.helpers import (
    Listening,
    body_of,
    event,
    inbox_url,
    kept,
    listen,
    signed,
    wait_for,
)
from tests.webhooks.test_inbox import url  # noqa: F401 - a fixture: SQLite and PostgreSQL
from tests.webhooks.test_realtime import Business, api_of
from tests.webhooks.test_realtime import business as business  # noqa: PLC0414 - a fixture

MANY = 2_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limits")


@pytest.fixture(scope="module")
def receiver(folder: Path) -> Iterator[Listening]:
    with listen(folder) as listening:
        yield listening


# ---------------------------------------------------------------------- events out of range


def customer(**fields: Any) -> dict[str, Any]:
    return {"object": {"id": "cus_1", "object": "customer", **fields}}


UNSTORABLE: dict[str, dict[str, Any]] = {
    "created too late": {"created": 2**63},
    "created beyond all times": {"created": 2**61},
    "created huge": {"created": 10**30},
    "created before all times": {"created": -(2**63) - 1},
    "created negative": {"created": -1},
    "a NUL in the type": {"type": "customer\0updated"},
    "a NUL in the account": {"account": "acct_\0"},
    "a NUL in the object's id": {"data": customer(id="cus_\0")},
    "a NUL in the object's kind": {"data": customer(object="customer\0")},
    "an account too long": {"account": "acct_" + "x" * 300},
    "an object's id too long": {"data": customer(id="cus_" + "x" * 300)},
    "an object's kind too long": {"data": customer(object="x" * 300)},
    "previous attributes of another form": {"data": {**customer(), "previous_attributes": 5}},
    "a request of another form": {"request": 5},
    "an object that is a text": {"data": {"object": "cus_1"}},
}


def unstorable(name: str, number: int) -> bytes:
    return json.dumps(event(number, **UNSTORABLE[name])).encode()


@pytest.mark.parametrize("name", UNSTORABLE)
def test_an_event_that_cannot_be_stored_is_refused_and_named(
    receiver: Listening, folder: Path, name: str
) -> None:
    number = 500 + list(UNSTORABLE).index(name)
    body = unstorable(name, number)
    assert receiver.post(body, signed(body)) == 400
    assert receiver.deliver(event(number + 100)) == 200
    assert receiver.ask("GET", "/healthz") == (200, b"ok")
    assert f"evt_{number:08d}" not in kept(folder)


WHOLE = json.dumps(event(1)).encode()


@pytest.mark.parametrize(
    "body",
    [
        WHOLE.replace(b'"Zo\\u00eb"', b'"\\ud800"'),
        WHOLE.replace(b'"Zo\\u00eb"', b"1e999"),
        WHOLE.replace(b'"Zo\\u00eb"', b"[" * 50_000 + b"]" * 50_000),
        WHOLE.replace(b'"evt_00000001"', b'"evt_\\u0000"'),
        WHOLE.replace(b'"evt_00000001"', b'"' + b"x" * 300 + b'"'),
        WHOLE.replace(b'"evt_00000001"', b'""'),
        WHOLE.replace(b'"evt_00000001"', b'"evt_\\ud800"'),
    ],
    ids=["surrogate", "number", "depth", "NUL in id", "long id", "no id", "surrogate in id"],
)
def test_what_the_tap_could_not_read_is_refused(
    receiver: Listening, folder: Path, body: bytes
) -> None:
    assert body != WHOLE
    before = len(kept(folder))
    assert receiver.post(body, signed(body)) == 400
    assert receiver.ask("GET", "/healthz") == (200, b"ok")
    assert len(kept(folder)) == before


def test_an_event_that_cannot_be_stored_is_named_once(tmp_path: Path) -> None:
    with listen(tmp_path) as receiver:
        for _ in range(5):
            assert receiver.deliver(event(1, created=2**63)) == 400
        lines = [line for line in receiver.log().splitlines() if "evt_00000001" in line]
    assert len(lines) == 1
    assert "(customer.updated)" in lines[0]
    assert "`$.created`" in lines[0]


@pytest.mark.parametrize("name", ["id", "type"])
def test_what_does_not_look_like_stripes_is_not_named(tmp_path: Path, name: str) -> None:
    with listen(tmp_path) as receiver:
        refused = event(1, **{"created": 2**63, name: "sk_live_secret of Zoë"})
        assert receiver.deliver(refused) == 400
        wait_for(lambda: "Refused" in receiver.log())
        assert not any(word in receiver.log() for word in ("secret", "Zo"))


def test_one_row_that_cannot_be_stored_does_not_keep_out_the_others(
    url: str,  # noqa: F811
) -> None:
    inbox = Inbox(url)
    rows = [row_of(body_of(event(n)), 0.0) for n in range(10)]
    rows[3]["created"] = 2**63
    rows[7]["id"] = "evt_\ud800"
    results = inbox.deliver_each(rows)
    with inbox.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT id FROM stripe_alloy_inbox_events").fetchall()
    inbox.close()
    assert [isinstance(result, UnstorableEvent) for result in results] == [
        n in (3, 7) for n in range(10)
    ]
    assert {row[0] for row in found} == {row["id"] for n, row in enumerate(rows) if n not in (3, 7)}


def test_a_thread_that_commits_for_several_survives_what_cannot_be_stored(
    url: str,  # noqa: F811
) -> None:
    inbox = Inbox(url)
    group = GroupCommit(inbox.engine, name="test", convert_error=lambda _: InboxError("it fails"))
    good = [group.submit(lambda c: c.exec_driver_sql("SELECT 1").scalar()) for _ in range(3)]
    insert = "INSERT INTO stripe_alloy_inbox_readers (reader, seq, at) VALUES "
    mark = "(?, ?, ?)" if url.startswith("sqlite") else "(%s, %s, %s)"
    bad = group.submit(lambda c: c.exec_driver_sql(insert + mark, ("x", 10**30, 0.0)).rowcount)
    later = group.submit(lambda c: c.exec_driver_sql(insert + mark, ("y", 1, 0.0)).rowcount)
    assert [one.result(30) for one in good] == [1, 1, 1]
    with pytest.raises(AlloyError, match="it fails"):
        bad.result(30)
    assert later.result(30) == 1
    group.close()
    inbox.close()


# ---------------------------------------------------------------------- connections


@pytest.fixture
def files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 500:
        pytest.skip("too few open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 500), hard))


def connect(receiver: Listening) -> socket.socket:
    place = urlsplit(receiver.url)
    return socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=30)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("allowed", [256, 1024, 20_000])
def test_idle_connections_keep_nobody_out(tmp_path: Path, allowed: int) -> None:
    with (
        listen(tmp_path, open_files=allowed) as receiver,
        contextlib.ExitStack() as idle,
    ):
        for _ in range(MANY):
            idle.enter_context(connect(receiver))
        for number in range(20):
            assert receiver.deliver(event(number)) == 200
        assert receiver.ask("GET", "/healthz") == (200, b"ok")
    assert len(kept(tmp_path)) == 20


def ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_who_sends_slowly_is_cut_off_and_others_are_served(receiver: Listening) -> None:
    body = body_of(event(700))
    head = [f"{name}: {value}" for name, value in signed(body).items()]
    slow = {
        "headers": b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "body": "\r\n".join(
            ["POST / HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *head, "", ""]
        ).encode(),
        "chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "nothing": b"",
    }
    more = {"headers": b"x", "body": body[:1], "chunks": b"1\r\nx\r\n", "nothing": b""}
    with contextlib.ExitStack() as stack:
        connections = {name: stack.enter_context(connect(receiver)) for name in slow}
        for name, connection in connections.items():
            connection.sendall(slow[name])
        began, left, served = time.monotonic(), set(slow), 0
        while left and time.monotonic() < began + REQUEST_SECONDS + 3 * SWEEP_SECONDS + 5:
            assert receiver.deliver(event(701)) == 200
            served += 1
            for name in list(left):
                if ended(connections[name]):
                    left.remove(name)
                    continue
                with contextlib.suppress(OSError):
                    connections[name].sendall(more[name])
            time.sleep(0.3)  # that is how slowly they send
    assert left == set()
    assert served > 3


def test_a_connection_that_is_used_again_and_again_stays(receiver: Listening) -> None:
    place = urlsplit(receiver.url)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    connection.connect()
    mine = connection.sock
    end = time.monotonic() + REQUEST_SECONDS + 3 * SWEEP_SECONDS
    while time.monotonic() < end:
        body = body_of(event(702))
        connection.request("POST", "/", body, signed(body))
        assert connection.getresponse().read() == b"stored"
        time.sleep(1)  # less than a connection is kept open for
    assert connection.sock is mine
    connection.close()


def test_one_complaint_is_a_line_a_minute_and_another_is_still_logged(tmp_path: Path) -> None:
    with listen(tmp_path) as receiver:
        body = body_of(event(1))
        for n in range(30):
            assert receiver.post(body, signed(body, "whsec_somebody_elses")) == 400
            assert receiver.post(body, signed(body, at=time.time() - 400 - n)) == 400
            with connect(receiver) as connection:
                connection.sendall(b"\x16\x03\x01 TLS, or whatever this is\r\n\r\n")
                connection.recv(1_000)
        lines = receiver.log().splitlines()[1:]
    assert len(lines) == 3
    assert len({line.split("(")[0] for line in lines}) == 3


# ---------------------------------------------------------------------- memory


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else can write into the inbox until the block ends."""
    holder = sqlite3.connect(folder / "inbox.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield
    holder.execute("ROLLBACK")
    holder.close()


def test_waiting_bytes_are_bounded_and_the_rest_is_to_be_sent_again(tmp_path: Path) -> None:
    large = {"padding": "x" * ((1 << 20) - 2_000)}
    deliveries, statuses = 200, list[int]()
    retry_after: set[str | None] = set()

    async def deliver(number: int, receiver: Listening) -> None:
        body = body_of(event(number, **large))
        place = urlsplit(receiver.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        lines = [f"{name}: {value}" for name, value in signed(body).items()]
        head = ["POST / HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
        writer.write("\r\n".join(head).encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        statuses.append(int(answer.split()[1]))
        if statuses[-1] == 503:
            retry_after.add(answer.partition("retry-after: ")[2].partition("\r\n")[0])
        writer.close()

    async def deliver_all(receiver: Listening) -> None:
        await asyncio.gather(*(deliver(number, receiver) for number in range(deliveries)))

    with listen(tmp_path) as receiver:
        with locked(tmp_path):
            sending = threading.Thread(target=lambda: asyncio.run(deliver_all(receiver)))
            sending.start()
            wait_for(lambda: len(statuses) >= deliveries - MAX_WAITING_BYTES // (1 << 20) - 1)
        sending.join(60)
        peak = Path(f"/proc/{receiver.process.pid}/status").read_text("ascii")
        assert receiver.deliver(event(deliveries)) == 200
    assert set(statuses) == {200, 503}
    assert retry_after == {"10"}
    megabytes = int(peak.split("VmHWM:")[1].split()[0]) / 1024
    assert megabytes < 400
    assert len(kept(tmp_path)) == statuses.count(200) + 1


# ---------------------------------------------------------------------- no disk


def fill_disk(receiver: Listening) -> None:
    """No file of the receiver's may grow any more."""
    resource.prlimit(receiver.process.pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))


def free_disk(receiver: Listening) -> None:
    both = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(receiver.process.pid, resource.RLIMIT_FSIZE, both)


def health(receiver: Listening) -> int:
    return receiver.ask("GET", "/healthz")[0]


def last_sign_of_life(folder: Path) -> float:
    with contextlib.closing(sqlite3.connect(folder / "inbox.db")) as connection:
        found = connection.execute("SELECT max(until) FROM stripe_alloy_inbox_uptimes").fetchone()
    return float(found[0])


def test_without_disk_events_are_refused_and_it_is_said_until_it_works_again(
    tmp_path: Path,
) -> None:
    with listen(tmp_path) as receiver:
        assert receiver.deliver(event(1)) == 200
        fill_disk(receiver)
        assert receiver.deliver(event(2)) == 503
        assert health(receiver) == 503
        before = last_sign_of_life(tmp_path)
        assert receiver.deliver(event(3)) == 503
        time.sleep(3)  # of which none may count
        assert (health(receiver), last_sign_of_life(tmp_path)) == (503, before)
        free_disk(receiver)
        wait_for(lambda: health(receiver) == 200)
        assert receiver.deliver(event(3)) == 200
        wait_for(lambda: last_sign_of_life(tmp_path) > before + 3)
        assert len([line for line in receiver.log().splitlines() if "it works again" in line]) == 1
        inbox = Inbox(inbox_url(tmp_path), clock=lambda: time.time() + HEARTBEAT_TTL + 1)
        wait_for(lambda: last_sign_of_life(tmp_path) > before + 4)
        [missing, *rest] = inbox.gaps(AccountScope(None, livemode=False), time.time() - 100)
        inbox.close()
    assert missing[0] < before < missing[1]
    assert missing[1] < FOREVER or not rest


def test_what_was_refused_without_disk_is_listed_by_the_tap(business: Business) -> None:
    business.catalog = catalog_of(business.config, "customers")
    api = api_of(business.emulator)
    business.run()
    with business.receiver() as receiver:
        api.customers.create({"name": "The first to be delivered"})
        assert business.emulator.webhooks.wait(30)
        business.run()
        fill_disk(receiver)
        lost = api.customers.create({"name": "Refused"}).id
        wait_for(lambda: any(one.status == 503 for one in business.emulator.webhooks.deliveries))
        business.emulator.webhooks.paused = True  # Stripe tries again hours later
        free_disk(receiver)
        wait_for(lambda: health(receiver) == 200)
        last_of_old = last_sign_of_life(business.folder)
        wait_for(lambda: last_sign_of_life(business.folder) > last_of_old + HEARTBEAT_TTL)
        business.run()
        assert lost in business.destination.of("customers")


@pytest.mark.parametrize("failure", ["a table is gone", "the file is no database"])
def test_the_writer_outlives_what_it_meets(tmp_path: Path, failure: str) -> None:
    with listen(tmp_path) as receiver:
        assert receiver.deliver(event(1)) == 200
        if failure == "a table is gone":
            with contextlib.closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
                connection.execute("ALTER TABLE stripe_alloy_inbox_events RENAME TO away")
        else:
            for file in tmp_path.glob("inbox.db*"):
                file.write_bytes(b"nothing of a database" * 1_000)
        assert receiver.deliver(event(2)) == 503
        assert health(receiver) == 503
        assert "Traceback" not in receiver.log()
