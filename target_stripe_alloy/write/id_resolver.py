"""Which object a record means: by its id, by the journal, by a stamp, by `match_by`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import Path, Tree, at, is_empty
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
from target_stripe_alloy.resources import BY_STREAM, COPIED, NOT_COPIED, Resource, reference_paths
from target_stripe_alloy.stripe_ids import is_stripe_id
from target_stripe_alloy.write.journal import Journal
from target_stripe_alloy.write.journal_keys import JournalKeys
from target_stripe_alloy.write.matching import Matches, carries
from target_stripe_alloy.write.metadata_index import Stamps, successor_of
from target_stripe_alloy.write.object_reader import Objects
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
        self, journal: Journal, objects: Objects, clock: Callable[[], float], policy: Policy
    ) -> None:
        self._journal = journal
        self._names = JournalKeys(journal)
        self._objects = objects
        self._mode = policy.id_mode
        self._matches = Matches(objects, policy.on_several_matches)
        self._stamps = Stamps(journal, self._names, objects, clock)
        self._ids: dict[RecordRef, str] = {}
        self._declared: dict[str, set[tuple[str, ...]]] = {}
        self._absent: set[RecordRef] = set()
        self._forms: dict[RecordRef, str] = {}
        self._proofs: dict[tuple[str, str, str], bool] = {}

    # ------------------------------------------------------------------ what is known

    def declare(self, stream: str, keys: RecordKey) -> None:
        """Note the key properties that a stream has in this run."""
        if keys.properties:
            self._declared.setdefault(stream, set()).add(tuple(sorted(keys.properties)))

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
        self._stamps.look_again(stream)
        self._matches.look_again(stream)
        self._absent = {entry for entry in self._absent if entry[0] != stream}

    def observe(self, stream: str, source: JSON) -> None:
        """Note an object as a write left it."""
        self._matches.observe(stream, source)

    def reference(self, stream: str, key: str) -> str:
        """How other records name a key."""
        if self._mode != IdMode.EXTERNAL:
            return key
        return self._forms.get((stream, key)) or reference_to(key)

    # ------------------------------------------------------------------ a record's own object

    def find(
        self, job: QueuedRecord, tree: Mapping[str, Tree], fields: Mapping[str, Any]
    ) -> ResolvedObject:
        """A record's object, read right now. Raises `UnusableKey` where several are meant."""
        keys = job.kind.keys
        if keys.by_match(job.record):
            return self._matched(job, tree, fields)
        if self._mode == IdMode.SAME_ACCOUNT:
            return ResolvedObject(job.key, "id", self._read(job, job.key, tree, fields))
        if self._mode == IdMode.EXTERNAL:
            self._note_reference(job)
        if is_deleted(job.record) and self._ended(job):
            return ResolvedObject()
        found = self._by_journal(job, tree, fields) or self._anew(job, tree, fields, ())
        if keys.match and found.current is None and not self._only_ends(job):
            return self._matched(job, tree, fields, otherwise=found)
        return found

    def _ended(self, job: QueuedRecord) -> bool:
        """Whether the journal has a key's object as deleted, and no live record since."""
        row = self._journal.recall(job.stream, [job.key]).get(job.key)
        planned = self._ids.get((job.stream, job.key), "").startswith(PLANNED)
        return row is not None and row.object_id is None and not planned

    def _note_reference(self, job: QueuedRecord) -> None:
        values = job.kind.keys.values(job.record) or {}
        self._names.note_names(job.stream, list(values))
        if len(values) > 1:
            form = form_of("|".join(map(text_of, values.values())))
            self._forms[job.stream, job.key] = form
            self._names.note(job.stream, form, job.key)
        elif reference_to(job.key) == job.key:  # a hash tells nothing
            self._forms[job.stream, job.key] = form_of(*map(text_of, values.values()))

    def _only_ends(self, job: QueuedRecord) -> bool:
        """Whether a tombstone does not say what its object could be matched by."""
        keys = job.kind.keys
        said = keys.match_values(job.record, present=True)
        return is_deleted(job.record) and len(said) < len(keys.match)

    def _read(
        self, job: QueuedRecord, object_id: str, tree: Mapping[str, Tree], fields: Mapping[str, Any]
    ) -> JSON | None:
        if object_id.startswith(PLANNED):
            return None
        return self._objects.current(job.kind.resource, object_id, tree, fields)

    def _by_journal(
        self, job: QueuedRecord, tree: Mapping[str, Tree], fields: Mapping[str, Any]
    ) -> ResolvedObject | None:
        """The object that the journal has for a key, unless it carries another one's stamp."""
        resource, keys = job.kind.resource, job.kind.keys
        found = self.known(job.stream, job.key)
        if found is None:
            return None
        current = self._read(job, found, tree, fields)
        if current is None:
            return ResolvedObject(found, "journal")
        fits = keys.fits(job.record, current)
        if fits is False and not self._shared(resource, tree):
            self._ids.pop((job.stream, job.key), None)
            return self._anew(job, tree, fields, (found,))
        if fits is None and keys.match and not self._still(job, current):
            return self._matched(
                job, tree, fields, otherwise=ResolvedObject(found, "journal", current)
            )
        heir = successor_of(self._objects, resource, current)
        if heir is not None and keys.fits(job.record, heir) is not False:
            return ResolvedObject(heir["id"], "journal", self._read(job, heir["id"], tree, fields))
        return ResolvedObject(found, "journal", current)

    def _shared(self, resource: Resource, tree: Mapping[str, Tree]) -> bool:
        """Whether an object may be that of several records: prices by their lookup key."""
        return self._mode == IdMode.COPY and (
            resource.found_by == "id"
            or (resource.found_by == "lookup_key" and bool(tree.get("lookup_key")))
        )

    def _still(self, job: QueuedRecord, current: JSON) -> bool:
        """Whether an object that was matched carries what it was matched by, now or then."""
        wanted = job.kind.keys.match_values(job.record, present=True)
        if carries(current, wanted):
            return True
        known = self._journal.recall(job.stream, [job.key]).get(job.key)
        base = known.image() if known else None
        if base is None:
            return False
        then = {name: at(base.theirs, tuple(name.split(".", 1))) for name in wanted}
        return all(then.values()) and carries(current, then)

    def _anew(
        self,
        job: QueuedRecord,
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
        without: tuple[str, ...],
    ) -> ResolvedObject:
        """The object of a key that the journal does not have, or has the wrong one for."""
        resource, key = job.kind.resource, job.key
        if self._mode == IdMode.COPY and resource.found_by == "id":
            current = self._read(job, key, tree, fields)
            return ResolvedObject(key, "id", current) if current else ResolvedObject()
        if (
            self._mode == IdMode.COPY
            and resource.found_by == "lookup_key"
            and tree.get("lookup_key")
        ):
            asked = [("lookup_keys[]", str(tree["lookup_key"]))]
            for price in self._objects.list(resource.path, asked):
                if is_deleted(job.record) and job.kind.keys.fits(job.record, price) is False:
                    break  # the key passed on to the copy of another one
                return ResolvedObject(
                    price["id"], "lookup_key", self._read(job, price["id"], tree, fields)
                )
            return ResolvedObject()
        for found in self._stamped(job, tree):
            current = None if found in without else self._read(job, found, tree, fields)
            if (
                current
                and job.kind.keys.fits(job.record, current)
                and not self._of_rival(job, current)
            ):
                return ResolvedObject(found, "stamp", current)
        return ResolvedObject()

    def _stamped(self, job: QueuedRecord, tree: Mapping[str, Tree]) -> Iterable[str]:
        resource, keys = job.kind.resource, job.kind.keys
        if not resource.create:
            return ()
        if resource.within:
            parent = tree.get(resource.within)
            entries = self._objects.entries(resource, str(parent)) if parent else iter(())
            return [e["id"] for e in entries if keys.fits(job.record, e)]
        return self._stamps.of(resource, keys, keys.stamps_for(job.record, job.key))

    def _of_rival(self, job: QueuedRecord, current: JSON) -> bool:
        """Whether an object is known to be that of another key that its stamp may mean as well."""
        others = [key for key in job.kind.keys.rivals(current) if key != job.key]
        return any(self.known(job.stream, key) == current["id"] for key in others)

    def _same_id(self, resource: Resource, key: str) -> str | None:
        """The id itself, if it is there; asked once a run for all that refer to it."""
        if (resource.stream, key) in self._absent:
            return None
        if self._objects.get(resource.path_of(key, {})) is None:
            self._absent.add((resource.stream, key))
            return None
        return key

    # ------------------------------------------------------------------ matches

    def _matched(
        self,
        job: QueuedRecord,
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
        otherwise: ResolvedObject | None = None,
    ) -> ResolvedObject:
        """The object that carries what a record is matched by; `otherwise` where none does."""
        planned = self._ids.get((job.stream, job.key), "")
        if planned.startswith(PLANNED):
            return ResolvedObject(planned)
        wanted = job.kind.keys.match_values(job.record)
        if is_deleted(job.record):
            return self._to_delete(job, wanted, tree, fields, otherwise)
        by = ", ".join(wanted)
        for _ in range(_TRIES):
            if otherwise and otherwise.current is not None:
                ids = self._matches.candidates(job.kind.resource, wanted, tree)
                if otherwise.object_id in ids:
                    return otherwise
            found = self._matches.find(job.kind.resource, wanted, tree)
            if found is None:
                return otherwise or ResolvedObject()
            current = self._read(job, found, tree, fields)
            if current is not None and carries(current, wanted):
                return ResolvedObject(found, by, current)
            self._matches.look_again(job.stream)
        raise UnusableKey(f"`match_by`: what has its {by} changes again and again: try later")

    def _to_delete(
        self,
        job: QueuedRecord,
        wanted: Mapping[str, str],
        tree: Mapping[str, Tree],
        fields: Mapping[str, Any],
        otherwise: ResolvedObject | None,
    ) -> ResolvedObject:
        """The object that a tombstone means by what it is matched by.

        A deletion cannot be undone: it is never a guess. Raises `UnusableKey` where more than one
        object may be meant, whatever `on_several_matches` says.
        """
        row = self._journal.recall(job.stream, [job.key], job.kind.source).get(job.key)
        known = row.object_id if row else None
        if row and known is None:
            return ResolvedObject()
        held = self._read(job, known, tree, fields) if known else None
        if known and (held is None or (row and row.ended)):
            is_it = held is not None and (otherwise or carries(held, wanted))
            return ResolvedObject(known, "journal", held if is_it else None)
        found = self._matches.only(job.kind.resource, wanted, tree)
        if found is None:
            return otherwise or ResolvedObject()
        if known is not None and found != known:
            raise UnusableKey(
                f"`match_by`: {found} has its {' and '.join(wanted)} now, and {known} was written "
                "before: which one the deletion means cannot be told"
            )
        current = held or self._read(job, found, tree, fields)
        self._check_match(job, wanted, current, known=known is not None)
        return ResolvedObject(found, ", ".join(wanted), current)

    def _check_match(
        self, job: QueuedRecord, wanted: Mapping[str, str], current: JSON | None, *, known: bool
    ) -> None:
        """Raise `UnusableKey` if there is a sign that another object is to be deleted."""
        if current is None:
            return
        if not carries(current, wanted):
            raise UnusableKey("`match_by`: what has its values changes meanwhile: try later")
        if job.kind.keys.external and job.kind.keys.fits(job.record, current) is False:
            raise UnusableKey(
                f"`match_by`: {current['id']} carries another key: whether the deletion means it "
                "cannot be told"
            )
        if not known and self._matches.was_deleted(
            job.kind.resource, wanted, besides=[current["id"]]
        ):
            raise UnusableKey(
                f"`match_by`: another one with its {' and '.join(wanted)} was deleted before: "
                f"whether the deletion means that one or {current['id']} cannot be told"
            )

    def is_matched(
        self, resource: Resource, fields: Sequence[str], params: Mapping[str, Tree]
    ) -> bool:
        """Whether an object has what the parameters of a new one would be matched by."""
        values = {name: at_field(params, name) for name in fields}
        if not values or not all(values.values()):
            return False
        wanted = {name: str(value) for name, value in values.items()}
        try:
            return bool(self._matches.candidates(resource, wanted, params))
        except UnusableKey:  # within what cannot be told
            return False

    def note_deletion(self, job: QueuedRecord) -> None:
        """Note that the object was deleted that had what a record is matched by."""
        if job.matched and not self._only_ends(job):
            values = job.kind.keys.match_values(job.record)
            self._matches.note_deletion(job.kind.resource, values, job.matched["object"])

    # ------------------------------------------------------------------ rows of earlier releases

    def take_over(self, stream: str, jobs: Iterable[QueuedRecord]) -> bool:
        """Give keys the rows that an earlier release kept of them, where that is proven.

        Returns whether there were any.
        """
        if self._mode != IdMode.EXTERNAL:
            return False
        mine = {job.key: job for job in jobs if job.kind.keys.properties}
        joined = {text for job in mine.values() for text in _joined_before(job)}
        rows = self._names.older(stream, sorted(joined))
        stamps = self._names.stamps_of(stream, rows) if rows else {}
        taken = False
        for key, job in mine.items():
            for text in _joined_before(job):
                if text in rows and self._proven(job, rows[text], stamps.get(text)):
                    self._names.take_over(stream, text, key)
                    del rows[text]
                    taken = True
                    break
        return taken

    def _proven(self, job: QueuedRecord, object_id: str, stamp: Mapping[str, str] | None) -> bool:
        """Whether a row is of the same properties: by what created the object, or by its stamp."""
        keys, resource = job.kind.keys, job.kind.resource
        if stamp is not None and keys.fits(job.record, {"metadata": stamp}):
            return True
        current = self._retrieved(resource, object_id)
        return current is not None and keys.fits(job.record, current) is True

    def _retrieved(self, resource: Resource, object_id: str) -> JSON | None:
        if resource.within == "invoice":  # Stripe lists lines, and retrieves none
            return None
        return self._objects.get(resource.path_of(object_id, {}))

    # ------------------------------------------------------------------ references

    def resolve(self, resource: Resource, tree: dict[str, Tree]) -> Resolved:
        """Put in the place of each reference the id it has here, in place."""
        resolved = Resolved()
        if self._mode == IdMode.SAME_ACCOUNT:
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
        text = holder[name]
        if is_empty(text) or (stream and not isinstance(text, str)):
            return
        meant = self._meant(stream, text) if stream else {}
        missing = (stream, form_of(text) if self._mode == IdMode.EXTERNAL else shortened(str(text)))
        if len(meant) > 1:
            keys = " or ".join(sorted(meant.values()))
            resolved.ambiguous[missing] = f"its {path} may mean {stream} {keys}"
            if stream in self._declared:
                resolved.refused.append(missing)
        elif (
            self._mode == IdMode.EXTERNAL
            and not meant
            and (not stream or is_stripe_id(stream, text))
        ):
            return
        if len(meant) == 1:
            holder[name] = next(iter(meant))
        elif self._mode == IdMode.COPY and (stream == NOT_COPIED or stream not in COPIED):
            del holder[name]
            resolved.left_out.append(path)
        elif later:
            del holder[name]
            resolved.later.append(missing)
        else:
            resolved.missing.append(missing)

    def named(self, stream: str, text: str) -> str | None:
        """The object that a reference means; None if none is known, or several are."""
        meant = self._meant(stream, text)
        return next(iter(meant)) if len(meant) == 1 else None

    def _meant(self, stream: str, text: str) -> dict[str, str]:
        """The objects that a reference may mean: id → the key, for a message."""
        if self._mode != IdMode.EXTERNAL:
            found = self.known(stream, text)
            if found is None and self._mode == IdMode.COPY and BY_STREAM[stream].found_by == "id":
                found = self._same_id(BY_STREAM[stream], text)
            return {found: text} if found else {}
        found_by_id: dict[str, str] = {}
        for key in self._candidates(stream, text):
            found = self.known(stream, key)
            if found:
                found_by_id.setdefault(found, described(key))
        older = self._of_older(stream, text)
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

    def _of_older(self, stream: str, text: str) -> str | None:
        """The object that an earlier release knew by this text, if the same property is meant."""
        found = self._names.older(stream, [text]).get(text)
        declared = self._declared.get(stream)
        if found is None or declared is None:
            return found
        entry = (stream, text, found)
        if entry not in self._proofs:
            self._proofs[entry] = any(
                _carries_values(stamp, names, text)
                for stamp in self._stamps_of_older(stream, text, found)
                for names in declared
            )
        return found if self._proofs[entry] else None

    def _stamps_of_older(
        self, stream: str, text: str, object_id: str
    ) -> Iterator[Mapping[str, str]]:
        yield self._names.stamps_of(stream, {text: object_id}).get(text) or {}
        current = self._retrieved(BY_STREAM[stream], object_id)
        yield (current or {}).get("metadata") or {}


@dataclass
class Resolved:
    """What became of a record's references."""

    missing: list[RecordRef] = field(default_factory=list)
    later: list[RecordRef] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    ambiguous: dict[RecordRef, str] = field(default_factory=dict)
    """What may mean several: why."""
    refused: list[RecordRef] = field(default_factory=list)
    """Those of `ambiguous` that no record to come can settle."""


def _joined_before(job: QueuedRecord) -> list[str]:
    """A record's key as releases up to cb5f45d had it: as it came, or as equal numbers are now."""
    values = job.kind.keys.values(job.record) or {}
    came = "|".join(str(job.record[name]) for name in values)
    return list(dict.fromkeys([came, "|".join(map(text_of, values.values()))]))


def _carries_values(stamp: Mapping[str, str], names: Sequence[str], text: str) -> bool:
    held = [stamp.get(name) for name in names]
    return all(held) and sorted(map(str, held)) == sorted(text.split("|"))


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
