"""Writes Singer messages to stdout: one buffer, one write for many records."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from singer_sdk.contrib.msgspec import MsgSpecWriter, encoder
from singer_sdk.helpers._util import utc_now
from singer_sdk.singerlib import Message, RecordMessage
from typing_extensions import override

from stripe_alloy.errors import AlloyError

FLUSH_BYTES = 1 << 20
"""Enough that writing costs little: after each write other threads may keep us waiting."""
FLUSH_SECONDS = 0.5
"""How long a record may wait for others."""


class BufferedWriter(MsgSpecWriter):
    """The SDK's msgspec writer, but it flushes at messages that others wait for.

    Whoever stops writing calls `flush`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._flushed_at = 0.0

    @override
    def write_message(self, message: Message) -> None:
        encoder.encode_into(message.to_dict(), self._buffer, -1)
        self._buffer += b"\n"
        if not isinstance(message, RecordMessage) or self._is_time():
            self.flush()

    def write_records(
        self, stream: str, records: Sequence[dict[str, Any]], version: int | None
    ) -> None:
        """Write the RECORD messages of many records at once, as `write_message` would each."""
        message: dict[str, Any] = {"type": "RECORD", "stream": stream, "record": None}
        if version is not None:
            message["version"] = version
        message["time_extracted"] = utc_now()
        self._buffer += encoder.encode_lines([{**message, "record": one} for one in records])
        if self._is_time():
            self.flush()

    def _is_time(self) -> bool:
        waiting = time.monotonic() - self._flushed_at
        return len(self._buffer) >= FLUSH_BYTES or waiting >= FLUSH_SECONDS

    def flush(self) -> None:
        """Hand everything to stdout."""
        sys.stdout.buffer.flush()
        # With PYTHONUNBUFFERED, as in many containers, stdout is a raw file: a signal cuts a write
        # short, and it is for us to write the rest.
        out = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
        with memoryview(self._buffer) as rest:
            written = 0
            while written < len(rest):
                written += _write(out, rest[written:])
        self._buffer.clear()
        self._flushed_at = time.monotonic()


def _write(out: Any, part: memoryview) -> int:
    try:
        return int(out.write(part))
    except OSError as error:
        # Stdout is put aside, or the interpreter would try it once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise AlloyError(
            f"The output cannot be written: {error.strerror}. Run again from the last state that "
            "came through."
        ) from None
