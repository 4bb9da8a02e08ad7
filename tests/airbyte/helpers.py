"""Runs `source-stripe-alloy` as Airbyte does, and reads what it says with Airbyte's own models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import parse

Message = dict[str, Any]


@dataclass
class Said:
    """What a command wrote."""

    messages: list[Message]
    exit_code: int
    errors: str

    def of(self, kind: str) -> list[Any]:
        """The contents of all messages of a kind, such as `state` or `trace`."""
        return [message[kind] for message in self.messages if kind in message]

    @property
    def records(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self.of("record"):
            found.setdefault(record["stream"], []).append(record["data"])
        return found

    def ids(self, stream: str) -> Counter[str]:
        return Counter(record["id"] for record in self.records.get(stream, []))

    @property
    def states(self) -> list[Message]:
        """The last state of each stream: what the next read is given."""
        return list({name_of(state): state for state in self.of("state")}.values())

    def statuses(self, stream: str) -> list[str]:
        told = [trace["stream_status"] for trace in self.of("trace") if "stream_status" in trace]
        return [s["status"] for s in told if s["stream_descriptor"]["name"] == stream]

    @property
    def failures(self) -> list[Message]:
        return [trace["error"] for trace in self.of("trace") if "error" in trace]

    @property
    def log(self) -> str:
        return "\n".join(entry["message"] for entry in self.of("log"))


def name_of(state: Mapping[str, Any]) -> str:
    name: str = state["stream"]["stream_descriptor"]["name"]
    return name


@dataclass(frozen=True)
class Source:
    """The command, in a folder that holds its files."""

    folder: Path
    config: Mapping[str, Any]

    def start(self, command: str, **contents: Any) -> subprocess.Popen[bytes]:
        options = []
        for name, content in contents.items():
            path = self.folder / f"airbyte-{name}.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            options += [f"--{name}", str(path)]
        return subprocess.Popen(
            [sys.executable, "-m", "source_stripe_alloy", command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, command: str, **contents: Any) -> Said:
        return finish(self.start(command, **contents))

    def read(self, catalog: Message, states: Iterable[Message] = (), **config: Any) -> Said:
        settings = {**self.config, **config}
        return self.run("read", config=settings, catalog=catalog, state=list(states))

    def catalog(self, *streams: str, mode: str = "incremental", sync: int | None = 1) -> Message:
        """The configured catalog that Airbyte makes of what is discovered."""
        [catalog] = self.run("discover", config=self.config).of("catalog")
        return {
            "streams": [
                {
                    "stream": stream,
                    "sync_mode": mode,
                    "destination_sync_mode": "append_dedup",
                    "sync_id": sync,
                }
                for stream in catalog["streams"]
                if not streams or stream["name"] in streams
            ]
        }


def finish(process: subprocess.Popen[bytes]) -> Said:
    out, err = process.communicate(timeout=120)
    return Said(parse(out), process.returncode, err.decode())
