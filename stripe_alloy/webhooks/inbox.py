"""The inbox: Stripe's events as they were delivered, on the disk until whoever reads them is done.

An event is kept once, by its id, and numbered as it comes. A reader remembers the number up to
which it has written all; once every reader's next run begins with a state that says so, the event
itself goes, and its number, id and object stay for some days, to know a late or repeated one by.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from stripe_alloy.database import (
    MOST,
    ROW_ERRORS,
    cause_of,
    checked_url,
    insert_into,
    open_engine,
    upsert,
)
from stripe_alloy.errors import AlloyError
from stripe_alloy.webhooks import tables
from stripe_alloy.webhooks.coverage import (
    FOREVER,
    Fetched,
    Interval,
    Uptime,
    covered_by_list,
    covered_by_uptime,
    gaps,
    merged,
)

SETTING = "webhook_inbox"
DAY = 86_400.0
KEPT = 31 * DAY
"""Seconds that events are kept: longer than Stripe keeps them, whoever reads later lists anew."""
KNOWN = 4 * DAY
"""Seconds that a read one's id is kept: longer than the three days that Stripe tries to deliver."""
CHECK_EVERY = DAY
"""Seconds between looks whether what Stripe lists did arrive."""
OWN, CONNECTED = "own", "connected"

VERSION = 1
_LOCK = 0x5741_4C4C_4F59
"""Of PostgreSQL's advisory locks: numbers are to be seen in the order in which they are given."""


class InboxError(AlloyError):
    """The inbox cannot be read or written."""


class UnstorableEvent(InboxError):
    """An event that no database of ours can hold, while all others may be stored."""


_NAME = r"^[^\x00-\x1f\x7f]*\Z"
"""No control characters: PostgreSQL stores no NUL."""
_Text = Annotated[str, msgspec.Meta(max_length=255, pattern=_NAME)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=_NAME)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Unix seconds, up to the year 9999."""


class _Object(msgspec.Struct):
    object: _Text = ""
    id: _Text | None = None


class _Data(msgspec.Struct):
    object: _Object
    previous_attributes: dict[str, Any] | None = None


class Envelope(msgspec.Struct):
    """What the inbox, and the tap that reads it, must know of an event."""

    id: _Id
    object: str
    created: _Time
    livemode: bool
    type: _Text
    data: _Data
    account: _Text | None = None
    request: dict[str, Any] | str | None = None


_envelope = msgspec.json.Decoder(Envelope)
_SAFE_ID = re.compile(r"evt_[A-Za-z0-9_]{1,80}")
_SAFE_TYPE = re.compile(r"[a-z0-9_]{1,40}(\.[a-z0-9_]{1,40}){1,4}")


def name_of(body: bytes) -> str:
    """An event's id and type for a log line; "" where they are not what Stripe's look like."""
    try:
        event = msgspec.json.decode(body)
        found, kind = event.get("id"), event.get("type")
    except (ValueError, RecursionError, AttributeError):
        return ""
    if event.get("object") != "event" or not isinstance(found, str):
        return ""
    if not _SAFE_ID.fullmatch(found):
        return ""
    return f"{found} ({kind})" if isinstance(kind, str) and _SAFE_TYPE.fullmatch(kind) else found


@dataclass(frozen=True)
class Whose:
    """An account in a mode; the key's own has no id of its own in its events."""

    account: str | None
    livemode: bool

    @property
    def name(self) -> str:
        """As the rows have it."""
        return self.account or ""

    def rows_of(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Which rows of a table are of this account and mode."""
        return sa.and_(table.c.account == self.name, table.c.livemode == self.livemode)

    @property
    def scope(self) -> str:
        """Which kind of webhook endpoint brings its events."""
        return CONNECTED if self.account else OWN


class Entry(NamedTuple):
    """An event of the inbox."""

    seq: int
    created: int
    body: bytes


Place = tuple[int, int]
"""(created, seq) of the last event of a page."""


def row_of(body: bytes, received_at: float, *, account: str | None = None) -> dict[str, Any]:
    """An event's row; raises msgspec.DecodeError or ValueError on what is none of Stripe's.

    Whoever reads the row decodes the whole body, so it is decoded here as well. No message quotes
    the body.
    """
    try:
        event = _envelope.decode(body)
        msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if event.object != "event":
        raise ValueError("another object than an event")
    about = event.data.object
    return {
        "id": event.id,
        "account": event.account or account or "",
        "livemode": event.livemode,
        "created": event.created,
        "object": about.object,
        "object_id": about.id or "",
        "received_at": received_at,
        "body": body,
    }


class Inbox:
    """Open it as often as you like, from several processes."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        parsed = checked_url(url, SETTING)
        self.engine = open_engine(parsed, SETTING)
        self.clock = clock
        with self._transaction() as connection:
            _alone(connection)  # two that create at once would collide
            tables.meta.create_all(connection)
            if connection.execute(sa.select(tables.inboxes.c.id)).first() is None:
                made = {"id": uuid.uuid4().hex, "version": VERSION}
                connection.execute(
                    tables.inboxes.insert(), made | {"taken_seq": 0, "taken_created": 0}
                )
            found = connection.execute(
                sa.select(tables.inboxes.c.id, tables.inboxes.c.version)
            ).one()
        if found.version > VERSION:
            raise InboxError(f"The inbox is of version {found.version}: upgrade stripe-alloy")
        self.id = str(found.id)

    def close(self) -> None:
        """Let go of it."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except ROW_ERRORS:  # the message may quote the row
            raise UnstorableEvent("The database cannot store one of the rows") from None
        except sa.exc.SQLAlchemyError as error:
            raise trouble(error) from None

    # ------------------------------------------------------------------ what comes in

    def deliver_each(self, rows: Sequence[Mapping[str, Any]]) -> list[InboxError | None]:
        """Keep events, each that can be kept; why not, for each.

        One that the database refuses does not keep out the others of its batch.
        """
        try:
            self.deliver(rows)
        except UnstorableEvent as error:
            if len(rows) == 1:
                return [error]
            middle = len(rows) // 2
            return self.deliver_each(rows[:middle]) + self.deliver_each(rows[middle:])
        except InboxError as error:
            return [error] * len(rows)
        return [None] * len(rows)

    def deliver(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep events that Stripe delivered, and that it does deliver; on the disk on return.

        Raises `UnstorableEvent` if one of them is at fault, `InboxError` if the database is.
        """
        first = {(row["account"] != "", row["livemode"]): row for row in reversed(rows)}
        proofs = [
            {
                "scope": CONNECTED if connected else OWN,
                "livemode": livemode,
                "at": row["received_at"],
            }
            for (connected, livemode), row in first.items()
        ]
        with self._transaction() as connection:
            self._keep(connection, rows)
            connection.execute(
                insert_into(connection, tables.proofs).on_conflict_do_nothing(), proofs
            )

    @staticmethod
    def _keep(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        _alone(connection)
        insert = insert_into(connection, tables.events).on_conflict_do_nothing(
            index_elements=["id"]
        )
        connection.execute(insert, list(rows))

    def fetched(
        self, whose: Whose, bodies: Sequence[bytes], *, done: Fetched | None = None
    ) -> None:
        """Keep a page of listed events, and note the time that is `done` with it."""
        now = self.clock()
        with self._transaction() as connection:
            self._keep(connection, [row_of(body, now, account=whose.account) for body in bodies])
            if done and done.low < done.high:
                self._note_fetched(connection, whose, done)

    def _note_fetched(self, connection: sa.Connection, whose: Whose, new: Fetched) -> None:
        known = self._fetched_of(connection, whose)
        connection.execute(tables.fetched.delete().where(whose.rows_of(tables.fetched)))
        rows = [
            {"account": whose.name, "livemode": whose.livemode, **vars(entry)}
            for entry in merged([*known, new], now=self.clock())
            if entry.high > self.clock() - KEPT
        ]
        if rows:
            connection.execute(tables.fetched.insert(), rows)

    def alive(self, session: str, started: float) -> None:
        """Note that a receiver is up."""
        row = {"id": session, "started": started, "until": self.clock()}
        with self._transaction() as connection:
            upsert(connection, tables.uptimes, ("id",), [row])

    # ------------------------------------------------------------------ what is known

    def gaps(self, whose: Whose, since: float) -> list[Interval]:
        """Times from `since` on whose events may not be here, oldest first (Unix seconds).

        The last one has no end, unless a receiver is up.
        """
        now = self.clock()
        with self._transaction() as connection:
            proven = connection.execute(
                sa.select(tables.proofs.c.at).where(
                    tables.proofs.c.scope == whose.scope, tables.proofs.c.livemode == whose.livemode
                )
            ).scalar()
            ups = connection.execute(
                sa.select(tables.uptimes.c.started, tables.uptimes.c.until)
            ).all()
            listed = self._fetched_of(connection, whose)
        covered = [covered_by_list(entry, now=now) for entry in listed]
        if proven is not None:
            covered += [covered_by_uptime(Uptime(*up), proven=proven, now=now) for up in ups]
        return gaps((since, FOREVER), covered)

    @staticmethod
    def _fetched_of(connection: sa.Connection, whose: Whose) -> list[Fetched]:
        columns = tables.fetched.c
        mine = whose.rows_of(tables.fetched)
        query = sa.select(columns.low, columns.high, columns.at).where(mine)
        return [Fetched(*row) for row in connection.execute(query)]

    def check_from(self, whose: Whose) -> float | None:
        """Since when it was not checked whether all arrived; None if not for long (Unix seconds).

        The first time is only noted.
        """
        now = self.clock()
        with self._transaction() as connection:
            at = connection.execute(
                sa.select(tables.checks.c.at).where(whose.rows_of(tables.checks))
            ).scalar()
            if at is None:
                self._note_check(connection, whose, now)
        return float(at) if at is not None and at < now - CHECK_EVERY else None

    def checked(self, whose: Whose) -> None:
        """Note that it was checked."""
        with self._transaction() as connection:
            self._note_check(connection, whose, self.clock())

    @staticmethod
    def _note_check(connection: sa.Connection, whose: Whose, at: float) -> None:
        row = {"account": whose.name, "livemode": whose.livemode, "at": at}
        upsert(connection, tables.checks, ("account", "livemode"), [row])

    def unknown(self, ids: Sequence[str]) -> set[str]:
        """Which of some events never came."""
        query = sa.select(tables.events.c.id).where(tables.events.c.id.in_(ids))
        with self._transaction() as connection:
            return set(ids) - {row[0] for row in connection.execute(query)}

    def newest(self) -> int:
        """The highest number given."""
        with self._transaction() as connection:
            found = connection.execute(sa.select(sa.func.max(tables.events.c.seq))).scalar()
        return int(found or 0)

    def taken(self) -> tuple[int, int]:
        """Number and time (Unix seconds) up to which events may be gone."""
        with self._transaction() as connection:
            columns = tables.inboxes.c
            found = connection.execute(sa.select(columns.taken_seq, columns.taken_created)).one()
        return int(found[0]), int(found[1])

    # ------------------------------------------------------------------ reading

    def page(
        self,
        whose: Whose,
        *,
        after: int,
        since: int | None,
        upto: int,
        place: Place | None,
        limit: int = MOST,
    ) -> list[Entry]:
        """Events numbered in (after, upto], or created from `since` on; newest first."""
        columns = tables.events.c
        wanted: sa.ColumnElement[bool] = columns.seq > after
        if since is not None:
            wanted = sa.or_(wanted, columns.created >= since)
        query = (
            sa.select(columns.seq, columns.created, columns.body)
            .where(whose.rows_of(tables.events), columns.body.is_not(None))
            .where(columns.seq <= upto, wanted)
            .order_by(columns.created.desc(), columns.seq.desc())
            .limit(limit)
        )
        if place:
            here = sa.tuple_(*(sa.literal(value) for value in place))
            query = query.where(sa.tuple_(columns.created, columns.seq) < here)
        with self._transaction() as connection:
            return [Entry(*row) for row in connection.execute(query)]

    def newest_taken(
        self, whose: Whose, object_ids: Iterable[str], upto: int
    ) -> dict[tuple[str, str], int]:
        """(object, id) → `created` of its newest event that is numbered up to `upto`."""
        columns = tables.events.c
        found: dict[tuple[str, str], int] = {}
        ids = list(object_ids)
        with self._transaction() as connection:
            for start in range(0, len(ids), MOST):
                query = (
                    sa.select(columns.object, columns.object_id, sa.func.max(columns.created))
                    .where(columns.object_id.in_(ids[start : start + MOST]), columns.seq <= upto)
                    .where(whose.rows_of(tables.events))
                    .group_by(columns.object, columns.object_id)
                )
                for kind, object_id, created in connection.execute(query):
                    found[kind, object_id] = created
        return found

    def first_since(self, whose: Whose, since: int) -> int | None:
        """The lowest number of the events created from `since` on (Unix seconds)."""
        columns = tables.events.c
        query = sa.select(sa.func.min(columns.seq)).where(
            whose.rows_of(tables.events), columns.created >= since
        )
        with self._transaction() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else int(found)

    # ------------------------------------------------------------------ what is done with

    def acknowledge(self, reader: str, seq: int) -> None:
        """Note that a reader's destination holds all up to a number; drop what nobody needs."""
        row = {"reader": reader, "seq": seq, "at": self.clock()}
        with self._transaction() as connection:
            upsert(connection, tables.readers, ("reader",), [row])
        self.tidy()

    def tidy(self) -> None:
        """Drop what every reader is done with, and what is too old."""
        now = self.clock()
        with self._transaction() as connection:
            connection.execute(tables.readers.delete().where(tables.readers.c.at < now - KEPT))
            done = connection.execute(sa.select(sa.func.min(tables.readers.c.seq))).scalar() or 0
            columns = tables.events.c
            taken = connection.execute(sa.select(tables.inboxes.c.taken_seq)).scalar()
            rest = sa.and_(columns.seq > taken, columns.body.is_not(None))
            old = columns.received_at < now - KEPT
            self._take(connection, sa.and_(rest, sa.or_(columns.seq <= done, old)))
            connection.execute(
                tables.events.delete().where(
                    columns.body.is_(None), columns.received_at < now - KNOWN
                )
            )
            connection.execute(tables.uptimes.delete().where(tables.uptimes.c.until < now - KEPT))

    @staticmethod
    def _take(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        columns, marks = tables.events.c, tables.inboxes.c
        newest = (sa.func.max(columns.seq), sa.func.max(columns.created))
        seq, created = connection.execute(sa.select(*newest).where(which)).one()
        if seq is None:
            return
        connection.execute(tables.events.update().where(which).values(body=None))
        later = sa.case((marks.taken_created < created, created), else_=marks.taken_created)
        connection.execute(tables.inboxes.update().values(taken_seq=seq, taken_created=later))


def _alone(connection: sa.Connection) -> None:
    """Let nobody else write until this is committed, as SQLite does by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def trouble(error: Exception) -> InboxError:
    """What to say of a database that fails."""
    return InboxError(f"The inbox fails: {cause_of(error)}. Check `{SETTING}`.")
