"""The journal: what was about to be sent, what came back, which object is whose.

What several workers hand it at a time goes into one transaction: `stripe_alloy.database`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from stripe_alloy.database import MOST, GroupCommit, cause_of, checked_url, open_engine, upsert
from stripe_alloy.errors import AlloyError, SettingsError
from stripe_alloy.written import KEY_PREFIX, meta, operations
from target_stripe_alloy.decision import Base

T = TypeVar("T")

OPEN, DONE, FAILED, ABANDONED = "open", "done", "failed", "abandoned"

_journals = sa.Table(
    "stripe_alloy_journal",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
_objects = sa.Table(
    "stripe_alloy_objects",
    meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("key", sa.String(500), primary_key=True),
    sa.Column("object_id", sa.String(255)),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("base", sa.LargeBinary),
)
_indexed = sa.Table(
    "stripe_alloy_indexed",
    meta,
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
        self._writer = GroupCommit(self._engine, name="journal", trouble=_trouble)

    def close(self) -> None:
        """Write what is left, and let others in."""
        self._writer.close()
        self._lock.close()
        self._engine.dispose()
        self._lock_engine.dispose()

    # ------------------------------------------------------------------ for `journal_keys`

    def do(self, act: Callable[[sa.Connection], T]) -> T:
        """Run something in the journal's transaction, and wait until it is on the disk."""
        return self._writer.do(act)

    def tell(self, act: Callable[[sa.Connection], object]) -> None:
        """Run something in the journal's transaction, before whatever is handed in later."""
        self._writer.tell(act)

    # ------------------------------------------------------------------ intents

    def intend(self, stream: str, key: str, kind: str, method: str, path: str, body: str) -> Intent:
        """Note what is about to be sent; it is on the disk when this returns."""
        with self._counter:
            self._seq += 1
            seq = self._seq
        parts = (self._id, self.scope.name, stream, key, kind, str(seq))
        digest = sha256("\n".join(parts).encode()).hexdigest()
        intent = Intent(
            seq, stream, key, kind, method, path, body, KEY_PREFIX + digest[:40], self._clock()
        )
        row = {name: getattr(intent, name) for name in Intent.__dataclass_fields__}
        row |= {"scope": self.scope.name, "status": OPEN}
        self._writer.do(lambda c: c.execute(operations.insert(), row))
        return intent

    def answer(self, intent: Intent, outcome: Outcome, known: Iterable[Known] = ()) -> None:
        """Note what came of it, together with what is known by it."""
        where = operations.c.seq == intent.seq
        values = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}
        rows = [self._row(entry) for entry in known]

        def note(connection: sa.Connection) -> None:
            update = operations.update().where(where)
            connection.execute(update.values(answered_at=self._clock(), **values))
            self._keep(connection, rows)

        self._writer.do(note)

    def unanswered(self) -> list[Intent]:
        """Intents of which nobody knows what came, oldest first."""
        columns = [operations.c[name] for name in Intent.__dataclass_fields__]
        query = (
            sa.select(*columns)
            .where(operations.c.scope == self.scope.name, operations.c.status == OPEN)
            .order_by(operations.c.seq)
        )
        return self._writer.do(lambda c: [Intent(*row) for row in c.execute(query)])

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

        return self._writer.do(read)

    def recall_many(self, stream: str, keys: Sequence[str]) -> dict[str, Known]:
        """The same for any number of keys."""
        found: dict[str, Known] = {}
        for start in range(0, len(keys), MOST):
            found |= self.recall(stream, keys[start : start + MOST])
        return found

    def keep(self, known: Sequence[Known]) -> None:
        """Remember; not before `close` or the next call that waits is it on the disk."""
        rows = [self._row(entry) for entry in known]
        self._writer.tell(lambda c: self._keep(c, rows))

    def _row(self, known: Known) -> dict[str, Any]:
        row = {name: getattr(known, name) for name in Known.__dataclass_fields__}
        return row | {"scope": self.scope.name}

    def _keep(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        upsert(connection, _objects, ("scope", "stream", "key"), rows)

    # ------------------------------------------------------------------ the index of stamps

    def indexed_until(self, stream: str) -> float | None:
        """Until when (created, Unix seconds) stamped objects are all known."""
        query = sa.select(_indexed.c.until).where(
            _indexed.c.scope == self.scope.name, _indexed.c.stream == stream
        )
        return self._writer.do(lambda c: c.execute(query).scalar())

    def index(self, stream: str, until: float, known: Sequence[Known]) -> None:
        """Note stamped objects, and until when they are now all known."""
        rows = [self._row(entry) for entry in known]
        mark = {"scope": self.scope.name, "stream": stream, "until": until}

        def note(connection: sa.Connection) -> None:
            self._keep(connection, rows)
            upsert(connection, _indexed, ("scope", "stream"), [mark])

        self._writer.do(note)


def _trouble(error: Exception) -> JournalError:
    return JournalError(
        f"The journal fails: {cause_of(error)}. Nothing is sent without it. Check `journal`."
    )


# ---------------------------------------------------------------------- the database


def _engines(url: str) -> tuple[sa.Engine, sa.Engine]:
    """The journal's database, and that which holds the lock: for SQLite a file beside it."""
    parsed = checked_url(url, "journal")
    engine = open_engine(parsed, "journal")
    if parsed.get_backend_name() != "sqlite":
        return engine, open_engine(parsed, "journal")
    beside = f"{parsed.database}.lock"
    Path(beside).touch(mode=0o600)
    lock = sa.create_engine(
        parsed.set(database=beside), connect_args={"timeout": 0, "check_same_thread": False}
    )
    return engine, lock


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
    meta.create_all(connection)
    for index in operations.indexes:  # of a journal that is older than one of them
        index.create(connection, checkfirst=True)
    row = connection.execute(sa.select(_journals)).first()
    if row is None:
        made = {"id": uuid.uuid4().hex, "version": VERSION}
        connection.execute(_journals.insert(), made)
        return str(made["id"]), 0
    if row.version > VERSION:
        raise SettingsError(
            f"The journal is of version {row.version}, this release knows {VERSION}: upgrade"
        )
    last = connection.execute(sa.select(sa.func.max(operations.c.seq))).scalar()
    return str(row.id), int(last or 0)
