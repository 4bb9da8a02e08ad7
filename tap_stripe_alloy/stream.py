"""The Singer stream of an object type: schema, primary key and RECORD messages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import singer_sdk.singerlib as singer
from singer_sdk import Stream, Tap
from singer_sdk.helpers._util import utc_now
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import SameRecordTransform
from typing_extensions import override

from stripe_alloy.api.events import EVENT, in_shape
from stripe_alloy.api.list_endpoint import CHILDREN, ListEndpoint
from stripe_alloy.api.object_type import ObjectType
from stripe_alloy.api.schemas import nested_lists
from stripe_alloy.record_columns import ADDED
from stripe_alloy.stream_maps import transformed
from tap_stripe_alloy.records.conversion import Record, Recorder, schema_violations
from tap_stripe_alloy.records.pass_through import EVENT_SHAPE, PassThroughDecoder
from tap_stripe_alloy.records.stream_schemas import stream_schema, with_nulls
from tap_stripe_alloy.records.tombstones import Tombstone, let_through
from tap_stripe_alloy.row_settings import Shape, digest_of_maps, key_for
from tap_stripe_alloy.settings import ALL_ACCOUNTS

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context
    from singer_sdk.mapper import StreamMap

    from tap_stripe_alloy.records.singer_writer import BufferedWriter
    from tap_stripe_alloy.settings import Settings


INSPECTED = 200
"""Records per stream to validate against the schema; of later ones, one per batch."""

Deselected = dict[str, "Deselected | None"]
"""Tree of deselected properties; None marks one that is deselected with all its fields."""


class StreamOwner(Tap):
    """The part of the tap that streams use."""

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Return the validated settings."""

    @property
    @abstractmethod
    def writer(self) -> BufferedWriter:
        """Return the writer of Singer messages."""

    @abstractmethod
    def stream_of(self, object_type: ObjectType) -> StripeStream:
        """Return this tap's stream of an object type."""

    @abstractmethod
    def read_alone(self, stream: StripeStream) -> Iterator[Record]:
        """Yield one stream's records, for the SDK's sync loop."""

    @abstractmethod
    def flush(self) -> None:
        """Flush buffered messages to stdout."""


class StripeStream(Stream):
    """The stream of an object type."""

    primary_keys: Sequence[str] = ("id",)
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # it would drop new fields of Stripe

    def __init__(self, tap: StreamOwner, object_type: ObjectType) -> None:
        self.object_type = object_type
        self.settings = tap.settings
        self.expand = tuple(self.settings.expand.get(object_type.name, ()))
        """Paths to expand in the stream's objects."""
        schema = stream_schema(object_type.name, expand=self.expand, unix=tap.settings.unix_times)
        if self.settings.account_ids:
            schema["properties"]["_account_id"]["type"] = "string"
        self._documented = schema
        key = self.key_given({})
        never_null = {*key, object_type.replication_key, "object", *ADDED}
        self.selected_by_default = object_type.selected_by_default
        super().__init__(tap, schema=with_nulls(schema, never_null), name=object_type.name)
        self.primary_keys = key
        self.replication_key = object_type.replication_key
        self.tap = tap
        self._inspected = 0
        self._warned: set[tuple[str, str]] = set()

    def key_given(self, state: Mapping[str, Any]) -> list[str]:
        """Return the key properties for the configured accounts and the stream's state."""
        accounts = self.settings.account_ids
        named = [account for account in accounts if account != ALL_ACCOUNTS]
        return list(key_for(named, state, every=ALL_ACCOUNTS in accounts))

    def identify_by(self, key: Sequence[str]) -> None:
        """Take other key properties; they are selected, whatever a catalog says."""
        self.primary_keys = key
        for column in key:
            marks = self.metadata.get(("properties", column))
            if marks is not None:
                marks.inclusion = singer.Metadata.InclusionType.AUTOMATIC
        self._mask = None
        self.__dict__.pop("deselected", None)

    @property
    def root(self) -> StripeStream:
        """Return the stream that has the list endpoint: the parent, or the stream itself."""
        return self.tap.stream_of(self.object_type.root)

    @cached_property
    def row_settings(self) -> Shape:
        """Return the settings that affect the stream's rows, without those at their default."""
        settings = self.settings
        found = {
            "api_version": settings.api_version,
            "expand": sorted(self.expand),
            "timestamps": "unix" if settings.unix_times else None,
            "deselected": list(_paths(self.deselected)),
            "maps": digest_of_maps(self.config, self.name),
            "key": None if list(self.primary_keys) == ["id"] else list(self.primary_keys),
        }
        return {name: value for name, value in found.items() if value}

    @property
    def listed(self) -> ListEndpoint:
        """Return the list endpoint of the stream's objects."""
        declared = self.object_type
        listed = declared.parent if declared.listed_by_parent and declared.parent else declared
        of_children = f"{CHILDREN}.data." if declared.listed_by_parent else ""
        return ListEndpoint(
            listed.path,
            listed.list_params,
            listed.list_variants,
            listed.filters_by_created,
            listed.history,
            [of_children + path for path in self.expand],
            [(CHILDREN,)] if declared.listed_by_parent else self.nested,
            skips_test_clocks=self.skips_test_clocks,
            paged=listed.is_paged,
            child_list=declared.child_list,
        )

    @cached_property
    def skips_test_clocks(self) -> bool:
        """Whether to leave out objects on test clocks if Stripe returns any."""
        wanted = self.settings.include_test_clocks
        return bool(self.object_type.clock_path) and not (wanted or self.settings.live)

    @cached_property
    def recorder(self) -> Recorder:
        """Return the converter of objects to records; use `of` to choose an account."""
        unix = self.settings.unix_times
        shape = in_shape if self._has_events else None
        return Recorder(
            self.schema, account_id=None, unix=unix, misfit=self.does_not_fit, in_shape=shape
        )

    @cached_property
    def decoder(self) -> PassThroughDecoder:
        """Return the pass-through decoder of pages; use `of` to choose an account."""
        shape = EVENT_SHAPE if self._has_events else None
        unix = self.settings.unix_times
        return PassThroughDecoder(self.schema, account_id=None, unix=unix, shape=shape)

    @property
    def _has_events(self) -> bool:
        """Whether the stream's objects are events, whose shape depends on when they were made."""
        return self.object_type.object_name == EVENT

    @cached_property
    def nested(self) -> list[tuple[str, ...]]:
        """Return the paths of nested lists, which Stripe may truncate."""
        return nested_lists(self.schema)

    @cached_property
    def deselected(self) -> Deselected:
        """Return the properties to leave out of records."""
        return _deselected(self.schema, self.mask, ())

    def send_schema(self) -> None:
        """Write the SCHEMA message."""
        self._write_schema_message()

    def set_version(self, version: int | None) -> None:
        """Set the table version of records from now on."""
        self._stream_version = version

    def send_activate_version(self) -> None:
        """Write ACTIVATE_VERSION: the target may remove rows of other versions."""
        if self._stream_version is not None:
            self._write_activate_version_message(self._stream_version)

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        return bool(self.config.get("emit_activate_version_messages", True))

    def write(self, records: Sequence[Any]) -> None:
        """Write RECORD messages, one per record and stream map.

        `records` are dicts, or decoded structs if the stream `passes_through`.
        """
        if isinstance(records[0], dict):
            self.inspect(records, at_least=INSPECTED)
        if not self._plain:
            for record in records:
                self._write_record_message(record)
            return
        if self.deselected:
            for record in records:
                _drop(record, self.deselected)
        self.tap.writer.write_records(
            self.stream_maps[0].stream_alias, records, self._stream_version
        )

    @property
    def has_times(self) -> bool:
        """Whether the objects have a time of their own, or `updated` is when they are read."""
        dated = {"created", "date"} & self.schema["properties"].keys()
        return bool(dated or self.object_type.parent_field)

    @property
    def updated_is_cursor(self) -> bool:
        """Whether `updated` is the replication key, so that destinations keep the latest row."""
        return self.replication_key == "updated"

    @cached_property
    def passes_through(self) -> bool:
        """Whether records equal the listed objects: nothing is expanded, deselected or mapped."""
        complete = self.object_type.parent is None and not self.expand and not self.deselected
        return complete and self._plain and "created" in self.schema["properties"]

    @cached_property
    def _plain(self) -> bool:
        """Whether records are written unchanged: no stream map, no flattening."""
        only = self.stream_maps[0]
        return len(self.stream_maps) == 1 and (
            isinstance(only, SameRecordTransform) and not only.flattening_enabled
        )

    @cached_property
    def _maps(self) -> list[StreamMap]:
        """Return the stream maps, made safe for tombstones."""
        for stream_map in self.stream_maps:
            let_through(stream_map)
        return self.stream_maps

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        return self.tap.read_alone(self)

    @override
    def get_batch_config(self, config: Mapping[str, Any]) -> None:
        """Return None: BATCH files would contain deselected fields (meltano/sdk#1117)."""

    @override
    def _sync_records(
        self, context: Context | None = None, *, write_messages: bool = True
    ) -> Generator[dict[str, Any], Any, Any]:
        try:
            yield from super()._sync_records(context, write_messages=write_messages)
        finally:
            self.tap.flush()

    @override
    def _increment_stream_state(
        self, latest_record: Record, *, context: Context | None = None
    ) -> None:
        """Do nothing: readers advance the bookmarks, not records."""

    @override
    def _generate_record_messages(
        self, record: Record
    ) -> Generator[singer.RecordMessage, None, None]:
        if self.deselected:
            _drop(record, self.deselected)
        for stream_map in self._maps:
            mapped = transformed(stream_map, record)
            if mapped is not None:
                yield singer.RecordMessage(
                    stream=stream_map.stream_alias,
                    record=mapped,
                    version=self._stream_version,
                    time_extracted=utc_now(),
                )

    def leave_out_without_id(self) -> bool:
        """Return False to leave out an object without `id`, its primary key; warn once."""
        if ("id", "is missing") not in self._warned:
            self._warned.add(("id", "is missing"))
            self.logger.warning("%s: leaving out an object without `id`", self.name)
        return False

    def does_not_fit(self, path: str) -> None:
        """Warn once about a field with a value that does not fit its schema."""
        if (path, "does not fit") not in self._warned:
            self._warned.add((path, "does not fit"))
            self.logger.warning(
                "%s.%s has a value that does not fit its column: replaced by null", self.name, path
            )

    def inspect(self, records: Sequence[Record], *, at_least: int) -> None:
        """Warn once about each field that does not match the schema; records stay unchanged.

        Checks all records until `at_least` have been checked, then only the first of each call.
        """
        checked = records if self._inspected < at_least else records[:1]
        checked = [record for record in checked if not isinstance(record, Tombstone)]
        self._inspected += len(checked)
        for found in (f for record in checked for f in schema_violations(record, self._documented)):
            if found not in self._warned:
                self._warned.add(found)
                self.logger.warning(
                    "%s.%s %s the schema of API version %s; it is emitted as Stripe sent it",
                    self.name,
                    found[0],
                    {"is new": "is not in", "is null": "is null, unlike in"}[found[1]],
                    self.settings.api_version,
                )


def _deselected(
    schema: Mapping[str, Any], mask: singer.SelectionMask, breadcrumb: tuple[str, ...]
) -> Deselected:
    found: Deselected = {}
    for name, inner in schema.get("properties", {}).items():
        here = (*breadcrumb, "properties", name)
        if not mask[here]:
            found[name] = None
        elif below := _deselected(inner, mask, here):
            found[name] = below
    return found


def _paths(deselected: Deselected, outer: str = "") -> Iterator[str]:
    for name, below in deselected.items():
        if below is None:
            yield outer + name
        else:
            yield from _paths(below, f"{outer}{name}.")


def _drop(record: Record, deselected: Deselected) -> None:
    for name, below in deselected.items():
        if below is None:
            record.pop(name, None)
        elif isinstance(inner := record.get(name), dict):
            record[name] = inner = dict(inner)  # a child stream's record may share it
            _drop(inner, below)
