"""Which events bring back only what the target wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.errors import AlloyError, SettingsError
from stripe_alloy.api.events import Event
from stripe_alloy.write_log import LoggedWrite, WriteLog
from tap_stripe_alloy.events.own_writes import OwnWrites, leaves, only_brings_back
from target_stripe_alloy.params_tree import form_fields
from target_stripe_alloy.write.journal import Journal, Scope

KEY = "alloy-" + "a" * 40
UPDATE = "/v1/customers/cus_1"


def event(changed: Any, *, key: str | None = KEY, source_id: str = "cus_1") -> Event:
    data: dict[str, Any] = {"object": {"id": source_id, "object": "customer"}}
    if changed is not None:
        data["previous_attributes"] = changed
    return {"id": "evt_1", "request": {"id": "req_1", "idempotency_key": key}, "data": data}


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({"name": "old"}, "name=new"),
        ({"metadata": {"a": None}}, "metadata%5Ba%5D=1"),
        ({"metadata": {"a": "1", "b": "2"}}, "metadata[a]=&metadata[b]=3"),
        ({"address": None}, "address[line1]=x&address[city]=y"),
        ({"preferred_locales": []}, "preferred_locales[0]=de"),
        ({"shipping": {"address": {"city": "old"}}}, "shipping[address][city]=new&name=n"),
        ({"name": "old", "updated": 1}, "name=new"),
        ({}, "name=same"),
    ],
)
def test_what_the_write_set_is_ours(changed: Any, body: str) -> None:
    assert only_brings_back(event(changed), LoggedWrite("POST", UPDATE, body))


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({"name": "old", "email": "old"}, "name=new"),
        ({"metadata": {"a": "1", "b": "2"}}, "metadata[a]=2"),
        ({"default_source": None}, "source=tok_visa"),
        ({"nameplate": 1}, "name=new"),
        (None, "name=new"),
    ],
)
def test_what_else_changed_is_news(changed: Any, body: str) -> None:
    assert not only_brings_back(event(changed), LoggedWrite("POST", UPDATE, body))


def test_what_a_write_did_to_other_objects_is_news() -> None:
    write = LoggedWrite("POST", "/v1/subscriptions/sub_1", "quantity=2")
    assert not only_brings_back(event({"quantity": 1}), write)


def test_a_new_object_is_news() -> None:
    """Its id, and what Stripe filled in, nobody has yet."""
    assert not only_brings_back(event(None), LoggedWrite("POST", "/v1/customers", "name=new"))
    assert not only_brings_back(event({}), LoggedWrite("POST", "/v1/customers", "name=new"))


names = st.text(st.characters(categories=["Ll"]), min_size=1, max_size=3)
values = st.recursive(
    st.text(max_size=3), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3)
)


@given(st.dictionaries(names, values, min_size=1, max_size=4), st.data())
def test_just_what_was_sent_is_ours_and_anything_more_is_not(
    tree: dict[str, Any], data: st.DataObject
) -> None:
    body = "&".join(f"{name}=x" for name, _ in form_fields(tree))
    assert only_brings_back(event(tree), LoggedWrite("POST", UPDATE, body))
    gone = data.draw(st.sampled_from(sorted(tree)))
    rest = {name: value for name, value in tree.items() if name != gone}
    body = "&".join(f"{name}=x" for name, _ in form_fields(rest))
    assert not only_brings_back(event(tree), LoggedWrite("POST", UPDATE, body))


def test_leaves_of_nothing_are_none() -> None:
    assert list(leaves({})) == []
    assert list(leaves({"a": {}})) == [("a",)]


class Never:
    def by_idempotency_key(self, keys: Any) -> dict[str, LoggedWrite]:
        assert not keys
        return {}


@pytest.mark.parametrize("key", [None, "somebody-elses", ""])
def test_only_the_targets_keys_are_looked_up(key: str | None) -> None:
    assert OwnWrites(Never())([event({"name": "old"}, key=key)]) == set()
    assert OwnWrites(Never())([{**event({"name": "old"}), "request": None}]) == set()


def test_the_targets_journal_knows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    written = WriteLog(url, "ignore_own_writes")
    assert written.by_idempotency_key([KEY]) == {}
    assert not (tmp_path / "journal.db").exists()
    journal = Journal(url, Scope("acct_1", live=False, id_mode="same_account"))
    intent = journal.intend("customers", "cus_1", "update", "POST", UPDATE, "name=new")
    own = OwnWrites(written)
    assert own([event({"name": "old"}, key=intent.idempotency_key)]) == {"evt_1"}
    assert own([event({"email": "old"}, key=intent.idempotency_key)]) == set()
    assert own([event({"name": "old"})]) == set()
    journal.close()
    written.close()


def test_a_journal_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_text("no database, but long enough to look like one" * 10)
    with pytest.raises(AlloyError, match=r"The journal cannot be read.*`ignore_own_writes`"):
        WriteLog(f"sqlite:///{tmp_path}/journal.db", "ignore_own_writes").by_idempotency_key([KEY])
    with pytest.raises(SettingsError, match="`ignore_own_writes`"):
        WriteLog("journal.db", "ignore_own_writes")
