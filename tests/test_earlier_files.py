"""States, journals and an inbox that eb3fb2a made are read (tests/fixtures/make.py)."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api.timestamps import rfc3339
from stripe_alloy.emulator import Emulator
from stripe_alloy.webhooks.inbox import AccountScope, EventRange, Inbox
from tests.conftest import config_of, read
from tests.emulator.helpers import client_of
from tests.fixtures.make import COPY, EXTERNAL, RENAMED
from tests.target.helpers import Message, record, schema, write
from tests.target.test_identity import restore

FOLDER = Path(__file__).parent / "fixtures/eb3fb2a"
SETTINGS: dict[str, dict[str, Any]] = {"listed_again": {"timestamps": "unix"}}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_a_state_goes_on_where_it_was(name: str) -> None:
    with Emulator(customers=12, accounts=1) as account:
        now = rfc3339(int(time.time()))
        text = (FOLDER / f"{name}.json").read_text().replace("NOW", now)
        other = account.account_ids[0]
        text = text.replace("acct_own", account.account_id).replace("acct_other", other)
        config = config_of(account, **SETTINGS.get(name, {}))
        if "accounts" in name:
            config["account_ids"] = [account.account_id, other]
        state = json.loads(text)
        unfinished = {
            stream
            for stream, bookmark in state["bookmarks"].items()
            if any(f'"{key}"' in json.dumps(bookmark) for key in ("begun", "backfill", "again"))
        }
        output = read(config, state=state)
        assert set(output.records) <= unfinished
        assert bool(output.records) == bool(unfinished)
        assert "backfill" not in json.dumps(output.state)
        assert "again" not in json.dumps(output.state)
        assert read(config, state=output.state).records == {}


RUNS: dict[str, list[Message]] = {
    "external": [*EXTERNAL[:1], *EXTERNAL[2:], *RENAMED],
    "copy": COPY,
    "same_account": [schema("customers"), record("customers", id="BY_HAND", phone="+1")],
}


@pytest.mark.parametrize("id_mode", RUNS)
def test_what_a_journal_proves_is_not_written_again(
    empty: Emulator, tmp_path: Path, id_mode: str
) -> None:
    fields: Any = {"name": "Stamped by hand", "metadata": {"crm_id": "9"}}
    by_hand = client_of(empty).v1.customers.create(fields).id
    restore(empty, tmp_path, id_mode, FOLDER)
    messages = json.loads(json.dumps(RUNS[id_mode]).replace("BY_HAND", by_hand))
    before = empty.count("customers")
    assert write(empty, tmp_path, messages, id_mode=id_mode).writes == []
    assert empty.count("customers") == before


def test_an_inbox_keeps_what_it_has(tmp_path: Path) -> None:
    at = 1_800_000_000.0
    with contextlib.closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
        connection.executescript((FOLDER / "inbox.sql").read_text())
    inbox = Inbox(f"sqlite:///{tmp_path}/inbox.db", clock=lambda: at + 5)
    with contextlib.closing(inbox):
        own = AccountScope(None, livemode=False, own="acct_A")
        other = AccountScope("acct_2", livemode=False, own="acct_A")
        pages = [inbox.all_of(scope, EventRange(0, None, 9)) for scope in (own, other)]
        assert [[entry.seq for entry in page] for page in pages] == [[5, 3, 2], [4]]
        assert inbox.pruned_to()[0] == 1
        assert inbox.gaps(own, at - 50) == [(at - 50, at)]
        assert inbox.missing_ids(["evt_00000001", "evt_00000009"], own) == {"evt_00000009"}
