"""What the state says, and that it never says too much."""

from __future__ import annotations

from typing import Any

from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from tap_stripe_alloy.bookmarks import Bookmark


def bookmark(state: dict[str, Any]) -> Bookmark:
    return Bookmark(state, stream="charges", replication_key="updated")


def test_a_new_stream_has_nothing_listed_and_nothing_begun() -> None:
    new = bookmark({"account_id": "acct_1"})
    assert not new.listed
    assert new.remaining is None


def test_a_backfill_begun_and_not_written_has_everything_left() -> None:
    state: dict[str, Any] = {}
    bookmark(state).start_backfill(60, [(0, NO_UPPER_BOUND, None)])
    assert bookmark(state).remaining == [(0, NO_UPPER_BOUND, None)]
    assert not bookmark(state).listed


def test_a_finished_backfill_goes_on_from_its_anchor() -> None:
    state: dict[str, Any] = {}
    bookmark(state).start_backfill(60, [(0, NO_UPPER_BOUND, None)])
    bookmark(state).finish()
    assert bookmark(state).listed
    assert bookmark(state).since == 60
    assert state == {
        "replication_key": "updated",
        "replication_key_value": "1970-01-01T00:01:00Z",
        "seen": [],
    }


def test_a_bookmark_written_by_hand_is_enough() -> None:
    by_hand = bookmark({"replication_key_value": "1970-01-01T00:01:00+00:00"})
    assert by_hand.listed
    assert by_hand.since == 60


def test_starting_over_keeps_the_account() -> None:
    state: dict[str, Any] = {"account_id": "acct_1", "replication_key_value": "x", "seen": []}
    bookmark(state).forget()
    assert state == {"account_id": "acct_1"}
