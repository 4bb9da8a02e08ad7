"""Which object a record means: by its id, by the journal, by a stamp, by `match_by`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import Path, Tree, get_path, is_empty
from target_stripe_alloy.plan.plan_types import IdMode, Policy
from target_stripe_alloy.plan.record_keys import (
    RecordKey,
    UnusableKey,
    at_field,
    described,
    form_of,
    readings_of,
    reference_to,
    shortened,
    text_of,
    values_of,
)
from target_stripe_alloy.resources import (
    BY_STREAM,
    COPYABLE_STREAMS,
    NOT_COPIED,
    Resource,
    reference_paths,
)
from target_stripe_alloy.stripe_ids import is_stripe_id
from target_stripe_alloy.write.journal import Journal
from target_stripe_alloy.write.journal_keys import JournalKeys
from target_stripe_alloy.write.matching import MatchFinder, carries
from target_stripe_alloy.write.metadata_index import MetadataIndex, newest_price
from target_stripe_alloy.write.object_reader import ObjectReader
from target_stripe_alloy.write.queued_records import QueuedRecord, is_deleted

_logger = logging.getLogger(__name__)

PLANNED = "planned:"
"""Begins the ids of objects that a dry run would create."""
_TRIES = 3
"""Times that a match is looked up again because the object no longer carries it."""

RecordRef = tuple[str, str]
"""(stream, key) of a record that has not been seen yet; in `external` as others refer to it."""


@dataclass(frozen=True)
class ResolvedObject:
    """A record's object."""

    object_id: str | None = None
    by: str = ""
    """`id`, `journal`, `stamp`, `lookup_key`, or the fields of `match_by`."""
    current: JSON | None = None
    """The object as it is now; None where it is gone, or only planned."""

    @property
    def matched(self) -> dict[str, str] | None:
        """For plan and log."""
        known = self.object_id and not self.object_id.startswith(PLANNED)
        return {"by": self.by, "object": str(self.object_id)} if known else None


class IdResolver:
    """Ids of records and of what they refer to. Thread-safe."""

    def __init__(
        self, journal: Journal, objects: ObjectReader, clock: Callable[[], float], policy: Policy
    ) -> None:
        self._journal = journal
        self._names = JournalKeys(journal)
        self._objects = objects
        self._mode = policy.id_mode
        self._match_by = policy.match_by
        self._matches = MatchFinder(objects, policy.on_several_matches)
        self._index = MetadataIndex(journal, self._names, objects, clock)
        self._ids: dict[RecordRef, str] = {}
        self._declared: dict[str, set[tuple[str, ...]]] = {}
        self._absent: set[RecordRef] = set()
        self._forms: dict[RecordRef, str] = {}
        self._proofs: dict[tuple[str, str, str], bool] = {}
        self.on_object: Callable[[RecordRef], None] = lambda _: None
        """Called when a key gets its object; `RecordQueue` wakes the records that wait for it."""

    # ------------------------------------------------------------------ what is known

    def declare(self, stream: str, keys: RecordKey) -> None:
        """Note the key properties that a stream has in this run."""
        if keys.properties:
            self._declared.setdefault(stream, set()).add(tuple(sorted(keys.properties)))

    def remember(self, stream: str, key: str, object_id: str) -> None:
        """Note a key's object, and wake the records that wait for it."""
        self._ids[stream, key] = object_id
        self.on_object(self.reference_to(stream, key))

    def find_id(self, stream: str, key: str) -> str | None:
        """The object of a key, as far as this run or the journal know it."""
        found = self._ids.get((stream, key))
        if found is None:
            row = self._journal.load(stream, [key]).get(key)
            found = row.object_id if row else None
            if found:
                self._ids[stream, key] = found
        return found

    def invalidate(self, stream: str) -> None:
        """Trust nothing that was found absent: a write may have worked unseen."""
        self._index.invalidate(stream)
        self._matches.invalidate(stream)
        self._absent = {entry for entry in self._absent if entry[0] != stream}

    def observe(self, stream: str, source: JSON) -> None:
        """Note an object as a write left it."""
        self._matches.observe(stream, source)

    def reference_to(self, stream: str, key: str) -> RecordRef:
        """Return how other records refer to a key."""
        if self._mode != IdMode.EXTERNAL:
            return stream, key
        return stream, self._forms.get((stream, key)) or reference_to(key)

    # ------------------------------------------------------------------ a record's own object

    def find(
        self, queued: QueuedRecord, tree: Mapping[str, Tree], fields: Mapping[str, Any]
    ) -> ResolvedObject:
        """A record's object, read right now. Raises `UnusableKey` where several are meant."""
        keys = queued.incoming.keys
        if keys.by_match(queued.record):
            return self._find_match(queued, tree, fields)
        if self._mode == IdMode.SAME_ACCOUNT:
            return ResolvedObject(queued.key, "id", self._read(queued, queued.key, tree, fields))
        if self._mode == IdMode.EXTERNAL:
            self._note_reference(queued)
        if is_deleted(queued.record) and self._is_deleted_in_journal(queued):
            return ResolvedObject()
        found = self._by_journal(queued, tree, fields) or self._find_anew(queued, tree, fields, ())
        if keys.match and found.current is None and not self._lacks_match_values(queued):
            return self._find_match(queued, tree, fields, fallback=found)
        return found

    def _is_deleted_in_journal(self, queued: QueuedRecord) -> bool:
        """Whether the journal has a key's object as deleted, and no live record since."""
        row = self._journal.load(queued.stream, [queued.key]).get(queued.key)
        planned = self._ids.get((queued.stream, queued.key), "").startswith(PLANNED)
        return row is not None and row.object_id is None and not planned

    def _note_reference(self, queued: QueuedRecord) -> None:
        values = queued.incoming.keys.values(queued.record) or {}
        self._names.note_names(queued.stream, list(values))
        if len(values) > 1:
            form = form_of("|".join(map(text_of, values.values())))
            self._forms[queued.stream, queued.key] = form
            self._names.note(queued.stream, form, queued.key)
        elif reference_to(queued.key) == queued.key:  # a hash tells nothing
            self._forms[queued.stream, queued.key] = form_of(*map(text_of, values.values()))

    def _lacks_match_values(self, queued: QueuedRecord) -> bool:
        """Whether a tombstone does not say what its object could be matched by."""
        keys = queued.incoming.keys
        said = keys.match_values(queued.record, present=True)
        return is_deleted(queued.record) and len(said) < len(keys.match)

    def _read(
        self,
        queued: QueuedRecord,
        object_id: str,
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
    ) -> JSON | None:
        if object_id.startswith(PLANNED):
            return None
        return self._objects.current(queued.incoming.resource, object_id, tree, fields)

    def _by_journal(
        self, queued: QueuedRecord, tree: Mapping[str, Tree], fields: Mapping[str, Any]
    ) -> ResolvedObject | None:
        """The object that the journal has for a key, unless it carries another one's stamp."""
        resource, keys = queued.incoming.resource, queued.incoming.keys
        found = self.find_id(queued.stream, queued.key)
        if found is None:
            return None
        current = self._read(queued, found, tree, fields)
        if current is None:
            return ResolvedObject(found, "journal")
        fits = keys.fits(queued.record, current)
        if fits is False and not self._may_be_shared(resource, tree):
            self._ids.pop((queued.stream, queued.key), None)
            return self._find_anew(queued, tree, fields, (found,))
        if fits is None and keys.match and not self._still_matches(queued, current):
            return self._find_match(
                queued, tree, fields, fallback=ResolvedObject(found, "journal", current)
            )
        newer = newest_price(self._objects, resource, current)
        if newer is not None and keys.fits(queued.record, newer) is not False:
            return ResolvedObject(
                newer["id"], "journal", self._read(queued, newer["id"], tree, fields)
            )
        return ResolvedObject(found, "journal", current)

    def _may_be_shared(self, resource: Resource, tree: Mapping[str, Tree]) -> bool:
        """Whether an object may be that of several records: prices by their lookup key."""
        return self._mode == IdMode.COPY and (
            resource.found_by == "id"
            or (resource.found_by == "lookup_key" and bool(tree.get("lookup_key")))
        )

    def _still_matches(self, queued: QueuedRecord, current: JSON) -> bool:
        """Whether an object that was matched carries what it was matched by, now or then."""
        wanted = queued.incoming.keys.match_values(queued.record, present=True)
        if carries(current, wanted):
            return True
        known = self._journal.load(queued.stream, [queued.key]).get(queued.key)
        base = known.image() if known else None
        if base is None:
            return False
        then = {name: get_path(base.theirs, tuple(name.split(".", 1))) for name in wanted}
        return all(then.values()) and carries(current, then)

    def _find_anew(
        self,
        queued: QueuedRecord,
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
        excluded: tuple[str, ...],
    ) -> ResolvedObject:
        """The object of a key that the journal does not have, or has the wrong one for."""
        resource, key = queued.incoming.resource, queued.key
        if self._mode == IdMode.COPY and resource.found_by == "id":
            current = self._read(queued, key, tree, fields)
            return ResolvedObject(key, "id", current) if current else ResolvedObject()
        if (
            self._mode == IdMode.COPY
            and resource.found_by == "lookup_key"
            and tree.get("lookup_key")
        ):
            asked = [("lookup_keys[]", str(tree["lookup_key"]))]
            for price in self._objects.list(resource.path, asked):
                if (
                    is_deleted(queued.record)
                    and queued.incoming.keys.fits(queued.record, price) is False
                ):
                    break  # the key passed on to the copy of another one
                return ResolvedObject(
                    price["id"], "lookup_key", self._read(queued, price["id"], tree, fields)
                )
            return ResolvedObject()
        for found in self._stamped(queued, tree):
            current = None if found in excluded else self._read(queued, found, tree, fields)
            if (
                current
                and queued.incoming.keys.fits(queued.record, current)
                and not self._belongs_to_rival(queued, current)
            ):
                return ResolvedObject(found, "stamp", current)
        return ResolvedObject()

    def _stamped(self, queued: QueuedRecord, tree: Mapping[str, Tree]) -> Iterable[str]:
        resource, keys = queued.incoming.resource, queued.incoming.keys
        if not resource.create:
            return ()
        if resource.parent_field:
            parent = tree.get(resource.parent_field)
            entries = self._objects.entries(resource, str(parent)) if parent else iter(())
            return [e["id"] for e in entries if keys.fits(queued.record, e)]
        return self._index.of(resource, keys, keys.stamps_for(queued.record, queued.key))

    def _belongs_to_rival(self, queued: QueuedRecord, current: JSON) -> bool:
        """Whether an object is known to be that of another key that its stamp may mean as well."""
        others = [key for key in queued.incoming.keys.rivals(current) if key != queued.key]
        return any(self.find_id(queued.stream, key) == current["id"] for key in others)

    def _same_id(self, resource: Resource, key: str) -> str | None:
        """The id itself, if it is there; asked once a run for all that refer to it."""
        if (resource.stream, key) in self._absent:
            return None
        if self._objects.get(resource.path_of(key, {})) is None:
            self._absent.add((resource.stream, key))
            return None
        return key

    # ------------------------------------------------------------------ matches

    def _find_match(
        self,
        queued: QueuedRecord,
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
        fallback: ResolvedObject | None = None,
    ) -> ResolvedObject:
        """The object that carries what a record is matched by; `fallback` where none does."""
        planned = self._ids.get((queued.stream, queued.key), "")
        if planned.startswith(PLANNED):
            return ResolvedObject(planned)
        wanted = queued.incoming.keys.match_values(queued.record)
        if is_deleted(queued.record):
            return self._find_to_delete(queued, wanted, tree, fields, fallback)
        by = ", ".join(wanted)
        for _ in range(_TRIES):
            if fallback and fallback.current is not None:
                ids = self._matches.candidates(queued.incoming.resource, wanted, tree)
                if fallback.object_id in ids:
                    return fallback
            found = self._matches.find(queued.incoming.resource, wanted, tree)
            if found is None:
                return fallback or ResolvedObject()
            current = self._read(queued, found, tree, fields)
            if current is not None and carries(current, wanted):
                return ResolvedObject(found, by, current)
            self._matches.invalidate(queued.stream)
        raise UnusableKey(f"`match_by`: what has its {by} changes again and again: try later")

    def _find_to_delete(
        self,
        queued: QueuedRecord,
        wanted: Mapping[str, str],
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
        fallback: ResolvedObject | None,
    ) -> ResolvedObject:
        """The object that a tombstone means by what it is matched by.

        A deletion cannot be undone: it is never a guess. Raises `UnusableKey` where more than one
        object may be meant, whatever `on_several_matches` says.
        """
        row = self._journal.load(queued.stream, [queued.key], queued.incoming.source).get(
            queued.key
        )
        known = row.object_id if row else None
        if row and known is None:
            return ResolvedObject()
        current = self._read(queued, known, tree, fields) if known else None
        if known and (current is None or (row and row.is_tombstone)):
            is_it = current is not None and (fallback or carries(current, wanted))
            return ResolvedObject(known, "journal", current if is_it else None)
        found = self._matches.find_only(queued.incoming.resource, wanted, tree)
        if found is None:
            return fallback or ResolvedObject()
        if known is not None and found != known:
            raise UnusableKey(
                f"`match_by`: {found} has its {' and '.join(wanted)} now, and {known} was written "
                "before: which one the deletion means cannot be told"
            )
        current = current or self._read(queued, found, tree, fields)
        self._check_match(queued, wanted, current, known=known is not None)
        return ResolvedObject(found, ", ".join(wanted), current)

    def _check_match(
        self, queued: QueuedRecord, wanted: Mapping[str, str], current: JSON | None, *, known: bool
    ) -> None:
        """Raise `UnusableKey` if there is a sign that another object is to be deleted."""
        if current is None:
            return
        if not carries(current, wanted):
            raise UnusableKey("`match_by`: what has its values changes meanwhile: try later")
        if (
            queued.incoming.keys.external
            and queued.incoming.keys.fits(queued.record, current) is False
        ):
            raise UnusableKey(
                f"`match_by`: {current['id']} carries another key: whether the deletion means it "
                "cannot be told"
            )
        if not known and self._matches.was_deleted(
            queued.incoming.resource, wanted, besides=[current["id"]]
        ):
            raise UnusableKey(
                f"`match_by`: another one with its {' and '.join(wanted)} was deleted before: "
                f"whether the deletion means that one or {current['id']} cannot be told"
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
        except UnusableKey:  # within what cannot be told
            return False

    def note_deletion(self, queued: QueuedRecord) -> None:
        """Note that the object was deleted that had what a record is matched by."""
        if queued.matched and not self._lacks_match_values(queued):
            values = queued.incoming.keys.match_values(queued.record)
            self._matches.note_deletion(queued.incoming.resource, values, queued.matched["object"])

    # ------------------------------------------------------------------ rows of earlier releases

    def adopt_older_rows(self, stream: str, records: Iterable[QueuedRecord]) -> bool:
        """Give keys the rows that an earlier release kept of them, where that is proven.

        Returns whether there were any.
        """
        if self._mode != IdMode.EXTERNAL:
            return False
        mine = {queued.key: queued for queued in records if queued.incoming.keys.properties}
        joined = {text for queued in mine.values() for text in _joined_before(queued)}
        rows = self._names.older(stream, sorted(joined))
        stamps = self._names.stamps_of(stream, rows) if rows else {}
        taken = False
        for key, queued in mine.items():
            for text in _joined_before(queued):
                if text in rows and self._is_proven(queued, rows[text], stamps.get(text)):
                    self._names.take_over(stream, text, key)
                    del rows[text]
                    taken = True
                    break
        return taken

    def _is_proven(
        self, queued: QueuedRecord, object_id: str, stamp: Mapping[str, str] | None
    ) -> bool:
        """Whether a row is of the same properties: by what created the object, or by its stamp."""
        keys, resource = queued.incoming.keys, queued.incoming.resource
        if stamp is not None and keys.fits(queued.record, {"metadata": stamp}):
            return True
        current = self._retrieved(resource, object_id)
        return current is not None and keys.fits(queued.record, current) is True

    def _retrieved(self, resource: Resource, object_id: str) -> JSON | None:
        if resource.parent_field == "invoice":  # Stripe lists lines, and retrieves none
            return None
        return self._objects.get(resource.path_of(object_id, {}))

    # ------------------------------------------------------------------ references

    def resolve(self, resource: Resource, tree: dict[str, Tree]) -> References:
        """Put in the place of each reference the id it has here, in place."""
        references = References()
        if self._mode == IdMode.SAME_ACCOUNT:
            return references
        for path, stream in reference_paths(resource).items():
            later = ".".join(path) in resource.deferrable_references
            for holder, name in list(_places(tree, path)):
                self._resolve_one(holder, name, stream, ".".join(path), references, later=later)
        for name in [n for n, value in tree.items() if isinstance(value, list)]:
            if tree[name] and all(entry == {} for entry in tree[name]):
                del tree[name]
        return references

    def _resolve_one(
        self, holder: Any, name: Any, stream: str, path: str, references: References, *, later: bool
    ) -> None:
        text = holder[name]
        if is_empty(text) or (stream and not isinstance(text, str)):
            return
        meant = self._objects_meant(stream, text) if stream else {}
        missing = (stream, form_of(text) if self._mode == IdMode.EXTERNAL else shortened(str(text)))
        if len(meant) > 1:
            keys = " or ".join(sorted(meant.values()))
            references.ambiguous[missing] = f"its {path} may mean {stream} {keys}"
            if stream in self._declared:
                references.refused.append(missing)
        elif (
            self._mode == IdMode.EXTERNAL
            and not meant
            and (not stream or is_stripe_id(stream, text))
        ):
            return
        if len(meant) == 1:
            holder[name] = next(iter(meant))
        elif self._mode == IdMode.COPY and (stream == NOT_COPIED or stream not in COPYABLE_STREAMS):
            del holder[name]
            references.left_out.append(path)
        elif later:
            del holder[name]
            references.deferred.append(missing)
        else:
            references.missing.append(missing)

    def item_id(self, stream: str, key: str) -> str:
        """Return the id that an item of a record has in Stripe; the key itself if none is known."""
        if self._mode == IdMode.SAME_ACCOUNT:
            return key
        meant = self._objects_meant(stream, key)
        return next(iter(meant)) if len(meant) == 1 else key

    def _objects_meant(self, stream: str, text: str) -> dict[str, str]:
        """The objects that a reference may mean: id → the key, for a message."""
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

    def _candidates(self, stream: str, text: str) -> Iterator[str]:
        """The keys that a reference may mean, those with the key properties of this run."""
        known = self._declared.get(stream) or self._names.names(stream)
        for names in known:
            if len(names) == 1:
                yield from readings_of(names[0], text)
        if all(len(names) == 1 for names in known):
            return
        for key in self._names.named(stream, form_of(text)):
            values = values_of(key)
            if values is None or tuple(sorted(values)) in known:
                yield key

    def _older_object(self, stream: str, text: str) -> str | None:
        """The object that an earlier release knew by this text, if the same property is meant."""
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


@dataclass
class References:
    """What became of a record's references."""

    missing: list[RecordRef] = field(default_factory=list)
    deferred: list[RecordRef] = field(default_factory=list)
    """Missing as well, but the object can be written before it has them."""
    left_out: list[str] = field(default_factory=list)
    ambiguous: dict[RecordRef, str] = field(default_factory=dict)
    """What may mean several: why."""
    refused: list[RecordRef] = field(default_factory=list)
    """Those of `ambiguous` that no record to come can settle."""


def _joined_before(queued: QueuedRecord) -> list[str]:
    """A record's key as releases up to cb5f45d had it: as it came, or as equal numbers are now."""
    values = queued.incoming.keys.values(queued.record) or {}
    came = "|".join(str(queued.record[name]) for name in values)
    return list(dict.fromkeys([came, "|".join(map(text_of, values.values()))]))


def _carries_values(stamp: Mapping[str, str], names: Sequence[str], text: str) -> bool:
    current = [stamp.get(name) for name in names]
    return all(current) and sorted(map(str, current)) == sorted(text.split("|"))


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
