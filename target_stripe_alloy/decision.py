"""The words of the planner: what is wanted, what was held, what is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from target_stripe_alloy.reshape import Tree
from target_stripe_alloy.resources import Resource

READ, CREATED, UPDATED, UNCHANGED = "read", "created", "updated", "unchanged"

ARCHIVED, DELETED, CONFLICT, BLOCKED, REJECTED = (
    "archived",
    "deleted",
    "conflict",
    "blocked",
    "rejected",
)

VERDICTS = (CREATED, UPDATED, UNCHANGED, ARCHIVED, DELETED, CONFLICT, BLOCKED, REJECTED)

SAME_ACCOUNT, COPY, EXTERNAL = "same_account", "copy", "external"

FAIL, SKIP, OVERWRITE, MERGE = "fail", "skip", "overwrite", "merge"

IGNORE, ARCHIVE = "ignore", "archive"

CLEAR = "clear"

NEW = "new:"
"""Begins the key of an item that Stripe does not have yet."""

REPLACES = "stripe_alloy_replaces"
"""Metadata of a price: the id of the price whose amount it changes."""


@dataclass(frozen=True)
class Policy:
    """The settings that decide."""

    id_mode: str = SAME_ACCOUNT
    on_conflict: str = FAIL
    delete_policy: str = IGNORE
    null_policy: str = CLEAR
    allowed: frozenset[str] = frozenset()
    """Permissions: `invoices.finalize`."""


@dataclass(frozen=True)
class Base:
    """What record and object held when they were last brought together."""

    ours: Mapping[str, Tree]
    theirs: Mapping[str, Tree]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What the record held that cannot be written."""


@dataclass(frozen=True)
class Wanted:
    """A record, made ready: its references resolved, its parameters as trees."""

    resource: Resource
    fields: Mapping[str, Any]
    """The record's own fields, without what a tap or the SDK adds."""
    tree: Mapping[str, Tree]
    deleted: bool = False
    whole: bool = True
    """Whether `metadata`, where there is any, is all of it."""
    ignored: frozenset[str] = frozenset()
    """Metadata keys that are null and to be left as they are."""
    stamp: Mapping[str, str] = field(default_factory=dict)
    """Metadata by which a new object is found again."""
    object_id: str | None = None
    """For a new object that brings its own id."""
    action: str | None = None
    occasion: str = ""
    """Tells an action from the same one before, where a record asks for it again."""
    digest: bytes = b""
    """Of the record."""
    done: frozenset[str] = frozenset()
    """Effects on the object that are not to be repeated; see `effects`."""
    named: bool = True
    """Whether the pipeline has a name: then what left the record is its own to unset."""


@dataclass(frozen=True)
class Request:
    """One write."""

    kind: str
    method: str
    path: str
    params: Mapping[str, Tree] = field(default_factory=dict)
    effects: Sequence[tuple[str, bool]] = ()
    """Effects that no field will show, and whether each lasts; see `effects`."""
    permissions: Sequence[str] = ()
    """What `allow_actions` had to contain; asked again before the request is sent a second time."""


@dataclass(frozen=True)
class Change:
    """A parameter as it is and as it is to be."""

    field: str
    before: Tree
    after: Tree


@dataclass(frozen=True)
class Decision:
    """What becomes of a record."""

    verdict: str
    requests: Sequence[Request] = ()
    changes: Sequence[Change] = ()
    reason: str = ""
    replaces: str | None = None
    """The price that ends with this decision."""
    heir: dict[str, Any] | None = None
    """The price that took its place already."""
