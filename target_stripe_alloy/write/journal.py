"""The journal: requests about to be sent, their results, the object of each record.

Simultaneous writes of several workers share one transaction: see `stripe_alloy.database`.

Version 2 keeps the *image* of a record (digest and base) apart from the object's id, for each
pipeline and each stream before stream maps, so that pipelines do not undo each other's work. It
notes *effects*, which no field of an object shows, in the transaction of the result.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from stripe_alloy.api.errors import AlloyError, SettingsError
from stripe_alloy.database import MOST, GroupCommit, cause_of, checked_url, open_engine, upsert
from stripe_alloy.text_enum import TextEnum
from stripe_alloy.write_log import KEY_PREFIX, operations
from target_stripe_alloy.plan.plan_types import BaseImage, IdMode
from target_stripe_alloy.write.journal_tables import (
    VERSION,
    effects,
    identities,
    images,
    indexed,
    journals,
    objects,
    prepare,
)

T = TypeVar("T")


class IntentStatus(TextEnum):
    """How a write ended, as the journal's rows hold it."""

    OPEN = "open"
    """The response is not known."""
    DONE = "done"
    FAILED = "failed"
    """Stripe refused it."""
    ABANDONED = "abandoned"
    """It is not sent again; its effect, if any, is read from Stripe."""


class JournalError(AlloyError):
    """The journal cannot be read or written. No request was sent without it."""


@dataclass(frozen=True)
class Scope:
    """The account and mode that objects are of, and the way in which records are identified."""

    account: str
    live: bool
    id_mode: str

    @property
    def name(self) -> str:
        """As in the journal's rows."""
        return f"{self.account_and_mode}/{self.id_mode}"

    @property
    def account_and_mode(self) -> str:
        """Account and mode: effects count there, however records are identified."""
        return f"{self.account}/{'live' if self.live else 'test'}"


@dataclass(frozen=True)
class Intent:
    """A request, exactly as it is sent."""

    seq: int
    stream: str
    key: str
    kind: str
    method: str
    path: str
    body: str
    idempotency_key: str
    made_at: float
    context: bytes | None = None
    """What saves the record once the response is there; see `base_images.Context`."""
    scope: str = ""
    """The journal's scope at the time."""


@dataclass(frozen=True)
class Effect:
    """An effect of a request that no field of the object shows, such as an email that was sent."""

    stream: str
    object_id: str
    name: str
    lasting: bool
    pipeline: str | None = None
    """The pipeline that asked for it; None: that of the journal."""


NEWER_UNWRITTEN = b"?"
"""After a digest: a later record of the key was not written."""
DIGEST_SIZE = 16
"""Bytes."""
RecordPosition = tuple[int, int]
"""(run, number) of a record: positions are in the order of the input."""


@dataclass(frozen=True)
class JournalEntry:
    """A row of the journal: a record's object, and the base image that a pipeline has of it."""

    stream: str
    key: str
    object_id: str | None
    digest: bytes | None = None
    base: bytes | None = None
    source: str = ""
    number: int = 0
    new_object: bool = False
    """Whether the key had no object before, or another one."""
    created: bool = False
    """Whether the object is new, and replaces no other: then no pipeline has an image of it."""
    position: RecordPosition | None = None
    """That of the record of the image; None: not noted."""
    pipeline: str | None = None
    """The pipeline of the image; None: that of the journal."""

    def is_same(self, digest: bytes) -> bool:
        """Whether a record is the last one that was written."""
        return self.digest in (digest, digest + NEWER_UNWRITTEN)

    @property
    def has_newer_unwritten(self) -> bool:
        """Whether a later record of the key was not written."""
        return self.digest is not None and len(self.digest) > DIGEST_SIZE

    def image(self) -> BaseImage | None:
        """Return the base image."""
        return msgspec.json.decode(self.base, type=BaseImage) if self.base else None

    @property
    def has_image(self) -> bool:
        """Whether the row has more than an id."""
        return self.digest is not None or self.base is not None

    @property
    def is_tombstone(self) -> bool:
        """Whether the last record of its pipeline and source was a tombstone."""
        return self.base is None and (self.digest is not None or self.position is not None)


@dataclass(frozen=True)
class IntentResult:
    """How a write ended."""

    status: IntentStatus
    http_status: int | None = None
    request_id: str | None = None
    object_id: str | None = None
    error: str | None = None


class Journal:
    """The journal of a run. Two runs cannot have it open at the same time."""

    def __init__(
        self,
        url: str,
        scope: Scope,
        *,
        pipeline: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.scope = scope
        self.pipeline = pipeline
        self._clock = clock
        self._engine, self._lock_engine = _engines(url)
        self._counter = threading.Lock()
        self._nonce = uuid.uuid4().hex
        try:
            self._lock = _take_lock(self._lock_engine, url)
            try:
                with self._engine.begin() as connection:
                    self.run, self._seq, self._known = _prepare(connection)
                _checkpoint(self._engine)
            except BaseException:
                self._lock.close()
                raise
        except sa.exc.SQLAlchemyError as error:
            raise _journal_error(error) from None
        self._writer = GroupCommit(self._engine, name="journal", convert_error=_journal_error)

    def close(self) -> None:
        """Write what is left, and release the lock."""
        self._writer.close()
        self._lock.close()
        self._engine.dispose()
        self._lock_engine.dispose()

    # ------------------------------------------------------------------ for `journal_keys`

    def execute(self, act: Callable[[sa.Connection], T]) -> T:
        """Run a function in the journal's transaction; return when it is on the disk."""
        return self._writer.do(act)

    def enqueue(self, act: Callable[[sa.Connection], object]) -> None:
        """Run a function in the journal's transaction later, before the next one that waits."""
        self._writer.enqueue(act)

    # ------------------------------------------------------------------ intents

    def intend(
        self,
        stream: str,
        key: str,
        kind: str,
        method: str,
        path: str,
        body: str,
        context: bytes | None = None,
        tag: str = "",
    ) -> Intent:
        """Save a request that is about to be sent; return when it is on the disk.

        `tag` ends the idempotency key: a Stripe event names the key, and so the effect.

        The idempotency key has a random part of this run: a journal that is restored from a copy
        repeats sequence numbers, and must not make a key for which Stripe has a response.
        """
        with self._counter:
            self._seq += 1
            seq = self._seq
        parts = (self._nonce, self.scope.name, stream, key, kind, str(seq))
        digest = sha256("\n".join(parts).encode()).hexdigest()
        made = KEY_PREFIX + digest[:40] + tag
        now, scope = self._clock(), self.scope.name
        intent = Intent(seq, stream, key, kind, method, path, body, made, now, context, scope)
        row = {name: getattr(intent, name) for name in Intent.__dataclass_fields__}
        row |= {"status": str(IntentStatus.OPEN)}
        self._writer.do(lambda c: c.execute(operations.insert(), row))
        return intent

    def answer(
        self,
        intent: Intent,
        result: IntentResult,
        known: Iterable[JournalEntry] = (),
        effects_done: Iterable[Effect] = (),
    ) -> None:
        """Save the result of a request, with the entries and effects that follow from it."""
        where = operations.c.seq == intent.seq
        values = {**vars(result), "status": str(result.status)}
        entries, done = list(known), [self._effect_row(effect) for effect in effects_done]

        def note(connection: sa.Connection) -> None:
            update = operations.update().where(where)
            connection.execute(update.values(answered_at=self._clock(), **values))
            self._save(connection, entries)
            upsert(connection, effects, ("scope", "stream", "object_id", "effect"), done)

        self._writer.do(note)

    def unanswered(self) -> list[Intent]:
        """Return the intents of the account and mode without a result, oldest first.

        Whatever their id mode, a later run must resolve them, or Stripe might execute them after
        newer writes.
        """
        columns = operations.c
        query = sa.select(*(columns[name] for name in Intent.__dataclass_fields__)).where(
            columns.scope.startswith(f"{self.scope.account_and_mode}/", autoescape=True),
            columns.status == str(IntentStatus.OPEN),
        )
        ordered = query.order_by(columns.seq)
        return self._writer.do(lambda c: [Intent(*row) for row in c.execute(ordered)])

    # ------------------------------------------------------------------ objects

    def load(self, stream: str, keys: Sequence[str], source: str = "") -> dict[str, JournalEntry]:
        """Return the entries of these keys, with the images of this pipeline and source."""
        mine = sa.and_(
            *(images.c[name] == objects.c[name] for name in ("scope", "stream", "key")),
            images.c.pipeline == self.pipeline,
            images.c.source == source,
        )
        older = (objects.c.digest, objects.c.base)
        image = (images.c.digest, images.c.base, images.c.run, images.c.number)
        query = (
            sa.select(objects.c.key, objects.c.object_id, *older, *image)
            .select_from(objects.outerjoin(images, mine))
            .where(
                objects.c.scope == self.scope.name,
                objects.c.stream == stream,
                objects.c.key.in_(sa.bindparam("keys", expanding=True)),
            )
        )

        def read(part: Sequence[str], connection: sa.Connection) -> dict[str, JournalEntry]:
            rows = connection.execute(query, {"keys": list(part)})
            return {row[0]: _entry(stream, source, row) for row in rows}

        found: dict[str, JournalEntry] = {}
        for start in range(0, len(keys), MOST):
            found |= self._writer.do(partial(read, keys[start : start + MOST]))
        return found

    def load_one(self, stream: str, key: str, source: str = "") -> JournalEntry | None:
        """Return the entry of a key; None if there is none."""
        return self.load(stream, [key], source).get(key)

    def knows_run(self, run: int) -> bool:
        """Whether this journal has the entries of an earlier run."""
        first, last = self._known
        return first <= run <= last

    def position_of(
        self, stream: str, key: str, object_ids: Iterable[str] = ()
    ) -> RecordPosition | None:
        """Return the position of the newest record that was written of a key or an object.

        An object may have other keys as well: of another pipeline, source or `id_mode`.
        """
        columns = (images.c.run, images.c.number)
        meant = self._of_object(images, stream, key, object_ids)
        query = sa.select(*columns).where(images.c.stream == stream, meant)
        newest = query.order_by(*(column.desc() for column in columns)).limit(1)

        def read(connection: sa.Connection) -> RecordPosition | None:
            row = connection.execute(newest).first()
            return None if row is None or row[0] is None else (row[0], row[1])

        return self._writer.do(read)

    def save(self, known: Sequence[JournalEntry]) -> None:
        """Save entries; they are on the disk after the next call that waits, or `close`."""
        entries = list(known)
        self._writer.enqueue(lambda c: self._save(c, entries))

    def note_unwritten(
        self, stream: str, key: str, object_ids: Iterable[str] = (), *, sent: bool
    ) -> None:
        """Note that a later record of a key or an object was not written.

        The next record, of any pipeline and source, saves its position, so that a replay of the
        other one is older. If requests for the other one were `sent`, its object is read as well.
        """
        named = list(object_ids)

        def note(connection: sa.Connection) -> None:
            for table in (images, objects):
                meant = self._of_object(table, stream, key, named)
                mine = sa.and_(table.c.stream == stream, meant)
                if sent:
                    connection.execute(table.update().where(mine).values(digest=None))
                    continue
                digests = set(connection.execute(sa.select(table.c.digest).where(mine)).scalars())
                for digest in digests - {None}:
                    same = table.update().where(mine, table.c.digest == digest)
                    connection.execute(same.values(digest=digest[:DIGEST_SIZE] + NEWER_UNWRITTEN))

        self._writer.enqueue(note)

    def _of_object(
        self, table: sa.Table, stream: str, key: str, object_ids: Iterable[str]
    ) -> sa.ColumnElement[bool]:
        """Select the rows of a key, and of all keys of its object and of these in the account."""
        mine = sa.and_(table.c.scope == self.scope.name, table.c.key == key)
        known = objects.alias()
        object_id = sa.select(known.c.object_id).where(*self._of_key(known, stream, key))
        other = objects.alias()
        keys = sa.select(other.c.scope, other.c.key).where(
            other.c.scope.in_([f"{self.scope.account_and_mode}/{mode}" for mode in IdMode]),
            other.c.stream == stream,
            sa.or_(other.c.object_id.in_(list(object_ids)), other.c.object_id.in_(object_id)),
        )
        return sa.or_(mine, sa.tuple_(table.c.scope, table.c.key).in_(keys))

    def _of_key(self, table: sa.FromClause, stream: str, key: str) -> list[sa.ColumnElement[bool]]:
        columns = table.c
        return [columns.scope == self.scope.name, columns.stream == stream, columns.key == key]

    def _save(self, connection: sa.Connection, entries: Sequence[JournalEntry]) -> None:
        scope = {"scope": self.scope.name}
        for entry in entries:
            if entry.created:
                connection.execute(
                    images.delete().where(*self._of_key(images, entry.stream, entry.key))
                )
        ids: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        image_rows = []
        for entry in entries:
            row = {**scope, "stream": entry.stream, "key": entry.key}
            older = {"digest": None, "base": None} if entry.has_image or entry.created else {}
            ids[bool(older)].append({**row, "object_id": entry.object_id, **older})
            if entry.has_image:
                of = self.pipeline if entry.pipeline is None else entry.pipeline
                place = {"pipeline": of, "source": entry.source}
                image = {"digest": entry.digest, "base": entry.base}
                run, number = entry.position or (self.run, entry.number)
                image_rows.append({**row, **place, **image, "run": run, "number": number})
        for rows in ids.values():
            upsert(connection, objects, ("scope", "stream", "key"), rows)
        upsert(connection, images, ("scope", "pipeline", "source", "stream", "key"), image_rows)

    # ------------------------------------------------------------------ effects

    def effects_of(self, stream: str, object_id: str) -> frozenset[str]:
        """Return the effects on an object that are not to be repeated.

        A passing effect counts only if an earlier run noted it and failed: then the record that
        asked for it is sent again.
        """
        columns = effects.c
        query = sa.select(columns.effect).where(
            columns.scope == self.scope.account_and_mode,
            columns.stream == stream,
            columns.object_id == object_id,
            sa.or_(columns.lasting, columns.run != self.run),
        )
        return self._writer.do(lambda c: frozenset(row[0] for row in c.execute(query)))

    def note_effects(self, done: Sequence[Effect]) -> None:
        """Save effects that follow from no response; on the disk later, as with `save`."""
        rows = [self._effect_row(effect) for effect in done]
        keys = ("scope", "stream", "object_id", "effect")
        self._writer.enqueue(lambda c: upsert(c, effects, keys, rows))

    def forget_passing_effects(self) -> None:
        """Forget effects that do not last, since all records of this pipeline are settled."""
        columns = effects.c
        mine = [columns.scope == self.scope.account_and_mode, columns.pipeline == self.pipeline]
        self._writer.do(
            lambda c: c.execute(effects.delete().where(*mine, sa.not_(columns.lasting)))
        )

    def _effect_row(self, effect: Effect) -> dict[str, Any]:
        return {
            "scope": self.scope.account_and_mode,
            "stream": effect.stream,
            "object_id": effect.object_id,
            "effect": effect.name,
            "lasting": effect.lasting,
            "pipeline": self.pipeline if effect.pipeline is None else effect.pipeline,
            "run": self.run,
            "at": self._clock(),
        }

    # ------------------------------------------------------------------ accounts

    def account_of(self, identity: str) -> str | None:
        """Return the account to which an identity was found to belong."""
        query = sa.select(identities.c.account).where(identities.c.identity == identity)
        return self._writer.do(lambda c: c.execute(query).scalar())

    def identify(self, identity: str, account: str) -> None:
        """Save the account to which an identity belongs, and work on it from now on."""
        row = {"identity": identity, "account": account}
        self._writer.do(lambda c: upsert(c, identities, ("identity",), [row]))
        self.scope = replace(self.scope, account=account)

    def accounts(self) -> list[str]:
        """Return the accounts of the journal's objects, in this mode."""
        mode = "live" if self.scope.live else "test"
        query = sa.select(objects.c.scope).distinct()

        def read(connection: sa.Connection) -> list[str]:
            parts = [str(row[0]).split("/") for row in connection.execute(query)]
            return sorted({part[0] for part in parts if part[1] == mode})

        return self._writer.do(read)

    def sample(self, account: str, stream: str, number: int) -> list[str]:
        """Return the ids of some objects of an account."""
        scope = replace(self.scope, account=account).account_and_mode
        query = (
            sa.select(objects.c.object_id)
            .distinct()
            .where(objects.c.scope.startswith(f"{scope}/", autoescape=True))
            .where(objects.c.stream == stream, objects.c.object_id.is_not(None))
            .limit(number)
        )
        return self._writer.do(lambda c: [str(row[0]) for row in c.execute(query)])

    # ------------------------------------------------------------------ scans for stamps

    def scanned_until(self, stream: str) -> float | None:
        """Return the time (Unix seconds) up to which all stamped objects are known."""
        query = sa.select(indexed.c.until).where(
            indexed.c.scope == self.scope.name, indexed.c.stream == stream
        )
        return self._writer.do(lambda c: c.execute(query).scalar())

    def save_scan(self, stream: str, until: float, known: Sequence[JournalEntry]) -> None:
        """Save stamped objects, and the time up to which all are known."""
        entries = list(known)
        mark = {"scope": self.scope.name, "stream": stream, "until": until}

        def note(connection: sa.Connection) -> None:
            self._save(connection, entries)
            upsert(connection, indexed, ("scope", "stream"), [mark])

        self._writer.do(note)


def _journal_error(error: Exception) -> JournalError:
    return JournalError(
        f"The journal cannot be used: {cause_of(error)}. Nothing is sent without it. "
        "Check `journal`."
    )


# ---------------------------------------------------------------------- the database


def _engines(url: str) -> tuple[sa.Engine, sa.Engine]:
    """Return the engines of the journal and of its lock: for SQLite a file beside it."""
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


def _take_lock(engine: sa.Engine, url: str) -> sa.Connection:
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


def _checkpoint(engine: sa.Engine) -> None:
    """Move SQLite's log into the database file: the log starts empty."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _prepare(connection: sa.Connection) -> tuple[int, int, tuple[int, int]]:
    """Bring the tables up to date.

    Returns the number of this run, the last sequence number, and the first and last run before.
    """
    exists = sa.inspect(connection).has_table(journals.name)
    version = connection.execute(sa.select(journals.c.version)).scalar() if exists else None
    if version is not None and version > VERSION:
        raise SettingsError(
            f"The journal is of version {version}, this release knows {VERSION}: upgrade"
        )
    prepare(connection)
    before = connection.execute(sa.select(journals.c.run)).scalar() or 0
    first = connection.execute(sa.select(journals.c.first_run)).scalar() or 0
    run = max(before + 1, int(time.time() * 1000))
    if version is None:
        made = {"id": uuid.uuid4().hex, "version": VERSION, "run": run, "first_run": run}
        connection.execute(journals.insert(), made)
    else:
        connection.execute(journals.update().values(version=VERSION, run=run))
    last = connection.execute(sa.select(sa.func.max(operations.c.seq))).scalar()
    return run, int(last or 0), (int(first), int(before))


def _entry(stream: str, source: str, row: sa.Row[Any]) -> JournalEntry:
    key, object_id, older_digest, older_base, digest, base, run, number = row
    if run is None or number is None:
        return JournalEntry(stream, key, object_id, older_digest, older_base, source)
    return JournalEntry(stream, key, object_id, digest, base, source, position=(run, number))
