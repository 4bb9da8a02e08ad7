"""The journal: what was about to be sent, what came back, which object is whose.

One thread owns the database. What several workers hand it at a time goes into one transaction, so
that each of them waits for one commit and the disk sees few.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from stripe_alloy.errors import AlloyError, SettingsError
from target_stripe_alloy.decision import Base

T = TypeVar("T")

OPEN, DONE, FAILED, ABANDONED = "open", "done", "failed", "abandoned"
MOST = 500
"""Rows asked for or taken into one transaction at a time."""

_meta = sa.MetaData()
_journals = sa.Table(
    "stripe_alloy_journal",
    _meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
_operations = sa.Table(
    "stripe_alloy_operations",
    _meta,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("scope", sa.String(120), nullable=False),
    sa.Column("stream", sa.String(60), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("method", sa.String(10), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.String(80), nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("answered_at", sa.Float),
    sa.Column("http_status", sa.Integer),
    sa.Column("request_id", sa.String(80)),
    sa.Column("object_id", sa.String(255)),
    sa.Column("error", sa.Text),
    sa.Index("stripe_alloy_open", "scope", "status"),
)
_objects = sa.Table(
    "stripe_alloy_objects",
    _meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("key", sa.String(500), primary_key=True),
    sa.Column("object_id", sa.String(255)),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("base", sa.LargeBinary),
)
_indexed = sa.Table(
    "stripe_alloy_indexed",
    _meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("until", sa.Float, nullable=False),
)
VERSION = 1


class JournalError(AlloyError):
    """The journal cannot be read or written: nothing was sent that it does not know of."""


@dataclass(frozen=True)
class Scope:
    """Whose objects and keys are meant: of which account and mode, named in which way."""

    account: str
    live: bool
    id_mode: str

    @property
    def name(self) -> str:
        """As the journal's rows hold it."""
        return f"{self.account}/{'live' if self.live else 'test'}/{self.id_mode}"


@dataclass(frozen=True)
class Intent:
    """A write, as it is sent, to the byte."""

    seq: int
    stream: str
    key: str
    kind: str
    method: str
    path: str
    body: str
    idempotency_key: str
    made_at: float


@dataclass(frozen=True)
class Known:
    """What the journal knows of a record's object."""

    stream: str
    key: str
    object_id: str | None
    digest: bytes | None = None
    base: bytes | None = None

    def image(self) -> Base | None:
        """The base image."""
        return msgspec.json.decode(self.base, type=Base) if self.base else None


@dataclass(frozen=True)
class Outcome:
    """How a write ended."""

    status: str
    http_status: int | None = None
    request_id: str | None = None
    object_id: str | None = None
    error: str | None = None


def encode(base: Base) -> bytes:
    """A base image, as the journal keeps it."""
    return msgspec.json.encode(base)


class Journal:
    """Open it once a run: it refuses a second one."""

    def __init__(self, url: str, scope: Scope, *, clock: Callable[[], float] = time.time) -> None:
        self.scope = scope
        self._clock = clock
        self._engine, self._lock_engine = _engines(url)
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._counter = threading.Lock()
        try:
            self._lock = _hold(self._lock_engine, url)
            try:
                with self._engine.begin() as connection:
                    self._id, self._seq = _prepare(connection)
            except BaseException:
                self._lock.close()
                raise
        except sa.exc.SQLAlchemyError as error:
            raise _trouble(error) from None
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, and let others in."""
        self._work.put(None)
        self._thread.join()
        self._lock.close()
        self._engine.dispose()
        self._lock_engine.dispose()

    # ------------------------------------------------------------------ intents

    def intend(self, stream: str, key: str, kind: str, method: str, path: str, body: str) -> Intent:
        """Note what is about to be sent; it is on the disk when this returns."""
        with self._counter:
            self._seq += 1
            seq = self._seq
        parts = (self._id, self.scope.name, stream, key, kind, str(seq))
        digest = sha256("\n".join(parts).encode()).hexdigest()
        intent = Intent(
            seq, stream, key, kind, method, path, body, f"alloy-{digest[:40]}", self._clock()
        )
        row = {name: getattr(intent, name) for name in Intent.__dataclass_fields__}
        row |= {"scope": self.scope.name, "status": OPEN}
        self._do(lambda c: c.execute(_operations.insert(), row))
        return intent

    def answer(self, intent: Intent, outcome: Outcome, known: Iterable[Known] = ()) -> None:
        """Note what came of it, together with what is known by it."""
        where = _operations.c.seq == intent.seq
        values = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}
        rows = [self._row(entry) for entry in known]

        def note(connection: sa.Connection) -> None:
            update = _operations.update().where(where)
            connection.execute(update.values(answered_at=self._clock(), **values))
            self._keep(connection, rows)

        self._do(note)

    def unanswered(self) -> list[Intent]:
        """Intents of which nobody knows what came, oldest first."""
        columns = [_operations.c[name] for name in Intent.__dataclass_fields__]
        query = (
            sa.select(*columns)
            .where(_operations.c.scope == self.scope.name, _operations.c.status == OPEN)
            .order_by(_operations.c.seq)
        )
        return self._do(lambda c: [Intent(*row) for row in c.execute(query)])

    # ------------------------------------------------------------------ objects

    def recall(self, stream: str, keys: Sequence[str]) -> dict[str, Known]:
        """What is known of these keys."""
        columns = _objects.c
        query = sa.select(columns.key, columns.object_id, columns.digest, columns.base).where(
            columns.scope == self.scope.name,
            columns.stream == stream,
            columns.key.in_(sa.bindparam("keys", expanding=True)),
        )

        def read(connection: sa.Connection) -> dict[str, Known]:
            rows = connection.execute(query, {"keys": list(keys)})
            return {key: Known(stream, key, *rest) for key, *rest in rows}

        return self._do(read)

    def recall_many(self, stream: str, keys: Sequence[str]) -> dict[str, Known]:
        """The same for any number of keys."""
        found: dict[str, Known] = {}
        for start in range(0, len(keys), MOST):
            found |= self.recall(stream, keys[start : start + MOST])
        return found

    def keep(self, known: Sequence[Known]) -> None:
        """Remember; not before `close` or the next call that waits is it on the disk."""
        rows = [self._row(entry) for entry in known]
        self._work.put(_Work(lambda c: self._keep(c, rows), None))

    def _row(self, known: Known) -> dict[str, Any]:
        row = {name: getattr(known, name) for name in Known.__dataclass_fields__}
        return row | {"scope": self.scope.name}

    def _keep(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        _upsert(connection, _objects, ("scope", "stream", "key"), rows)

    # ------------------------------------------------------------------ the index of stamps

    def indexed_until(self, stream: str) -> float | None:
        """Until when (created, Unix seconds) stamped objects are all known."""
        query = sa.select(_indexed.c.until).where(
            _indexed.c.scope == self.scope.name, _indexed.c.stream == stream
        )
        return self._do(lambda c: c.execute(query).scalar())

    def index(self, stream: str, until: float, known: Sequence[Known]) -> None:
        """Note stamped objects, and until when they are now all known."""
        rows = [self._row(entry) for entry in known]
        mark = {"scope": self.scope.name, "stream": stream, "until": until}

        def note(connection: sa.Connection) -> None:
            self._keep(connection, rows)
            _upsert(connection, _indexed, ("scope", "stream"), [mark])

        self._do(note)

    # ------------------------------------------------------------------ the thread

    def _do(self, act: Callable[[sa.Connection], T]) -> T:
        future: Future[T] = Future()
        self._work.put(_Work(act, future))
        return future.result()

    def _write(self) -> None:
        failure: JournalError | None = None
        while True:
            batch = self._batch()
            if not batch:
                return
            if failure is None:
                failure = self._commit(batch)
            else:  # what was only to be kept may be lost, what waits must know
                _fail(batch, failure)

    def _batch(self) -> list[_Work]:
        first = self._work.get()
        batch = [first] if first else []
        while batch and len(batch) < MOST:
            try:
                entry = self._work.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                self._work.put(None)
                break
            batch.append(entry)
        return batch

    def _commit(self, batch: list[_Work]) -> JournalError | None:
        try:
            with self._engine.begin() as connection:
                results = [work.act(connection) for work in batch]
        except sa.exc.SQLAlchemyError as error:
            failure = _trouble(error)
            _fail(batch, failure)
            return failure
        for work, result in zip(batch, results, strict=True):
            if work.future:
                work.future.set_result(result)
        return None


@dataclass(frozen=True)
class _Work:
    act: Callable[[sa.Connection], Any]
    future: Future[Any] | None


def _fail(batch: list[_Work], failure: JournalError) -> None:
    for work in batch:
        if work.future:
            work.future.set_exception(failure)


def _trouble(error: Exception) -> JournalError:
    cause = getattr(error, "orig", None) or error
    return JournalError(f"The journal fails: {cause}. Nothing is sent without it. Check `journal`.")


# ---------------------------------------------------------------------- the database


def _engines(url: str) -> tuple[sa.Engine, sa.Engine]:
    """The journal's database, and that which holds the lock: for SQLite a file beside it."""
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise SettingsError("`journal` must be a sqlite:/// or a postgresql:// URL")
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed), sa.create_engine(parsed)
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise SettingsError(f"`journal` is no URL that can be opened: {error}") from None
    if not parsed.database or parsed.database == ":memory:":
        raise SettingsError("`journal` must be a file: what is only in memory survives no crash")
    file = Path(parsed.database)
    file.parent.mkdir(parents=True, exist_ok=True)
    for own in (file, file.with_name(file.name + ".lock")):
        own.touch(mode=0o600)  # it holds what is sent to Stripe
    engine = sa.create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})
    sa.event.listen(engine, "connect", _safe)
    lock = sa.create_engine(
        parsed.set(database=parsed.database + ".lock"),
        connect_args={"timeout": 0, "check_same_thread": False},
    )
    return engine, lock


def _safe(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _hold(engine: sa.Engine, url: str) -> sa.Connection:
    """Take the lock that ends with this process, however it ends."""
    connection = engine.connect()
    try:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            return connection
        number = int.from_bytes(sha256(b"stripe-alloy journal").digest()[:7], "big")
        if connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar():
            return connection
    except sa.exc.OperationalError as error:
        if "locked" not in str(error):
            connection.close()
            raise
    connection.close()
    shown = sa.make_url(url).render_as_string(hide_password=True)
    raise SettingsError(f"Another run is writing with the journal {shown}: wait until it is done")


def _prepare(connection: sa.Connection) -> tuple[str, int]:
    """Make the tables; the journal's id and its last sequence number."""
    _meta.create_all(connection)
    row = connection.execute(sa.select(_journals)).first()
    if row is None:
        made = {"id": uuid.uuid4().hex, "version": VERSION}
        connection.execute(_journals.insert(), made)
        return str(made["id"]), 0
    if row.version > VERSION:
        raise SettingsError(
            f"The journal is of version {row.version}, this release knows {VERSION}: upgrade"
        )
    last = connection.execute(sa.select(sa.func.max(_operations.c.seq))).scalar()
    return str(row.id), int(last or 0)


def _upsert(
    connection: sa.Connection, table: sa.Table, keys: Sequence[str], rows: list[dict[str, Any]]
) -> None:
    if not rows:
        return
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[
        connection.dialect.name
    ](table)
    fresh = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=list(keys), set_=fresh), rows)
