"""Which object a record means: by the journal, by its own id, by the stamp in its metadata."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tap_stripe_alloy.streams import BY_NAME
from target_stripe_alloy.decision import COPY, EXTERNAL, SAME_ACCOUNT
from target_stripe_alloy.journal import Journal, Known
from target_stripe_alloy.objects import Objects
from target_stripe_alloy.reshape import Path, Tree, is_empty
from target_stripe_alloy.resources import (
    BY_STREAM,
    COPIED,
    NOT_COPIED,
    Object,
    Resource,
    reference_paths,
)

_logger = logging.getLogger(__name__)

COPY_OF = "stripe_alloy_copy_of"
"""Metadata of a copy: the id of the object it was made from."""
OVERLAP = 300.0
"""Seconds that listings of stamped objects overlap."""
_STRIPE_ID = re.compile(r"[a-z]{2,8}_\w+")

Missing = tuple[str, str]
"""(stream, key) of a record that has not been seen yet."""


class Identity:
    """Ids of records and of what they refer to. Thread-safe."""

    def __init__(
        self, journal: Journal, objects: Objects, clock: Callable[[], float], id_mode: str
    ) -> None:
        self._journal = journal
        self._objects = objects
        self._clock = clock
        self._mode = id_mode
        self._ids: dict[Missing, str] = {}
        self._absent: set[Missing] = set()
        self._indexed: set[str] = set()
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ what is known

    def learn(self, stream: str, key: str, object_id: str) -> None:
        """From now on this key means that object."""
        self._ids[stream, key] = object_id

    def known(self, stream: str, key: str) -> str | None:
        """The object of a key, as far as this run or the journal know it."""
        found = self._ids.get((stream, key))
        if found is None:
            row = self._journal.recall(stream, [key]).get(key)
            found = row.object_id if row else None
            if found:
                self._ids[stream, key] = found
        return found

    def look_again(self, stream: str) -> None:
        """Trust nothing that was found absent: a write may have worked unseen."""
        self._indexed.discard(stream)
        self._absent = {entry for entry in self._absent if entry[0] != stream}

    # ------------------------------------------------------------------ a record's own object

    def locate(
        self, resource: Resource, key: str, wanted: Mapping[str, Any], keys: Keys
    ) -> str | None:
        """The id of a record's object; None if there is none, as far as can be known."""
        found = self.known(resource.stream, key)
        if found is not None or self._mode == SAME_ACCOUNT:
            return found or key
        if self._mode == COPY and resource.found_by == "id":
            return self._same_id(resource, key)
        if self._mode == COPY and resource.found_by == "lookup_key" and wanted.get("lookup_key"):
            held = self._objects.list(resource.path, [("lookup_keys[]", str(wanted["lookup_key"]))])
            return next((str(price["id"]) for price in held), None)
        return self._stamped(resource, key, wanted, keys)

    def _same_id(self, resource: Resource, key: str) -> str | None:
        if (resource.stream, key) in self._absent:
            return None
        if self._objects.get(f"{resource.path}/{key}") is None:
            self._absent.add((resource.stream, key))
            return None
        return key

    def _stamped(
        self, resource: Resource, key: str, wanted: Mapping[str, Any], keys: Keys
    ) -> str | None:
        if not resource.create:
            return None
        if resource.within:
            parent = wanted.get(resource.within)
            entries = self._objects.entries(resource, str(parent)) if parent else iter(())
            return next((e["id"] for e in entries if keys.stamp_of(e) == key), None)
        with self._lock:
            lock = self._locks.setdefault(resource.stream, threading.Lock())
        with lock:
            if resource.stream not in self._indexed:
                self._index(resource, keys)
                self._indexed.add(resource.stream)
        return self._ids.get((resource.stream, key))

    def _index(self, resource: Resource, keys: Keys) -> None:
        """List what was created since the last time; each stamp tells whose copy it is."""
        since = self._journal.indexed_until(resource.stream)
        until = self._clock()
        params: list[tuple[str, str]] = list(BY_NAME[resource.stream].list_params)
        if since is not None:
            params.append(("created[gte]", str(int(since - OVERLAP))))
        found: dict[str, str] = {}
        for entry in self._objects.list(resource.path, params):
            stamp = keys.stamp_of(entry)
            if stamp is None:
                continue
            if stamp in found:
                _logger.warning(
                    "%s %s and %s both carry the key %r: the older one is meant",
                    resource.stream, found[stamp], entry["id"], stamp,
                )  # fmt: skip
            found[stamp] = entry["id"]
        held = self._journal.recall_many(resource.stream, list(found))
        new = [Known(resource.stream, k, i) for k, i in found.items() if k not in held]
        self._journal.index(resource.stream, until, new)
        for entry_known in new:
            self._ids[resource.stream, entry_known.key] = str(entry_known.object_id)

    # ------------------------------------------------------------------ references

    def resolve(self, resource: Resource, tree: dict[str, Tree]) -> Resolved:
        """Put in the place of each reference the id it has here, in place."""
        resolved = Resolved()
        if self._mode == SAME_ACCOUNT:
            return resolved
        for path, stream in reference_paths(resource).items():
            later = ".".join(path) in resource.later
            for holder, name in list(_places(tree, path)):
                self._one(holder, name, stream, ".".join(path), resolved, later=later)
        for name in [n for n, value in tree.items() if isinstance(value, list)]:
            if tree[name] and all(entry == {} for entry in tree[name]):
                del tree[name]
        return resolved

    def _one(
        self, holder: Any, name: Any, stream: str, path: str, resolved: Resolved, *, later: bool
    ) -> None:
        key = holder[name]
        if is_empty(key) or (stream and not isinstance(key, str)):
            return
        found = self._reference(stream, key) if stream else None
        if self._mode == EXTERNAL and found is None and (not stream or _STRIPE_ID.fullmatch(key)):
            return  # an id of Stripe's own
        if found is not None:
            holder[name] = found
        elif self._mode == COPY and (stream == NOT_COPIED or stream not in COPIED):
            del holder[name]
            resolved.left_out.append(path)
        elif later:
            del holder[name]
            resolved.later.append((stream, key))
        else:
            resolved.missing.append((stream, key))

    def _reference(self, stream: str, key: str) -> str | None:
        found = self.known(stream, key)
        resource = BY_STREAM[stream]
        if found is None and self._mode == COPY and resource.found_by == "id":
            return self._same_id(resource, key)
        return found


class Resolved:
    """What became of a record's references."""

    def __init__(self) -> None:
        self.missing: list[Missing] = []
        self.later: list[Missing] = []
        self.left_out: list[str] = []


def _places(tree: Tree, path: Path) -> Iterator[tuple[Any, Any]]:
    """Where a path leads, as (holder, key); `*` goes through all entries."""
    if not path:
        return
    name, rest = path[0], path[1:]
    if name == "*":
        for index, entry in enumerate(tree if isinstance(tree, list) else ()):
            if rest:
                yield from _places(entry, rest)
            else:
                yield tree, index
    elif isinstance(tree, dict) and name in tree:
        if rest:
            yield from _places(tree[name], rest)
        else:
            yield tree, name


class Keys:
    """A stream's key: what identifies a record, and how it is stamped on an object."""

    def __init__(self, id_mode: str, properties: Sequence[str]) -> None:
        self._external = id_mode == EXTERNAL
        self.properties = tuple(properties) if self._external else ("id",)
        self._join: Callable[[list[str]], str] = "|".join

    def of(self, record: Mapping[str, Any]) -> str | None:
        """The key of a record; None if it has none."""
        values = [record.get(name) for name in self.properties]
        if not values or any(value is None or value == "" for value in values):
            return None
        return self._join([str(value) for value in values])

    def stamp(self, record: Mapping[str, Any]) -> dict[str, str]:
        """The metadata that tells whose object a new one is."""
        if self._external:
            return {name: str(record[name]) for name in self.properties}
        return {COPY_OF: str(record["id"])}

    def stamp_of(self, source: Object) -> str | None:
        """The key that an object is stamped with."""
        metadata = source.get("metadata") or {}
        names = self.properties if self._external else (COPY_OF,)
        values = [metadata.get(name) for name in names]
        return self._join([str(v) for v in values]) if values and all(values) else None
