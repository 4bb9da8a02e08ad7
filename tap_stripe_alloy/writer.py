"""Writes Singer messages to stdout: one buffer, one write for many records."""

from __future__ import annotations

import sys

from singer_sdk.contrib.msgspec import MsgSpecWriter, encoder
from singer_sdk.singerlib import Message, RecordMessage
from typing_extensions import override

FLUSH_BYTES = 1 << 16


class BufferedWriter(MsgSpecWriter):
    """The SDK's msgspec writer, but it flushes at messages that others wait for.

    Whoever stops writing calls `flush`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()

    @override
    def write_message(self, message: Message) -> None:
        encoder.encode_into(message.to_dict(), self._buffer, -1)
        self._buffer += b"\n"
        if len(self._buffer) >= FLUSH_BYTES or not isinstance(message, RecordMessage):
            self.flush()

    def flush(self) -> None:
        """Hand everything to stdout."""
        if self._buffer:
            sys.stdout.buffer.write(self._buffer)
            self._buffer.clear()
        sys.stdout.buffer.flush()
