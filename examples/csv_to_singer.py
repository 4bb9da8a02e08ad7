"""Turns a CSV file into Singer messages: `python csv_to_singer.py customers crm.csv`.

A column `metadata.score` becomes a key of `metadata`. An empty cell is left out.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any


def nested(cells: dict[str, Any]) -> dict[str, Any]:
    """One level of columns with a dot in their names as objects."""
    found: dict[str, Any] = {}
    for name, value in cells.items():
        outer, _, inner = name.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = value
        else:
            found[outer] = value
    return found


stream, path = sys.argv[1:]
with Path(path).open(newline="", encoding="utf-8-sig") as file:
    rows = csv.DictReader(file)
    columns = nested({name: {"type": "string"} for name in rows.fieldnames or ()})
    properties = {n: c if "type" in c else {"properties": c} for n, c in columns.items()}
    schema = {"type": "object", "properties": properties}
    head = {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": []}
    messages = [head]
    for row in rows:
        record = nested({name: value for name, value in row.items() if value})
        messages.append({"type": "RECORD", "stream": stream, "record": record})
sys.stdout.write("".join(json.dumps(message) + "\n" for message in messages))
