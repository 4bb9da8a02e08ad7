"""An inbox of several accounts: each event belongs to the account whose secret signed it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api.errors import UnreadableStreamsError
from stripe_alloy.emulator import Emulator
from stripe_alloy.webhooks.coverage import FOREVER
from stripe_alloy.webhooks.inbox import AccountScope, EventRange, Inbox, InboxError, row_of
from stripe_alloy.webhooks.signing_secrets import secrets_given
from tests.conftest import Output, catalog_of, config_of, read
from tests.webhooks.helpers import SECRET, Listening, body_of, event, inbox_url, listen, wait_for
from tests.webhooks.test_inbox import url  # noqa: F401 - a fixture: SQLite and PostgreSQL
from tests.webhooks.test_realtime import api_of, free_port

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Account:
    """An emulated account that delivers to a receiver of several."""

    def __init__(self, emulator: Emulator, folder: Path, name: str) -> None:
        self.emulator, self.folder, self.name = emulator, folder, name
        self.config = config_of(emulator, webhook_inbox=inbox_url(folder))
        self.state: dict[str, Any] = {}
        self.secret = ""

    def deliver_to(self, port: int, events: str = "*") -> str:
        """An endpoint made by hand; returns its secret."""
        made = api_of(self.emulator).webhook_endpoints.create(
            {"url": f"http://127.0.0.1:{port}/", "enabled_events": [events]}
        )
        self.secret = str(made.secret)
        return self.secret

    def customer(self) -> str:
        made = str(api_of(self.emulator).customers.create({"name": f"Of {self.name}"}).id)
        assert self.emulator.webhooks.wait(30)
        return made

    def run(self) -> Output:
        catalog = catalog_of(self.config, "customers")
        output = read(self.config, catalog=catalog, state=self.state)
        self.state = output.state if output.states else self.state
        return output

    def requests(self) -> list[str]:
        before = len(self.emulator.requests)
        self.run()
        return [request.path for request in self.emulator.requests[before:]]


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[tuple[Account, Account]]:
    retries = (0.1, 0.2, 0.5, *[1] * 600)
    with (
        Emulator(seed=1, customers=3, webhook_retries=retries) as one,
        Emulator(seed=2, customers=3, webhook_retries=retries) as other,
    ):
        assert one.account_id != other.account_id
        yield Account(one, tmp_path, "A"), Account(other, tmp_path, "B")


BINDINGS = ["not said", "environment", "file", "file, only one", "environment, only one"]


@contextlib.contextmanager
def receiver_of(accounts: tuple[Account, ...], folder: Path, binding: str) -> Iterator[Listening]:
    """A receiver that has the secrets of all, and knows or does not know whose they are."""
    port = free_port()
    lines, given = [], []
    for n, account in enumerate(accounts):
        secret, known = account.deliver_to(port), "only" not in binding or n == 0
        mine = account.emulator.account_id
        if binding.startswith("file"):
            lines.append(f"{secret}  # {mine}" if known else secret)
        elif binding.startswith("environment") and known:
            given.append(f"{mine}={secret}")
        else:
            given.append(secret)
    file = folder / "secrets"
    file.write_text("\n".join(lines))
    with listen(
        folder,
        "--secret-file",
        str(file),
        port=port,
        env={"STRIPE_WEBHOOK_SECRET": ",".join(given)},
    ) as receiver:
        yield receiver


@pytest.mark.parametrize("binding", BINDINGS)
def test_each_tap_takes_its_own(
    accounts: tuple[Account, Account], tmp_path: Path, binding: str
) -> None:
    one, other = accounts
    for account in accounts:
        account.run()
    with receiver_of(accounts, tmp_path, binding):
        for _ in range(2):
            made = {account.name: account.customer() for account in (one, other)}
            for account in accounts:
                records = account.run().records.get("customers", [])
                found = {record["id"]: record["_account_id"] for record in records}
                assert found == {made[account.name]: account.emulator.account_id}


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_tap_whose_account_delivers_nothing_takes_nothing(
    accounts: tuple[Account, Account], tmp_path: Path, binding: str
) -> None:
    one, other = accounts
    one.run()
    with receiver_of((other,), tmp_path, binding):
        other.customer()
        assert "customers" not in one.run().records
        mine = one.customer()  # delivered to nobody, so it is listed
        assert [record["id"] for record in one.run().records["customers"]] == [mine]


@pytest.mark.parametrize("binding", BINDINGS)
def test_once_it_is_known_whose_an_endpoint_is_nothing_is_asked(
    accounts: tuple[Account, Account], tmp_path: Path, binding: str
) -> None:
    for account in accounts:
        account.run()
    with receiver_of(accounts, tmp_path, binding):
        for account in accounts:
            account.customer()
        for account in accounts:
            account.run()
        for account in accounts:
            account.customer()
        for account in accounts:
            assert account.requests() == []


def test_who_is_up_for_one_account_covers_no_other(
    url: str,  # noqa: F811
) -> None:
    now = [1_800_000_000.0]
    inbox = Inbox(url, clock=lambda: now[0])
    one, other = (AccountScope(None, livemode=False, own=f"acct_{name}") for name in "AB")
    inbox.add_endpoints({"we_A": "acct_A", "we_B": "acct_B"})
    inbox.heartbeat("both", now[0], endpoints=["we_A", "we_B"])
    inbox.deliver([row_of(body_of(event(1)), now[0], account="acct_A", endpoint="we_A")])
    assert inbox.gaps(one, now[0]) == []
    assert inbox.gaps(other, now[0]) == [(now[0], FOREVER)]
    inbox.deliver([row_of(body_of(event(2)), now[0], account="acct_B", endpoint="we_B")])
    assert inbox.gaps(other, now[0]) == []
    now[0] += 1_000
    inbox.heartbeat("one", now[0], endpoints=["we_A"])
    assert inbox.gaps(one, now[0]) == []
    assert inbox.gaps(other, now[0]) == [(now[0], FOREVER)]
    inbox.heartbeat("none", now[0], endpoints=[])
    assert inbox.gaps(other, now[0]) == [(now[0], FOREVER)]
    inbox.close()


def test_what_one_account_listed_is_not_covered_for_another(
    accounts: tuple[Account, Account],
) -> None:
    one, other = accounts
    other.run()
    one.run()
    mine = str(api_of(other.emulator).customers.create({"name": "New"}).id)
    one.run()
    assert [record["id"] for record in other.run().records["customers"]] == [mine]


def test_an_endpoint_found_to_be_another_accounts_is_asked_for_once(
    accounts: tuple[Account, Account], tmp_path: Path
) -> None:
    one, other = accounts
    one.run()
    with receiver_of((other,), tmp_path, "not said"):
        other.customer()
        assert sum("/v1/events/" in path for path in one.requests()) == 1
        other.customer()
        assert sum("/v1/events/" in path for path in one.requests()) == 0


def test_a_key_that_may_not_read_events_leaves_an_endpoint_unclaimed(
    accounts: tuple[Account, Account], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = accounts
    one.emulator.keys.add("rk_test_no_events", {"event": "none", "*": "read"})
    one.config["api_key"] = "rk_test_no_events"
    with receiver_of((other,), tmp_path, "not said"):
        other.customer()
        assert set(one.run().ids("customers")) == set(one.emulator.ids("customer"))
        assert caplog.text.count("of an unknown account") == 1
        with pytest.raises(UnreadableStreamsError, match="customers"):
            one.run()
        one.config["api_key"] = one.emulator.api_key
        mine = one.customer()
        assert list(one.run().ids("customers")) == [mine]


def test_no_secret_is_in_the_inbox(accounts: tuple[Account, Account], tmp_path: Path) -> None:
    with receiver_of(accounts, tmp_path, "not said"):
        for account in accounts:
            account.customer()
    content = b"".join(file.read_bytes() for file in tmp_path.glob("inbox.db*"))
    assert not any(account.secret[6:].encode() in content for account in accounts)


def test_the_environment_may_say_whose_a_secret_is() -> None:
    found = secrets_given({"STRIPE_WEBHOOK_SECRET": "acct_1=whsec_a=, whsec_b ,"})
    assert [(one.secret, one.account) for one in found] == [("whsec_a=", "acct_1"), ("whsec_b", "")]


# ---------------------------------------------------------------------- from before


@pytest.fixture(params=["sqlite", "postgres"])
def old_inbox(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An inbox as cb5f45d left it."""
    if request.param == "sqlite":
        script = (FIXTURES / "inbox-cb5f45d.sql").read_text("utf-8")
        with contextlib.closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
            connection.executescript(script)
        return inbox_url(tmp_path)
    found = str(request.getfixturevalue("postgres"))
    inbox = Inbox(found)
    script = (FIXTURES / "inbox-cb5f45d-postgresql.sql").read_text("utf-8")
    with inbox.engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        for statement in script.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    inbox.close()
    return found


AT = 1_800_000_000.0


def test_an_inbox_of_before_opens_and_keeps_what_it_knows(old_inbox: str) -> None:
    inbox = Inbox(old_inbox, clock=lambda: AT + 5)
    mine = AccountScope(None, livemode=False, own="acct_A")
    page = inbox.all_of(mine, EventRange(0, None, inbox.newest(mine)))
    assert [entry.seq for entry in page] == [5, 3, 2]
    others = inbox.all_of(
        AccountScope("acct_2", livemode=False, own="acct_A"), EventRange(0, None, 9)
    )
    assert [entry.seq for entry in others] == [4]
    assert inbox.pruned_to() == (1, 1_799_999_991)
    assert inbox.gaps(mine, AT - 5_000) == [(AT - 900, AT)]
    assert inbox.missing_ids(["evt_00000001", "evt_00000009"], mine) == {"evt_00000009"}
    assert inbox.newest_created(mine, ["cus_1"], 5) == {("customer", "cus_1"): 1_799_999_991}
    inbox.close()


def test_an_inbox_of_before_takes_what_comes_and_stays_covered(old_inbox: str) -> None:
    inbox = Inbox(old_inbox, clock=lambda: AT + 5)
    mine = AccountScope(None, livemode=False, own="acct_A")
    inbox.add_endpoints({"we_A": "acct_A"})
    inbox.heartbeat("new", AT + 5, endpoints=["we_A"])
    assert inbox.gaps(mine, AT) == []
    inbox.deliver([row_of(body_of(event(77)), AT, account="acct_A", endpoint="we_A")])
    page = inbox.all_of(mine, EventRange(3, None, inbox.newest(mine)))
    assert {entry.seq for entry in page} == {5, 6}
    inbox.close()
    again = Inbox(old_inbox)
    assert again.newest() == 6
    again.close()


def test_of_an_inbox_of_before_nobody_takes_anothers_once_there_are_several(
    old_inbox: str,
) -> None:
    inbox = Inbox(old_inbox, clock=lambda: AT + 5)
    one, other = (AccountScope(None, livemode=False, own=f"acct_{name}") for name in "AB")
    inbox.add_endpoints({"we_A": "acct_A", "we_B": "acct_B"})
    for scope in (one, other):
        assert inbox.all_of(scope, EventRange(0, None, 9)) == []
        assert inbox.gaps(scope, AT) == [(AT, FOREVER)]
    stored = json.dumps({**event(2), "created": int(AT)}).encode()
    inbox.store_page(other, [stored])
    [entry] = inbox.all_of(other, EventRange(5, None, 9))
    assert json.loads(entry.body)["id"] == "evt_00000002"
    assert inbox.all_of(one, EventRange(0, None, 9)) == []
    inbox.close()


def test_an_inbox_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    Inbox(inbox_url(tmp_path)).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
        connection.execute("UPDATE stripe_alloy_inbox SET version = 99")
        connection.commit()
    with pytest.raises(InboxError, match="upgrade stripe-alloy"):
        Inbox(inbox_url(tmp_path))


def test_secrets_that_come_later_count_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"{SECRET}  # we_A acct_A\n")
    began = time.time()
    other = AccountScope(None, livemode=False, own="acct_B")
    with listen(
        tmp_path, "--secret-file", str(file), env={"STRIPE_WEBHOOK_SECRET": ""}
    ) as receiver:
        assert receiver.deliver(event(1)) == 200
        file.write_text(f"{SECRET}  # we_A acct_A\nwhsec_b  # we_B acct_B\n")
        inbox = Inbox(inbox_url(tmp_path))
        wait_for(lambda: receiver.deliver(event(2), "whsec_b") == 200)
        wait_for(
            lambda: len(inbox.gaps(other, began)) == 1 and inbox.gaps(other, began)[0][1] < FOREVER
        )
        [(low, high)] = inbox.gaps(other, began)
        assert low == began < high <= time.time()
        inbox.close()
