"""The inbox: stores delivered events until their readers are done with them.

An event is stored once, by its ID, and numbered in the order of arrival. A reader remembers the
number up to which it has written everything. The body of an event is deleted once every reader has
started a run from a state that covers it; number, ID and object are kept for some days, to
recognise late and repeated events.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.database import (
    MOST,
    ROW_ERRORS,
    cause_of,
    checked_url,
    insert_into,
    open_engine,
    upsert,
)
from stripe_alloy.webhooks import tables
from stripe_alloy.webhooks.coverage import (
    FOREVER,
    Fetched,
    Interval,
    Uptime,
    covered_by_list,
    covered_by_uptime,
    gaps,
    merge_ranges,
)

_logger = logging.getLogger(__name__)

SETTING = "webhook_inbox"
RETENTION = 31 * DAY
"""Seconds that events are kept: longer than at Stripe; a later reader must backfill."""
DEDUP_RETENTION = 4 * DAY
"""Seconds that the ID of a read event is kept: longer than Stripe's three days of retries."""
RETRIEVABLE = 29 * DAY
"""Seconds in which Stripe certainly still has an event."""
PAGE_BYTES = 8 << 20
"""Bytes of bodies read at a time."""
CHECK_EVERY = DAY
"""Seconds between checks that listed events were delivered."""
OWN, CONNECTED = "own", "connected"

VERSION = 2
"""Version of the tables. Version 1 had no `endpoint`, so the account of an event was unknown."""
_LOCK = 0x5741_4C4C_4F59
"""Advisory lock of PostgreSQL that makes sequence numbers visible in order."""


class InboxError(AlloyError):
    """The inbox cannot be read or written."""


class UnstorableEvent(InboxError):
    """An event that no supported database can store; others can be stored."""


_NAME = r"^[^\x00-\x1f\x7f]*\Z"
"""Excludes control characters: PostgreSQL stores no NUL."""
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
    """The fields of an event that the inbox and the tap need."""

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
    """Return an event's ID and type for a log line; "" if they do not look like Stripe's."""
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
class AccountScope:
    """An account and mode; None stands for the key's own account, which `own` names if known."""

    account: str | None
    livemode: bool
    own: str | None = None

    @property
    def name(self) -> str:
        """The account as stored in new rows."""
        return self.account or self.own or ""

    @property
    def endpoint_scope(self) -> str:
        """Scope of the webhook endpoint that delivers its events: `own` or `connected`."""
        return CONNECTED if self.account else OWN


@dataclass(frozen=True)
class _Endpoint:
    """A row of the table of endpoints."""

    id: str
    account: str
    not_of: str

    def may_be_of(self, account: str | None) -> bool:
        return not self.account and account not in self.not_of.split()


class _Endpoints:
    """The endpoints that an inbox knows, and what follows from them."""

    def __init__(self, connection: sa.Connection) -> None:
        columns = tables.endpoints.c
        query = sa.select(columns.id, columns.account, columns.not_of)
        self.endpoints = [_Endpoint(*row) for row in connection.execute(query)]
        self.accounts = {one.account for one in self.endpoints} - {""}
        self.account_of = {one.id: one.account for one in self.endpoints}

    def only(self, account: str | None) -> bool:
        """Whether no other account is known: events without an account then belong to this one."""
        return not (self.accounts - {account}) and not self.several

    @property
    def several(self) -> bool:
        """Whether events of more than one account arrive."""
        return len(self.accounts) > 1 or any(one.not_of for one in self.endpoints)

    def rows_of(self, scope: AccountScope, table: sa.Table) -> sa.ColumnElement[bool]:
        """Return the condition for a table's rows of an account and mode."""
        mine: sa.ColumnElement[bool] = table.c.account == scope.name
        if scope.own and not scope.account and self.only(scope.own):
            unowned: sa.ColumnElement[bool] = table.c.account == ""
            if table is tables.events:
                unowned = sa.and_(unowned, table.c.endpoint == "")
            mine = sa.or_(mine, unowned)
        return sa.and_(mine, table.c.livemode == scope.livemode)

    def delivering(self, scope: AccountScope) -> list[tuple[str, str]]:
        """Return (endpoint, scope) of the endpoints that deliver an account's events."""
        found = []
        for one in self.endpoints:
            if one.account == (scope.own or one.account):
                found.append((one.id, scope.endpoint_scope))
            if scope.account and one.account == scope.account:
                found.append((one.id, OWN))
        return found


EventRow = Mapping[str, Any]


class InboxEvent(NamedTuple):
    """An event of the inbox."""

    seq: int
    created: int
    body: bytes


class EventRange(NamedTuple):
    """Events that a reader requests: numbered in (after, max_seq], or created from `since` on."""

    after: int
    since: int | None
    max_seq: int

    def condition(self) -> sa.ColumnElement[bool]:
        """Return it as SQL."""
        columns = tables.events.c
        new: sa.ColumnElement[bool] = columns.seq > self.after
        if self.since is not None:
            new = sa.or_(new, columns.created >= self.since)
        return sa.and_(columns.seq <= self.max_seq, new)


PageCursor = tuple[int, int]
"""(created, seq) of the last event of a page."""


def row_of(
    body: bytes, received_at: float, *, account: str | None = None, endpoint: str = ""
) -> dict[str, Any]:
    """Return an event's row; raises msgspec.DecodeError or ValueError if it is not Stripe's.

    `account` is the account of the endpoint, for events that name none.

    The reader decodes the whole body, so it is decoded here as well. No message quotes the body.
    """
    try:
        event = _envelope.decode(body)
        msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if event.object != "event":
        raise ValueError("not an event")
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
        "endpoint": endpoint,
        "connected": bool(event.account),
    }


class Inbox:
    """The inbox's database; it may be opened several times and by several processes."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        parsed = checked_url(url, SETTING)
        self.engine = open_engine(parsed, SETTING)
        self.clock = clock
        with self._transaction() as connection:
            if not tables.up_to_date(connection, VERSION):
                _exclusive(connection, from_now=True)  # concurrent creations would collide
            tables.meta.create_all(connection)
            marks = tables.inboxes.c
            if connection.execute(sa.select(marks.id)).first() is None:
                made = {"id": uuid.uuid4().hex, "version": VERSION}
                connection.execute(
                    tables.inboxes.insert(), made | {"taken_seq": 0, "taken_created": 0}
                )
            found = connection.execute(sa.select(marks.id, marks.version)).one()
            if found.version > VERSION:
                raise InboxError(f"The inbox is of version {found.version}: upgrade stripe-alloy")
            if found.version < VERSION:
                tables.migrate(connection)
                connection.execute(tables.inboxes.update().values(version=VERSION))
        self.id = str(found.id)

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except ROW_ERRORS:  # the message may quote the row
            raise UnstorableEvent("The database cannot store one of the rows") from None
        except sa.exc.SQLAlchemyError as error:
            raise database_error(error) from None

    # ------------------------------------------------------------------ storing events

    def deliver_each(self, rows: Sequence[EventRow]) -> list[InboxError | None]:
        """Store each event that can be stored; return the error, or None, of each.

        An event that the database refuses does not affect the others of its batch.
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

    def deliver(self, rows: Sequence[EventRow]) -> None:
        """Store delivered events, and note that their endpoints deliver; durable on return.

        Raises `UnstorableEvent` if an event cannot be stored, `InboxError` if the database fails.
        """
        with self._transaction() as connection:
            known, owned = _Endpoints(connection), list[EventRow]()
            for row in rows:
                account = row["account"] or known.account_of.get(row["endpoint"], "")
                owned.append({**row, "account": account})
            self._store(connection, known, owned)
            self._note_first(connection, rows)

    @staticmethod
    def _note_first(connection: sa.Connection, rows: Sequence[EventRow]) -> None:
        """Note that endpoints deliver own events, which name no account, or connected ones."""
        firsts = {}
        for row in reversed(rows):
            scope = CONNECTED if row["connected"] else OWN
            firsts[row["endpoint"], scope, row["livemode"]] = row["received_at"]
        found = [
            {"endpoint": endpoint, "scope": scope, "livemode": livemode, "at": at}
            for (endpoint, scope, livemode), at in firsts.items()
        ]
        named = [row for row in found if row["endpoint"]]
        for table, rows_of_it in ((tables.proofs, found), (tables.first_deliveries, named)):
            names = [column.name for column in table.columns]
            if rows_of_it:
                connection.execute(
                    insert_into(connection, table).on_conflict_do_nothing(),
                    [{name: row[name] for name in names} for row in rows_of_it],
                )

    @staticmethod
    def _store(connection: sa.Connection, known: _Endpoints, rows: Sequence[EventRow]) -> None:
        """Store rows; one of an unknown account is replaced once it is known."""
        if not rows:
            return
        _exclusive(connection)
        columns = tables.events.c
        owned = [row["id"] for row in rows if row["account"]]
        if owned:
            unread = tables.events.delete().where(columns.account == "", columns.id.in_(owned))
            if not known.several:  # otherwise events without an account are never read
                unread = unread.where(columns.endpoint != "")
            connection.execute(unread)
        insert = insert_into(connection, tables.events).on_conflict_do_nothing(
            index_elements=["id"]
        )
        names = [column.name for column in tables.events.columns if column.name != "seq"]
        connection.execute(insert, [{name: row[name] for name in names} for row in rows])

    def store_page(
        self, scope: AccountScope, bodies: Sequence[bytes], *, done: Fetched | None = None
    ) -> None:
        """Store a page of listed events, and the period that is `done` with it."""
        now = self.clock()
        rows = []
        for body in bodies:
            try:
                rows.append(row_of(body, now, account=scope.name))
            except (msgspec.DecodeError, ValueError):
                _logger.warning(
                    "An event in Stripe's list cannot be stored and is skipped: %s.",
                    name_of(body) or "its ID is not Stripe's",
                )
        with self._transaction() as connection:
            self._store(connection, _Endpoints(connection), rows)
            if done and done.low < done.high:
                self._note_fetched(connection, scope, done)

    def _note_fetched(self, connection: sa.Connection, scope: AccountScope, new: Fetched) -> None:
        mine = _Endpoints(connection).rows_of(scope, tables.fetched)
        known = self._fetched_of(connection, mine)
        connection.execute(tables.fetched.delete().where(mine))
        rows = [
            {"account": scope.name, "livemode": scope.livemode, **vars(entry)}
            for entry in merge_ranges([*known, new], now=self.clock())
            if entry.high > self.clock() - RETENTION
        ]
        if rows:
            connection.execute(tables.fetched.insert(), rows)

    def heartbeat(
        self, session: str, started: float, *, endpoints: Collection[str] | None = None
    ) -> None:
        """Store a receiver's heartbeat, with the endpoints of the known secrets."""
        names = None if endpoints is None else "\n".join(sorted(endpoints))
        row = {"id": session, "started": started, "until": self.clock(), "endpoints": names}
        with self._transaction() as connection:
            upsert(connection, tables.uptimes, ("id",), [row])

    # ------------------------------------------------------------------ accounts of endpoints

    def add_endpoints(self, endpoints: Mapping[str, str]) -> None:
        """Store endpoints with their accounts, "" if unknown.

        A known account is kept unless another one is named.
        """
        with self._transaction() as connection:
            _exclusive(connection)
            known = _Endpoints(connection)
            for name, account in endpoints.items():
                if name not in known.account_of:
                    row = {"id": name, "account": account, "not_of": ""}
                    connection.execute(tables.endpoints.insert(), row)
                if account and known.account_of.get(name) != account:
                    self._assign(connection, name, account)

    def add_reader(self, account: str) -> None:
        """Note that a reader reads an account's events."""
        self.add_endpoints({f"reader of {account}": account})

    def claim(self, endpoint: str, account: str) -> None:
        """Note that an endpoint, and the events it delivered, belong to an account."""
        self.add_endpoints({endpoint: account})

    def disclaim(self, endpoint: str, account: str) -> None:
        """Note that an endpoint does not belong to an account."""
        columns = tables.endpoints.c
        with self._transaction() as connection:
            connection.execute(
                tables.endpoints.update()
                .where(columns.id == endpoint)
                .values(not_of=columns.not_of + f" {account}")
            )

    @staticmethod
    def _assign(connection: sa.Connection, endpoint: str, account: str) -> None:
        connection.execute(
            tables.endpoints.update()
            .where(tables.endpoints.c.id == endpoint)
            .values(account=account)
        )
        events = tables.events.c
        connection.execute(
            tables.events.update()
            .where(events.endpoint == endpoint, events.account == "")
            .values(account=account)
        )

    def unclaimed(self, scope: AccountScope) -> list[tuple[str, str]]:
        """Return (endpoint, event ID) of endpoints that may belong to the key's own account.

        The event is in `scope`, and Stripe still has it.
        """
        columns, found = tables.events.c, []
        with self._transaction() as connection:
            for name in self._unassigned(connection, scope):
                query = (
                    sa.select(columns.id)
                    .where(columns.account == (scope.account or ""), columns.endpoint == name)
                    .where(columns.livemode == scope.livemode)
                    .where(columns.created > self.clock() - RETRIEVABLE)
                    .order_by(columns.created)
                    .limit(1)
                )
                if oldest := connection.execute(query).scalar():
                    found.append((name, str(oldest)))
        return found

    @staticmethod
    def _unassigned(connection: sa.Connection, scope: AccountScope) -> list[str]:
        if not scope.own:
            return []
        return [one.id for one in _Endpoints(connection).endpoints if one.may_be_of(scope.own)]

    # ------------------------------------------------------------------ coverage

    def gaps(self, scope: AccountScope, since: float) -> list[Interval]:
        """Return the periods from `since` on that may lack events, oldest first (Unix seconds).

        The last one has no end unless a receiver is up.
        """
        now = self.clock()
        with self._transaction() as connection:
            known = _Endpoints(connection)
            listed = self._fetched_of(connection, known.rows_of(scope, tables.fetched))
            unnamed, proofs = self._first_deliveries(connection, known, scope)
            columns = tables.uptimes.c
            query = sa.select(columns.started, columns.until, columns.endpoints)
            ups = connection.execute(query).all()
        covered = [covered_by_list(entry, now=now) for entry in listed]
        for started, until, names in ups:
            found = {unnamed} if names is None else {proofs.get(name) for name in names.split("\n")}
            covered += [
                covered_by_uptime(Uptime(started, until), proven=at, now=now)
                for at in found
                if at is not None
            ]
        return gaps((since, FOREVER), covered)

    @staticmethod
    def _first_deliveries(
        connection: sa.Connection, known: _Endpoints, scope: AccountScope
    ) -> tuple[float | None, dict[str, float]]:
        """Return the times of the first deliveries: before version 2, and by each endpoint."""
        first, proofs = tables.first_deliveries.c, tables.proofs.c
        query = sa.select(first.endpoint, first.scope, first.at)
        rows = connection.execute(query.where(first.livemode == scope.livemode))
        at_of = {(name, kind): at for name, kind, at in rows}
        before = None
        if known.only(scope.own) or not scope.own:
            of_scope = (proofs.scope == scope.endpoint_scope, proofs.livemode == scope.livemode)
            before = connection.execute(sa.select(proofs.at).where(*of_scope)).scalar()
            named = [at for (_, kind), at in at_of.items() if kind == scope.endpoint_scope]
            if before is not None and named and before >= min(named):
                before = None  # it belongs to a known endpoint
        found = {}
        for name, kind in known.delivering(scope):
            times = [at_of.get((name, kind)), before if kind == scope.endpoint_scope else None]
            if at := [at for at in times if at is not None]:
                found[name] = min(at)
        return before, found

    @staticmethod
    def _fetched_of(connection: sa.Connection, mine: sa.ColumnElement[bool]) -> list[Fetched]:
        columns = tables.fetched.c
        query = sa.select(columns.low, columns.high, columns.at).where(mine)
        return [Fetched(*row) for row in connection.execute(query)]

    def check_from(self, scope: AccountScope) -> float | None:
        """Return the time of the last delivery check; None if it was less than a day ago.

        In Unix seconds. The first call only stores the current time.
        """
        now = self.clock()
        with self._transaction() as connection:
            mine = _Endpoints(connection).rows_of(scope, tables.checks)
            at = connection.execute(sa.select(sa.func.max(tables.checks.c.at)).where(mine)).scalar()
            if at is None:
                self._note_check(connection, scope, now)
        return float(at) if at is not None and at < now - CHECK_EVERY else None

    def checked(self, scope: AccountScope) -> None:
        """Note that deliveries were checked."""
        with self._transaction() as connection:
            self._note_check(connection, scope, self.clock())

    @staticmethod
    def _note_check(connection: sa.Connection, scope: AccountScope, at: float) -> None:
        row = {"account": scope.name, "livemode": scope.livemode, "at": at}
        upsert(connection, tables.checks, ("account", "livemode"), [row])

    def missing_ids(self, ids: Sequence[str], scope: AccountScope | None = None) -> set[str]:
        """Return the IDs that are not in the inbox, or not as an account's events."""
        query = sa.select(tables.events.c.id).where(tables.events.c.id.in_(ids))
        with self._transaction() as connection:
            if scope:
                query = query.where(_Endpoints(connection).rows_of(scope, tables.events))
            return set(ids) - {row[0] for row in connection.execute(query)}

    def newest(self, scope: AccountScope | None = None) -> int:
        """Return the highest number, or the highest that an account may be read up to.

        The latter is before the first event of an endpoint of a still unknown account.
        """
        columns = tables.events.c
        with self._transaction() as connection:
            found = connection.execute(sa.select(sa.func.max(columns.seq))).scalar() or 0
            names = self._unassigned(connection, scope) if scope and not scope.account else []
            if scope and names:
                query = sa.select(sa.func.min(columns.seq)).where(
                    columns.account == "",
                    columns.livemode == scope.livemode,
                    columns.endpoint.in_(names),
                    columns.body.is_not(None),
                )
                first = connection.execute(query).scalar()
                found = found if first is None else min(found, first - 1)
        return int(found)

    def pruned_to(self) -> tuple[int, int]:
        """Return the number and time (Unix seconds) up to which events may have been deleted."""
        with self._transaction() as connection:
            columns = tables.inboxes.c
            found = connection.execute(sa.select(columns.taken_seq, columns.taken_created)).one()
        return int(found[0]), int(found[1])

    # ------------------------------------------------------------------ reading

    def page(
        self,
        scope: AccountScope,
        wanted: EventRange,
        *,
        place: PageCursor | None,
        limit: int = MOST,
        most_bytes: int = PAGE_BYTES,
    ) -> tuple[list[InboxEvent], bool]:
        """Return a page, newest first, and whether there may be more.

        It has at most `limit` events and `most_bytes` of bodies, but at least one event.
        """
        columns = tables.events.c
        query = (
            sa.select(columns.seq, columns.created, sa.func.length(columns.body))
            .where(wanted.condition(), columns.body.is_not(None))
            .order_by(columns.created.desc(), columns.seq.desc())
            .limit(limit)
        )
        if place:
            here = sa.tuple_(*(sa.literal(value) for value in place))
            query = query.where(sa.tuple_(columns.created, columns.seq) < here)
        with self._transaction() as connection:
            query = query.where(_Endpoints(connection).rows_of(scope, tables.events))
            rows = [tuple(row) for row in connection.execute(query)]
            sizes = list(itertools.accumulate(row[2] for row in rows))
            fitting = max(1, sum(size <= most_bytes for size in sizes))
            chosen = {seq: created for seq, created, _ in rows[:fitting]}
            bodies = sa.select(columns.seq, columns.body).where(columns.seq.in_(chosen))
            found = {seq: body for seq, body in connection.execute(bodies) if body is not None}
        entries = [InboxEvent(seq, at, found[seq]) for seq, at in chosen.items() if seq in found]
        return entries, bool(entries) and (len(rows) == limit or fitting < len(rows))

    def all_of(self, scope: AccountScope, wanted: EventRange) -> list[InboxEvent]:
        """Yield all events of a range, newest first."""
        found: list[InboxEvent] = []
        more = True
        while more:
            place = (found[-1].created, found[-1].seq) if found else None
            page, more = self.page(scope, wanted, place=place)
            found += page
        return found

    def number_of(self, scope: AccountScope, after: int, count: int) -> int | None:
        """Return the number of the `count`-th event after a number; None if there is none."""
        seq = tables.events.c.seq
        with self._transaction() as connection:
            mine = _Endpoints(connection).rows_of(scope, tables.events)
            query = sa.select(seq).where(seq > after, mine).order_by(seq)
            found: int | None = connection.execute(query.offset(count - 1).limit(1)).scalar()
        return found

    def newest_created(
        self, scope: AccountScope, object_ids: Iterable[str], max_seq: int
    ) -> dict[tuple[str, str], int]:
        """Return (object, ID) → `created` of its newest event numbered up to `max_seq`."""
        columns = tables.events.c
        found: dict[tuple[str, str], int] = {}
        ids = list(object_ids)
        with self._transaction() as connection:
            mine = _Endpoints(connection).rows_of(scope, tables.events)
            for start in range(0, len(ids), MOST):
                query = (
                    sa.select(columns.object, columns.object_id, sa.func.max(columns.created))
                    .where(columns.object_id.in_(ids[start : start + MOST]), columns.seq <= max_seq)
                    .where(mine)
                    .group_by(columns.object, columns.object_id)
                )
                for kind, object_id, created in connection.execute(query):
                    found[kind, object_id] = created
        return found

    def first_since(self, scope: AccountScope, since: int) -> int | None:
        """Return the lowest number of the events created from `since` on (Unix seconds)."""
        columns = tables.events.c
        query = sa.select(sa.func.min(columns.seq)).where(columns.created >= since)
        with self._transaction() as connection:
            mine = _Endpoints(connection).rows_of(scope, tables.events)
            found = connection.execute(query.where(mine)).scalar()
        return None if found is None else int(found)

    # ------------------------------------------------------------------ pruning

    def acknowledge(self, reader: str, seq: int) -> None:
        """Note the number up to which a reader's destination is complete; prune the inbox."""
        row = {"reader": reader, "seq": seq, "at": self.clock()}
        with self._transaction() as connection:
            upsert(connection, tables.readers, ("reader",), [row])
        self.prune()

    def prune(self) -> None:
        """Delete events that every reader is done with, and those that are too old."""
        now = self.clock()
        with self._transaction() as connection:
            connection.execute(tables.readers.delete().where(tables.readers.c.at < now - RETENTION))
            done = connection.execute(sa.select(sa.func.min(tables.readers.c.seq))).scalar() or 0
            columns = tables.events.c
            pruned_to = connection.execute(sa.select(tables.inboxes.c.taken_seq)).scalar()
            rest = sa.and_(columns.seq > pruned_to, columns.body.is_not(None))
            old = columns.received_at < now - RETENTION
            self._clear_bodies(connection, sa.and_(rest, sa.or_(columns.seq <= done, old)))
            connection.execute(
                tables.events.delete().where(
                    columns.body.is_(None), columns.received_at < now - DEDUP_RETENTION
                )
            )
            connection.execute(
                tables.uptimes.delete().where(tables.uptimes.c.until < now - RETENTION)
            )

    @staticmethod
    def _clear_bodies(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        columns, marks = tables.events.c, tables.inboxes.c
        newest = (sa.func.max(columns.seq), sa.func.max(columns.created))
        seq, created = connection.execute(sa.select(*newest).where(which)).one()
        if seq is None:
            return
        connection.execute(tables.events.update().where(which).values(body=None))
        later = sa.case((marks.taken_created < created, created), else_=marks.taken_created)
        connection.execute(tables.inboxes.update().values(taken_seq=seq, taken_created=later))


def _exclusive(connection: sa.Connection, *, from_now: bool = False) -> None:
    """Lock out other writers until the commit, as SQLite does from the first write on."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    elif from_now:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def database_error(error: Exception) -> InboxError:
    """Convert a database error."""
    return InboxError(f"The inbox fails: {cause_of(error)}. Check `{SETTING}`.")
