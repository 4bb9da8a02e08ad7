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
    sa.Index("stripe_alloy_inbox_by_created", "account", "livemode", "created", "seq"),
    sa.Index("stripe_alloy_inbox_by_object", "object_id"),
    sqlite_autoincrement=True,  # a number is never given twice
)
uptimes = sa.Table(
    "stripe_alloy_inbox_uptimes",
    meta,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
proofs = sa.Table(
    "stripe_alloy_inbox_proofs",
    meta,
    sa.Column("scope", sa.String(20), primary_key=True),
    sa.Column("livemode", sa.Boolean, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
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
