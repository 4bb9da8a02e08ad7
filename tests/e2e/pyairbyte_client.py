"""Runs in PyAirbyte's own environment: reads a source into a DuckDB cache, and says what came.

Standard input: {"executable", "config", "streams", "cache"}. Standard output: its last line is
{"records": number} or {"error": text}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import airbyte
from airbyte.caches import DuckDBCache


def main() -> None:
    """Read once."""
    asked = json.load(sys.stdin)
    source = airbyte.get_source(
        "source-stripe-alloy",
        config=asked["config"],
        local_executable=Path(asked["executable"]),
        install_if_missing=False,
    )
    source.check()
    source.select_streams(asked["streams"])
    try:
        result = source.read(cache=DuckDBCache(db_path=asked["cache"]))
    except airbyte.exceptions.PyAirbyteError as error:
        answer = {"error": str(error)}
    else:
        answer = {"records": result.processed_records}
    sys.stdout.write(json.dumps(answer) + "\n")


main()
