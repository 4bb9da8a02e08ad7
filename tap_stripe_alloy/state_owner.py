"""Where a state comes from: which account's it is, and of which mode."""

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
"""Where the state keeps the id of the key's own account."""
KEY = "key"
"""Where it keeps a digest of the key, so that a known one need not be asked whose it is."""
MODE = "mode"
"""Where it keeps the key's mode, "live" or "test": both have the same account id."""
_ACCOUNT = re.compile(r"\bacct_\w+")
_EVENT = "evt_"
State = dict[str, Any]


class StateOwner:
    """Compares where a state comes from with what the key reads."""

    def __init__(self, settings: Settings, transport: StripeClient) -> None:
        self._settings = settings
        self._transport = transport
        whose = f"{settings.api_url} {settings.api_key}"
        self.key = hashlib.sha256(whose.encode()).hexdigest()[:12]
        self._asked_own_id: list[str | None] = []

    def note_in(self, state: State) -> None:
        """Note in a stream's state which mode it is of."""
        if self._settings.mode:
            state[MODE] = self._settings.mode

    def check_mode(self, states: Sequence[State]) -> None:
        """Raise `SettingsError` if one of the streams' states is of the other mode.

        A state that does not say so is of this mode if this key made it, else if Stripe has the
        event that it last met: one request, once.
        """
        mode = self._settings.mode
        others = {state[MODE] for state in states if state.get(MODE)} - {mode}
        if mode and others:
            raise self._other_mode(next(iter(others)))
        silent = [state for state in states if MODE not in state and _may_differ(state, self.key)]
        if mode and silent:
            self._check_by_event(silent)

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
                "The state was made with another key and does not say whether that was one of test "
                "or of live mode: run once with that key, give no state to read everything, or add "
                f'`"{MODE}": "test"` (or "live") to each stream under `bookmarks`'
            )

    def _other_mode(self, other: str) -> SettingsError:
        return SettingsError(
            f"The state is that of {other} mode, but `api_key` is a key of {self._settings.mode} "
            "mode: give the state of this mode, or none to read it from the beginning. Test data "
            "and live data belong in different tables"
        )

    def own_id(self, states: Sequence[State]) -> str | None:
        """The id of the key's own account, kept in the states; asked unless the key began them.

        Raises `SettingsError` where a state is another account's.
        """
        states = [state for state in states if OWN in state]
        known = sorted({state[OWN] for state in states})
        if len(known) == 1 and all(state.get(KEY) == self.key for state in states):
            return str(known[0])
        found = self.ask_own_id()
        if found and known and known != [found]:
            raise SettingsError(
                f"The state is that of account {', '.join(known)}, but the key belongs to {found}: "
                "give the state of this account, or none to read it from the beginning"
            )
        return found or (str(known[0]) if known else None)

    def ask_own_id(self) -> str | None:
        """A key that may not read the account gets it from the refusal, which names it."""
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
        """Whether Stripe has an event, of an account or the key's own."""
        try:
            path, event = item_path("/v1/events", event_id), OneObject("event", event_id)
            self._transport.get(path, account=account, expected=event)
        except NotFoundError:
            return False
        return True


def _may_differ(state: State, key: str) -> bool:
    """Whether another key may have made a stream's state; the oldest states do not tell."""
    if KEY in state:
        return bool(state[KEY] != key) and is_begun(state)
    return any(is_begun(part) for part in state.get("partitions") or ())


def _events_in(state: State) -> Iterator[tuple[int, str, str]]:
    """(time, id, account) of events that a stream's state met; the account is "" for the own."""
    parts: Sequence[Mapping[str, Any]] = (state, *(state.get("partitions") or ()))
    for part in parts:
        account = part.get("context", {}).get("_account_id", "")
        for event_id in part.get("seen") or ():
            if event_id.startswith(_EVENT) and is_begun(part):
                yield unix_seconds(part["replication_key_value"]), event_id, account
