"""Objects by the stamp in their metadata: an index in the journal, brought up to date once a run.

Any client can set a stamp at any time. So the index adds the objects created since the last run
and, by Stripe's events, those updated since; where events do not show that, it reads the full list.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from stripe_alloy.api.errors import MissingPermissionError
from stripe_alloy.api.events import OVERLAP, RETENTION
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.timestamps import DAY
from target_stripe_alloy.plan.plan_types import REPLACES
from target_stripe_alloy.plan.record_keys import STAMP, RecordKey, reference_to
from target_stripe_alloy.resources import Resource
from target_stripe_alloy.write.account_client import EVENTS_PATH, AccountClient
from target_stripe_alloy.write.journal import Journal, JournalEntry
from target_stripe_alloy.write.journal_keys import JournalKeys

_logger = logging.getLogger(__name__)

_TRUSTED = RETENTION - DAY
"""Seconds that events are taken to go back."""
_MOST_TYPES = 20


@dataclass(frozen=True)
class _Stamped:
    """An object that carries a stamp."""

    id: str
    key: str
    replaces: str | None


class MetadataIndex:
    """The stamped objects of one account. Thread-safe."""

    def __init__(self, journal: Journal, names: JournalKeys, client: AccountClient) -> None:
        self._journal = journal
        self._names = names
        self._client = client
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._fresh: set[str] = set()

    def of(self, resource: Resource, keys: RecordKey, stamps: Sequence[str]) -> list[str]:
        """Return the ids of the objects with one of these stamps, the likeliest first."""
        mark = _mark(resource, keys)
        with self._lock:
            lock = self._locks.setdefault(mark, threading.Lock())
        with lock:
            if mark not in self._fresh:
                self._bring_up_to_date(resource, keys, mark)
                self._fresh.add(mark)
        rows = self._journal.load(resource.stream, [STAMP + stamp for stamp in stamps])
        found = (rows.get(STAMP + stamp) for stamp in stamps)
        return [row.object_id for row in found if row and row.object_id]

    def invalidate(self, stream: str) -> None:
        """Let the next search list again what was created and updated."""
        with self._lock:
            self._fresh = {mark for mark in self._fresh if mark.partition("#")[0] != stream}

    def _bring_up_to_date(self, resource: Resource, keys: RecordKey, mark: str) -> None:
        until = self._client.now()
        since = self._journal.scanned_until(mark)
        changed = self._changed(resource, keys, since, until)
        params = list(BY_NAME[resource.stream].list_params)
        if since is not None and changed is not None:
            params.append(("created[gte]", str(int(since - OVERLAP))))
        listed = self._client.list(resource.path, params)
        found = _object_of_each([*_stamped(listed, keys), *_stamped(changed or (), keys)], resource)
        self._journal.save_scan(mark, until, self._new(resource, keys, found))

    def _new(
        self, resource: Resource, keys: RecordKey, found: Mapping[str, _Stamped]
    ) -> list[JournalEntry]:
        """Return the entries that the index lacks, or has with another object."""
        known = self._journal.load(resource.stream, [STAMP + key for key in found])
        new = []
        for key, entry in found.items():
            row = known.get(STAMP + key)
            before = row.object_id if row else None
            if before and before != entry.id and not self._is_free(resource, keys, before, entry):
                _warn_of_both(resource, before, entry)
                continue
            if before != entry.id:
                new.append(JournalEntry(resource.stream, STAMP + key, entry.id))
                if keys.external and len(keys.properties) > 1:
                    self._names.note(resource.stream, reference_to(key), STAMP + key)
        return new

    def _is_free(self, resource: Resource, keys: RecordKey, before: str, entry: _Stamped) -> bool:
        """Whether the object that had a stamp has another one now, is deleted, or replaced."""
        if entry.replaces == before:
            return True
        known = self._client.get(resource.path_of(before, {}))
        return known is None or keys.stamp_of(known) != entry.key

    def _changed(
        self, resource: Resource, keys: RecordKey, since: float | None, until: float
    ) -> list[JSON] | None:
        """Return the objects updated since the last scan that have a stamp now.

        None if events do not show that: the first time, after a month, without the permission, and
        for objects that Stripe updates without an event.
        """
        stream = BY_NAME[resource.stream]
        silent = stream.has_silent_updates or not stream.event_prefixes
        if since is None or silent or until - since > _TRUSTED:
            return None
        types = [
            ("types[]", f"{subject}.updated") for subject in stream.event_prefixes[:_MOST_TYPES]
        ]
        asked = [*types, ("created[gte]", str(int(since - OVERLAP)))]
        try:
            events = list(self._client.list(EVENTS_PATH, asked))
        except MissingPermissionError:
            return None
        changed = [event["data"]["object"] for event in events]
        return list(self._changed_objects(resource, keys, changed))

    def _changed_objects(
        self, resource: Resource, keys: RecordKey, changed: Iterable[dict[str, Any]]
    ) -> Iterator[JSON]:
        stamped = {
            (str(one["id"]), key)
            for one in changed
            if one.get("object") == resource.object_name and (key := keys.stamp_of(one))
        }
        known = self._journal.load(resource.stream, [STAMP + key for _, key in stamped])
        ids = {
            object_id
            for object_id, key in stamped
            if (row := known.get(STAMP + key)) is None or row.object_id != object_id
        }
        for object_id in sorted(ids):
            found = self._client.get(resource.path_of(object_id, {}))
            if found is not None:
                yield found


def _mark(resource: Resource, keys: RecordKey) -> str:
    """Return the name of an index, by stream and key properties."""
    names = "\n".join(sorted(keys.properties)) if keys.external else ""
    return f"{resource.stream}#{sha256(names.encode()).hexdigest()[:16]}"


def _stamped(listed: Iterable[JSON], keys: RecordKey) -> Iterator[_Stamped]:
    for entry in listed:
        key = keys.stamp_of(entry)
        if key is not None:
            yield _Stamped(str(entry["id"]), key, (entry.get("metadata") or {}).get(REPLACES))


def _object_of_each(entries: Sequence[_Stamped], resource: Resource) -> dict[str, _Stamped]:
    """Return the object of each stamp: the oldest of several, and none that is replaced."""
    replaced = {(entry.key, entry.replaces) for entry in entries}
    found: dict[str, _Stamped] = {}
    for entry in entries:
        if (entry.key, entry.id) in replaced:
            continue
        if entry.key in found and found[entry.key].id != entry.id:
            _warn_of_both(resource, entry.id, found[entry.key])
        found[entry.key] = entry
    return found


def _warn_of_both(resource: Resource, older: str, entry: _Stamped) -> None:
    _logger.warning(
        "%s %s and %s both carry the key %s: the older one is meant",
        resource.stream, older, entry.id, entry.key,
    )  # fmt: skip


def newest_price(client: AccountClient, resource: Resource, price: JSON) -> JSON | None:
    """Return the last price of the chain that replaced an archived one; None if none did."""
    if not resource.replaced_on_change or price.get("active", True):
        return None
    listed = list(client.list(resource.path, [("product", str(price["product"]))]))
    by_replaced = {(one.get("metadata") or {}).get(REPLACES): one for one in reversed(listed)}
    found, seen = None, {str(price["id"])}
    while (newer := by_replaced.get(str((found or price)["id"]))) and newer["id"] not in seen:
        found = newer
        seen.add(str(newer["id"]))
    return found
