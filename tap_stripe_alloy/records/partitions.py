"""What comes out of an object for the streams that take part in a pass over a list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.events import RETENTION
from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import moment
from tap_stripe_alloy.records.conversion import Record, Recorder

if TYPE_CHECKING:
    from tap_stripe_alloy.bookmarks import Bookmark
    from tap_stripe_alloy.records.pass_through import PassThroughDecoder
    from tap_stripe_alloy.records.table_versions import TableVersion
    from tap_stripe_alloy.stream import StripeStream


@dataclass(frozen=True)
class StreamPartition:
    """One stream of one account: where its records go and where its bookmark stands."""

    stream: StripeStream
    account: str | None
    """The account to read; None for the one that the key belongs to."""
    account_id: str | None
    """What records have in `_account_id`: the account's id, where it is known."""
    recorder: Recorder
    bookmark: Bookmark
    version: TableVersion
    passes_through: bool = False
    """Whether records may be made of whole pages: nothing has to look at their objects."""
    created_before: int = 0
    """Leave out what was created since (Unix seconds); 0 for nothing."""

    def decoder(self) -> PassThroughDecoder | None:
        """What makes records of whole pages, if anything may; most runs list nothing."""
        return self.stream.decoder.of(self.account_id) if self.passes_through else None


RETENTION_MARGIN = 86_400
"""Seconds before Stripe drops an event at which it counts as gone."""

PartitionRecords = list[tuple[StreamPartition, Record]]


def names_of(outputs: Iterable[StreamPartition]) -> list[str]:
    """The names of the partitions' streams."""
    return [output.stream.name for output in outputs]


def kept_from(now: float) -> float:
    """From when on Stripe surely keeps events (Unix seconds of its clock, as `now` is)."""
    return now - RETENTION + RETENTION_MARGIN


def too_old(outputs: Iterable[StreamPartition], now: float) -> list[StreamPartition]:
    """The partitions whose changes Stripe no longer keeps at `now` (Unix seconds of its clock)."""
    since = kept_from(now)
    return [
        output
        for output in outputs
        if output.stream.object_type.has_events
        and output.stream.replication_method != "FULL_TABLE"
        and output.bookmark.changes_from < since
    ]


def changed_at(source: JSON) -> int:
    """When an object last changed as far as its own fields tell, in Unix seconds; 0 if none do."""
    return moment(source.get("updated")) or moment(source.get("created")) or 0


def children_of(source: JSON, output: StreamPartition) -> list[JSON]:
    """The nested objects that a child stream is made of; the object itself for its own stream."""
    field = output.stream.object_type.parent_field
    if field is None:
        return [source]
    nested: dict[str, Any] = source.get(field) or {}
    children: list[JSON] = nested.get("data") or []
    return children


def group_by_partition(written: PartitionRecords) -> list[tuple[StreamPartition, list[Record]]]:
    """Each output with its records, in the order in which they come."""
    found: dict[int, tuple[StreamPartition, list[Record]]] = {}
    for output, record in written:
        found.setdefault(id(output), (output, []))[1].append(record)
    return list(found.values())


def records_of(
    source: JSON, outputs: Iterable[StreamPartition], at: int | None = None
) -> PartitionRecords:
    """The records of an object and its children; `at`: when it changed, if anything tells."""
    own = changed_at(source)
    rows = [
        (output, row, at or (own if row is source else max(own, moment(row.get("created")) or 0)))
        for output in outputs
        if not output.created_before or (moment(source.get("created")) or 0) < output.created_before
        for row in children_of(source, output)
        if row.get("id") or output.stream.leave_out_without_id()
    ]
    # All times are read before the first record is made: making one converts nested times.
    return [(output, output.recorder.record(row, updated)) for output, row, updated in rows]
