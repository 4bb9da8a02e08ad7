"""Read access to the target's write log, the `operations` table of its journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.database import MOST, cause_of, checked_url, open_engine

KEY_PREFIX = "alloy-"
"""Prefix of the target's idempotency keys."""

meta = sa.MetaData()
operations = sa.Table(
    "stripe_alloy_operations",
    meta,
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
    sa.Column("context", sa.LargeBinary),
    sa.Index("stripe_alloy_open", "scope", "status"),
    sa.Index("stripe_alloy_by_idempotency_key", "idempotency_key"),
)


class LoggedWrite(NamedTuple):
    """A request that the target sent."""

    method: str
    path: str
    body: str
    """Form-encoded, as it was sent."""


class WriteLog:
    """Looks up the target's writes; empty if the target never ran."""

    def __init__(self, url: str, setting: str) -> None:
        self._url = checked_url(url, setting)
        self._setting = setting
        self._engine: sa.Engine | None = None

    def by_idempotency_key(self, keys: Sequence[str]) -> dict[str, LoggedWrite]:
        """Return idempotency key → the write that was sent with it."""
        columns, found = operations.c, {}
        try:
            engine = self._open() if keys else None
            if engine is None:
                return {}
            with engine.connect() as connection:
                for start in range(0, len(keys), MOST):
                    query = sa.select(
                        columns.idempotency_key, columns.method, columns.path, columns.body
                    ).where(columns.idempotency_key.in_(keys[start : start + MOST]))
                    for key, *rest in connection.execute(query):
                        found[key] = LoggedWrite(*rest)
        except sa.exc.SQLAlchemyError as error:
            raise AlloyError(
                f"The journal cannot be read: {cause_of(error)}. Check `{self._setting}`."
            ) from None
        return found

    def close(self) -> None:
        """Close the journal."""
        if self._engine:
            self._engine.dispose()

    def _open(self) -> sa.Engine | None:
        """Open the journal; None if it does not exist yet."""
        sqlite = self._url.get_backend_name() == "sqlite"
        if self._engine is None and not (sqlite and not Path(str(self._url.database)).exists()):
            engine = open_engine(self._url, self._setting)
            if sa.inspect(engine).has_table(operations.name):
                self._engine = engine
        return self._engine
