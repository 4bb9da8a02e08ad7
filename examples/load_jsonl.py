#!/usr/bin/env python3
"""The loader `target-jsonl`, with ACTIVATE_VERSION: a full refresh replaces a stream's file.

target-jsonl 0.1.4 appends to `<stream>.jsonl` and knows no versions of a table, so that a full
refresh would double what is there. Here the rows of a new version go to `<stream>.<version>.jsonl`,
which takes the place of `<stream>.jsonl` once ACTIVATE_VERSION says that they are complete.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import target_jsonl

ACTIVE = ".versions.json"
"""In the destination: stream → the version that `<stream>.jsonl` holds."""


class Versions:
    """Which version of its table each stream's file holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / ACTIVE
        self._active: dict[str, int] = {}
        if self._file.exists():
            self._active = json.loads(self._file.read_text("utf-8"))

    def file_for(self, stream: str, version: int | None) -> str:
        """Return the name, without `.jsonl`, of the file for rows of a version of a stream."""
        if version is None:
            return stream
        if stream not in self._active:  # the first load, or files from before there were versions
            self._note(stream, version)
        return stream if self._active.get(stream) == version else f"{stream}.{version}"

    def activate(self, stream: str, version: int) -> None:
        """Let the rows of a version take the place of all others."""
        if self.file_for(stream, version) == stream:
            return
        rows = self._path(f"{stream}.{version}")
        rows.touch()  # the complete listing may be empty
        rows.replace(self._path(stream))
        self._note(stream, version)

    def _note(self, stream: str, version: int) -> None:
        self._active[stream] = version
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._active), "utf-8")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"


def routed(lines: Iterable[str], versions: Versions) -> Iterator[str]:
    """Yield the messages for target-jsonl, each row's stream being the file that it goes to."""
    schemas: dict[str, dict[str, Any]] = {}
    announced = set[str]()
    for line in lines:
        message = json.loads(line)
        if message["type"] == "SCHEMA":
            schemas[message["stream"]] = message
            announced.discard(message["stream"])
        elif message["type"] == "RECORD":
            stream = message["stream"]
            file = versions.file_for(stream, message.get("version"))
            if file not in announced:
                announced.add(file)
                yield json.dumps({**schemas[stream], "stream": file})
            yield json.dumps({**message, "stream": file})
        elif message["type"] == "ACTIVATE_VERSION":
            versions.activate(message["stream"], message["version"])
        else:
            yield line


def main() -> None:
    """Load what comes on stdin."""
    config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text("utf-8"))
    folder = config.get("destination_path") or "."
    lines = (line.decode("utf-8") for line in sys.stdin.buffer)
    messages = routed(lines, Versions(Path(folder)))
    state = target_jsonl.persist_messages(messages, folder, None, do_timestamp_file=False)
    target_jsonl.emit_state(state)


if __name__ == "__main__":
    main()
