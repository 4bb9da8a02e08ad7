"""A record on its way: whose it is, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tap_stripe_alloy.shape import ADDED
from target_stripe_alloy.identity import Keys
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
    size: int = 0
    """Bytes of the record as JSON."""
    done: str = ""
    """What became of it so far, while it waits for a reference that comes later."""

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
        return list(dict.fromkeys(names))

    def own_fields(self) -> dict[str, Any]:
        """The record without what taps and the SDK add, and without the user's own key.

        A table has a column for fields that Stripe only sends when they are expanded: null there
        says that they were not.
        """
        keys = self.kind.keys.properties
        out = ADDED_FIELDS if keys == ("id",) else ADDED_FIELDS.union(keys)
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
