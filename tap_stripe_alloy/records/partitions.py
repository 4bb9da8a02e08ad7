"""What comes out of an object for the streams that take part in a pass over a list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    recorder: Recorder
    bookmark: Bookmark
    version: TableVersion
    account_id: str | None = None
    """What records have in `_account_id`."""
    passes_through: bool = False
    """Whether records may be made of whole pages: nothing has to look at their objects."""
    created_before: int = 0
    """Leave out what was created since (Unix seconds); 0 for nothing."""

    def decoder(self) -> PassThroughDecoder | None:
        """What makes records of whole pages, if anything may; most runs list nothing."""
        return self.stream.decoder.of(self.account_id) if self.passes_through else None


PartitionRecords = list[tuple[StreamPartition, Record]]


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
