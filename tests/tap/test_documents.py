"""States and catalogs that are none, or somebody else's: a clear word before the first request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stripe_alloy.api.errors import AlloyError, SettingsError
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.timestamps import rfc3339
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.input_checks import bookmarks_of, check_catalog
from tests.conftest import Command, catalog_of, config_of, read

DONE = {"replication_key": "updated", "replication_key_value": "2026-11-01T00:00:00Z"}


def state_with(**mark: Any) -> dict[str, Any]:
    return {"bookmarks": {"customers": {**DONE, **mark}}}


REFUSED = {
    "a list": [1],
    "a number": 5,
    "bookmarks are null": {"bookmarks": None},
    "bookmarks are a list": {"bookmarks": []},
    "a stream is a list": {"bookmarks": {"customers": []}},
    "a stream is false": {"bookmarks": {"customers": False}},
    "table": state_with(table=5),
    "version": state_with(table={"version": "new"}),
    "seen": state_with(seen={"evt_1": 1}),
    "seen of numbers": state_with(seen=[1]),
    "seen is a number": state_with(seen=5),
    "new objects": state_with(created=5),
    "new objects without a time": state_with(created={"seen": []}),
    "new objects since": state_with(created={"replication_key_value": "soon"}),
    "new objects seen": state_with(created={**DONE, "seen": 5}),
    "new objects seen are numbers": state_with(created={**DONE, "seen": [1]}),
    "new objects of the future": state_with(
        created={"replication_key_value": "2099-01-01T00:00:00Z"}
    ),
    "listed at": state_with(listed_at="soon"),
    "listed in the future": state_with(listed_at="2099-01-01T00:00:00Z"),
    "partitions": state_with(partitions={}),
    "partition": state_with(partitions=[None]),
    "context": state_with(partitions=[{"context": None}]),
    "an account twice": state_with(partitions=[{"context": {"_account_id": "acct_1"}}] * 2),
    "backfill": {"bookmarks": {"customers": {"backfill": []}}},
    "windows": {"bookmarks": {"customers": {"backfill": {"anchor": "2026-11-01", "missing": 5}}}},
    "inbox": state_with(inbox=3),
    "inbox seq": state_with(inbox={"id": "a", "reader": "b", "seq": "1", "from": 1}),
    "shapes": state_with(shapes=[]),
    "shape": state_with(shape=[1]),
    "again": state_with(again={"missing": [[0, 1]]}),
    "start": state_with(start=5),
    "mode": state_with(mode="sandbox"),
    "a year too large": state_with(replication_key_value="99999-01-01"),
    "the future": {"bookmarks": {"customers": {"replication_key_value": "2099-01-01T00:00:00Z"}}},
    "another tap's": {"bookmarks": {"issues": {"replication_key_value": "2026-11-01"}}},
    "no bookmarks": {"currently_syncing": None},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_state_is_refused_before_the_first_request(
    account: Emulator, command: Command, name: str
) -> None:
    run = command.run(config=config_of(account), state=REFUSED[name])
    assert run.exit_code == 1
    assert "Traceback" not in run.errors
    assert "state" in run.errors
    assert account.requests == []
    assert run.records == {}


def test_the_message_names_the_place() -> None:
    with pytest.raises(
        SettingsError, match=r"'customers' cannot be read: `table` is not an object"
    ):
        bookmarks_of(state_with(table=5), BY_NAME)


@pytest.mark.parametrize("wrap", [{"type": "STATE", "value": None}, {"singer_state": None}])
def test_a_state_in_a_wrapper_is_unwrapped(account: Emulator, wrap: dict[str, Any]) -> None:
    first = read(config_of(account), "customers")
    given_ = {name: value or first.state for name, value in wrap.items()}
    assert read(config_of(account), "customers", state=given_).records == {}


@pytest.mark.parametrize("anew", [None, {}])
def test_a_stream_that_is_set_to_null_begins_anew(account: Emulator, anew: Any) -> None:
    first = read(config_of(account), "customers", "products")
    first.state["bookmarks"]["customers"] = anew
    second = read(config_of(account), "customers", "products", state=first.state)
    assert set(second.ids("customers")) == set(account.ids("customer"))
    assert "products" not in second.records


def test_a_stream_of_another_version_is_named(
    account: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    first = read(config_of(account), "customers")
    first.state["bookmarks"]["customer"] = {"replication_key_value": "2026-11-01"}
    read(config_of(account), "customers", state=first.state)
    assert "'customer'. Did you mean 'customers'?" in caplog.text


def test_the_message_names_the_key_of_a_bookmark_of_new_objects() -> None:
    with pytest.raises(SettingsError, match=r"`created.seen` is not a list of ids"):
        bookmarks_of(state_with(created={**DONE, "seen": 5}), BY_NAME)


@pytest.mark.parametrize(
    "place",
    [
        lambda late: {"replication_key_value": late},
        lambda late: {**DONE, "listed_at": late},
        lambda late: {**DONE, "created": {**DONE, "replication_key_value": late}},
    ],
)
def test_a_bookmark_ahead_of_stripes_clock_is_refused(
    account: Emulator, place: Callable[[str], dict[str, Any]]
) -> None:
    now = int(account.objects("event")[0]["created"])
    state = {"bookmarks": {"customers": place(rfc3339(now + 60 * 86_400))}}
    with pytest.raises(SettingsError, match="'customers' is in the future"):
        read(config_of(account), "customers", state=state)


@pytest.mark.parametrize("option", ["--state", "--catalog"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_files_in_other_encodings(
    account: Emulator, command: Command, option: str, encoding: str
) -> None:
    content: Any = {"bookmarks": {}, "note": "é"}
    if option == "--catalog":
        content = {**catalog_of(config_of(account), "products"), "note": "é"}
    path = command.folder / "given.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    run = command.run(option, str(path), config=config_of(account))
    assert "Traceback" not in run.errors
    if encoding == "utf-8-sig":
        assert run.exit_code == 0
    else:
        assert run.exit_code == 1
        assert "given.json is not UTF-8" in run.errors


NAMES = """context _account_id version pending missing anchor seq from id reader seen expand
replication_key_value before shape api_version""".split()  # noqa: SIM905
PLACES = """account_id key mode table shapes partitions replication_key replication_key_value
seen events_until created listed_at begun start inbox test_clocks version shape backfill
again""".split()  # noqa: SIM905

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 41)
    | st.sampled_from(
        ["", "acct_1", "2026-11-01T00:00:00Z", "evt_1", "live", "soon", "9999-12-31"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
marks = st.dictionaries(st.sampled_from(PLACES), values, max_size=6) | values
documents = (
    values
    | st.dictionaries(st.sampled_from(["bookmarks", "type", "value", "singer_state"]), values)
    | st.fixed_dictionaries(
        {
            "bookmarks": st.dictionaries(
                st.sampled_from(["customers", "balance_transactions"]), marks
            )
        }
    )
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@example({"bookmarks": {"customers": {"table": {"version": 1, "pending": []}}}})
@example({"bookmarks": {"customers": {"replication_key_value": "2026-11-01", "seen": None}}})
@example({"bookmarks": {"customers": {"anchor": ""}}})
@example({"bookmarks": {"customers": {"anchor": False}}})
@given(document=documents)
def test_any_document_is_refused_in_words_or_read(empty: Emulator, document: Any) -> None:
    try:
        bookmarks, _ = bookmarks_of(document, BY_NAME)
        output = read(
            config_of(empty), "customers", "balance_transactions", state={"bookmarks": bookmarks}
        )
    except AlloyError:
        return
    assert output.state["bookmarks"]["customers"]["replication_key_value"]


# ---------------------------------------------------------------------- catalogs


@pytest.mark.parametrize(
    ("catalog", "said"),
    [
        ({}, "has no list of `streams`"),
        ({"streams": {}}, "has no list of `streams`"),
        ({"streams": [{}]}, "has no `tap_stream_id`"),
        ({"streams": []}, "No stream is selected"),
        (
            {"streams": [{"tap_stream_id": "issues", "schema": {"properties": {}}}]},
            "from another tap: this one has no stream 'issues'",
        ),
    ],
)
def test_a_catalog_that_is_none_is_refused(
    account: Emulator, command: Command, catalog: Any, said: str
) -> None:
    run = command.run(config=config_of(account), catalog=catalog)
    assert run.exit_code == 1
    assert said in run.errors
    assert "Traceback" not in run.errors
    assert account.requests == []


def test_a_catalog_with_nothing_selected_is_refused(account: Emulator, command: Command) -> None:
    config = config_of(account)
    run = command.run(config=config, catalog=catalog_of(config))
    assert run.exit_code == 1
    assert "No stream is selected in the catalog" in run.errors
    assert account.requests == []


def test_a_misspelled_stream_is_named(account: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(account)
    catalog = catalog_of(config, "customers", "products")
    for entry in catalog["streams"]:
        if entry["tap_stream_id"] == "products":
            entry["tap_stream_id"] = entry["stream"] = "productz"
    output = read(config, catalog=catalog)
    assert "'productz'. Did you mean 'products'?" in caplog.text
    assert set(output.records) == {"customers"}


def test_catalogs_of_this_tap_pass(account: Emulator) -> None:
    assert check_catalog(catalog_of(config_of(account), "customers"), BY_NAME) == []
