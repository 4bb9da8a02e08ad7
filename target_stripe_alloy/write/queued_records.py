"""A record on its way: whose it is, and what it says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.record_columns import ADDED
from target_stripe_alloy.params_tree import InvalidRecord, unix_seconds_of
from target_stripe_alloy.plan.record_keys import RecordKey, canonical, shortened
from target_stripe_alloy.rejects import RecordOrigin
from target_stripe_alloy.resources import ACTION, OCCASION, Resource
from target_stripe_alloy.write.journal import RecordPosition

ADDED_FIELDS = frozenset(ADDED)

SDC = "_sdc_"
DELETED_AT = "_sdc_deleted_at"
_FIRST_DELETION = 1_293_840_000
"""Unix seconds of 2011-01-01, the year in which Stripe began: nothing was deleted before, and what
stands for NULL in many programs (1899, 1900, 1970, 2000) is earlier, in any time zone."""
_CLOCKS_DIFFER = 86_400
"""Seconds by which a clock may go fast: what is deleted later is not deleted."""


@dataclass(frozen=True)
class IncomingStream:
    """A stream as it comes in: what it holds, and how its records are identified."""

    resource: Resource
    keys: RecordKey
    whole: bool
    """Whether `metadata` comes whole: its schema names no keys."""
    source: str = ""
    """The stream's name before stream maps."""
    key_properties: tuple[str, ...] = ()
    """Those of its SCHEMA; of a record that is replayed none are known but those of `keys`."""

    def missing_keys(self, record: Mapping[str, Any]) -> list[str]:
        """Return the key properties that a record lacks; none if `match_by` may do without."""
        if self.keys.match:
            return []
        return [key for key in self.key_properties if key not in record]


@dataclass
class QueuedRecord:
    """A record on its way."""

    kind: IncomingStream
    key: str
    record: Mapping[str, Any]
    number: int
    digest: bytes
    label: str = ""
    """Its key for eyes."""
    size: int = 0
    """Bytes of the record as JSON."""
    place: int | None = None
    """Its place in the file of rejects that it is replayed from."""
    position: RecordPosition | None = None
    """When it came first, if it is replayed."""
    done: str = ""
    """What became of it so far, while it waits for a reference that comes later."""
    matched: Mapping[str, str] | None = None
    """How its object was found: `{"by": "email", "object": "cus_…"}`."""

    sent: bool = False
    """Whether a request was sent for it."""
    occurrence: int = 0
    """How often the same record, with an action, came before in this run."""
    retried: set[tuple[str, str]] = field(default_factory=set)
    """What it refers to that came already, and was not what it means."""

    def __post_init__(self) -> None:
        self.label = self.label or self.key

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.kind.resource.stream

    def origin(self, run: int) -> RecordOrigin:
        """Return where the record comes from; `run` is the number of this run."""
        return RecordOrigin(
            self.kind.source,
            self.kind.keys.properties,
            self.kind.whole,
            self.position or (run, self.number),
            self.place,
        )

    @property
    def line(self) -> str:
        """Names the records that are of one key: they are written in the order they came."""
        return f"{self.stream} {self.key}"

    def locks(self) -> list[str]:
        """Return what Stripe locks for a write: the object, and what it belongs to."""
        names = [self.key, f"{self.stream} {self.label}"]  # text "7" and number 7 look alike
        for name in self.kind.resource.lane.split():
            owner = self.record.get(name)
            if isinstance(owner, dict):
                owner = owner.get("id")
            if owner:
                names.append(shortened(str(owner)))
        return list(dict.fromkeys([*names, *filter(None, [self.match])]))

    @property
    def match(self) -> str:
        """What records with the same `match_by` values share: they mean one object."""
        values = self.kind.keys.match_values(self.record, present=True)
        return canonical(values) if values else ""

    def own_fields(self) -> dict[str, Any]:
        """The record without what taps and the SDK add, and without the user's own key.

        Key properties that Stripe takes as parameters are sent: a refund's `charge`.
        A table has a column for fields that Stripe only sends when they are expanded: null there
        says that they were not.
        """
        keys, params = self.kind.keys, self.kind.resource.shape.fields or {}
        own: set[str] = set()
        if keys.by_match(self.record):
            own = {"id"}
        elif keys.external:
            own = {name for name in keys.properties if name not in params}
        out = ADDED_FIELDS | own
        unasked = self.kind.resource.on_request
        return {
            name: value
            for name, value in self.record.items()
            if name not in out and not name.startswith(SDC) and name not in (ACTION, OCCASION)
            if value is not None or name not in unasked
        }


def is_deleted(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a tombstone: `deleted: true`, or a `_sdc_deleted_at` that is a time.

    What CSV files hold for NULL and false makes none. Raises `InvalidRecord` for anything else,
    since deleting what was not meant cannot be undone.
    """
    deleted, when = record.get("deleted"), record.get(DELETED_AT)
    if not _says_no(deleted) and deleted is not True:
        raise InvalidRecord("deleted: must be true or false")
    if not _says_no(when) and not _is_moment(when):
        raise InvalidRecord(f"{DELETED_AT}: must be the time of the deletion, or nothing")
    return deleted is True or not _says_no(when)


def _says_no(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str) and value in ("", "false"))


def _is_moment(value: Any) -> bool:
    """Tell whether a value is a time at which something may have been deleted.

    That excludes days that many programs write for NULL, what is still to come, and numbers that
    are truth values, or milliseconds.
    """
    try:
        seconds = unix_seconds_of(value)
    except ValueError:
        return False
    return _FIRST_DELETION < seconds < time.time() + _CLOCKS_DIFFER


def action_of(record: Mapping[str, Any]) -> str | None:
    """Return the action that a record asks for, None for none; raises `InvalidRecord`."""
    action = record.get(ACTION)
    if action is None or action == "":
        return None
    if not isinstance(action, str):
        raise InvalidRecord(f"{ACTION}: must be the name of an action")
    return action
