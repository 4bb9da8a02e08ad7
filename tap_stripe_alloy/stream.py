"""What all streams share: a Singer stream whose records come out of a Stripe list."""

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

from stripe_alloy.api.list_endpoint import ListEndpoint
from stripe_alloy.api.object_types import ObjectType
from stripe_alloy.api.schemas import nested_lists
from stripe_alloy.record_columns import ADDED
from stripe_alloy.stream_maps import transformed
from tap_stripe_alloy.records.conversion import Record, Recorder, schema_violations
from tap_stripe_alloy.records.pass_through import PassThroughDecoder
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
"""Records of a stream that are held against the schema before only some are."""

Deselected = dict[str, "Deselected | None"]
"""Names of deselected properties; where only some inner ones are, what is deselected there."""


class StreamOwner(Tap):
    """What a stream needs of its tap."""

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings, checked."""

    @property
    @abstractmethod
    def writer(self) -> BufferedWriter:
        """What writes the messages."""

    @abstractmethod
    def stream_of(self, object_type: ObjectType) -> StripeStream:
        """Return this tap's stream of an object type."""

    @abstractmethod
    def read_alone(self, stream: StripeStream) -> Iterator[Record]:
        """Yield one stream's records, for the SDK's own way to sync it."""

    @abstractmethod
    def flush(self) -> None:
        """Write what is buffered."""


class StripeStream(Stream):
    """The stream of an object type."""

    primary_keys: Sequence[str] = ("id",)
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # it would drop fields Stripe adds

    def __init__(self, tap: StreamOwner, object_type: ObjectType) -> None:
        self.object_type = object_type
        self.settings = tap.settings
        self.expand = tuple(self.settings.expand.get(object_type.name, ()))
        """What to expand in the stream's objects."""
        schema = stream_schema(object_type.name, expand=self.expand, unix=tap.settings.unix_times)
        if self.settings.account_ids:
            schema["properties"]["_account_id"]["type"] = "string"
        self._documented = schema
        key = self.key_given({})
        never_null = {*key, object_type.replication_key, "object", *ADDED}
        super().__init__(tap, schema=with_nulls(schema, never_null), name=object_type.name)
        self.primary_keys = key
        self.replication_key = object_type.replication_key
        self.tap = tap
        self._inspected = 0
        self._warned: set[tuple[str, str]] = set()

    def key_given(self, state: Mapping[str, Any]) -> list[str]:
        """The key properties that fit the accounts to read and the stream's state."""
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
        """The stream whose list this one comes out of: its parent, or itself."""
        return self.tap.stream_of(self.object_type.root)

    @cached_property
    def row_settings(self) -> Shape:
        """The settings that its rows are made with, as far as they are not at their default."""
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
        """The list that this stream's objects come from."""
        declared = self.object_type
        return ListEndpoint(
            declared.path,
            declared.list_params,
            declared.list_variants,
            declared.filters_by_created,
            declared.history,
            self.expand,
            self.nested,
            without_clocks=self.without_clocks,
        )

    @cached_property
    def without_clocks(self) -> bool:
        """Whether objects on test clocks are to be left out, should Stripe show any."""
        wanted = self.settings.include_test_clocks
        return bool(self.object_type.test_clock_path) and not (wanted or self.settings.live)

    @cached_property
    def recorder(self) -> Recorder:
        """What makes its records, of any account."""
        unix = self.settings.unix_times
        return Recorder(self.schema, account_id=None, unix=unix, misfit=self.does_not_fit)

    @cached_property
    def decoder(self) -> PassThroughDecoder:
        """What makes records straight from the bytes of its pages, of any account."""
        return PassThroughDecoder(self.schema, account_id=None, unix=self.settings.unix_times)

    @cached_property
    def nested(self) -> list[tuple[str, ...]]:
        """Where its objects hold lists that Stripe cuts short."""
        return nested_lists(self.schema)

    @cached_property
    def deselected(self) -> Deselected:
        """What to leave out of records."""
        return _deselected(self.schema, self.mask, ())

    def announce(self) -> None:
        """Write the SCHEMA message."""
        self._write_schema_message()

    def carry(self, version: int | None) -> None:
        """Let records from now on belong to this version of the table."""
        self._stream_version = version

    def activate(self) -> None:
        """Write ACTIVATE_VERSION: what carries no such version is gone."""
        if self._stream_version is not None:
            self._write_activate_version_message(self._stream_version)

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        return bool(self.config.get("emit_activate_version_messages", True))

    def write(self, records: Sequence[Any]) -> None:
        """Write RECORD messages, for each stream map one a record.

        Only where they go out `as_it_comes` may they be something else than dicts.
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
    def updated_is_cursor(self) -> bool:
        """Whether destinations take the row with the latest `updated` for the newest."""
        return self.replication_key == "updated"

    @cached_property
    def as_it_comes(self) -> bool:
        """Whether records are what the list holds: nothing is expanded, left out or mapped."""
        whole = self.object_type.parent is None and not self.expand and not self.deselected
        return whole and self._plain

    @cached_property
    def _plain(self) -> bool:
        """Whether records go out as they are: no map changes, leaves out or flattens any."""
        only = self.stream_maps[0]
        return len(self.stream_maps) == 1 and (
            isinstance(only, SameRecordTransform) and not only.flattening_enabled
        )

    @cached_property
    def _maps(self) -> list[StreamMap]:
        """The stream maps, none of which can keep a deletion from the destination by failing."""
        for stream_map in self.stream_maps:
            let_through(stream_map)
        return self.stream_maps

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        return self.tap.read_alone(self)

    @override
    def get_batch_config(self, config: Mapping[str, Any]) -> None:
        """BATCH files would hold deselected fields (meltano/sdk#1117), so there are none."""

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
        """Bookmarks follow what was read, not what a record says."""

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
        """Name, once, that objects without their key are left out: no row could be found by it."""
        if ("id", "is missing") not in self._warned:
            self._warned.add(("id", "is missing"))
            self.logger.warning("%s: an object without `id` is left out", self.name)
        return False

    def does_not_fit(self, path: str) -> None:
        """Name, once, a field with a value that its schema has no place for."""
        if (path, "does not fit") not in self._warned:
            self._warned.add((path, "does not fit"))
            self.logger.warning(
                "%s.%s holds a value that its column cannot: it is null", self.name, path
            )

    def inspect(self, records: Sequence[Record], *, at_least: int) -> None:
        """Name once each field that the schema does not foresee; the record goes on as it is.

        When so many of the stream were looked at, only the first of each call is.
        """
        looked_at = records if self._inspected < at_least else records[:1]
        looked_at = [record for record in looked_at if not isinstance(record, Tombstone)]
        self._inspected += len(looked_at)
        for found in (
            f for record in looked_at for f in schema_violations(record, self._documented)
        ):
            if found not in self._warned:
                self._warned.add(found)
                self.logger.warning(
                    "%s.%s %s in the schema of API version %s; it is passed on as Stripe sent it",
                    self.name,
                    found[0],
                    {"is new": "is not", "is null": "is null, which it never is"}[found[1]],
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
            record[name] = inner = dict(inner)  # a record of another stream may share it
            _drop(inner, below)
