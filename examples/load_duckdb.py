#!/usr/bin/env python3
"""The loader `target-duckdb`, on a current DuckDB and with a word at the end.

target-duckdb 0.8.0 loads by `COPY … FROM` a CSV file without a header, and does not say so. From
DuckDB 1.3 on the first row is then taken for the header and dropped. The fix was merged
(jwills/target-duckdb#58) and is in no release yet; until it is, this says `header false` for it.

It logs how many rows were loaded and where they are, instead of each table's DDL.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import target_duckdb

COPY_OPTIONS = "WITH (new_line"
"""How target-duckdb begins the options of its COPY."""
WITHOUT_HEADER = "WITH (header false, new_line"
LOADING = "Loading %d rows into '%s'"
"""What it logs of each batch: the rows, and the table."""
_logger = logging.getLogger("target_duckdb")
_connect: Callable[[dict[str, Any]], duckdb.DuckDBPyConnection] = target_duckdb.duckdb_connect


class Connection:
    """A connection of DuckDB that loads CSV files without a header."""

    def __init__(self, inner: duckdb.DuckDBPyConnection) -> None:
        self._inner = inner

    def execute(self, query: str, *parameters: object) -> object:
        """Run a statement."""
        return self._inner.execute(query.replace(COPY_OPTIONS, WITHOUT_HEADER), *parameters)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class Loaded(logging.Filter):
    """Counts the rows that are loaded, and keeps DDL out of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Counter[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be logged."""
        if record.msg == LOADING and isinstance(record.args, tuple):
            count, table = record.args
            self.rows[str(table).rsplit(".", 1)[-1].strip('"')] += int(str(count))
            return True
        return record.levelno > logging.INFO

    def summary(self, path: str, schema: str) -> str:
        """One line: how many rows of which tables were loaded, and into which file."""
        if not self.rows:
            return f"Loaded: nothing new. The tables are in {path}, schema {schema}."
        each = ", ".join(f"{table} {count:,}" for table, count in sorted(self.rows.items()))
        rows = self.rows.total()
        return f"Loaded: {rows:,} rows into {path}, schema {schema} ({each})."


def main() -> int:
    """Load what comes on stdin."""
    loaded = Loaded()
    _logger.addFilter(loaded)
    config: dict[str, Any] = {}
    if "--config" in sys.argv:
        config = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text("utf-8"))
    path = str(config.get("path") or config.get("filepath") or "")
    if path and ":" not in path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    target_duckdb.duckdb_connect = lambda config: Connection(_connect(config))
    try:
        target_duckdb.main()
    except duckdb.IOException as error:
        if "lock" not in str(error):
            raise
        sys.stderr.write(
            f"DuckDB: {path} is open in another program, and only one may write to it. Close it "
            "there, then run this again: the tap goes on where it stopped.\n"
        )
        return 1
    told = loaded.summary(path, str(config.get("default_target_schema") or "main"))
    sys.stderr.write(f"{told}\nAsk it: ./run python examples/ask.py examples/revenue.sql\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
