"""A queued record, and its input stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.api.timestamps import DAY
from stripe_alloy.record_columns import ADDED
from target_stripe_alloy.params_tree import InvalidRecord, unix_seconds_of
from target_stripe_alloy.plan.plan_types import Outcome
from target_stripe_alloy.plan.record_keys import (
    RecordKey,
    canonical,
    shortened,
    text_of,
    value_of,
)
from target_stripe_alloy.resources import ACTION, OCCASION, Resource
from target_stripe_alloy.write.journal import RecordPosition

ADDED_FIELDS = frozenset(ADDED)

SDC = "_sdc_"
DELETED_AT = "_sdc_deleted_at"
_FIRST_DELETION = 1_293_840_000
"""Unix seconds of 2011-01-01, the year in which Stripe began: nothing was deleted before, and what
stands for NULL in many programs (1899, 1900, 1970, 2000) is earlier, in any time zone."""
_MAX_CLOCK_SKEW = DAY
"""Seconds by which a clock may be fast: a later time of deletion is not taken for one."""


@dataclass(frozen=True)
class IncomingStream:
    """A stream of the input: the type of its objects, and the key of its records."""

    resource: Resource
    keys: RecordKey
    metadata_complete: bool
    """Whether `metadata` has all keys: its schema names none."""
    source: str = ""
    """The stream's name before stream maps."""
    key_properties: tuple[str, ...] = ()
    """Those of its SCHEMA; of a replayed record only those of `keys` are known."""

    def missing_keys(self, record: Mapping[str, Any]) -> list[str]:
        """Return the key properties that a record lacks; none if `match_by` can do without them."""
        if self.keys.match:
            return []
        return [key for key in self.key_properties if key not in record]


@dataclass
class QueuedRecord:
    """A record to be written, and what was done for it so far."""

    incoming: IncomingStream
    key: str
    record: Mapping[str, Any]
    number: int
    digest: bytes
    label: str = ""
    """Its key, for messages."""
    size: int = 0
    """Bytes of the record as JSON."""
    reject_index: int | None = None
    """The number of its line in the rejects file, from 0, if it is replayed."""
    position: RecordPosition | None = None
    """When it was first received, if it is replayed."""
    outcome: Outcome | None = None
    """The outcome of the requests so far, while references or an action are missing."""
    matched: Mapping[str, str] | None = None
    """How its object was found: `{"by": "email", "object": "cus_…"}`."""

    sent: bool = False
    """Whether a request was sent for it."""
    occurrence: int = 0
    """How often the same record, with an action, was received before in this run."""
    retried: set[tuple[str, str]] = field(default_factory=set)
    """References for which it was begun again already."""

    def __post_init__(self) -> None:
        self.label = self.label or self.key

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.incoming.resource.stream

    @property
    def resource(self) -> Resource:
        """The type of its object."""
        return self.incoming.resource

    @property
    def keys(self) -> RecordKey:
        """How it is identified."""
        return self.incoming.keys

    def position_in(self, run: int) -> RecordPosition:
        """Return when the record was first received; `run` is the number of this run."""
        return self.position or (run, self.number)

    @property
    def order_key(self) -> str:
        """What the records of one key share: they are written in the order of the input."""
        return f"{self.stream} {self.key}"

    def locks(self) -> list[str]:
        """Return names of what Stripe locks during a write: the object, and its parent."""
        names = [self.key, f"{self.stream} {self.label}"]  # text "7" and number 7 look alike
        for name in self.resource.lock_fields.split():
            parent = self.record.get(name)
            if isinstance(parent, dict):
                parent = parent.get("id")
            if parent:
                names.append(shortened(str(parent)))
        return list(dict.fromkeys([*names, *filter(None, [self.match_key])]))

    @property
    def match_key(self) -> str:
        """What records with the same `match_by` values share: they have one object."""
        values = self.keys.match_values(self.record, present=True)
        return canonical(values) if values else ""

    def fields_to_write(self) -> dict[str, Any]:
        """Return the record without what taps and the SDK add, and without the user's own key.

        Key properties that Stripe takes as parameters stay: a refund's `charge`. Warehouse tables
        have columns for expand-only fields: a null there means that the field was not expanded.
        """
        resource, keys = self.resource, self.keys
        params = resource.shape.fields or {}
        key_fields: set[str] = set()
        if keys.by_match(self.record):
            key_fields = {"id"}
        elif keys.external:
            key_fields = {name for name in keys.properties if name not in params}
        out = ADDED_FIELDS | key_fields
        return {
            name: value
            for name, value in self.record.items()
            if name not in out and not name.startswith(SDC) and name not in (ACTION, OCCASION)
            if value is not None or name not in resource.expand_only
        }


def is_deleted(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a tombstone: `deleted: true`, or a `_sdc_deleted_at` that is a time.

    What CSV files hold for NULL and false makes none. Raises `InvalidRecord` for anything else,
    since deleting what was not meant cannot be undone.
    """
    deleted, when = record.get("deleted"), record.get(DELETED_AT)
    if not _is_false(deleted) and deleted is not True:
        raise InvalidRecord("deleted: must be true or false")
    if not _is_false(when) and not _is_moment(when):
        raise InvalidRecord(f"{DELETED_AT}: must be the time of the deletion, or nothing")
    return deleted is True or not _is_false(when)


def _is_false(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str) and value in ("", "false"))


def _is_moment(value: Any) -> bool:
    """Tell whether a value is a time at which something may have been deleted.

    That excludes days that many programs write for NULL, future times, booleans, and numbers of
    milliseconds.
    """
    try:
        seconds = unix_seconds_of(value)
    except ValueError:
        return False
    return _FIRST_DELETION < seconds < time.time() + _MAX_CLOCK_SKEW


def action_of(record: Mapping[str, Any]) -> str | None:
    """Return the action that a record asks for, None for none; raises `InvalidRecord`."""
    action = record.get(ACTION)
    if action is None or action == "":
        return None
    if not isinstance(action, str):
        raise InvalidRecord(f"{ACTION}: must be the name of an action")
    return action


def occasion_of(record: Mapping[str, Any]) -> str:
    """Return what tells an action from the same one before, as text: equal numbers are one."""
    value = record.get(OCCASION)
    return "" if value is None or value == "" else text_of(value_of(OCCASION, value))
