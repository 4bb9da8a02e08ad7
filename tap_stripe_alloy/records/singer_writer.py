"""Writes Singer messages to stdout, with one buffer for many records."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec
from singer_sdk.contrib.msgspec import MsgSpecWriter, encoder
from singer_sdk.helpers._util import utc_now
from singer_sdk.singerlib import Message, RecordMessage
from typing_extensions import override

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.singer_main import forget_output

FLUSH_BYTES = 1 << 17
"""Flush once the buffer has this many bytes: large enough to make writes cheap."""
FLUSH_SECONDS = 0.5
"""Flush if the last flush is this long ago (seconds)."""

NUL = b"\\u0000"
"""NUL in JSON: PostgreSQL and other databases refuse a complete batch because of it."""
_logger = logging.getLogger(__name__)
_with_nul: set[tuple[str, str]] = set()


class _Record(msgspec.Struct, gc=False):
    """A RECORD message."""

    type: str
    stream: str
    record: Any
    version: int | msgspec.UnsetType
    time_extracted: datetime


def _fields_of(message: Message) -> dict[str, Any]:
    """Return a message's fields that are not null; unlike `to_dict`, without copying schemas."""
    values = ((field.name, getattr(message, field.name)) for field in fields(message))
    return {name: value for name, value in values if value is not None}


class BufferedWriter(MsgSpecWriter):
    """Buffers RECORD messages; flushes at STATE, SCHEMA and ACTIVATE_VERSION messages.

    Call `flush` after the last message.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._flushed_at = 0.0

    @override
    def write_message(self, message: Message) -> None:
        if isinstance(message, RecordMessage):
            self.put(message.to_dict())
            if not self._is_time():
                return
        else:
            self.put(_fields_of(message))
        self.flush()

    def put(self, message: Any) -> None:
        """Encode a message as JSON and append it to the buffer."""
        start = len(self._buffer)
        encoder.encode_into(message, self._buffer, -1)
        if self._buffer.find(NUL, start) >= 0:
            self._buffer[start:] = _without_nul(self._buffer[start:])
        self._buffer += b"\n"

    def write_records(
        self, stream: str, records: Sequence[dict[str, Any] | msgspec.Struct], version: int | None
    ) -> None:
        """Write RECORD messages for many records, with the same result as `write_message`."""
        lines: bytes | bytearray = encoder.encode_lines(self.messages_of(stream, records, version))
        if NUL in lines:
            lines = b"".join(_without_nul(line) + b"\n" for line in lines.splitlines())
        if len(lines) >= FLUSH_BYTES:  # write directly: copying to the buffer would be slower
            self.flush()
            self._write_all(lines)
            return
        self._buffer += lines
        if self._is_time():
            self.flush()

    def messages_of(
        self, stream: str, records: Sequence[dict[str, Any] | msgspec.Struct], version: int | None
    ) -> Sequence[msgspec.Struct]:
        """Return the RECORD messages of records."""
        at = utc_now()
        v = msgspec.UNSET if version is None else version
        return [_Record("RECORD", stream, record, v, at) for record in records]

    def _is_time(self) -> bool:
        waiting = time.monotonic() - self._flushed_at
        return len(self._buffer) >= FLUSH_BYTES or waiting >= FLUSH_SECONDS

    def flush(self) -> None:
        """Write the buffer to stdout."""
        self._write_all(self._buffer)
        self._buffer.clear()

    def _write_all(self, lines: bytes | bytearray) -> None:
        sys.stdout.buffer.flush()
        # With PYTHONUNBUFFERED, common in containers, stdout is a raw file: a signal may interrupt
        # a write, and the rest must be written here.
        out = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
        with memoryview(lines) as rest:
            written = 0
            while written < len(rest):
                written += _write(out, rest[written:])
        self._flushed_at = time.monotonic()


def _without_nul(message: bytes | bytearray) -> bytes:
    """Return a RECORD message with U+FFFD in place of NUL; warn once per field."""
    value: dict[str, Any] = msgspec.json.decode(message)
    for field, inner in value.get("record", {}).items():
        cleaned = _replaced(inner)
        if cleaned != inner:
            value["record"][field] = cleaned
            if (value["stream"], field) not in _with_nul:
                _with_nul.add((value["stream"], field))
                _logger.warning(
                    "%s.%s contains NUL, which databases refuse: replaced by U+FFFD",
                    value["stream"],
                    field,
                )
    return msgspec.json.encode(value)


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_replaced(inner) for inner in value]
    if isinstance(value, dict):
        return {_replaced(key): _replaced(inner) for key, inner in value.items()}
    return value


def _write(out: Any, part: memoryview) -> int:
    try:
        return int(out.write(part))
    except OSError as error:
        forget_output()
        raise AlloyError(
            f"The output cannot be written: {error.strerror}. Run again from the last saved state."
        ) from None
