"""Stripe object → Singer record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache, partial
from typing import Any

from tap_stripe_alloy.records.fitting import fit, is_date_time
from tap_stripe_alloy.records.stream_schemas import ADDED, Schema
from tap_stripe_alloy.records.tombstones import Tombstone, last_known

Object = dict[str, Any]
Record = dict[str, Any]

DAY = 86_400
LAST = 253_402_300_799
"""The last second of the year 9999, in Unix seconds: RFC 3339 has no later one."""
INT64 = (1 << 63) - 1
_NO_SUCH_TIME = (OverflowError, ValueError, OSError)
OPEN_FIELDS = frozenset({"total_count"})
"""Fields that Stripe sends in any list and its package does not type."""


def rfc3339(unix: int) -> str:
    """Unix seconds as RFC 3339 in UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00Z'
    """
    day, second = divmod(unix, DAY)
    return _date(day) + _time_of_day(second)


@lru_cache(maxsize=1 << 14)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, timezone.utc).date().isoformat()


@lru_cache(maxsize=DAY)
def _time_of_day(second: int) -> str:
    return f"T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def moment(value: Any) -> int | None:
    """A time of Stripe's (Unix seconds) if it can be one that something happened at."""
    return value if type(value) is int and 0 <= value <= LAST else None


def _rfc3339_if_possible(unix: int) -> str | int:
    try:
        return rfc3339(unix)
    except _NO_SUCH_TIME:
        return unix


def unix_seconds(text: str) -> int:
    """RFC 3339 as Unix seconds; a time without zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp())


@dataclass(frozen=True)
class Times:
    """Where an object holds times, and which of its fields lead to more."""

    here: tuple[str, ...]
    below: Mapping[str, Times]

    def convert(self, value: Any, text: Callable[[int], str | int] = rfc3339) -> None:
        """Turn Unix seconds into RFC 3339, in place; what is no integer stays.

        Raises OverflowError, ValueError or OSError on a time that has no such text.
        """
        if isinstance(value, list):
            for item in value:
                self.convert(item, text)
        elif isinstance(value, dict):
            for key in self.here:
                unix = value.get(key)
                if type(unix) is int:
                    value[key] = text(unix)
            # Whichever is shorter: a payment method's details name fifty kinds and hold one.
            for key in self.below if len(self.below) < len(value) else value:
                times = self.below.get(key)
                if times and (inner := value.get(key)):
                    times.convert(inner, text)


def times_of(schema: Schema) -> Times:
    """Where the objects of a schema hold times; lists are walked through."""
    properties = schema.get("properties") or schema.get("items", {}).get("properties", {})
    here = tuple(key for key, value in properties.items() if value.get("format") == "date-time")
    deeper = {key: times_of(value) for key, value in properties.items() if key not in here}
    return Times(here, {key: times for key, times in deeper.items() if times.here or times.below})


class Recorder:
    """Makes one stream's records of one account."""

    def __init__(
        self,
        schema: Schema,
        *,
        account_id: str | None,
        unix: bool,
        misfit: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._misfit = misfit
        self._integers = [
            name for name, of in schema["properties"].items() if "integer" in of.get("type", ())
        ]
        self._account_id = account_id
        self._time: Callable[[int], str | int] = int if unix else rfc3339
        self._times = Times((), {}) if unix else times_of(schema)
        self._schema = schema

    def time(self, unix: int) -> str | int:
        """A time (Unix seconds) as records hold it."""
        return self._time(unix)

    def record(self, source: Object, updated: int) -> Record:
        """The record of an object that was as it is at `updated` (Unix seconds).

        The object's nested values are shared with the record and converted in place.
        """
        record: Record = {**source, "updated": self._time(updated), "deleted": False}
        record["_account_id"] = self._account_id
        try:
            self._times.convert(record)
        except _NO_SUCH_TIME:
            return self._fitting(record)
        created = source.get("created")
        odd = created.__class__ is not int and created is not None and not is_date_time(created)
        if odd or any(
            value.__class__ is int and not -INT64 <= value <= INT64
            for value in map(record.get, self._integers)
        ):
            return self._fitting(record)
        return record

    def _fitting(self, record: Record) -> Record:
        """The record without values that its schema, and so a target, has no place for."""
        self._times.convert(record, _rfc3339_if_possible)
        fitted: Record = fit(record, self._schema, self._misfit)
        return fitted

    def tombstone(
        self, source_id: str, object_name: str, deleted_at: int, last: Object | None = None
    ) -> Tombstone:
        """The record of an object that is gone since `deleted_at` (Unix seconds).

        `last` is the object as an event last had it; its values stay as they are.
        """
        when = self._time(deleted_at)
        convert = partial(self._times.convert, text=_rfc3339_if_possible)
        record = last_known(last or {}, self._schema, convert)
        record.update(
            {
                "id": source_id,
                "object": object_name,
                "updated": when,
                "deleted": True,
                "_account_id": self._account_id,
                "_sdc_deleted_at": when,
            }
        )
        record.unknown -= {"id", "object", *ADDED}
        return record


def surprises(value: Any, schema: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, what) of each field that the schema does not know or says is never null."""
    properties: Mapping[str, Schema] | None = schema.get("properties")
    if isinstance(value, list):
        for item in value:
            yield from surprises(item, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and properties:
        for key, inner in value.items():
            here = f"{path}.{key}" if path else key
            if key in properties:
                yield from _null(inner, properties[key], here)
                yield from surprises(inner, properties[key], here)
            elif key not in OPEN_FIELDS:
                yield here, "is new"


def _null(value: Any, schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    if value is None and "null" not in schema.get("type", "null"):
        yield path, "is null"
