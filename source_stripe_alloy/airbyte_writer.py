"""Writes the tap's messages to stdout as Airbyte's: records, states and the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from airbyte_protocol_dataclasses.models import AirbyteLogMessage, AirbyteMessage, Level, Type
from singer_sdk.singerlib import Message, RecordMessage, StateMessage
from typing_extensions import override

from source_stripe_alloy.protocol import drop_none
from source_stripe_alloy.stream_status import StreamStatusTracker
from stripe_alloy.api.errors import one_line, without_secrets
from tap_stripe_alloy.records.singer_writer import BufferedWriter

LEVELS = {
    logging.CRITICAL: Level.FATAL,
    logging.ERROR: Level.ERROR,
    logging.WARNING: Level.WARN,
    logging.DEBUG: Level.DEBUG,
}


class _AirbyteRecord(msgspec.Struct, gc=False):
    stream: str
    data: Any
    emitted_at: int


class _RecordMessage(msgspec.Struct, gc=False):
    """A RECORD message; the protocol's own models are ten times as slow."""

    type: str
    record: _AirbyteRecord


class AirbyteWriter(BufferedWriter):
    """Converts Singer messages to Airbyte's; other threads may log meanwhile."""

    def __init__(self, tracker: StreamStatusTracker) -> None:
        super().__init__()
        self.tracker = tracker
        self._lock = threading.RLock()

    def send(self, messages: Iterable[AirbyteMessage]) -> None:
        """Write messages of the protocol immediately."""
        with self._lock:
            for message in messages:
                self.put(drop_none(message))
            self.flush()

    def fail(self, error: Exception) -> None:
        """Write an error trace, and INCOMPLETE for each stream that has not ended."""
        self.send([*self.tracker.interrupted(), self.tracker.failed(error)])

    @override
    def write_message(self, message: Message) -> None:
        if isinstance(message, RecordMessage):
            self.write_records(message.stream, [message.record], message.version)
        elif isinstance(message, StateMessage):
            self.send(self.tracker.new_states(message.value.get("bookmarks", {})))
        # Airbyte has the schemas from `discover`, and no ACTIVATE_VERSION.

    @override
    def write_records(
        self, stream: str, records: Sequence[dict[str, Any] | msgspec.Struct], version: int | None
    ) -> None:
        with self._lock:
            for message in self.tracker.wrote(stream, len(records)):
                self.put(drop_none(message))
            super().write_records(stream, records, version)

    @override
    def messages_of(
        self, stream: str, records: Sequence[dict[str, Any] | msgspec.Struct], version: int | None
    ) -> Sequence[msgspec.Struct]:
        at = int(time.time() * 1000)
        return [_RecordMessage("RECORD", _AirbyteRecord(stream, record, at)) for record in records]

    @override
    def flush(self) -> None:
        with self._lock:
            super().flush()


class AirbyteLog(logging.Handler):
    """Writes log records as messages on stdout."""

    def __init__(self, writer: AirbyteWriter) -> None:
        super().__init__()
        self._writer = writer

    @override
    def emit(self, record: logging.LogRecord) -> None:
        level = LEVELS.get(record.levelno, Level.INFO)
        text = one_line(without_secrets(self.format(record)))
        self._writer.send([AirbyteMessage(Type.LOG, log=AirbyteLogMessage(level, text))])
