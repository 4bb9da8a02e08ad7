"""Reads from Stripe's events what no field of an object shows: that a request was executed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

from stripe_alloy.api.errors import MissingPermissionError, SettingsError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.write_log import KEY_PREFIX
from target_stripe_alloy.plan.effects import action_effect, tag_of
from target_stripe_alloy.plan.plan_types import DesiredState
from target_stripe_alloy.resources import Action
from target_stripe_alloy.write.account_client import EVENTS_PATH, AccountClient

SLACK = 60
"""Seconds by which an event may be dated before its object."""
MOST_EVENTS = 10_000
"""Events of a type that are read to find one."""


class PastActions:
    """Events of some types that were caused by requests of this target, newest first. Thread-safe.

    Stripe lists events of the last 30 days. Each type is listed once a run, no further back than
    the oldest object that was asked about.
    """

    def __init__(self, client: AccountClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._lists: dict[str, _Listed] = {}

    def invalidate(self) -> None:
        """Forget the listed events: there may be more."""
        with self._lock:
            self._lists.clear()

    def of(
        self, action: Action, wanted: DesiredState, current: JSON, done: frozenset[str]
    ) -> frozenset[str]:
        """Return the effect of an action that only an event shows, if this target had it.

        Raises `SettingsError` for a key that may not read events: then the effect is unknown.
        """
        effect = action_effect(str(wanted.action), wanted.occasion)
        if not action.event or effect in done:
            return frozenset()
        since = int(current.get("created") or 0) - SLACK
        with self._lock:
            listed = self._lists.get(action.event)
            if listed is None:
                events = self._client.list(EVENTS_PATH, [("type", action.event)])
                listed = self._lists[action.event] = _Listed(events)
            try:
                listed.read_back_to(since)
            except MissingPermissionError as error:
                raise SettingsError(
                    f"Whether `{wanted.action}` was done before is read from events, and the key "
                    f"may not read them: grant 'Events: read' ({error.failure.message})"
                ) from None
        tags = {tag_of(effect)} if wanted.occasion else {tag_of(effect), ""}
        ours = any((current["id"], tag) in listed.ours for tag in tags)
        return frozenset({effect} if ours else ())


def was_executed(client: AccountClient, key: str, path: str, since: float) -> bool | None:
    """Return whether an event since then names an idempotency key; None if none may be read.

    `path` is that of the request. A request that changed nothing has no event either.
    """
    begin = ("created[gte]", str(int(since) - SLACK))
    try:
        for prefix in _event_prefixes_of(path):
            params = [begin, *([("type", f"{prefix}.*")] if prefix else [])]
            events = islice(client.list(EVENTS_PATH, params), MOST_EVENTS)
            if any(_idempotency_key(event) == key for event in events):
                return True
    except MissingPermissionError:
        return None
    return False


def _event_prefixes_of(path: str) -> tuple[str, ...]:
    """Return the prefixes of the types of a request's events; an empty one is any."""
    found = next((s for s in BY_NAME.values() if f"{path}/".startswith(f"{s.path}/")), None)
    return (found.event_prefixes if found else ()) or ("",)


def _idempotency_key(event: JSON) -> str:
    """Return the key of the request that caused an event; empty if it has none."""
    return str((event.get("request") or {}).get("idempotency_key") or "")


class _Listed:
    """The part of a list of events that was read so far."""

    def __init__(self, events: Iterator[dict[str, Any]]) -> None:
        self._events = events
        self._read_back_to: float = float("inf")
        self.ours: set[tuple[str, str]] = set()
        """Ids of the objects of events that our requests caused, and tags of their keys.

        Keys of earlier releases have no tag, and of two occasions one.
        """

    def read_back_to(self, since: float) -> None:
        """Read back to a time, Unix seconds."""
        while self._read_back_to >= since:
            event = next(self._events, None)
            if event is None:
                self._read_back_to = float("-inf")
                return
            self._read_back_to = event["created"]
            key = _idempotency_key(event)
            if key.startswith(KEY_PREFIX):
                tag = key.removeprefix(KEY_PREFIX)[40:]
                self.ours.add((event["data"]["object"]["id"], tag))
