"""Databases that must not lose what they were given: opened safely, written by one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from stripe_alloy.errors import AlloyError, SettingsError

T = TypeVar("T")

MOST = 500
"""Rows asked for or taken into one transaction at a time."""
ROW_ERRORS = (sa.exc.DataError, OverflowError, ValueError)
"""What a driver raises on values that it cannot store: the database itself works."""


def checked_url(url: str, setting: str) -> sa.URL:
    """A URL of a SQLite file or of PostgreSQL; `SettingsError` names the setting otherwise."""
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect()
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(f"`{setting}` is no URL that can be opened: {error}") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(f"`{setting}` must be a sqlite:/// or a postgresql:// URL")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise SettingsError(f"`{setting}` must be a file: what is only in memory survives no crash")
    return parsed


def open_engine(url: sa.URL, setting: str) -> sa.Engine:
    """A database in which what is committed is on the disk; only its owner may read the file."""
    if url.get_backend_name() != "sqlite":
        try:
            return sa.create_engine(url)
        except ModuleNotFoundError as error:
            raise SettingsError(f"`{setting}` is no URL that can be opened: {error}") from None
    file = Path(str(url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
    sa.event.listen(engine, "connect", _safe)
    return engine


def _safe(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def cause_of(error: Exception) -> object:
    """What the database itself says, without the statement around it."""
    return getattr(error, "orig", None) or error


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT."""
    dialects = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    return dialects[connection.dialect.name](table)


def upsert(
    connection: sa.Connection, table: sa.Table, keys: Sequence[str], rows: list[dict[str, Any]]
) -> None:
    """Insert rows, or replace those with the same keys."""
    if not rows:
        return
    insert = insert_into(connection, table)
    fresh = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=list(keys), set_=fresh), rows)


@dataclass(frozen=True)
class _Work:
    act: Callable[[sa.Connection], Any]
    future: Future[Any] | None


class GroupCommit:
    """One thread owns the database, and commits what several hand it at a time as one transaction.

    So each of them waits for one commit and the disk sees few.
    `trouble` makes an error of the database's; the first one ends all later work too.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        name: str,
        trouble: Callable[[Exception], AlloyError],
    ) -> None:
        self._engine = engine
        self._trouble = trouble
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left."""
        self._work.put(None)
        self._thread.join()

    def do(self, act: Callable[[sa.Connection], T]) -> T:
        """Do something, and wait until it is on the disk."""
        return self.submit(act).result()

    def submit(self, act: Callable[[sa.Connection], T]) -> Future[T]:
        """Do something; the future is done once it is on the disk."""
        future: Future[T] = Future()
        self._work.put(_Work(act, future))
        return future

    def tell(self, act: Callable[[sa.Connection], object]) -> None:
        """Do something some time; not before `close` or the next that waits is it on the disk."""
        self._work.put(_Work(act, None))

    def _write(self) -> None:
        failure: AlloyError | None = None
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

    def _commit(self, batch: list[_Work]) -> AlloyError | None:
        """Do a batch in one transaction; whatever is wrong, the thread goes on.

        Work that the database cannot store fails alone: the rest is done without it.
        """
        try:
            with self._engine.begin() as connection:
                results = [work.act(connection) for work in batch]
        except sa.exc.SQLAlchemyError as error:
            if isinstance(error, ROW_ERRORS):
                return self._apart(batch, error)
            return self._failed(batch, error)
        except Exception as error:  # noqa: BLE001 - whoever waits for it must know
            return self._apart(batch, error)
        for work, result in zip(batch, results, strict=True):
            if work.future:
                work.future.set_result(result)
        return None

    def _apart(self, batch: list[_Work], error: Exception) -> AlloyError | None:
        if len(batch) > 1:
            for n, work in enumerate(batch):
                if failure := self._commit([work]):
                    _fail(batch[n + 1 :], failure)
                    return failure
            return None
        [work] = batch
        if work.future is None:  # nobody would ever know that it is lost
            return self._failed(batch, error)
        _fail(batch, self._trouble(error))
        return None

    def _failed(self, batch: list[_Work], error: Exception) -> AlloyError:
        failure = self._trouble(error)
        _fail(batch, failure)
        return failure


def _fail(batch: list[_Work], failure: AlloyError) -> None:
    for work in batch:
        if work.future:
            work.future.set_exception(failure)
