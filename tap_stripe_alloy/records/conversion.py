"""Converts Stripe objects to Singer records."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.schemas import Schema
from stripe_alloy.api.timestamps import NO_SUCH_TIME, rfc3339, rfc3339_if_possible
from stripe_alloy.record_columns import ADDED
from tap_stripe_alloy.records.fitting import fit, is_date_time
from tap_stripe_alloy.records.tombstones import Tombstone, last_known

Record = dict[str, Any]

INT64 = (1 << 63) - 1
UNTYPED_FIELDS = frozenset({"total_count"})
"""Fields that Stripe may send in any list, although its Python package has no type for them."""


@dataclass(frozen=True)
class TimestampPaths:
    """Timestamp fields of an object, and of the objects nested in it."""

    fields: tuple[str, ...]
    nested: Mapping[str, TimestampPaths]

    def convert(self, value: Any, text: Callable[[int], str | int] = rfc3339) -> None:
        """Convert Unix seconds to RFC 3339, in place; values other than integers stay.

        Raises OverflowError, ValueError or OSError for a time that RFC 3339 cannot express.
        """
        if isinstance(value, list):
            for item in value:
                self.convert(item, text)
        elif isinstance(value, dict):
            for key in self.fields:
                unix = value.get(key)
                if type(unix) is int:
                    value[key] = text(unix)
            # The smaller side: `payment_method_details` has fifty possible keys and one value.
            for key in self.nested if len(self.nested) < len(value) else value:
                times = self.nested.get(key)
                if times and (inner := value.get(key)):
                    times.convert(inner, text)


def times_of(schema: Schema) -> TimestampPaths:
    """Return the timestamp fields in a schema; those of list items count as the list's."""
    properties = schema.get("properties") or schema.get("items", {}).get("properties", {})
    fields = tuple(key for key, value in properties.items() if value.get("format") == "date-time")
    deeper = {key: times_of(value) for key, value in properties.items() if key not in fields}
    return TimestampPaths(
        fields, {key: times for key, times in deeper.items() if times.fields or times.nested}
    )


class Recorder:
    """Converts objects to records, for one stream and account."""

    def __init__(
        self,
        schema: Schema,
        *,
        account_id: str | None,
        unix: bool,
        misfit: Callable[[str], None] = lambda _: None,
        in_shape: Callable[[JSON], JSON] | None = None,
    ) -> None:
        self._misfit = misfit
        self._in_shape = in_shape
        """Gives a record the shape of the pinned version, in place."""
        self._integers = [
            name for name, of in schema["properties"].items() if "integer" in of.get("type", ())
        ]
        self.account_id = account_id
        self._time: Callable[[int], str | int] = int if unix else rfc3339
        self._times = TimestampPaths((), {}) if unix else times_of(schema)
        self._schema = schema

    def of(self, account_id: str | None) -> Recorder:
        """Return a recorder of the same stream for another account."""
        other = copy.copy(self)
        other.account_id = account_id
        return other

    def time(self, unix: int) -> str | int:
        """Return a time (Unix seconds) in the format of the records."""
        return self._time(unix)

    def record(self, source: JSON, updated: int) -> Record:
        """Convert an object to a record; `updated` is the time of this version (Unix seconds).

        The object's nested values are shared with the record and converted in place.
        """
        record: Record = {**source, "updated": self._time(updated), "deleted": False}
        record["_account_id"] = self.account_id
        if self._in_shape:
            record = self._in_shape(record)
        try:
            self._times.convert(record)
        except NO_SUCH_TIME:
            return self._fitting(record)
        created = source.get("created")
        invalid = created.__class__ is not int and created is not None and not is_date_time(created)
        if invalid or any(
            value.__class__ is int and not -INT64 <= value <= INT64
            for value in map(record.get, self._integers)
        ):
            return self._fitting(record)
        return record

    def _fitting(self, record: Record) -> Record:
        """Return the record with null for values that do not fit the schema, and so a target."""
        self._times.convert(record, rfc3339_if_possible)
        fitted: Record = fit(record, self._schema, self._misfit)
        return fitted

    def tombstone(
        self, source_id: str, object_name: str, deleted_at: int, last: JSON | None = None
    ) -> Tombstone:
        """Return the tombstone of an object that was deleted at `deleted_at` (Unix seconds).

        `last` is the object as in its last event; it is not modified.
        """
        when = self._time(deleted_at)
        convert = partial(self._times.convert, text=rfc3339_if_possible)
        record = last_known(last or {}, self._schema, convert)
        record.update(
            {
                "id": source_id,
                "object": object_name,
                "updated": when,
                "deleted": True,
                "_account_id": self.account_id,
                "_sdc_deleted_at": when,
            }
        )
        record.unknown -= {"id", "object", *ADDED}
        return record


def schema_violations(value: Any, schema: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, "is new" or "is null") per field that is unknown or null against the schema."""
    properties: Mapping[str, Schema] | None = schema.get("properties")
    if isinstance(value, list):
        for item in value:
            yield from schema_violations(item, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and properties:
        for key, inner in value.items():
            fields = f"{path}.{key}" if path else key
            if key in properties:
                yield from _null(inner, properties[key], fields)
                yield from schema_violations(inner, properties[key], fields)
            elif key not in UNTYPED_FIELDS:
                yield fields, "is new"


def _null(value: Any, schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    if value is None and "null" not in schema.get("type", "null"):
        yield path, "is null"
