"""The inbox's tables."""

from __future__ import annotations

import sqlalchemy as sa

meta = sa.MetaData()
number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
inboxes = sa.Table(
    "stripe_alloy_inbox",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("taken_seq", sa.BigInteger, nullable=False),
    sa.Column("taken_created", sa.BigInteger, nullable=False),
)
events = sa.Table(
    "stripe_alloy_inbox_events",
    meta,
    sa.Column("seq", number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(255), nullable=False, unique=True),
    sa.Column("account", sa.String(255), nullable=False),
    sa.Column("livemode", sa.Boolean, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("object", sa.String(255), nullable=False),
    sa.Column("object_id", sa.String(255), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary),
    # Endpoint of the secret that verified it; "" if it was listed, or before version 2.
    sa.Column("endpoint", sa.String(80), nullable=False, server_default=""),
    sa.Index("stripe_alloy_inbox_by_created", "account", "livemode", "created", "seq"),
    sa.Index("stripe_alloy_inbox_by_object", "object_id"),
    sqlite_autoincrement=True,  # a number is never reused
)
uptimes = sa.Table(
    "stripe_alloy_inbox_uptimes",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
    # Endpoints of the known secrets, one per line; NULL before version 2.
    sa.Column("endpoints", sa.Text),
)
proofs = sa.Table(
    "stripe_alloy_inbox_proofs",
    meta,
    sa.Column("scope", sa.String(20), primary_key=True),
    sa.Column("livemode", sa.Boolean, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
# Above: the first delivery of any endpoint, before version 2. Below: of each endpoint.
first_deliveries = sa.Table(
    "stripe_alloy_inbox_first_deliveries",
    meta,
    sa.Column("endpoint", sa.String(80), primary_key=True),
    sa.Column("scope", sa.String(20), primary_key=True),
    sa.Column("livemode", sa.Boolean, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
# The account of each endpoint, "" if unknown; the accounts that are not its own.
endpoints = sa.Table(
    "stripe_alloy_inbox_endpoints",
    meta,
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("account", sa.String(255), nullable=False),
    sa.Column("not_of", sa.Text, nullable=False),
)
fetched = sa.Table(
    "stripe_alloy_inbox_fetched",
    meta,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("account", sa.String(255), nullable=False),
    sa.Column("livemode", sa.Boolean, nullable=False),
    sa.Column("low", sa.Float, nullable=False),
    sa.Column("high", sa.Float, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
checks = sa.Table(
    "stripe_alloy_inbox_checks",
    meta,
    sa.Column("account", sa.String(255), primary_key=True),
    sa.Column("livemode", sa.Boolean, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
readers = sa.Table(
    "stripe_alloy_inbox_readers",
    meta,
    sa.Column("reader", sa.String(40), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)


def up_to_date(connection: sa.Connection, version: int) -> bool:
    """Whether all tables exist and have a version."""
    there = set(sa.inspect(connection).get_table_names())
    if not there >= set(meta.tables):
        return False
    return connection.execute(sa.select(inboxes.c.version)).scalar() == version


def migrate(connection: sa.Connection) -> None:
    """Add the columns that the tables of an older version lack."""
    compile_type = connection.dialect.type_compiler_instance.process
    for table in (events, uptimes):
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = f"{column.name} {compile_type(column.type)}"
                if not column.nullable:
                    definition += " NOT NULL DEFAULT ''"
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
