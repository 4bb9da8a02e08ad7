"""The target, run in this process on messages of the tests' own."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stripe_alloy.emulator import Emulator, Request
from target_stripe_alloy.target import TargetStripeAlloy
from tests.conftest import FAST

Message = dict[str, Any]


def schema(stream: str, *keys: str, **properties: Any) -> Message:
    names = keys or ("id",)
    return {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {"type": "object", "properties": {**{key: {} for key in names}, **properties}},
        "key_properties": list(names),
    }


def record(stream: str, **fields: Any) -> Message:
    return {"type": "RECORD", "stream": stream, "record": fields}


def state(**value: Any) -> Message:
    return {"type": "STATE", "value": value}


@dataclass
class Run:
    """What a run of the target did."""

    summary: dict[str, dict[str, int]]
    states: list[dict[str, Any]]
    writes: list[Request]
    requests: list[Request]
    rejects: list[dict[str, Any]]

    def counts(self, stream: str) -> dict[str, int]:
        return {name: n for name, n in self.summary[stream].items() if n}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def one(emulator: Emulator, kind: str, object_id: str) -> dict[str, Any]:
    """An object as the emulator has it."""
    return next(found for found in emulator.objects(kind) if found["id"] == object_id)


def settings_for(emulator: Emulator, folder: Path, **settings: Any) -> dict[str, Any]:
    return {
        "api_key": emulator.api_key,
        "api_url": emulator.url,
        "max_requests_per_second": FAST,
        "max_concurrency": 8,
        "journal": f"sqlite:///{folder}/journal.db",
        "rejects": str(folder / "rejects.jsonl"),
        "summary": str(folder / "summary.json"),
        **settings,
    }


def write(
    emulator: Emulator, folder: Path, messages: Iterable[Mapping[str, Any]], **settings: Any
) -> Run:
    """Run the target; errors come out as raised."""
    rejects = folder / "rejects.jsonl"
    rejects.unlink(missing_ok=True)
    before = len(emulator.requests)
    config = settings_for(emulator, folder, **settings)
    output = io.StringIO()
    text = "".join(json.dumps(message) + "\n" for message in messages)
    with redirect_stdout(output):
        TargetStripeAlloy(config=config).listen(io.StringIO(text))
    requests = emulator.requests[before:]
    # The emulator takes only what the types of the `stripe` package know.
    assert "parameter_unknown" not in {line["code"] for line in lines_of(rejects)}
    return Run(
        json.loads((folder / "summary.json").read_text()),
        [json.loads(line) for line in output.getvalue().splitlines()],
        [request for request in requests if request.method != "GET"],
        requests,
        lines_of(rejects),
    )
