"""Durable SQLite and PostgreSQL databases with group commit."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from stripe_alloy.api.errors import AlloyError, SettingsError

T = TypeVar("T")

MOST = 500
"""Maximum number of rows per query or transaction."""
ROW_ERRORS = (sa.exc.DataError, OverflowError, ValueError)
"""Errors of a driver about values that it cannot store; the database itself works."""


_DRIVERS = {"sqlite": ("pysqlite",), "postgresql": ("psycopg", "psycopg2", "pg8000")}
_SQLITE_OPTIONS = {
    *("timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"),
    *("uri", "mode", "cache", "immutable", "nolock", "vfs", "psow", "modeof"),
}
_AFTER_PASSWORD = re.compile(
    r"[^:/]*://(?:[^:/]*(?::(?P<password>[^@]*))?@)?(?P<rest>.*)", re.DOTALL
)
_NAME_AND_OPTIONS = re.compile(r"/.*\?.*=", re.DOTALL)
"""Recognises an @ in an option, after the host: what is before it is not a password."""
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f:.%]+")
_ESCAPES = (
    "write %40 for an at sign, %2F for a /, %3A for a :, %23 for a #, %3F for a ?, %20 for a blank "
    "and %25 for a % in the user or password"
)
_OPTION = re.compile(r"(invalid connection option) .*")
_passwords: set[str] = set()
"""Passwords of all opened URLs; no message may contain one."""
_SHORTEST = 3


def checked_url(url: str, setting: str) -> sa.URL:
    """Check the URL of a SQLite file or of PostgreSQL.

    Raises `SettingsError`, which names the setting and quotes nothing of the URL: if a password
    contains an @, it is unclear which part is the password.
    """
    parsed = _parsed(url, setting)
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise SettingsError(f"`{setting}` must be a sqlite:/// or a postgresql:// URL")
    if parsed.drivername not in (backend, *(f"{backend}+{name}" for name in _DRIVERS[backend])):
        raise SettingsError(
            f"`{setting}` names a driver that cannot be used: one of "
            f"{', '.join(f'{backend}+{name}' for name in _DRIVERS[backend])}"
        )
    check = _check_sqlite if backend == "sqlite" else _check_server
    check(parsed, url, setting)
    _passwords.update(_passwords_of(parsed))
    return parsed


def _parsed(url: str, setting: str) -> sa.URL:
    try:
        parsed = sa.make_url(url.strip())
        parsed.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):  # either may quote the URL
        raise SettingsError(
            f"`{setting}` is not a URL of a database that can be opened; {_ESCAPES}. One is "
            "like sqlite:///file.db, or postgresql+psycopg://user:password@host/database"
        ) from None
    return parsed


def _check_sqlite(parsed: sa.URL, _: str, setting: str) -> None:
    file = parsed.database
    if file in (None, "", ":memory:"):
        raise SettingsError(
            f"`{setting}` must be a file: a database in memory does not survive a crash"
        )
    if parsed.host or parsed.username or parsed.port:
        raise SettingsError(
            f"`{setting}` has too few slashes: sqlite:///file or sqlite:////folder/file"
        )
    if "\0" in str(file) or not set(parsed.query) <= _SQLITE_OPTIONS:
        raise SettingsError(f"`{setting}` has options, or a file name, that SQLite does not know")


def _check_server(parsed: sa.URL, url: str, setting: str) -> None:
    found = _AFTER_PASSWORD.match(url.strip())
    unclear = not found or "@" in found["rest"] or _NAME_AND_OPTIONS.search(found["password"] or "")
    if unclear or not url.strip().isprintable():
        raise SettingsError(
            f"`{setting}` contains an additional @, or control characters: {_ESCAPES}"
        )
    if parsed.host and not _HOST.fullmatch(parsed.host):
        raise SettingsError(f"`{setting}` contains an invalid host: {_ESCAPES}")
    if parsed.port is not None and not 0 < parsed.port < 1 << 16:
        raise SettingsError(f"`{setting}` contains an invalid port: {_ESCAPES}")


def _passwords_of(url: sa.URL) -> set[str]:
    """Return a URL's passwords, decoded and as written."""
    given = [url.password, *(url.query.get(name) for name in ("password", "sslpassword"))]
    plain = {str(one) for one in given if one}
    return {text for one in plain for text in (one, quote(one, safe="")) if len(text) >= _SHORTEST}


def open_engine(url: sa.URL, setting: str) -> sa.Engine:
    """Open a durable database; a SQLite file is readable only by its owner."""
    if url.get_backend_name() != "sqlite":
        try:
            return sa.create_engine(url, connect_args=_patience(url))
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"`{setting}` needs a driver that is not installed, {error.name}: install "
                "stripe-alloy[postgres] and write postgresql+psycopg://"
            ) from None
        except (TypeError, ValueError, sa.exc.ArgumentError):
            raise SettingsError(f"`{setting}` has options that the driver does not know") from None
    file = Path(str(url.database))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
    except OSError as error:
        where = error.filename or file
        raise SettingsError(f"`{setting}` cannot be opened: {where}: {error.strerror}") from None
    except (TypeError, ValueError, sa.exc.ArgumentError):
        raise SettingsError(f"`{setting}` has options that SQLite does not know") from None
    sa.event.listen(engine, "connect", _safe)
    return engine


def _patience(url: sa.URL) -> dict[str, int]:
    """Return how long PostgreSQL may stay silent; parameters of the URL come first."""
    if not url.get_driver_name().startswith("psycopg"):
        return {}
    limits = {"connect_timeout": 10, "tcp_user_timeout": 30_000, "keepalives_idle": 10}
    return {name: value for name, value in limits.items() if name not in url.query}


def _safe(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def cause_of(error: Exception) -> str:
    """Return the database's own message in one line, without statement, values and passwords."""
    if isinstance(error, ROW_ERRORS):
        return "it cannot store one of the values"
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    text = lines[0] if lines else type(cause).__name__
    text = _OPTION.sub(r"\1", text)  # in a URL with an & in its password it may be the rest of that
    for password in sorted(_passwords, key=len, reverse=True):
        text = text.replace(password, "***")
    return text


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that supports ON CONFLICT."""
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
    """Commits the work of several threads in shared transactions, in a thread of its own.

    Callers wait for one commit, and the disk sees few. `convert_error` converts a
    database error; after the first one, all later work fails.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        name: str,
        convert_error: Callable[[Exception], AlloyError],
    ) -> None:
        self._engine = engine
        self._convert_error = convert_error
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit the remaining work and close."""
        self._work.put(None)
        self._thread.join()

    def do(self, act: Callable[[sa.Connection], T]) -> T:
        """Run `act` and wait until it is durable."""
        return self.submit(act).result()

    def submit(self, act: Callable[[sa.Connection], T]) -> Future[T]:
        """Run `act`; the future is done once it is durable."""
        future: Future[T] = Future()
        self._work.put(_Work(act, future))
        return future

    def enqueue(self, act: Callable[[sa.Connection], object]) -> None:
        """Run `act` later, without waiting; it is durable after `close` or the next `do`."""
        self._work.put(_Work(act, None))

    def _write(self) -> None:
        failure: AlloyError | None = None
        while True:
            batch = self._batch()
            if not batch:
                return
            if failure is None:
                failure = self._commit(batch)
            else:  # enqueued work may be lost; callers that wait get the error
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
        """Run a batch in one transaction; the thread survives any error.

        Work that the database cannot store fails alone; the rest is done without it.
        """
        try:
            with self._engine.begin() as connection:
                results = [work.act(connection) for work in batch]
        except sa.exc.SQLAlchemyError as error:
            if isinstance(error, ROW_ERRORS):
                return self._apart(batch, error)
            return self._failed(batch, error)
        except Exception as error:  # noqa: BLE001 - callers that wait must know
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
        if work.future is None:  # its loss would go unnoticed
            return self._failed(batch, error)
        _fail(batch, self._convert_error(error))
        return None

    def _failed(self, batch: list[_Work], error: Exception) -> AlloyError:
        failure = self._convert_error(error)
        _fail(batch, failure)
        return failure


def _fail(batch: list[_Work], failure: AlloyError) -> None:
    for work in batch:
        if work.future:
            work.future.set_exception(failure)
