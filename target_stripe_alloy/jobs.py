"""A record on its way: whose it is, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tap_stripe_alloy.shape import ADDED
from target_stripe_alloy.record_keys import Keys, canonical
from target_stripe_alloy.resources import ACTION, OCCASION, Resource

ADDED_FIELDS = frozenset(ADDED)

SDC = "_sdc_"


@dataclass(frozen=True)
class StreamKind:
    """A stream as it comes in: what it holds, and how its records are identified."""

    resource: Resource
    keys: Keys
    whole: bool
    """Whether `metadata` comes whole: its schema names no keys."""
    source: str = ""
    """The stream's name before stream maps."""


@dataclass
class Job:
    """A record on its way."""

    kind: StreamKind
    key: str
    record: Mapping[str, Any]
    number: int
    digest: bytes
    label: str = ""
    """Its key for eyes."""
    size: int = 0
    """Bytes of the record as JSON."""
    done: str = ""
    """What became of it so far, while it waits for a reference that comes later."""
    matched: Mapping[str, str] | None = None
    """How its object was found: `{"by": "email", "object": "cus_…"}`."""

    retried: set[tuple[str, str]] = field(default_factory=set)
    """What it refers to that came already, and was not what it means."""

    def __post_init__(self) -> None:
        self.label = self.label or self.key

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.kind.resource.stream

    @property
    def line(self) -> str:
        """Names the records that are of one key: they are written in the order they came."""
        return f"{self.stream} {self.key}"

    def locks(self) -> list[str]:
        """Return what Stripe locks for a write: the object, and what it belongs to."""
        names = [self.key]
        for name in self.kind.resource.lane.split():
            owner = self.record.get(name)
            if isinstance(owner, dict):
                owner = owner.get("id")
            if owner:
                names.append(str(owner))
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
        elif keys.properties != ("id",):
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
    """Whether a record is a tombstone."""
    return record.get("deleted") is True or record.get("_sdc_deleted_at") is not None
