"""Ask the DuckDB file of the main job: `python examples/ask.py examples/revenue.sql --rows 5`.

Prints a Markdown table, or with `--csv` what a spreadsheet or another tool takes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

FILE = Path(__file__).parents[1] / "output" / "emulator.duckdb"


def ask(query: str, database: Path, today: str | None = None) -> tuple[list[str], list[Any]]:
    """The columns and rows of an answer; `today` is a date, by default that of the newest event."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")  # a day begins as it does in the tables
        if today:
            connection.execute("set variable today = cast(? as timestamp)", [today])
        found = connection.execute(query)
        return [column[0] for column in found.description or ()], found.fetchall()


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]], most: int | None = None) -> str:
    """A table; what of it is left out is counted below."""
    shown = rows[:most]
    lines = [columns, ["---"] * len(columns), *shown]
    text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    left = len(rows) - len(shown)
    return f"{text}\n\n… and {left} more." if left else text


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Ask what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("query", type=Path, help="a file with one query")
    parser.add_argument("database", type=Path, nargs="?", default=FILE)
    parser.add_argument("--rows", type=int, help="show no more than so many")
    parser.add_argument("--today", help="a date, such as 2026-11-24; by default the newest event's")
    parser.add_argument("--csv", action="store_true")
    given = parser.parse_args()
    if not given.database.exists():
        parser.error(f"no {given.database}: `./run meltano run stripe-to-duckdb` makes it")
    columns, rows = ask(given.query.read_text("utf-8"), given.database, given.today)
    if given.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([columns, *rows])
    else:
        sys.stdout.write(markdown(columns, rows, given.rows) + "\n")


if __name__ == "__main__":
    main()
