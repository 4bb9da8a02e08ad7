"""The inbox keeps what it was given, whatever the database."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.webhooks.coverage import FOREVER, MAX_EVENT_DELAY, Fetched
from stripe_alloy.webhooks.inbox import (
    DEDUP_RETENTION,
    RETENTION,
    AccountScope,
    EventRange,
    Inbox,
    InboxError,
    InboxEvent,
    row_of,
)
from tests.webhooks.helpers import body_of, event

OWN = AccountScope(None, livemode=False)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/inbox.db"
    url = str(request.getfixturevalue("postgres"))
    inbox = Inbox(url)
    with inbox.engine.begin() as connection:  # of the test before
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    inbox.close()
    return url


@pytest.fixture
def inbox(url: str, clock: Clock) -> Inbox:
    return Inbox(url, clock=clock)


def deliver(inbox: Inbox, *numbers: int, created: int | None = None, **more: object) -> None:
    at = int(inbox.clock()) if created is None else created
    rows = [row_of(body_of(event(n, created=at, **more)), inbox.clock()) for n in numbers]
    inbox.deliver(rows)


def numbers(
    inbox: Inbox, scope: AccountScope = OWN, after: int = 0, since: int | None = None
) -> list[int]:
    wanted = EventRange(after, since, inbox.newest())
    return [entry.seq for entry in inbox.all_of(scope, wanted)]


def test_an_event_is_kept_once_and_numbers_rise(inbox: Inbox) -> None:
    deliver(inbox, 1, 2)
    deliver(inbox, 2, 3, 3)
    assert len(numbers(inbox)) == 3
    before = inbox.newest()
    deliver(inbox, 4)
    assert inbox.newest() > before


def test_numbers_are_never_given_twice(inbox: Inbox, clock: Clock) -> None:
    deliver(inbox, 1, 2, 3)
    newest = inbox.newest()
    inbox.acknowledge("reader", newest)
    clock.now += DEDUP_RETENTION + DAY
    inbox.acknowledge("reader", newest)
    assert inbox.newest() == 0
    deliver(inbox, 4)
    assert inbox.newest() > newest


def test_it_is_read_newest_first_in_pages(inbox: Inbox) -> None:
    for number in range(10):
        deliver(inbox, number, created=1_000 - number % 3)
    found, place, more = list[InboxEvent](), None, True
    while more:
        wanted = EventRange(0, None, inbox.newest())
        page, more = inbox.page(OWN, wanted, place=place, limit=3)
        found += page
        place = page[-1].created, page[-1].seq
    assert len(found) == 10
    assert found == sorted(found, key=lambda entry: (-entry.created, -entry.seq))


def test_a_page_is_bounded_by_bytes(inbox: Inbox) -> None:
    for number in range(6):
        deliver(inbox, number, created=number, padding="x" * (100_000 if number < 5 else 900_000))
    found, sizes, place, more = list[int](), list[int](), None, True
    while more:
        page, more = inbox.page(
            OWN, EventRange(0, None, inbox.newest()), place=place, most_bytes=250_000
        )
        sizes.append(len(page))
        found += [entry.created for entry in page]
        place = page[-1].created, page[-1].seq
    assert found == [5, 4, 3, 2, 1, 0]
    assert sizes == [1, 2, 2, 1]


def test_accounts_and_modes_are_kept_apart(inbox: Inbox) -> None:
    deliver(inbox, 1)
    deliver(inbox, 2, account="acct_2")
    deliver(inbox, 3, livemode=True)
    assert len(numbers(inbox)) == 1
    assert len(numbers(inbox, AccountScope("acct_2", livemode=False))) == 1
    assert len(numbers(inbox, AccountScope(None, livemode=True))) == 1
    assert numbers(inbox, AccountScope("acct_3", livemode=False)) == []


def test_events_stay_until_every_reader_is_done(inbox: Inbox) -> None:
    deliver(inbox, 1, 2, 3)
    last = inbox.newest()
    inbox.acknowledge("slow", last - 2)
    inbox.acknowledge("quick", last)
    assert len(numbers(inbox)) == 2
    assert inbox.pruned_to()[0] == last - 2
    inbox.acknowledge("slow", last)
    assert numbers(inbox) == []
    deliver(inbox, 2)  # delivered once more
    assert numbers(inbox) == []


def test_who_does_not_come_back_holds_nothing_for_ever(inbox: Inbox, clock: Clock) -> None:
    deliver(inbox, 1)
    inbox.acknowledge("gone", 0)
    clock.now += RETENTION + DAY
    deliver(inbox, 2)
    inbox.acknowledge("here", inbox.newest() - 1)
    assert len(numbers(inbox)) == 1
    assert inbox.pruned_to()[0] == inbox.newest() - 1


def test_what_was_taken_is_known_for_some_days(inbox: Inbox) -> None:
    deliver(inbox, 1, created=500)
    deliver(inbox, 8, created=700)  # of the same customer
    key = ("customer", "cus_1")
    assert inbox.newest_created(OWN, ["cus_1"], inbox.newest()) == {key: 700}
    assert inbox.newest_created(OWN, ["cus_1"], inbox.newest() - 1) == {key: 500}
    inbox.acknowledge("reader", inbox.newest())
    assert inbox.newest_created(OWN, ["cus_1"], inbox.newest()) == {key: 700}
    assert inbox.missing_ids(["evt_00000001", "evt_00000009"]) == {"evt_00000009"}


def test_gaps_end_where_a_receiver_began_and_had_its_first_event(
    inbox: Inbox, clock: Clock
) -> None:
    assert inbox.gaps(OWN, 0) == [(0, FOREVER)]
    started = clock.now
    inbox.heartbeat("session", started)
    assert inbox.gaps(OWN, 0) == [(0, FOREVER)]
    clock.now += 10
    deliver(inbox, 1)
    inbox.heartbeat("session", started)
    assert inbox.gaps(OWN, 0) == [(0, clock.now)]
    assert inbox.gaps(AccountScope("acct_2", livemode=False), 0) == [(0, FOREVER)]
    inbox.store_page(OWN, [], done=Fetched(0, clock.now, clock.now))
    assert inbox.gaps(OWN, 0) == []
    clock.now += MAX_EVENT_DELAY
    inbox.heartbeat("session", started)
    late = started + 10 - MAX_EVENT_DELAY
    assert inbox.gaps(OWN, 0) == [(late, started + 10)]
    inbox.store_page(OWN, [], done=Fetched(late, started + 10, clock.now))
    assert inbox.gaps(OWN, 0) == []


def test_listed_events_join_those_delivered(inbox: Inbox) -> None:
    deliver(inbox, 1)
    listed = [body_of(event(n)) for n in (1, 2)]
    inbox.store_page(OWN, listed, done=Fetched(0, 10, 1_000_000))
    other = AccountScope("acct_2", livemode=False)
    inbox.store_page(other, [body_of(event(3))], done=Fetched(0, 10, 1_000_000))
    assert len(numbers(inbox)) == 2
    assert len(numbers(inbox, other)) == 1


def test_several_write_at_once(url: str, clock: Clock) -> None:
    Inbox(url).close()
    boxes = [Inbox(url, clock=clock) for _ in range(4)]

    def send(box: Inbox, first: int) -> None:
        for number in range(first, first + 20):
            deliver(box, number, number % 7)

    threads = [
        threading.Thread(target=send, args=(box, 100 * n)) for n, box in enumerate(boxes, start=1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers(boxes[0])) == 4 * 20 + 7
    for box in boxes:
        box.close()


def test_the_same_inbox_has_the_same_id(url: str, tmp_path: Path) -> None:
    first, again = Inbox(url), Inbox(url)
    other = Inbox(f"sqlite:///{tmp_path}/other.db")
    assert first.id == again.id != other.id


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    Inbox(f"sqlite:///{tmp_path}/deep/inbox.db")
    assert (tmp_path / "deep/inbox.db").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but long enough to look like one" * 10)
    with pytest.raises(InboxError, match="The inbox fails"):
        Inbox(f"sqlite:///{tmp_path}/text")
    for url in ("inbox.db", "oracle://x", "sqlite://"):
        with pytest.raises(SettingsError, match="`webhook_inbox`"):
            Inbox(url)
    secret = "postgresql+psycopg://u:hush@127.0.0.1:1/x"
    with pytest.raises(InboxError) as refused:
        Inbox(secret)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": 5}', b'{"object": "event"}'])
def test_what_is_no_event_has_no_row(body: bytes) -> None:
    with pytest.raises((ValueError, msgspec.DecodeError)):
        row_of(body, 0.0)
