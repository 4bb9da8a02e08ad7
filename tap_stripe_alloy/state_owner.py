"""Checks that a state belongs to the account and the mode of the API key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.errors import (
    AccountAccessError,
    MissingPermissionError,
    NotFoundError,
    SettingsError,
)
from stripe_alloy.api.events import RETENTION
from stripe_alloy.api.paths import item_path
from stripe_alloy.api.responses import OneObject
from stripe_alloy.api.timestamps import DAY, unix_seconds
from tap_stripe_alloy.row_settings import is_begun

if TYPE_CHECKING:
    from stripe_alloy.api.client import Response, StripeClient
    from tap_stripe_alloy.settings import Settings

OWN = "account_id"
"""State key: id of the account that the API key belongs to."""
KEY = "key"
"""State key: digest of the API key, so that a known key needs no request for its account."""
MODE = "mode"
"""State key: mode of the API key, "live" or "test". Both modes have the same account id."""
_ACCOUNT = re.compile(r"\bacct_\w+")
_EVENT = "evt_"
State = dict[str, Any]


class StateOwner:
    """Compares account and mode of a state with those of the API key."""

    def __init__(self, settings: Settings, transport: StripeClient) -> None:
        self._settings = settings
        self._transport = transport
        url_and_key = f"{settings.api_url} {settings.api_key}"
        self.key = hashlib.sha256(url_and_key.encode()).hexdigest()[:12]
        self._asked_own_id: list[str | None] = []

    def note_in(self, state: State) -> None:
        """Store the key's mode in a stream's state."""
        if self._settings.mode:
            state[MODE] = self._settings.mode

    def check_mode(self, states: Sequence[State]) -> None:
        """Raise `SettingsError` if a stream's state belongs to the other mode.

        A state without a mode belongs to this mode if this key created it, or if Stripe has the
        newest event in it. The latter takes one request, once.
        """
        mode = self._settings.mode
        others = {state[MODE] for state in states if state.get(MODE)} - {mode}
        if mode and others:
            raise self._other_mode(next(iter(others)))
        unknown = [state for state in states if MODE not in state and _may_differ(state, self.key)]
        if mode and unknown:
            self._check_by_event(unknown)

    def _check_by_event(self, states: Sequence[State]) -> None:
        since = self._transport.now() - RETENTION + DAY
        known = max((event for state in states for event in _events_in(state)), default=None)
        if known and known[0] > since:
            _, event_id, account = known
            try:
                found: bool | None = self.has_event(event_id, account or None)
            except (AccountAccessError, MissingPermissionError):
                found = None
            if found is False:
                raise self._other_mode("the other" if self._settings.live else "live")
            if found:
                return
        if any(KEY in state for state in states):
            raise SettingsError(
                "The state was created with another key and does not say whether in test or live "
                "mode: run once with that key, pass no state to start over, or add "
                f'`"{MODE}": "test"` (or "live") to each stream under `bookmarks`'
            )

    def _other_mode(self, other: str) -> SettingsError:
        return SettingsError(
            f"The state belongs to {other} mode, but `api_key` is a key of {self._settings.mode} "
            "mode: pass the state of this mode, or no state to start over. Keep test data and live "
            "data in different tables"
        )

    def own_id(self, states: Sequence[State]) -> str | None:
        """Return the id of the key's account, from the states if this key created them.

        Otherwise it is requested from Stripe. Raises `SettingsError` if a state belongs to another
        account.
        """
        states = [state for state in states if OWN in state]
        known = sorted({state[OWN] for state in states})
        if len(known) == 1 and all(state.get(KEY) == self.key for state in states):
            return str(known[0])
        found = self.ask_own_id()
        if found and known and known != [found]:
            raise SettingsError(
                f"The state belongs to account {', '.join(known)}, but the key belongs to {found}: "
                "pass the state of this account, or no state to start over"
            )
        return found or (str(known[0]) if known else None)

    def ask_own_id(self) -> str | None:
        """Return the id of the key's account, requested from Stripe once; None if unknown.

        If the key may not read the account, its id is parsed from the error message.
        """
        if not self._asked_own_id:
            self._asked_own_id = [self._own_id_at_stripe()]
        return self._asked_own_id[0]

    def _own_account(self) -> Response:
        return self._transport.get("/v1/account", expected=OneObject("account"))

    def _own_id_at_stripe(self) -> str | None:
        try:
            found: str | None = self._own_account().body["id"]
        except MissingPermissionError as error:
            named = _ACCOUNT.search(error.failure.message)
            found = named.group() if named else None
        except NotFoundError:
            found = None
        return found

    def has_event(self, event_id: str, account: str | None) -> bool:
        """Whether Stripe has an event, for an account (None: the key's account)."""
        try:
            path, event = item_path("/v1/events", event_id), OneObject("event", event_id)
            self._transport.get(path, account=account, expected=event)
        except NotFoundError:
            return False
        return True


def _may_differ(state: State, key: str) -> bool:
    """Whether another key may have created a stream's state; the oldest states lack the key."""
    if KEY in state:
        return bool(state[KEY] != key) and is_begun(state)
    return any(is_begun(part) for part in state.get("partitions") or ())


def _events_in(state: State) -> Iterator[tuple[int, str, str]]:
    """Yield (time, id, account) of events in a state; account is "" for the key's account."""
    parts: Sequence[Mapping[str, Any]] = (state, *(state.get("partitions") or ()))
    for part in parts:
        account = part.get("context", {}).get("_account_id", "")
        for event_id in part.get("seen") or ():
            if event_id.startswith(_EVENT) and is_begun(part):
                yield unix_seconds(part["replication_key_value"]), event_id, account
