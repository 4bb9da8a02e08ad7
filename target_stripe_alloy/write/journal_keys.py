"""Keys in the journal: how other records refer to them, and rows of earlier releases.

Releases up to cb5f45d saved the values of a key, joined by `|`, without names and types. Such a row
becomes that of a key only if it is proven to be of the same properties.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

import sqlalchemy as sa

from stripe_alloy.database import MOST, insert_into
from stripe_alloy.write_log import meta, operations
from target_stripe_alloy.write.journal import IntentStatus, Journal
from target_stripe_alloy.write.journal_tables import objects

_references = sa.Table(
    "stripe_alloy_references",
    meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("reference", sa.String(400), primary_key=True),
    sa.Column("key", sa.String(500), primary_key=True),
    sqlite_with_rowid=False,
)
"""The keys of several properties that a reference of another record may mean: `reference` is
`form_of` the text. Those of one property follow from its name: `reference` is empty then, and `key`
a JSON list of names."""

_BY_KEY = sa.text(
    "CREATE INDEX IF NOT EXISTS stripe_alloy_operations_by_key "
    'ON stripe_alloy_operations (stream, "key")'
)
"""Only journals of earlier releases need it."""

CREATING_KINDS = frozenset({"create", "replace"})
"""Kinds of requests that create an object."""


class JournalKeys:
    """Keys of one journal's scope. Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._old: dict[str, bool] = {}
        self._noted: set[tuple[str, str]] = set()

    def note_names(self, stream: str, names: Sequence[str]) -> None:
        """Save that a stream has keys with these properties."""
        entry = (stream, json.dumps(sorted(names)))
        if entry not in self._noted and len(entry[1]) <= 500:
            self.note(stream, "", entry[1])
            self._noted.add(entry)

    def names(self, stream: str) -> set[tuple[str, ...]]:
        """Return the properties of a stream's keys."""
        return {tuple(json.loads(entry)) for entry in self.named(stream, "")}

    def note(self, stream: str, reference: str, key: str) -> None:
        """Save how other records refer to a key, before any later entry of the key."""
        row = {
            "scope": self._journal.scope.name,
            "stream": stream,
            "reference": reference.replace("\0", "\ufffd"),  # PostgreSQL stores no NUL
            "key": key,
        }
        self._journal.enqueue(
            lambda c: c.execute(insert_into(c, _references).on_conflict_do_nothing(), row)
        )

    def named(self, stream: str, reference: str) -> list[str]:
        """Return the keys that a reference may mean."""
        columns = _references.c
        query = sa.select(columns.key).where(
            columns.scope == self._journal.scope.name,
            columns.stream == stream,
            columns.reference == reference.replace("\0", "\ufffd"),
        )
        return self._journal.execute(lambda c: [str(row[0]) for row in c.execute(query)])

    def older(self, stream: str, joined: Sequence[str]) -> dict[str, str]:
        """Return rows of an earlier release: joined values → id of the object."""
        if not joined or not self._has_old(stream):
            return {}
        known = self._journal.load(stream, joined)
        return {key: row.object_id for key, row in known.items() if row.object_id}

    def _has_old(self, stream: str) -> bool:
        """Whether the journal has such rows of a stream; none is ever added."""
        if stream not in self._old:
            columns = objects.c
            query = sa.select(columns.key).where(
                columns.scope == self._journal.scope.name,
                columns.stream == stream,
                *(columns.key.not_like(f"{begin}%") for begin in ("{", "stamp:", "sha256:")),
            )
            self._old[stream] = (
                self._journal.execute(lambda c: c.execute(query.limit(1)).first()) is not None
            )
        return self._old[stream]

    def stamps_of(self, stream: str, ids: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return the metadata with which objects were created: joined values → metadata.

        `ids` are those of the objects, by joined values; one that another request made has none.
        """
        columns = operations.c
        query = sa.select(columns.key, columns.object_id, columns.body).where(
            columns.scope == self._journal.scope.name,
            columns.stream == stream,
            columns.status == str(IntentStatus.DONE),
            columns.kind.in_(CREATING_KINDS),
            columns.key.in_(sa.bindparam("keys", expanding=True)),
        )

        def read(connection: sa.Connection) -> list[tuple[str, str | None, str]]:
            connection.execute(_BY_KEY)
            keys = list(ids)
            return [
                tuple(row)
                for start in range(0, len(keys), MOST)
                for row in connection.execute(query, {"keys": keys[start : start + MOST]})
            ]

        return {
            key: metadata_in(body)
            for key, object_id, body in self._journal.execute(read)
            if ids.get(key) == object_id
        }

    def assign_row(self, stream: str, joined: str, key: str) -> None:
        """Turn a row of an earlier release into that of a key."""
        columns = objects.c
        mine = sa.and_(columns.scope == self._journal.scope.name, columns.stream == stream)

        def move(connection: sa.Connection) -> None:
            taken = sa.select(columns.key).where(mine, columns.key == key)
            if connection.execute(taken).first() is None:
                update = objects.update().where(mine, columns.key == joined)
                connection.execute(update.values(key=key))

        self._journal.execute(move)


def metadata_in(body: str) -> dict[str, str]:
    """Return the metadata of a request body: `metadata[name]`, `lines[0][metadata][name]`."""
    found = {}
    for field, value in parse_qsl(body, keep_blank_values=True):
        _, inside, name = field.replace("][", "[").partition("metadata[")
        if inside and "[" not in name:
            found[name.rstrip("]")] = value
    return found
