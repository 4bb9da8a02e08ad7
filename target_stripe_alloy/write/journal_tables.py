"""The journal's tables, and how a journal of an earlier release becomes one of this release."""

from __future__ import annotations

import sqlalchemy as sa

from stripe_alloy.write_log import meta, operations

VERSION = 2

journals = sa.Table(
    "stripe_alloy_journal",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("run", sa.BigInteger),
    sa.Column("first_run", sa.BigInteger),
)
"""One row. `run` is the number of the last run that opened the journal: its start, in milliseconds
since 1970, so that it grows also when an older copy of the journal is put back. `first_run` is that
of the run that made the journal, null where an earlier release did."""

identities = sa.Table(
    "stripe_alloy_identities",
    meta,
    sa.Column("identity", sa.String(120), primary_key=True),
    sa.Column("account", sa.String(120), nullable=False),
)
"""The `account` of the scopes that an account id, or a key that may not read it, belongs to."""

objects = sa.Table(
    "stripe_alloy_objects",
    meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("key", sa.String(500), primary_key=True),
    sa.Column("object_id", sa.String(255)),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("base", sa.LargeBinary),
    sa.Index("stripe_alloy_by_object", "object_id"),
)
"""The object of each key. `digest` and `base` are images of version 1, which knew no pipelines:
the first pipeline that writes such a record takes them over."""

images = sa.Table(
    "stripe_alloy_images",
    meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("pipeline", sa.String(250), primary_key=True),
    sa.Column("source", sa.String(250), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("key", sa.String(500), primary_key=True),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("base", sa.LargeBinary),
    sa.Column("run", sa.BigInteger, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
)
"""What a pipeline last wrote of a record: `source` is the stream's name before stream maps, (`run`,
`number`) the record's position."""

effects = sa.Table(
    "stripe_alloy_effects",
    meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("object_id", sa.String(255), primary_key=True),
    sa.Column("effect", sa.String(120), primary_key=True),
    sa.Column("lasting", sa.Boolean, nullable=False),
    sa.Column("pipeline", sa.String(250), nullable=False),
    sa.Column("run", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
"""What was done to an object that cannot be read from it. One that is not `lasting` is forgotten
when its pipeline's next run ends well: until then the same records may be sent again."""

indexed = sa.Table(
    "stripe_alloy_indexed",
    meta,
    sa.Column("scope", sa.String(120), primary_key=True),
    sa.Column("stream", sa.String(60), primary_key=True),
    sa.Column("until", sa.Float, nullable=False),
)


def prepare(connection: sa.Connection) -> None:
    """Create the tables; add the columns and indexes that an older journal lacks."""
    meta.create_all(connection)
    inspector = sa.inspect(connection)
    for table in (journals, operations):
        known = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(
                    f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}"
                )
    for index in (*operations.indexes, *objects.indexes):
        index.create(connection, checkfirst=True)
