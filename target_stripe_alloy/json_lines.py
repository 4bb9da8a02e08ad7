"""Files that several processes may append to and rewrite: no line is ever incomplete."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from stripe_alloy.api.errors import AlloyError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not a POSIX system: one process at a time
    fcntl = None

_logger = logging.getLogger(__name__)


_LONG = 120
"""Characters of a path that a message names."""

encoded = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode


def check_writable(path: str, setting: str) -> None:
    """Raise `AlloyError` if no file can be written there; creates no file."""
    try:
        why = _why_not(Path(path))
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise _unwritable(path, setting, why)


def _why_not(file: Path) -> str:
    """Why a file cannot be written; empty if it can. Raises OSError."""
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if file.is_dir():
        return "it is a directory"
    if not folder.is_dir():
        return f"{folder} is not a directory"
    return "" if os.access(file if file.exists() else folder, os.W_OK) else "permission denied"


def _unwritable(path: object, setting: str, why: str | None) -> AlloyError:
    return AlloyError(f"`{setting}`: {shortened(str(path))} cannot be written: {why}")


def shortened(path: str) -> str:
    """Return a path as a message names it: of a long one the end.

    >>> shortened("a" * 300 + ".jsonl")[-8:]
    'aa.jsonl'
    """
    return path if len(path) <= _LONG else f"…{path[-_LONG:]}"


class JsonLines:
    """A file that is appended to, one JSON object a line, on the disk before `add` returns."""

    def __init__(self, path: str, setting: str, *, truncate: bool = False) -> None:
        self._setting, self._path = setting, Path(path)
        self._lock = threading.Lock()
        with self._errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = _opened(self._path)
            if truncate and _is_regular(self._descriptor):
                os.ftruncate(self._descriptor, 0)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; raises `AlloyError`, and leaves no part of it, if it does not fit."""
        text = encoded(line) + b"\n"
        with self._lock, self._errors():
            while True:
                with _locked(self._descriptor):
                    if self._is_current():
                        self._append(text)
                        return
                os.close(self._descriptor)  # another process replaced the file
                self._descriptor = _opened(self._path)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unwritable(self._path, self._setting, error.strerror) from None

    def _is_current(self) -> bool:
        if not _is_regular(self._descriptor):
            return True
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _append(self, text: bytes) -> None:
        size = os.fstat(self._descriptor).st_size if _is_regular(self._descriptor) else 0
        if size and not _ends_a_line(self._path, size):
            _logger.warning("%s ends in the middle of a line, which is kept", self._path)
            text = b"\n" + text
        try:
            _write(self._descriptor, text)
        except BaseException:
            if _is_regular(self._descriptor):
                os.ftruncate(self._descriptor, size)
            raise


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _ends_a_line(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    if _is_regular(descriptor):  # a pipe or a device has nothing to bring to the disk
        os.fsync(descriptor)


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file atomically. Raises OSError."""
    mark = zlib.crc32(os.fsencode(path.name))  # as long a name as may be is not made longer
    beside = path.with_name(f".{mark:08x}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            _write(descriptor, content)
        finally:
            os.close(descriptor)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def rewrite_lines(path: Path, changed: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace the lines of a file while no process can append to it. Raises OSError.

    `changed` gets all its lines, without their ends.
    """
    path = path.resolve()
    while True:
        descriptor = os.open(path, os.O_RDWR)
        try:
            with _locked(descriptor):
                if not os.path.samestat(path.stat(), os.fstat(descriptor)):
                    continue  # another one rewrote it meanwhile
                lines = lines_in(path)
                left = changed(lines)
                if left != lines:
                    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                    replace_file(path, b"".join(line + b"\n" for line in left), mode=mode)
                return
        finally:
            os.close(descriptor)


def lines_in(path: Path) -> list[bytes]:
    """Read the lines of a file, without their ends; empty ones are none. Raises OSError."""
    return [line for line in path.read_bytes().split(b"\n") if line.strip()]
