"""Keeps the contents of records that wait: some in memory, the rest in a temporary file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cached_property
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec

from target_stripe_alloy.write.queued_records import QueuedRecord

MEMORY = 32 << 20
"""Bytes of waiting records that stay in memory."""

_decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_NOTHING: Mapping[str, Any] = {}


class OverflowFile:
    """Keeps the contents of records that wait. Thread-safe."""

    def __init__(self, encode: Callable[[Any], bytes], memory: int = MEMORY) -> None:
        self._encode = encode
        self._room = memory
        self._lock = threading.Lock()
        self._places: dict[int, tuple[int, int]] = {}
        self._in_memory: set[int] = set()

    @cached_property
    def _file(self) -> IO[bytes]:
        return TemporaryFile(prefix="stripe-alloy-")

    def put(self, queued: QueuedRecord) -> None:
        """Keep a record's contents until `take`; they may leave the memory until then."""
        with self._lock:
            if queued.number in self._in_memory or queued.number in self._places:
                return
            if queued.size <= self._room:
                self._room -= queued.size
                self._in_memory.add(queued.number)
                return
            text = self._encode(queued.record)
            place = self._file.seek(0, 2)
            self._file.write(text)
            self._places[queued.number] = place, len(text)
            queued.record = _NOTHING

    def take(self, queued: QueuedRecord) -> None:
        """Give a record its contents back."""
        with self._lock:
            if queued.number in self._in_memory:
                self._in_memory.remove(queued.number)
                self._room += queued.size
            elif place := self._places.pop(queued.number, None):
                self._file.seek(place[0])
                queued.record = _decode(self._file.read(place[1]))

    def close(self) -> None:
        """Drop what is left."""
        with self._lock:
            if "_file" in self.__dict__:
                self._file.close()
