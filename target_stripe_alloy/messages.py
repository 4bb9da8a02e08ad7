"""Reads Singer messages and BATCH files.

Errors of malformed input name its place in one line, and show nothing of its contents.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

import msgspec
from singer_sdk.contrib.msgspec import MsgSpecReader
from singer_sdk.exceptions import MissingKeyPropertiesError, RecordsWithoutSchemaException
from singer_sdk.helpers._batch import BatchFileFormat, StorageTarget
from singer_sdk.singerlib.exceptions import InvalidInputLine
from typing_extensions import override

from stripe_alloy.api.errors import AlloyError

Message = dict[str, Any]

_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_LOCAL = re.compile(r"file:(//(localhost)?(?=/))?")
_BATCH_ERRORS = (OSError, EOFError, zlib.error, ImportError, ValueError, TypeError)
"""What opening and reading a batch file raises, whatever storage it is on."""


class MessageError(AlloyError, InvalidInputLine):
    """A message that is malformed: the tap must be corrected."""


class SchemaMissing(MessageError, RecordsWithoutSchemaException):
    """Records came before the SCHEMA of their stream."""


class KeyMissing(MessageError, MissingKeyPropertiesError):
    """A record lacks a key property."""


class MessageReader(MsgSpecReader):
    """Reads messages; calls `on_start` before the first, `on_error` when reading ends too early."""

    on_start: Callable[[], None] | None = None
    on_error: Callable[[], None] | None = None

    @override
    def process_lines(self, file_input: IO[str] | None, callbacks: Any) -> Any:
        try:
            if self.on_start:
                self.on_start()
            return _process(file_input or sys.stdin, callbacks)
        except BaseException:
            if self.on_error:
                self.on_error()
            raise


def _process(lines: Iterable[str], callbacks: Mapping[str, Callable[[Message], None]]) -> Any:
    counts: Counter[str] = Counter()
    number = 0
    try:
        for line in lines:
            number += 1
            message = decoded(line)
            kind = message.get("type")
            if not isinstance(kind, str) or kind not in callbacks:
                known = ", ".join(str(getattr(name, "value", name)) for name in callbacks)
                raise MessageError(f"`type` is none of {known}")
            callbacks[kind](message)
            counts[kind] += 1
    except UnicodeError:
        raise MessageError(f"The input is not UTF-8 somewhere after line {number}") from None
    except MessageError as error:
        raise type(error)(f"Line {number} of the input: {error}") from None
    return counts


def decoded(line: str | bytes) -> Message:
    """Decode a line that must be a JSON object; raises `MessageError`."""
    try:
        found = _decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise MessageError("it is not JSON, or incomplete") from None
    if not isinstance(found, dict):
        raise MessageError(f"it must be a JSON object, and is {_kind(found)}")
    return found


def stream_of(message: Message) -> str:
    """Get the stream's name; raises `MessageError`."""
    name = message.get("stream")
    if not isinstance(name, str) or not name:
        raise MessageError(f"{message['type']}: `stream` must be a name")
    return name


def object_in(message: Message, name: str) -> Message:
    """Get an object in a message; raises `MessageError`."""
    found = message.get(name)
    if not isinstance(found, dict):
        kind = message["type"]
        raise MessageError(f"{kind}: `{name}` must be an object, and is {_kind(found)}")
    return found


def check_schema(message: Message) -> None:
    """Raise `MessageError` if a SCHEMA is malformed, or lacks its key properties."""
    name, schema = stream_of(message), message.get("schema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        raise MessageError(f"SCHEMA of {name!r}: `schema` must be an object with `properties`")
    keys = message.get("key_properties")
    if keys is not None and not _are_names(keys):
        raise MessageError(f"SCHEMA of {name!r}: `key_properties` must be a list of names")
    missing = [key for key in keys or () if key not in properties]
    if missing:
        raise MessageError(
            f"SCHEMA of {name!r}: the key properties {', '.join(missing)} are not in the schema"
        )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _kind(value: Any) -> str:
    """Name the JSON type of a value."""
    if value is None or isinstance(value, bool):
        return "null or missing" if value is None else "a boolean"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), "a number")


def batch_records(message: Message) -> Iterator[Message]:
    """Read the records of a BATCH, one at a time, in the order of its files.

    Raises `MessageError` on an encoding other than JSON lines, plain or compressed with gzip, on a
    file that cannot be read to its end, and on a line that is no record.
    """
    compressed = _is_compressed(message.get("encoding"))
    manifest = message.get("manifest")
    if not _are_names(manifest):
        raise MessageError("BATCH: `manifest` must be a list of the files' URLs")
    for url in manifest or ():
        yield from _records_of(url, compressed=compressed)


def _is_compressed(encoding: Any) -> bool:
    if not isinstance(encoding, dict):
        raise MessageError("BATCH: `encoding` must be an object that names the `format`")
    form, compression = encoding.get("format"), encoding.get("compression")
    if form != BatchFileFormat.JSONL:
        raise MessageError(
            f"BATCH: files of the format {form!r} cannot be read, only 'jsonl': "
            "change the tap's `batch_config`"
        )
    if compression not in (None, "none", "gzip"):
        raise MessageError(
            f"BATCH: files with the compression {compression!r} cannot be read, only 'gzip' or "
            "'none': change the tap's `batch_config`"
        )
    unknown = ", ".join(sorted(encoding.keys() - {"format", "compression"}))
    if unknown:
        raise MessageError(f"BATCH: `encoding` says {unknown}, which is not known here")
    return bool(compression == "gzip")


def _records_of(url: str, *, compressed: bool) -> Iterator[Message]:
    lines = _lines_of(url, compressed=compressed)
    number = 0
    while True:
        try:
            line = next(lines, None)
        except _BATCH_ERRORS as error:
            why = getattr(error, "strerror", None) or error
            raise MessageError(f"BATCH: {url} cannot be read: {why}") from None
        if line is None:
            return
        number += 1
        try:
            record = decoded(line)
        except MessageError as error:
            raise MessageError(f"BATCH: line {number} of {url}: {error}") from None
        yield record


def _lines_of(url: str, *, compressed: bool) -> Iterator[bytes]:
    storage, name = _storage_of(url)
    with storage.open(name) as file:
        if compressed:
            if not file.read(1):  # even nothing has a header when it is compressed
                raise EOFError("the file is empty, and no gzip file")
            file.seek(0)
            with gzip.open(file) as unpacked:
                yield from unpacked
        else:
            yield from file


def _storage_of(url: str) -> tuple[StorageTarget, str]:
    """Return the storage of a file, and its name there; raises OSError if a local one is missing.

    Local files are opened here: the SDK takes `%20` in a URL for three characters, and creates
    folders that are missing.
    """
    local = _LOCAL.match(url)
    if not local and "://" in url:
        folder, name = StorageTarget.split_url(url)
        return StorageTarget.from_url(folder), name
    text = url[local.end() :] if local else url
    path = next((p for p in (Path(text), Path(unquote(text))) if text and p.exists()), None)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    return StorageTarget(str(path.absolute().parent)), path.name
