"""Stream partitions, and the records that an object yields for each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.events import RETENTION
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.list_endpoint import CHILDREN
from stripe_alloy.api.timestamps import DAY, moment
from tap_stripe_alloy.records.conversion import Record, Recorder

if TYPE_CHECKING:
    from tap_stripe_alloy.bookmarks import Bookmark
    from tap_stripe_alloy.records.pass_through import PassThroughDecoder
    from tap_stripe_alloy.records.table_versions import TableVersion
    from tap_stripe_alloy.stream import StripeStream


@dataclass(frozen=True)
class StreamPartition:
    """A stream of one account, with its recorder, bookmark and table version."""

    stream: StripeStream
    account: str | None
    """The account to read; None for the account that the key belongs to."""
    account_id: str | None
    """The value of `_account_id` in records; None if the account's id is unknown."""
    recorder: Recorder
    bookmark: Bookmark
    version: TableVersion
    passes_through: bool = False
    """Whether pages may be written without decoding every object."""
    created_before: int = 0
    """Leave out objects created at or after this time (Unix seconds); 0 for none."""

    def decoder(self) -> PassThroughDecoder | None:
        """Return the decoder of pages, or None if they must not be passed through.

        Created on demand: most runs list nothing.
        """
        return self.stream.decoder.of(self.account_id) if self.passes_through else None


RETENTION_MARGIN = DAY
"""Treat events this close (seconds) to the end of Stripe's retention as expired."""

PartitionRecords = list[tuple[StreamPartition, Record]]


def names_of(partitions: Iterable[StreamPartition]) -> list[str]:
    """Return the stream names of partitions."""
    return [partition.stream.name for partition in partitions]


def kept_from(now: float) -> float:
    """Return the oldest time of which Stripe surely has events; `now` and result are Stripe's time.

    Both in Unix seconds.
    """
    return now - RETENTION + RETENTION_MARGIN


def too_old(partitions: Iterable[StreamPartition], now: float) -> list[StreamPartition]:
    """Return the partitions that need events older than Stripe keeps.

    `now` is Stripe's time (Unix seconds).
    """
    since = kept_from(now)
    return [
        partition
        for partition in partitions
        if partition.stream.object_type.has_events
        and partition.stream.replication_method != "FULL_TABLE"
        and partition.bookmark.changes_from < since
    ]


def changed_at(source: JSON) -> int:
    """Return `updated` or else `created` of an object (Unix seconds); 0 if it has neither."""
    return moment(source.get("updated")) or created_at(source) or 0


def created_at(source: JSON) -> int | None:
    """Return `created` of an object (Unix seconds), which invoice items call `date`."""
    return moment(source.get("created", source.get("date")))


def children_of(source: JSON, partition: StreamPartition) -> list[JSON]:
    """Return the children in a parent; for an object of the stream's own type, the object."""
    declared = partition.stream.object_type
    if declared.parent is None or source.get("object") == declared.object_name:
        return [source]
    nested: dict[str, Any] = source.get(declared.parent_field or CHILDREN) or {}
    children: list[JSON] = nested.get("data") or []
    column = declared.parent_column
    return [{**child, column: source["id"]} for child in children] if column else children


def group_by_partition(records: PartitionRecords) -> list[tuple[StreamPartition, list[Record]]]:
    """Return each partition with its records, in the order of the input."""
    found: dict[int, tuple[StreamPartition, list[Record]]] = {}
    for partition, record in records:
        found.setdefault(id(partition), (partition, []))[1].append(record)
    return list(found.values())


def records_of(
    source: JSON, partitions: Iterable[StreamPartition], at: int | None = None
) -> PartitionRecords:
    """Return the records of an object and its children, per partition.

    `at` is the time of this version (Unix seconds); None to use the times in the objects.
    """
    changed = changed_at(source)
    rows = [
        (
            partition,
            row,
            at or (changed if row is source else max(changed, moment(row.get("created")) or 0)),
        )
        for partition in partitions
        if not partition.created_before
        or (moment(source.get("created")) or 0) < partition.created_before
        for row in children_of(source, partition)
        if row.get("id") or partition.stream.leave_out_without_id()
    ]
    # Read all times before creating the first record: that converts nested times in place.
    return [
        (partition, partition.recorder.record(row, updated)) for partition, row, updated in rows
    ]
