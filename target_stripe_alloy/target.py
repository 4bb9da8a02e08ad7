"""target-stripe-alloy: the Singer target that writes records to Stripe."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import FrameType
from typing import Any, ClassVar, cast

import click
from singer_sdk import Target
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform, StreamMap
from typing_extensions import override

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.connection import Connection
from stripe_alloy.singer_main import forget_output, metrics_at_debug
from stripe_alloy.singer_plugin import Plugin, run_plugin
from stripe_alloy.stream_maps import stream_map_errors, transformed
from stripe_alloy.text_files import open_lines
from target_stripe_alloy.default_files import default_journal, default_rejects
from target_stripe_alloy.messages import (
    KeyMissing,
    Message,
    MessageReader,
    SchemaMissing,
    batch_records,
    check_schema,
    object_in,
    stream_of,
)
from target_stripe_alloy.plan.record_keys import RecordKey
from target_stripe_alloy.rejects import RejectContext, RejectedRecord, SortedLines, sort_lines
from target_stripe_alloy.report import Report
from target_stripe_alloy.resources import BY_STREAM
from target_stripe_alloy.sdk_features import IGNORED, REFUSED, check_inherited
from target_stripe_alloy.settings import DECLARED, TargetSettings, read_target_settings
from target_stripe_alloy.sinks import StripeSink
from target_stripe_alloy.write.account import account_id, adopt, identity_of
from target_stripe_alloy.write.account_client import AccountClient
from target_stripe_alloy.write.journal import Journal, Scope
from target_stripe_alloy.write.queued_records import IncomingStream
from target_stripe_alloy.write.record_queue import RecordQueue
from target_stripe_alloy.write.record_writer import RecordWriter

_logger = logging.getLogger(__name__)

REJECTED_EXIT = 3
"""The exit code of a complete run that rejected records."""
MAX_STATES = 64
"""States that wait for their records: each may be large."""
PULSE = 1.0
"""Seconds between flushes of batched records and settled states."""


class OutputLost(AlloyError):
    """STATE cannot be written to stdout."""


class TargetStripeAlloy(Plugin, Target):
    """Writes records to Stripe: planned, journaled, exactly once."""

    name = "target-stripe-alloy"
    package_name = "stripe-alloy"
    config_jsonschema: ClassVar[dict[str, Any]] = DECLARED.to_dict()
    default_sink_class = StripeSink
    message_reader_class = MessageReader
    message_reader: MessageReader
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.BATCH,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]
    needs_output = False  # a plan needs none, and for STATE it is checked later
    exit_code: ClassVar[int] = 0
    """That of the last complete run."""

    collect: Callable[[int | None, Mapping[str, Any]], None] | None = None
    """Takes the lines of rejected records, with their numbers in a replay, in place of the file."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        metrics_at_debug(self.metrics_logger)
        if named.get("validate_config", True):
            _ = self.settings  # errors are raised before the first line is read
        self._lock = threading.RLock()
        self._states: deque[tuple[int, dict[str, Any]]] = deque()
        self._lost: OutputLost | None = None
        self._ended = threading.Event()
        self._mapped: dict[str, Sequence[StreamMap]] = {}
        self._incoming: dict[str, list[IncomingStream | None]] = {}
        """Source stream → what its records are after each of its stream maps."""
        self.message_reader.on_start = self._check_output
        self.message_reader.on_error = self._abort

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        check_inherited(self.config)
        return super()._validate_config(raise_errors=raise_errors)

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            if option.name == "file_input":
                option.type = click.STRING  # opened by `invoke`, which says in one line why not
        return command

    @classmethod
    @override
    def invoke(cls, *, file_input: Any = None, **named: Any) -> None:
        if named.get("about"):
            super().invoke(**named)
        source = open_lines(file_input, "--input") if file_input not in (None, "-") else None
        with source or contextlib.nullcontext():
            super().invoke(file_input=source, **named)

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        super().append_builtin_config(config_jsonschema)
        for name in (*REFUSED, *IGNORED):
            config_jsonschema["properties"].pop(name, None)

    # ------------------------------------------------------------------ parts

    @cached_property
    def settings(self) -> TargetSettings:
        """The settings, checked."""
        return read_target_settings(self.config)

    @cached_property
    def _connection(self) -> Connection:
        settings = self.settings
        return Connection(**vars(settings.connection), read_only=settings.policy.dry_run)

    @cached_property
    def _client(self) -> AccountClient:
        """The client of the account; in a dry run it can only read, and preview."""
        return AccountClient(self._connection.transport, self.settings.account_id)

    @cached_property
    def report(self) -> Report:
        """The report of the run."""
        settings = self.settings
        rejects = settings.rejects or default_rejects(self._account, live=settings.live)
        run = self._journal.run
        return Report(settings, rejects, self._reject_context, run, self.collect)

    @property
    def _reject_context(self) -> RejectContext:
        """The account, mode and id mode of this run's records."""
        scope = self._journal.scope
        return RejectContext(scope.account, "live" if scope.live else "test", scope.id_mode)

    @cached_property
    def _account(self) -> str | None:
        """The id of the account that is written to; None if the key may not read it."""
        settings = self.settings
        return account_id(self._client, settings.account_id, settings.expected_account_id)

    @cached_property
    def _journal(self) -> Journal:
        settings = self.settings
        identity = identity_of(self._account, settings.connection.api_key)
        journal = Journal(
            settings.journal or default_journal(self._account, live=settings.live),
            Scope(identity, settings.live, settings.policy.id_mode),
            pipeline=settings.pipeline or "",
            clock=self._client.now,
        )
        try:
            adopt(journal, identity, self._client)
        except BaseException:
            journal.close()
            raise
        return journal

    @cached_property
    def queue(self) -> RecordQueue:
        """The queue of records; its first use checks the account and ends what a crash left."""
        policy, workers = self.settings.policy, self.settings.connection.max_concurrency
        writer = RecordWriter(self._client, self._journal, policy)
        report = self.report
        writer.recover()
        queue = RecordQueue(writer, self._journal, report, policy, workers)
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()
        return queue

    # ------------------------------------------------------------------ messages

    def _check_output(self) -> None:
        # Python has no stdout if the parent process closed it.
        if sys.stdout is None and not self.settings.policy.dry_run:
            raise OutputLost(
                "stdout is closed, and STATE cannot be written: open it, or use /dev/null"
            )

    @override
    def _process_record_message(self, message_dict: Message) -> None:
        self._process_record(stream_of(message_dict), object_in(message_dict, "record"))

    @override
    def _process_batch_message(self, message_dict: Message) -> None:
        name = stream_of(message_dict)
        self._maps_of(name)
        for record in batch_records(message_dict):
            self._process_record(name, record)

    def _maps_of(self, name: str) -> Sequence[StreamMap]:
        try:
            return self.mapper.stream_maps[name]
        except KeyError:
            raise SchemaMissing(f"the stream {name!r} has no SCHEMA yet") from None

    def _process_record(self, name: str, source: Message) -> None:
        with self._lock:
            for stream_map, incoming in zip(self._maps_of(name), self._incoming[name], strict=True):
                record: Message | None = source
                if not isinstance(stream_map, SameRecordTransform):
                    record = transformed(stream_map, copy.copy(source))
                if record is None or incoming is None:
                    continue
                sink = self._sink_of(stream_map)
                missing = incoming.missing_keys(record)
                if missing:
                    lacking = ", ".join(missing)
                    raise KeyMissing(f"a record of {name!r} lacks its key properties: {lacking}")
                sink.take(record, incoming)
                sink.record_counter_metric.increment()
            self._emit_states()

    @override
    def _process_schema_message(self, message_dict: Message) -> None:
        check_schema(message_dict)
        with self._lock, stream_map_errors():
            super()._process_schema_message(message_dict)
            for sink in self._sinks_to_clear:
                self._flush(sink)
            name = stream_of(message_dict)
            maps = self._maps_of(name)
            if self._mapped.get(name) is not maps:  # else the SCHEMA is unchanged
                self._incoming[name] = [self._incoming_from(name, each) for each in maps]
                self._mapped[name] = maps

    def _incoming_from(self, name: str, stream_map: StreamMap) -> IncomingStream | None:
        """Return the input stream of a stream map's records; None if it removes them."""
        if isinstance(stream_map, RemoveRecordTransform):
            return None
        keys = stream_map.transformed_key_properties or ()
        return self._sink_of(stream_map).declare(name, stream_map.transformed_schema, keys)

    def _sink_of(self, stream_map: StreamMap) -> StripeSink:
        return cast("StripeSink", self._sinks_active[stream_map.stream_alias])

    @override
    def _process_activate_version_message(self, message_dict: Message) -> None:
        # A record may be missing in a version for any reason: only a tombstone deletes.
        self.logger.debug("ACTIVATE_VERSION is ignored")

    @override
    def _process_state_message(self, message_dict: Message) -> None:
        value = object_in(message_dict, "value")
        with self._lock:
            number = self.queue.watermark.last
            if self._states and self._states[-1][0] == number:
                self._states.pop()
            self._states.append((number, value))
            if len(self._states) > MAX_STATES:  # coarser, but the newest is among them
                self._states = deque(list(self._states)[MAX_STATES % 2 :: 2])
            self._emit_states()

    def _emit_states(self) -> None:
        """Write the newest state all of whose records are settled."""
        if not self._states:
            return
        mark, newest = self.queue.watermark.mark, None
        while self._states and self._states[0][0] <= mark:
            newest = self._states.popleft()
        if newest and not self.settings.policy.dry_run:  # else the tap skips unwritten records
            try:
                self._write_state_message(newest[1])
            except OutputLost:
                self._states.appendleft(newest)  # the main thread fails with it, too
                raise

    @override
    def _write_state_message(self, state: dict[str, Any]) -> None:
        if self._lost:
            raise self._lost
        try:
            super()._write_state_message(state)
        except OSError as error:
            self._lost = OutputLost(
                f"STATE cannot be written to stdout: {error.strerror}. All writes are in the "
                "journal: run again, and keep the reader of stdout open"
            )
            forget_output()
            raise self._lost from None

    @staticmethod
    def _flush(sink: Any, older_than: float = 0.0) -> None:
        sink.flush(older_than=older_than)

    def _flush_all(self, older_than: float = 0.0) -> None:
        for sink in (*self._sinks_to_clear, *self._sinks_active.values()):
            self._flush(sink, older_than)

    def _pulse(self) -> None:
        """Flush batches and emit settled states once a second, also while the tap sends nothing."""
        logged_at = time.monotonic()
        while not self._ended.wait(PULSE):
            with self._lock:
                if self._ended.is_set():
                    return
                with contextlib.suppress(Exception):  # raised again with the next record
                    self._flush_all(older_than=PULSE)
                with contextlib.suppress(OutputLost):
                    self._emit_states()
            if time.monotonic() - logged_at > 30:
                logged_at = time.monotonic()
                self.report.progress()

    # ------------------------------------------------------------------ a replay

    def replay(self, lines: list[bytes]) -> SortedLines:
        """Write rejected records again, in their first order; return which lines could be."""
        try:
            found = sort_lines(lines, self._reject_context, self._journal.knows_run)
            streams: dict[Any, IncomingStream] = {}
            for index, entry in sorted(found.entries.items(), key=lambda each: each[1].position):
                complete = entry.metadata_complete
                name = (entry.stream, entry.source, tuple(entry.key_properties), complete)
                if name not in streams:
                    streams[name] = self._incoming_of(entry)
                    self.queue.declare(streams[name])
                queued = self.queue.admit(streams[name], entry.record, index, entry.position)
                if queued is not None:
                    self.queue.submit([queued])
                self.queue.raise_failure()
        except BaseException:
            self._abort()
            raise
        self.process_endofpipe()
        return found

    def _incoming_of(self, entry: RejectedRecord) -> IncomingStream:
        policy = self.settings.policy
        match = policy.match_by.get(entry.stream, ())
        keys = RecordKey(policy.id_mode, entry.key_properties, match)
        resource, complete = BY_STREAM[entry.stream], entry.metadata_complete
        return IncomingStream(resource, keys, complete, entry.source)

    # ------------------------------------------------------------------ the end

    @override
    def process_endofpipe(self) -> None:
        try:
            with self._lock:
                self._flush_all()
            self.queue.finish()
        except BaseException:
            self._abort()
            raise
        self._finish()
        super().process_endofpipe()
        type(self).exit_code = REJECTED_EXIT if self.report.rejected else 0

    def _abort(self) -> None:
        """Finish the requests in flight, and write states and counts."""
        if "_connection" in self.__dict__:
            self._connection.transport.close()  # retries give up; their writes are journaled
        with contextlib.suppress(OutputLost):  # the error that ends the run is raised by the caller
            self._finish()

    def _finish(self) -> None:
        self._ended.set()
        with self._lock, contextlib.ExitStack() as closing:  # the last one first
            if "_connection" in self.__dict__:
                closing.callback(self._connection.close)
            if "report" in self.__dict__:
                closing.callback(self.report.close)
            if "_journal" in self.__dict__:
                closing.callback(self._journal.close)
            if "queue" in self.__dict__:
                closing.callback(self.queue.close)
                self._emit_states()

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        _logger.warning("Signal %d: finishing the requests in flight, starting no others", signum)
        raise SystemExit(128 + signum)


def main() -> None:
    """Run the command."""
    run_plugin(TargetStripeAlloy)
    sys.exit(TargetStripeAlloy.exit_code)


if __name__ == "__main__":
    main()
