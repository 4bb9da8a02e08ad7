"""Stores objects in one SQLite file, as the JSON that is sent."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from stripe_alloy.emulator.emulated_types import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LISTED, DELETED, UNLISTED = 0, 1, 2  # values of `shown`

MAX_PREVIEWS = 1000
PATIENCE = 60.0
"""Seconds to wait for another process that writes to the file."""
_COLUMN_TYPES = "".join(f", {name}" for name in COLUMNS)
_INDEXED = ("customer", "parent", "payment_intent", "charge", "payout", "source", "type")
_OBJECTS = (
    "CREATE TABLE IF NOT EXISTS objects (seq INTEGER PRIMARY KEY, account TEXT NOT NULL, "
    "object TEXT NOT NULL, id TEXT NOT NULL, created INTEGER NOT NULL, shown INTEGER NOT NULL, "
    f"body TEXT NOT NULL, extra TEXT{_COLUMN_TYPES})"
)
_ANSWERS = (
    "CREATE TABLE IF NOT EXISTS answers (account TEXT, key TEXT, digest TEXT, status INTEGER, "
    "body BLOB, request_id TEXT, created REAL, PRIMARY KEY (account, key))"
)
_SCHEMA = (
    _OBJECTS,
    "CREATE UNIQUE INDEX IF NOT EXISTS by_id ON objects (account, object, id)",
    "CREATE INDEX IF NOT EXISTS by_created ON objects (account, object, created, seq)",
    *(
        f"CREATE INDEX IF NOT EXISTS by_{name} ON objects (account, object, {name}, created, seq) "
        f"WHERE {name} IS NOT NULL"
        for name in _INDEXED
    ),
    _ANSWERS,
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT)",
)
_NAMES = ("account", "object", "id", "created", "shown", "body", "extra", *COLUMNS)
_KEPT = ("account", "object", "id", "created")
_PUT = (
    f"INSERT INTO objects ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))}) "  # noqa: S608
    "ON CONFLICT (account, object, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in _KEPT)
)


class StoredObject(NamedTuple):
    """A stored object."""

    id: str
    created: int
    seq: int
    shown: int
    body: str
    extra: str | None


@dataclass
class Query:
    """A query: filters, order and cursor."""

    account: str
    kind: str
    where: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    oldest_first: bool = False
    limit: int | None = None
    after: str | None = None
    before: str | None = None

    def add(self, clause: str, *values: Any) -> None:
        """Add a filter."""
        self.where.append((clause, values))


class Store:
    """The objects of all accounts."""

    def __init__(self, path: str) -> None:
        self.lock = threading.RLock()
        self.previews: dict[tuple[str, str], tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        """Preview invoices with their lines; neither lists nor the file contain them."""
        self._db = sqlite3.connect(
            path, timeout=PATIENCE, check_same_thread=False, isolation_level=None
        )
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=OFF", *_SCHEMA):
            self._db.execute(statement)

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a transaction that excludes other threads and processes."""
        with self.lock:
            if self._db.in_transaction:  # of this thread's outer transaction
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement."""
        with self.lock:
            return self._db.execute(statement, values).fetchall()

    def put(self, rows: Iterable[Sequence[object]]) -> None:
        """Insert or replace rows; a replaced object keeps its place in lists."""
        self._db.executemany(_PUT, rows)

    def keep_preview(
        self, account: str, preview: dict[str, Any], lines: list[dict[str, Any]]
    ) -> None:
        """Keep a preview invoice in memory, among the latest ones."""
        with self.lock:
            self.previews[account, preview["id"]] = preview, lines
            if len(self.previews) > MAX_PREVIEWS:
                del self.previews[next(iter(self.previews))]

    def remove(self, account: str, kind: str, object_id: str) -> None:
        """Delete an object."""
        self._db.execute(
            "DELETE FROM objects WHERE account = ? AND object = ? AND id = ?",
            (account, kind, object_id),
        )

    def get(self, account: str, kind: str, object_id: str) -> StoredObject | None:
        """Return an object by its ID."""
        with self.lock:
            row = self._db.execute(
                "SELECT id, created, seq, shown, body, extra FROM objects "
                "WHERE account = ? AND object = ? AND id = ?",
                (account, kind, object_id),
            ).fetchone()
        return StoredObject(*row) if row else None

    def page(self, query: Query) -> tuple[list[StoredObject], bool]:
        """Return a page of a list, and whether more follows in its direction."""
        backwards = query.before is not None
        rows = self.select(query, flip=backwards)
        more = query.limit is not None and len(rows) > query.limit
        rows = rows[: query.limit]
        return (rows[::-1] if backwards else rows), more

    def select(self, query: Query, *, flip: bool = False) -> list[StoredObject]:
        """Return the rows of a query, one more than its limit."""
        clauses = ["account = ?", "object = ?"]
        values: list[object] = [query.account, query.kind]
        for clause, bound in query.where:
            clauses.append(clause)
            values.extend(bound)
        rising = query.oldest_first != flip
        cursor = query.after or query.before
        with self.lock:
            if cursor is not None:
                clauses.append(f"(created, seq) {'>' if rising else '<'} (?, ?)")
                values.extend(self._place(query, cursor))
            order = "" if rising else " DESC"
            statement = (
                f"SELECT id, created, seq, shown, body, extra FROM objects "  # noqa: S608
                f"WHERE {' AND '.join(clauses)} ORDER BY created{order}, seq{order}"
            )
            if query.limit is not None:
                statement += f" LIMIT {query.limit + 1}"
            return [StoredObject(*row) for row in self._db.execute(statement, values)]

    def _place(self, query: Query, object_id: str) -> tuple[int, int]:
        found = self.get(query.account, query.kind, object_id)
        if found is None:
            raise KeyError(object_id)
        return found.created, found.seq

    def newest(self, account: str, kind: str) -> int | None:
        """Return when the newest object of a type was created."""
        rows = self.execute(
            "SELECT max(created) FROM objects WHERE account = ? AND object = ?", account, kind
        )
        newest: int | None = rows[0][0]
        return newest

    def count_start(self) -> int:
        """Count a start of the emulator on this store; return the number of earlier ones."""
        with self.transaction():
            rows = self.execute("SELECT value FROM facts WHERE name = 'starts'")
            before = int(rows[0][0]) if rows else 0
            self.execute("INSERT OR REPLACE INTO facts VALUES ('starts', ?)", str(before + 1))
        return before

    def size(self) -> int:
        """Return the number of objects that were ever stored."""
        return int(self.execute("SELECT coalesce(max(seq), 0) FROM objects")[0][0])
