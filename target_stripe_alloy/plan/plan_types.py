"""Data types of the planner: settings, desired state, base image, decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stripe_alloy.text_enum import TextEnum
from target_stripe_alloy.params_tree import Tree
from target_stripe_alloy.resources import Resource


class Outcome(TextEnum):
    """What becomes of a record, as summary, plan and rejects name it."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    ARCHIVED = "archived"
    DELETED = "deleted"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    BLOCKED = "blocked"
    REJECTED = "rejected"


class IdMode(TextEnum):
    """What identifies a record: its object's id, the id in another account, or the user's key."""

    SAME_ACCOUNT = "same_account"
    COPY = "copy"
    EXTERNAL = "external"


class OnConflict(TextEnum):
    """What is written of a field that changed in Stripe as well."""

    FAIL = "fail"
    SKIP = "skip"
    OVERWRITE = "overwrite"
    MERGE = "merge"


class DeletePolicy(TextEnum):
    """What a tombstone does to its object."""

    IGNORE = "ignore"
    ARCHIVE = "archive"
    DELETE = "delete"


class NullPolicy(TextEnum):
    """What a null does to its field."""

    CLEAR = "clear"
    IGNORE = "ignore"


class OnMissing(TextEnum):
    """What becomes of a record without an object."""

    CREATE = "create"
    SKIP = "skip"
    REJECT = "reject"


class OnSeveralMatches(TextEnum):
    """Which object is taken where several match a record."""

    REJECT = "reject"
    OLDEST = "oldest"
    NEWEST = "newest"


NEW = "new:"
"""Begins the key of an item that Stripe does not have yet."""

REPLACES = "stripe_alloy_replaces"
"""Metadata of a price: the id of the price whose amount it changes."""


@dataclass(frozen=True)
class Policy:
    """The settings that decide."""

    id_mode: IdMode = IdMode.SAME_ACCOUNT
    on_conflict: OnConflict = OnConflict.FAIL
    delete_policy: DeletePolicy = DeletePolicy.IGNORE
    null_policy: NullPolicy = NullPolicy.CLEAR
    allowed: frozenset[str] = frozenset()
    """Permissions: `invoices.finalize`."""
    match_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stream → the fields by which its records find their objects."""
    on_missing: OnMissing | None = None
    """What becomes of a record without an object; None: the default of `id_mode`."""
    on_several_matches: OnSeveralMatches = OnSeveralMatches.REJECT
    dry_run: bool = False
    """Whether nothing is written to Stripe."""
    preview: bool = False
    """Whether a dry run asks Stripe what it will invoice."""


@dataclass(frozen=True)
class BaseImage:
    """Base image: the values of record and object when they last agreed."""

    ours: Mapping[str, Tree]
    theirs: Mapping[str, Tree]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """The record's values of fields that can only be read."""


@dataclass(frozen=True)
class DesiredState:
    """A record, ready to be planned: its references resolved, its parameters as trees."""

    resource: Resource
    fields: Mapping[str, Any]
    """The record's fields, without those that a tap or the SDK adds."""
    tree: Mapping[str, Tree]
    deleted: bool = False
    metadata_complete: bool = True
    """Whether the record has all keys of its `metadata`."""
    ignored: frozenset[str] = frozenset()
    """Metadata keys that are null and to be left as they are."""
    stamp: Mapping[str, str] = field(default_factory=dict)
    """Metadata by which a new object is found again."""
    object_id: str | None = None
    """The id that a new object is to have (products)."""
    action: str | None = None
    occasion: str = ""
    """Makes an action another one, where a record asks for the same one again."""
    digest: bytes = b""
    """Of the record."""
    occurrence: int = 0
    """How often the same record came before in this run."""
    done: frozenset[str] = frozenset()
    """Effects on the object that are not to be repeated; see `effects`."""
    named_pipeline: bool = True
    """Whether the pipeline has a name: then it may unset keys that left its records."""
    left_out: tuple[str, ...] = ()
    """Paths of references to objects that this account does not have."""
    parent: dict[str, Any] | None = None
    """Of an invoice's line: the invoice as it is."""
    creatable: bool = False
    """Whether an object may be created in `same_account`: it is found again by `match_by`."""


@dataclass(frozen=True)
class PlannedRequest:
    """A request to be sent."""

    kind: str
    method: str
    path: str
    params: Mapping[str, Tree] = field(default_factory=dict)
    effects: Sequence[tuple[str, bool]] = ()
    """Effects that cannot be read back, and whether each lasts; see `effects`."""
    needs: frozenset[str] = frozenset()
    """The names of `allow_actions` without which it is not sent."""


@dataclass(frozen=True)
class FieldChange:
    """A parameter before and after the write."""

    field: str
    before: Tree
    after: Tree


@dataclass(frozen=True)
class Decision:
    """What becomes of a record."""

    outcome: Outcome
    requests: Sequence[PlannedRequest] = ()
    changes: Sequence[FieldChange] = ()
    reason: str = ""
    replaces: str | None = None
    """The price that ends with this decision."""
    withheld: Sequence[PlannedRequest] = ()
    """What a blocked record would send if `allow_actions` named everything; only in a plan."""
    preview: Mapping[str, Any] | None = None
    """What Stripe will invoice; only in a plan, see `invoice_preview`."""
    matched: Mapping[str, str] | None = None
    """How the record's object was found: `{"by": "email", "object": "cus_…"}`."""
