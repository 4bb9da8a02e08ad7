"""Finds objects by `match_by`: an email, a lookup key, a metadata key.

By a filtered list, which is exact at once, or in a full list of the account, read once a run and
kept up to date with the run's writes; never by Search, which lags.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stripe_alloy.api.errors import MissingPermissionError
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.paths import segment
from target_stripe_alloy.params_tree import Tree
from target_stripe_alloy.plan.plan_types import REPLACES, OnSeveralMatches
from target_stripe_alloy.plan.record_keys import UnusableKey, at_field
from target_stripe_alloy.resources import Resource
from target_stripe_alloy.write.account_client import EVENTS_PATH, AccountClient

_logger = logging.getLogger(__name__)

EXACT_FILTERS: Mapping[tuple[str, str], str] = {
    ("customers", "email"): "email",
    ("prices", "lookup_key"): "lookup_keys[]",
}
"""(stream, field) → the parameter of its list that finds exactly that."""
FIELDS: Mapping[str, tuple[str, ...]] = {
    "customers": ("email",),
    "prices": ("lookup_key",),
    "invoices": ("number",),
}
"""Fields that `match_by` may name, beside metadata keys."""
PARENT_FIELDS: Mapping[str, str] = {"payment_methods": "customer"}
"""Stream whose full list Stripe may refuse → the field whose object has a list to search."""
_SHOWN = 10

_Deleted = dict[tuple[str, ...], set[str]]
"""Values of deleted objects → their ids."""


@dataclass(frozen=True)
class Candidate:
    """An object with the values that a record is matched by."""

    id: str
    created: int
    replaces: str | None


@dataclass
class _Index:
    """The objects of a stream by the values of some fields."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    listed: bool = False
    by_values: dict[tuple[str, ...], dict[str, Candidate]] = field(default_factory=dict)
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def put(self, source: JSON, values: tuple[str, ...] | None) -> None:
        """Note the values that an object has now; None: none, or it is deleted."""
        before = self.values.pop(str(source["id"]), None)
        if before is not None:
            del self.by_values[before][str(source["id"])]
        if values is not None:
            found = _candidate(source)
            self.values[found.id] = values
            self.by_values.setdefault(values, {})[found.id] = found


class MatchFinder:
    """Finds the objects of records by `match_by`. Thread-safe."""

    def __init__(self, client: AccountClient, several: OnSeveralMatches) -> None:
        self._client = client
        self._several = several
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, tuple[str, ...]], _Index] = {}
        self._deleted: dict[tuple[str, tuple[str, ...]], _Deleted] = {}

    def find(
        self,
        resource: Resource,
        wanted: Mapping[str, str],
        tree: Mapping[str, Tree],
        *,
        to_delete: bool = False,
    ) -> str | None:
        """Return the id of the object with these values; None if there is none.

        Raises `UnusableKey` for several, if `on_several_matches` takes none; to delete an object it
        must be the only one.
        """
        found = _not_replaced(self._candidates(resource, wanted, tree))
        if len(found) <= 1:
            return found[0].id if found else None
        if to_delete or self._several == OnSeveralMatches.REJECT:
            deletion = "a deletion needs exactly one: give its id"
            advice = "`on_several_matches` can take the oldest or the newest"
            several = _description(resource, wanted, found)
            raise UnusableKey(f"{several}; {deletion if to_delete else advice}")
        found.sort(key=lambda one: one.created, reverse=True)  # lists are newest first already
        return found[0 if self._several == OnSeveralMatches.NEWEST else -1].id

    def was_deleted(
        self, resource: Resource, wanted: Mapping[str, str], besides: Iterable[str]
    ) -> bool:
        """Whether another object with these values was deleted, by any client, in the last 30 days.

        Only Stripe's events show deleted objects. With a key that may not read them, only what
        this run deleted is known.
        """
        fields = tuple(wanted)
        with self._lock:
            if (resource.stream, fields) not in self._deleted:
                found: _Deleted = {}
                for values, object_id in self._deletions(resource, fields):
                    found.setdefault(values, set()).add(object_id)
                self._deleted[resource.stream, fields] = found
            ids = self._deleted[resource.stream, fields].get(tuple(wanted.values()), set())
            return not ids <= set(besides)

    def note_deletion(self, resource: Resource, wanted: Mapping[str, str], object_id: str) -> None:
        """Note that this run deleted an object with these values."""
        with self._lock:
            known = self._deleted.get((resource.stream, tuple(wanted)))
            if known is not None:
                known.setdefault(tuple(wanted.values()), set()).add(object_id)

    def _deletions(
        self, resource: Resource, fields: Sequence[str]
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        subjects = BY_NAME[resource.stream].event_prefixes
        if not subjects:
            return
        types = [("types[]", f"{subject}.deleted") for subject in subjects]
        try:
            for event in self._client.list(EVENTS_PATH, types):
                source = event["data"]["object"]
                carried = _values_in(source, fields)
                if carried and source.get("object") == resource.object_name:
                    yield carried, str(source["id"])
        except MissingPermissionError:
            _logger.warning(
                "%s: the key may not read events, so that earlier deletions are not seen: a "
                "tombstone takes the one object that it matches",
                resource.stream,
            )

    def candidates(
        self, resource: Resource, wanted: Mapping[str, str], tree: Mapping[str, Tree]
    ) -> list[str]:
        """Return the ids of all objects with these values."""
        return [one.id for one in _not_replaced(self._candidates(resource, wanted, tree))]

    def observe(self, stream: str, source: JSON) -> None:
        """Note the state of an object after a write, which may change its values."""
        with self._lock:
            indexes = [(key[1], index) for key, index in self._indexes.items() if key[0] == stream]
        for fields, index in indexes:
            with index.lock:
                if index.listed:
                    deleted = source.get("deleted")
                    index.put(source, None if deleted else _values_in(source, fields))

    def invalidate(self, stream: str) -> None:
        """Discard the lists of a stream."""
        with self._lock:
            for key in [key for key in self._indexes if key[0] == stream]:
                del self._indexes[key]

    def _candidates(
        self, resource: Resource, wanted: Mapping[str, str], tree: Mapping[str, Tree]
    ) -> list[Candidate]:
        listed = self._exact(resource, wanted, tree)
        if listed is None:
            return self._indexed(resource, wanted)
        values = tuple(wanted.values())
        return [_candidate(one) for one in listed if _values_in(one, tuple(wanted)) == values]

    def _exact(
        self, resource: Resource, wanted: Mapping[str, str], tree: Mapping[str, Tree]
    ) -> Iterable[JSON] | None:
        stream = resource.stream
        parent = resource.parent_field or PARENT_FIELDS.get(stream)
        if parent:
            owner = tree.get(parent)
            if not isinstance(owner, str):
                raise UnusableKey(f"`match_by`: {stream} are matched within their {parent}")
            if resource.parent_field:
                return self._client.entries(resource, owner)
            return self._client.list(f"/v1/customers/{segment(str(owner))}/payment_methods")
        for name, value in wanted.items():
            if (stream, name) in EXACT_FILTERS:
                return self._client.list(resource.path, [(EXACT_FILTERS[stream, name], value)])
        return None

    def _indexed(self, resource: Resource, wanted: Mapping[str, str]) -> list[Candidate]:
        fields = tuple(wanted)
        with self._lock:
            index = self._indexes.setdefault((resource.stream, fields), _Index())
        with index.lock:
            if not index.listed:
                listed = self._client.list(resource.path, BY_NAME[resource.stream].list_params)
                for source in listed:
                    index.put(source, _values_in(source, fields))
                index.listed = True
            return list(index.by_values.get(tuple(wanted.values()), {}).values())


def has_values(source: JSON, wanted: Mapping[str, str]) -> bool:
    """Whether an object has the values that a record is matched by."""
    return _values_in(source, tuple(wanted)) == tuple(wanted.values())


def _values_in(source: JSON, fields: Sequence[str]) -> tuple[str, ...] | None:
    values = [at_field(source, name) for name in fields]
    return tuple(map(str, values)) if all(value not in (None, "") for value in values) else None


def _candidate(source: JSON) -> Candidate:
    replaces = (source.get("metadata") or {}).get(REPLACES)
    return Candidate(str(source["id"]), int(source.get("created") or 0), replaces)


def _description(resource: Resource, wanted: Mapping[str, str], found: Sequence[Candidate]) -> str:
    ids = ", ".join(one.id for one in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} {resource.stream} have its {' and '.join(wanted)}: {ids}{more}"


def _not_replaced(found: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates without those that another one replaced."""
    candidates = list(found)
    replaced = {one.replaces for one in candidates}
    return [one for one in candidates if one.id not in replaced]
