#!/usr/bin/env python3
"""A Singer tap of DuckDB tables, for the way back: `tap-duckdb target-stripe-alloy`.

Each row is a record; columns of JSON are read as what they hold, times as RFC 3339 in UTC. It is
an example on the Singer SDK: any other tap of a warehouse does as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

import duckdb
from singer_sdk import Stream, Tap
from singer_sdk import typing as th
from typing_extensions import override

TYPES = {"BOOLEAN": "boolean", "DOUBLE": "number", "FLOAT": "number"}


class Table(Stream):
    """One table."""

    primary_keys = ("id",)

    @override
    def get_records(self, context: Any) -> Iterable[dict[str, Any]]:
        if not Path(self.config["path"]).exists():  # nothing was loaded yet
            return
        name = f'"{self.config["schema"]}"."{self.name}"'
        with duckdb.connect(self.config["path"], read_only=True) as connection:
            found = connection.execute(f"select * from {name} order by id")  # noqa: S608
            columns = [(column[0], str(column[1])) for column in found.description or ()]
            while rows := found.fetchmany(1_000):
                for row in rows:
                    yield {
                        column: read(kind, value)
                        for (column, kind), value in zip(columns, row, strict=True)
                        if not column.startswith("_sdc_")
                    }


def read(kind: str, value: Any) -> Any:
    """A column's value as JSON has it."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind.upper() == "JSON" and isinstance(value, str):
        return json.loads(value)
    return value


class TapDuckDB(Tap):
    """Reads tables of a DuckDB file."""

    name = "tap-duckdb"
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("path", th.StringType, required=True, description="The DuckDB file."),
        th.Property("schema", th.StringType, default="stripe", description="The tables' schema."),
        th.Property(
            "tables", th.ArrayType(th.StringType), required=True, description="Which tables."
        ),
    ).to_dict()

    @override
    def discover_streams(self) -> list[Stream]:
        anything: dict[str, Any] = {"type": ["object", "array", "string", "null"]}
        anything["type"] += ["integer", "number", "boolean"]
        found: list[Stream] = []
        for table in self.config["tables"]:
            columns = self._columns(table)
            properties = {column: anything for column in columns if not column.startswith("_sdc_")}
            properties["id"] = {"type": "string"}
            schema = {"type": "object", "properties": properties}
            found.append(Table(self, schema=schema, name=table))
        return found

    def _columns(self, table: str) -> list[str]:
        path, schema = self.config["path"], self.config.get("schema", "stripe")
        if not Path(path).exists():
            return []
        with duckdb.connect(path, read_only=True) as connection:
            rows = connection.execute(
                "select column_name from information_schema.columns "
                "where table_schema = ? and table_name = ? order by ordinal_position",
                [schema, table],
            ).fetchall()
        return [str(row[0]) for row in rows]


if __name__ == "__main__":
    TapDuckDB.cli()
