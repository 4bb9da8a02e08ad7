"""Resolves records and references to Stripe ids: by id, journal, stamp, or `match_by`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import Tree, get_path, is_empty
from target_stripe_alloy.plan.copies import uncopied_references
from target_stripe_alloy.plan.plan_types import IdMode, Policy
from target_stripe_alloy.plan.record_keys import (
    RecordKey,
    UnusableKey,
    at_field,
    described,
    form_of,
    keys_for_reference,
    reference_to,
    shortened,
    text_of,
    values_of,
)
from target_stripe_alloy.resources import BY_STREAM, COPYABLE_STREAMS, Resource
from target_stripe_alloy.stripe_ids import is_stripe_id
from target_stripe_alloy.write.account_client import AccountClient
from target_stripe_alloy.write.journal import Journal
from target_stripe_alloy.write.journal_keys import JournalKeys
from target_stripe_alloy.write.matching import MatchFinder, has_values
from target_stripe_alloy.write.metadata_index import MetadataIndex, newest_price
from target_stripe_alloy.write.queued_records import QueuedRecord, is_deleted

_logger = logging.getLogger(__name__)

PLANNED = "planned:"
"""Prefix of the ids of objects that a dry run would create."""
_TRIES = 3
"""How often a match is searched again because the object no longer has its values."""

RecordRef = tuple[str, str]
"""(stream, key) of a record; in `external` the key as others refer to it."""


@dataclass(frozen=True)
class ResolvedObject:
    """The object of a record."""

    object_id: str | None = None
    by: str = ""
    """`id`, `journal`, `stamp`, `lookup_key`, or the fields of `match_by`."""
    current: JSON | None = None
    """The object as it is now; None if it is deleted, or only planned."""

    @property
    def matched(self) -> dict[str, str] | None:
        """The id, and how it was found, for plan and log."""
        known = self.object_id and not self.object_id.startswith(PLANNED)
        return {"by": self.by, "object": str(self.object_id)} if known else None


@dataclass(frozen=True)
class _Search:
    """A record whose object is searched, with its tree and its fields."""

    queued: QueuedRecord
    tree: Mapping[str, Tree]
    fields: Mapping[str, Any]

    @property
    def deleted(self) -> bool:
        """Whether the record is a tombstone."""
        return is_deleted(self.queued.record)


@dataclass
class References:
    """References of a record that could not be replaced by ids."""

    missing: list[RecordRef] = field(default_factory=list)
    deferred: list[RecordRef] = field(default_factory=list)
    """Missing as well, but the object can be written before it has them."""
    left_out: list[str] = field(default_factory=list)
    """Paths of references to objects that are not copied."""
    ambiguous: dict[RecordRef, str] = field(default_factory=dict)
    """Reference that may mean several objects → why."""
    refused: list[RecordRef] = field(default_factory=list)
    """Those of `ambiguous` that no later record can resolve."""


class IdResolver:
    """Finds the objects of records, and of their references. Thread-safe."""

    def __init__(self, client: AccountClient, journal: Journal, policy: Policy) -> None:
        self._journal = journal
        self._names = JournalKeys(journal)
        self._client = client
        self._mode = policy.id_mode
        self._match_by = policy.match_by
        self._matches = MatchFinder(client, policy.on_several_matches)
        self._index = MetadataIndex(journal, self._names, client)
        self._ids: dict[RecordRef, str] = {}
        self._declared: dict[str, set[tuple[str, ...]]] = {}
        self._absent: set[RecordRef] = set()
        self._forms: dict[RecordRef, str] = {}
        self._proofs: dict[tuple[str, str, str], bool] = {}
        self.on_object: Callable[[RecordRef], None] = lambda _: None
        """Called when a key gets its object; `RecordQueue` wakes the records that wait for it."""

    # ------------------------------------------------------------------ known ids

    def declare(self, stream: str, keys: RecordKey) -> None:
        """Note the key properties that a stream has in this run."""
        if keys.properties:
            self._declared.setdefault(stream, set()).add(tuple(sorted(keys.properties)))

    def remember(self, stream: str, key: str, object_id: str) -> None:
        """Note a key's object, and wake the records that wait for it."""
        self._ids[stream, key] = object_id
        self.on_object(self.reference_to(stream, key))

    def find_id(self, stream: str, key: str) -> str | None:
        """Return the id of a key's object, if this run or the journal know it."""
        found = self._ids.get((stream, key))
        if found is None:
            row = self._journal.load_one(stream, key)
            found = row.object_id if row else None
            if found:
                self._ids[stream, key] = found
        return found

    def invalidate(self, stream: str) -> None:
        """Forget which objects were not found: a request may have created one."""
        self._index.invalidate(stream)
        self._matches.invalidate(stream)
        self._absent = {entry for entry in self._absent if entry[0] != stream}

    def observe(self, stream: str, source: JSON) -> None:
        """Note an object as it is after a write."""
        self._matches.observe(stream, source)

    def reference_to(self, stream: str, key: str) -> RecordRef:
        """Return how other records refer to a key."""
        if self._mode != IdMode.EXTERNAL:
            return stream, key
        return stream, self._forms.get((stream, key)) or reference_to(key)

    # ------------------------------------------------------------------ the object of a record

    def find(
        self, queued: QueuedRecord, tree: Mapping[str, Tree], fields: Mapping[str, Any]
    ) -> ResolvedObject:
        """Find and read a record's object. Raises `UnusableKey` where it may be one of several."""
        keys, search = queued.keys, _Search(queued, tree, fields)
        if keys.by_match(queued.record):
            return self._find_match(search)
        if self._mode == IdMode.SAME_ACCOUNT:
            return self._resolved(search, queued.key, "id")
        if self._mode == IdMode.EXTERNAL:
            self._note_reference(queued)
        if search.deleted and self._is_deleted_in_journal(queued):
            return ResolvedObject()
        found = self._by_journal(search) or self._find_in_account(search)
        if keys.match and found.current is None and not _lacks_match_values(queued):
            return self._find_match(search, fallback=found)
        return found

    def _read(self, search: _Search, object_id: str) -> JSON | None:
        if object_id.startswith(PLANNED):
            return None
        resource = search.queued.resource
        return self._client.current(resource, object_id, search.tree, search.fields)

    def _resolved(self, search: _Search, object_id: str, by: str) -> ResolvedObject:
        return ResolvedObject(object_id, by, self._read(search, object_id))

    def _is_deleted_in_journal(self, queued: QueuedRecord) -> bool:
        """Whether the journal has a key's object as deleted, and no live record since."""
        row = self._journal.load_one(queued.stream, queued.key)
        planned = self._ids.get((queued.stream, queued.key), "").startswith(PLANNED)
        return row is not None and row.object_id is None and not planned

    def _note_reference(self, queued: QueuedRecord) -> None:
        values = queued.keys.values(queued.record) or {}
        self._names.note_names(queued.stream, list(values))
        if len(values) > 1:
            form = form_of("|".join(map(text_of, values.values())))
            self._forms[queued.stream, queued.key] = form
            self._names.note(queued.stream, form, queued.key)
        elif reference_to(queued.key) == queued.key:  # a hash, from which no value follows
            self._forms[queued.stream, queued.key] = form_of(*map(text_of, values.values()))

    def _by_journal(self, search: _Search) -> ResolvedObject | None:
        """Find the object that the journal has for a key, unless it has another key's stamp."""
        queued, keys = search.queued, search.queued.keys
        object_id = self.find_id(queued.stream, queued.key)
        if object_id is None:
            return None
        found = self._resolved(search, object_id, "journal")
        if found.current is None:
            return found
        fits = keys.fits(queued.record, found.current)
        if fits is False and not self._may_be_shared(search):
            self._ids.pop((queued.stream, queued.key), None)
            return self._find_in_account(search, excluded=object_id)
        if fits is None and keys.match and not self._still_matches(queued, found.current):
            return self._find_match(search, fallback=found)
        newer = newest_price(self._client, queued.resource, found.current)
        if newer is not None and keys.fits(queued.record, newer) is not False:
            return self._resolved(search, newer["id"], "journal")
        return found

    def _may_be_shared(self, search: _Search) -> bool:
        """Whether an object may be that of several records: prices by their lookup key."""
        by_id = self._mode == IdMode.COPY and search.queued.resource.found_by == "id"
        return by_id or self._is_by_lookup_key(search)

    def _is_by_lookup_key(self, search: _Search) -> bool:
        found_by = search.queued.resource.found_by
        by_lookup_key = self._mode == IdMode.COPY and found_by == "lookup_key"
        return by_lookup_key and bool(search.tree.get("lookup_key"))

    def _still_matches(self, queued: QueuedRecord, current: JSON) -> bool:
        """Whether an object has the `match_by` values of the record, or of the base image."""
        wanted = queued.keys.match_values(queued.record, present=True)
        if has_values(current, wanted):
            return True
        known = self._journal.load_one(queued.stream, queued.key)
        base = known.image() if known else None
        if base is None:
            return False
        then = {name: get_path(base.theirs, tuple(name.split(".", 1))) for name in wanted}
        return all(then.values()) and has_values(current, then)

    def _find_in_account(self, search: _Search, excluded: str | None = None) -> ResolvedObject:
        """Find the object of a key that the journal lacks, or has with the `excluded` object."""
        queued, keys = search.queued, search.queued.keys
        if self._mode == IdMode.COPY and queued.resource.found_by == "id":
            found = self._resolved(search, queued.key, "id")
            return found if found.current else ResolvedObject()
        if self._is_by_lookup_key(search):
            wanted = [("lookup_keys[]", str(search.tree["lookup_key"]))]
            price = next(self._client.list(queued.resource.path, wanted), None)
            if price is None or (search.deleted and keys.fits(queued.record, price) is False):
                return ResolvedObject()  # none, or the copy of another price has the key now
            return self._resolved(search, price["id"], "lookup_key")
        for object_id in self._stamped(search):
            current = None if object_id == excluded else self._read(search, object_id)
            fits = current and keys.fits(queued.record, current)
            if current and fits and not self._belongs_to_other_key(queued, current):
                return ResolvedObject(object_id, "stamp", current)
        return ResolvedObject()

    def _stamped(self, search: _Search) -> Iterable[str]:
        queued, resource = search.queued, search.queued.resource
        if not resource.create:
            return ()
        if resource.parent_field:
            parent = search.tree.get(resource.parent_field)
            entries = self._client.entries(resource, str(parent)) if parent else iter(())
            return [e["id"] for e in entries if queued.keys.fits(queued.record, e)]
        stamps = queued.keys.stamps_for(queued.record, queued.key)
        return self._index.of(resource, queued.keys, stamps)

    def _belongs_to_other_key(self, queued: QueuedRecord, current: JSON) -> bool:
        """Whether an object is known as that of another key that its stamp may mean as well."""
        others = [key for key in queued.keys.possible_keys(current) if key != queued.key]
        return any(self.find_id(queued.stream, key) == current["id"] for key in others)

    # ------------------------------------------------------------------ matches

    def _find_match(
        self, search: _Search, fallback: ResolvedObject | None = None
    ) -> ResolvedObject:
        """Find the object with a record's `match_by` values; `fallback` if there is none."""
        queued = search.queued
        planned = self._ids.get((queued.stream, queued.key), "")
        if planned.startswith(PLANNED):
            return ResolvedObject(planned)
        wanted = queued.keys.match_values(queued.record)
        if search.deleted:
            return self._find_to_delete(search, wanted, fallback)
        by = ", ".join(wanted)
        for _ in range(_TRIES):
            if fallback and fallback.current is not None:
                ids = self._matches.candidates(queued.resource, wanted, search.tree)
                if fallback.object_id in ids:
                    return fallback
            object_id = self._matches.find(queued.resource, wanted, search.tree)
            if object_id is None:
                return fallback or ResolvedObject()
            found = self._resolved(search, object_id, by)
            if found.current is not None and has_values(found.current, wanted):
                return found
            self._matches.invalidate(queued.stream)
        raise UnusableKey(f"`match_by`: the object with its {by} keeps changing: try later")

    def _find_to_delete(
        self, search: _Search, wanted: Mapping[str, str], fallback: ResolvedObject | None
    ) -> ResolvedObject:
        """Find the object of a tombstone by its `match_by` values.

        A deletion cannot be undone: it is never a guess. Raises `UnusableKey` if more than one
        object may be meant, whatever `on_several_matches` says.
        """
        queued = search.queued
        row = self._journal.load_one(queued.stream, queued.key, queued.incoming.source)
        known = row.object_id if row else None
        if row and known is None:
            return ResolvedObject()
        current = self._read(search, known) if known else None
        if known and (current is None or (row and row.is_tombstone)):
            matches = current is not None and (fallback or has_values(current, wanted))
            return ResolvedObject(known, "journal", current if matches else None)
        found = self._matches.find(queued.resource, wanted, search.tree, to_delete=True)
        if found is None:
            return fallback or ResolvedObject()
        if known is not None and found != known:
            raise UnusableKey(
                f"`match_by`: {found} has its {' and '.join(wanted)} now, and {known} was written "
                "before: it is unknown which one the deletion means"
            )
        current = current or self._read(search, found)
        self._check_match(queued, wanted, current, known=known is not None)
        return ResolvedObject(found, ", ".join(wanted), current)

    def _check_match(
        self, queued: QueuedRecord, wanted: Mapping[str, str], current: JSON | None, *, known: bool
    ) -> None:
        """Raise `UnusableKey` if another object may be meant by a deletion."""
        if current is None:
            return
        if not has_values(current, wanted):
            raise UnusableKey("`match_by`: the object with its values is changing: try later")
        if queued.keys.external and queued.keys.fits(queued.record, current) is False:
            raise UnusableKey(
                f"`match_by`: {current['id']} has another key: it is unknown whether the deletion "
                "means it"
            )
        others = [current["id"]]
        if not known and self._matches.was_deleted(queued.resource, wanted, besides=others):
            raise UnusableKey(
                f"`match_by`: another one with its {' and '.join(wanted)} was deleted before: it "
                f"is unknown whether the deletion means that one or {current['id']}"
            )

    def is_matched(self, resource: Resource, params: Mapping[str, Tree]) -> bool:
        """Whether `match_by` finds an object for the parameters of a new one."""
        fields = self._match_by.get(resource.stream, ())
        values = {name: at_field(params, name) for name in fields}
        if not values or not all(values.values()):
            return False
        wanted = {name: str(value) for name, value in values.items()}
        try:
            return bool(self._matches.candidates(resource, wanted, params))
        except UnusableKey:  # the list to search is unknown
            return False

    def note_deletion(self, queued: QueuedRecord) -> None:
        """Note that this run deleted the object with a record's `match_by` values."""
        if queued.matched and not _lacks_match_values(queued):
            values = queued.keys.match_values(queued.record)
            self._matches.note_deletion(queued.resource, values, queued.matched["object"])

    # ------------------------------------------------------------------ rows of earlier releases

    def adopt_older_rows(self, stream: str, records: Iterable[QueuedRecord]) -> bool:
        """Assign rows of an earlier release to keys, if they are proven to be of the same object.

        Returns whether there were any.
        """
        if self._mode != IdMode.EXTERNAL:
            return False
        mine = {queued.key: queued for queued in records if queued.keys.properties}
        joined = {text for queued in mine.values() for text in _older_forms(queued)}
        rows = self._names.older(stream, sorted(joined))
        stamps = self._names.stamps_of(stream, rows) if rows else {}
        adopted = False
        for key, queued in mine.items():
            for text in _older_forms(queued):
                if text in rows and self._is_proven(queued, rows[text], stamps.get(text)):
                    self._names.assign_row(stream, text, key)
                    del rows[text]
                    adopted = True
                    break
        return adopted

    def _is_proven(
        self, queued: QueuedRecord, object_id: str, stamp: Mapping[str, str] | None
    ) -> bool:
        """Whether a row is of the same properties: by the object's first metadata, or its stamp."""
        keys, resource = queued.keys, queued.resource
        if stamp is not None and keys.fits(queued.record, {"metadata": stamp}):
            return True
        current = self._retrieved(resource, object_id)
        return current is not None and keys.fits(queued.record, current) is True

    def _retrieved(self, resource: Resource, object_id: str) -> JSON | None:
        if resource.parent_field == "invoice":  # Stripe lists lines, and retrieves none
            return None
        return self._client.get(resource.path_of(object_id, {}))

    # ------------------------------------------------------------------ references

    def resolve(self, resource: Resource, tree: dict[str, Tree]) -> References:
        """Replace each reference by its id in this account (modifies `tree`)."""
        references = References()
        if self._mode == IdMode.SAME_ACCOUNT:
            return references
        for path in resource.references:
            for holder, name in list(_places(tree, path.split("."))):
                self._resolve_one(resource, path, holder, name, references)
        if self._mode == IdMode.COPY:
            references.left_out += _remove_uncopied(resource, tree)
        for name in [n for n, value in tree.items() if isinstance(value, list)]:
            if tree[name] and all(entry == {} for entry in tree[name]):
                del tree[name]
        return references

    def _resolve_one(
        self, resource: Resource, path: str, holder: Any, name: Any, references: References
    ) -> None:
        text, stream = holder[name], resource.references[path]
        if not text or not isinstance(text, str):
            return
        external = self._mode == IdMode.EXTERNAL
        meant = self._referenced_objects(stream, text)
        missing = (stream, form_of(text) if external else shortened(text))
        if len(meant) > 1:
            keys = " or ".join(sorted(meant.values()))
            references.ambiguous[missing] = f"its {path} may mean {stream} {keys}"
            if stream in self._declared:
                references.refused.append(missing)
        elif not meant and external and is_stripe_id(stream, text):
            return
        if len(meant) == 1:
            holder[name] = next(iter(meant))
        elif self._mode == IdMode.COPY and stream not in COPYABLE_STREAMS:
            del holder[name]
            references.left_out.append(path)
        elif path in resource.deferrable_references:
            del holder[name]
            references.deferred.append(missing)
        else:
            references.missing.append(missing)

    def item_id(self, stream: str, key: str) -> str:
        """Return the id that an item of a record has in Stripe; the key itself if none is known."""
        if self._mode == IdMode.SAME_ACCOUNT:
            return key
        meant = self._referenced_objects(stream, key)
        return next(iter(meant)) if len(meant) == 1 else key

    def _referenced_objects(self, stream: str, text: str) -> dict[str, str]:
        """Return the objects that a reference may name: id → key, for a message."""
        if self._mode != IdMode.EXTERNAL:
            found = self.find_id(stream, text)
            if found is None and self._mode == IdMode.COPY and BY_STREAM[stream].found_by == "id":
                found = self._same_id(BY_STREAM[stream], text)
            return {found: text} if found else {}
        found_by_id: dict[str, str] = {}
        for key in self._candidates(stream, text):
            found = self.find_id(stream, key)
            if found:
                found_by_id.setdefault(found, described(key))
        older = self._older_object(stream, text)
        if older:
            found_by_id.setdefault(older, f"{text} (of an earlier release)")
        return found_by_id

    def _same_id(self, resource: Resource, key: str) -> str | None:
        """Return a key that is an object's id; None if there is none. Read once a run."""
        if (resource.stream, key) in self._absent:
            return None
        if self._client.get(resource.path_of(key, {})) is None:
            self._absent.add((resource.stream, key))
            return None
        return key

    def _candidates(self, stream: str, text: str) -> Iterator[str]:
        """Yield the keys that a reference may mean, with the key properties of this run."""
        known = self._declared.get(stream) or self._names.names(stream)
        for names in known:
            if len(names) == 1:
                yield from keys_for_reference(names[0], text)
        if all(len(names) == 1 for names in known):
            return
        for key in self._names.named(stream, form_of(text)):
            values = values_of(key)
            if values is None or tuple(sorted(values)) in known:
                yield key

    def _older_object(self, stream: str, text: str) -> str | None:
        """Return the object that a reference had in an earlier release, if it still names it."""
        found = self._names.older(stream, [text]).get(text)
        declared = self._declared.get(stream)
        if found is None or declared is None:
            return found
        entry = (stream, text, found)
        if entry not in self._proofs:
            self._proofs[entry] = any(
                _carries_values(stamp, names, text)
                for stamp in self._older_stamps(stream, text, found)
                for names in declared
            )
        return found if self._proofs[entry] else None

    def _older_stamps(self, stream: str, text: str, object_id: str) -> Iterator[Mapping[str, str]]:
        yield self._names.stamps_of(stream, {text: object_id}).get(text) or {}
        current = self._retrieved(BY_STREAM[stream], object_id)
        yield (current or {}).get("metadata") or {}


def _lacks_match_values(queued: QueuedRecord) -> bool:
    """Whether a record is a tombstone without all of the `match_by` values."""
    present = queued.keys.match_values(queued.record, present=True)
    return is_deleted(queued.record) and len(present) < len(queued.keys.match)


def _older_forms(queued: QueuedRecord) -> list[str]:
    """Return the forms in which releases up to cb5f45d may have a record's key."""
    values = queued.keys.values(queued.record) or {}
    verbatim = "|".join(str(queued.record[name]) for name in values)
    return list(dict.fromkeys([verbatim, "|".join(map(text_of, values.values()))]))


def _carries_values(stamp: Mapping[str, str], names: Sequence[str], text: str) -> bool:
    values = [stamp.get(name) for name in names]
    return all(values) and sorted(map(str, values)) == sorted(text.split("|"))


def _remove_uncopied(resource: Resource, tree: dict[str, Tree]) -> Iterator[str]:
    """Remove the references to objects that no record can bring here; yield their paths."""
    for path in uncopied_references(resource):
        for holder, name in list(_places(tree, path.split("."))):
            if not is_empty(holder[name]):
                del holder[name]
                yield path


def _places(tree: Tree, path: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Yield the places of a path in a tree, as (holder, key); `*` is every entry."""
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
