"""The target's settings: declared once, checked before the first request."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from singer_sdk import typing as th

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.configs import quoted, shown_value
from stripe_alloy.connection_settings import (
    CONNECTION,
    ConnectionSettings,
    check_key,
    read_connection,
)
from stripe_alloy.text_enum import TextEnum
from target_stripe_alloy.json_lines import shortened
from target_stripe_alloy.plan.permissions import ALLOWED
from target_stripe_alloy.plan.plan_types import (
    DeletePolicy,
    IdMode,
    NullPolicy,
    OnConflict,
    OnMissing,
    OnSeveralMatches,
    Policy,
)
from target_stripe_alloy.resources import BY_STREAM
from target_stripe_alloy.write.matching import FIELDS


class Mode(TextEnum):
    """Whether the objects of the test mode are written, or live ones."""

    TEST = "test"
    LIVE = "live"


def _choice(name: str, choices: type[TextEnum], title: str, description: str) -> th.Property[Any]:
    values = [str(choice) for choice in choices]
    return th.Property(
        name,
        th.StringType,
        default=values[0],
        allowed_values=values,
        title=title,
        description=description,
    )


DECLARED = th.PropertiesList(
    *CONNECTION,
    th.Property(
        "account_id",
        th.StringType,
        title="Account ID",
        description="Connected account to write to (`acct_…`). Default: the key's own account.",
    ),
    _choice(
        "mode",
        Mode,
        "Mode",
        "`test` refuses a live key. `live` requires a live key and `expected_account_id`.",
    ),
    th.Property(
        "expected_account_id",
        th.StringType,
        title="Expected account ID",
        description="Account to write to (`acct_…`). The run stops before the first write if the "
        "key belongs to another account. Required in `live` mode.",
    ),
    _choice(
        "id_mode",
        IdMode,
        "ID mode",
        "How a record identifies its object in Stripe: `same_account` by the object's ID; `copy` "
        "by the ID of the original in another account; `external` by an ID of your own, which the "
        "target stores in the object's metadata.",
    ),
    _choice(
        "on_conflict",
        OnConflict,
        "On conflict",
        "What to do if a field changed both in the record and in Stripe since the last run: "
        "`fail` stops the run, `skip` writes nothing to the object, `overwrite` writes the "
        "record's value, `merge` writes only the fields without a conflict.",
    ),
    _choice(
        "delete_policy",
        DeletePolicy,
        "Delete policy",
        "What to do with a record of a deleted object (`deleted: true`): `ignore` the record, "
        "`archive` the object (products and prices only), or `delete` the object.",
    ),
    _choice(
        "null_policy",
        NullPolicy,
        "Null policy",
        "What a null or an empty string in a record does: `clear` empties the field in Stripe, "
        "`ignore` leaves the field as it is. Both apply at any depth.",
    ),
    th.Property(
        "match_by",
        th.ObjectType(additional_properties=th.ArrayType(th.StringType)),
        default={},
        title="Match by",
        description="Fields by which a record without a Stripe ID finds its object, per stream, "
        'such as `{"customers": ["email"]}`. Allowed are `email` of customers, `lookup_key` of '
        "prices, `number` of invoices, and `metadata.<key>` of any stream.",
    ),
    th.Property(
        "on_missing",
        th.StringType,
        allowed_values=[str(choice) for choice in OnMissing],
        title="On missing",
        description="What to do with a record whose object does not exist: `create` the object, "
        "`skip` the record, or `reject` the record. In `same_account`, `create` requires "
        "`match_by`. Default: `reject` in `same_account`, otherwise `create`.",
    ),
    _choice(
        "on_several_matches",
        OnSeveralMatches,
        "On several matches",
        "What to do if several objects match a record: `reject` the record and list the objects, "
        "or write to the `oldest` or the `newest` object.",
    ),
    th.Property(
        "allow_actions",
        th.ArrayType(th.StringType),
        default=[],
        title="Allowed actions",
        description="Permissions for changes that move money or cannot be undone, such as "
        "`subscriptions.create`. A record that needs a permission that is not listed is blocked: "
        "nothing of the record is written.",
    ),
    th.Property(
        "dry_run",
        th.BooleanType,
        default=False,
        title="Dry run",
        description="Plan only: write nothing to Stripe. Only GET requests and invoice previews "
        "are sent, and the last-synced values in the journal are not updated.",
    ),
    th.Property(
        "preview",
        th.BooleanType,
        default=True,
        title="Preview",
        description="In a plan, ask Stripe what it will invoice for a new or changed "
        "subscription. This costs one request per record.",
    ),
    th.Property(
        "journal",
        th.StringType,
        title="Journal",
        description="SQLAlchemy URL of the journal, the database that records every write: a "
        "SQLite file, or PostgreSQL. Default: a file named by account and mode, such as "
        "`target-stripe-alloy-acct_…-test.db`.",
    ),
    th.Property(
        "pipeline",
        th.StringType,
        title="Pipeline",
        description="Name of this pipeline. Pipelines with different names can share a journal "
        "without undoing each other's changes. Default: Meltano's environment and extractor, if "
        "the target runs in Meltano.",
    ),
    th.Property(
        "rejects",
        th.StringType,
        title="Rejects",
        description="JSONL file for records that were rejected, blocked or in conflict. Default: "
        "a file named by account and mode, such as "
        "`target-stripe-alloy-acct_…-test-rejects.jsonl`.",
    ),
    th.Property(
        "max_rejects",
        th.IntegerType,
        title="Maximum rejects",
        description="Stop the run when more records than this number have been rejected. Default: "
        "no limit.",
    ),
    th.Property(
        "plan",
        th.StringType,
        title="Plan",
        description="JSONL file that lists, for each record, what the run did, or in a dry run "
        "would do. Default: no file.",
    ),
    th.Property(
        "summary",
        th.StringType,
        title="Summary",
        description="JSON file for the number of records per stream and outcome, written at the "
        "end of the run. Default: no file.",
    ),
)


@dataclass(frozen=True)
class TargetSettings:
    """The settings, checked."""

    connection: ConnectionSettings
    account_id: str | None
    live: bool
    expected_account_id: str | None
    policy: Policy
    journal: str | None
    pipeline: str | None
    rejects: str | None
    max_rejects: int | None
    plan: str | None
    summary: str | None


def read_target_settings(config: Mapping[str, Any]) -> TargetSettings:
    """Read a configuration; raises `SettingsError` on what its JSON schema cannot express."""
    connection = read_connection(config)
    check_key(connection)
    settings = TargetSettings(
        connection=connection,
        account_id=_account(config, "account_id"),
        live=config.get("mode") == Mode.LIVE,
        expected_account_id=_account(config, "expected_account_id"),
        policy=Policy(
            id_mode=IdMode(config.get("id_mode") or IdMode.SAME_ACCOUNT),
            on_conflict=OnConflict(config.get("on_conflict") or OnConflict.FAIL),
            delete_policy=DeletePolicy(config.get("delete_policy") or DeletePolicy.IGNORE),
            null_policy=NullPolicy(config.get("null_policy") or NullPolicy.CLEAR),
            allowed=_allowed(config.get("allow_actions") or ()),
            match_by=_match_by(config.get("match_by") or {}),
            on_missing=OnMissing(config["on_missing"]) if config.get("on_missing") else None,
            on_several_matches=OnSeveralMatches(
                config.get("on_several_matches") or OnSeveralMatches.REJECT
            ),
            dry_run=bool(config.get("dry_run")),
            preview=bool(config.get("dry_run")) and config.get("preview") is not False,
        ),
        journal=_text(config, "journal"),
        pipeline=str(config.get("pipeline") or "") or _of_meltano(os.environ),
        rejects=_text(config, "rejects"),
        max_rejects=_number(config.get("max_rejects")),
        plan=_text(config, "plan"),
        summary=_text(config, "summary"),
    )
    _check_mode(settings)
    _check_matching(settings.policy)
    _check_files(settings)
    return settings


def _of_meltano(environment: Mapping[str, str]) -> str | None:
    """Return the name of a Meltano pipeline, as its state id begins."""
    extractor = environment.get("MELTANO_EXTRACTOR_NAME")
    if not extractor:
        return None
    return f"{environment.get('MELTANO_ENVIRONMENT', '')}:{extractor}"


def _text(config: Mapping[str, Any], name: str) -> str | None:
    value = config.get(name)
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"`{name}` must be a text")
    return value or None


def _allowed(names: Any) -> frozenset[str]:
    if isinstance(names, str):
        raise SettingsError(f"`allow_actions` must be a list of names, such as [{ALLOWED[0]!r}]")
    for name in names:
        if name not in ALLOWED:
            raise SettingsError(
                f"`allow_actions` names no action{shown_value(name)}. Known: {', '.join(ALLOWED)}"
            )
    return frozenset(names)


def _match_by(rules: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    for stream, fields in rules.items():
        if stream not in BY_STREAM or not BY_STREAM[stream].writable:
            raise SettingsError(
                f"`match_by` names a stream that cannot be written{shown_value(stream)}"
            )
        if not fields or isinstance(fields, str):
            raise SettingsError(f"`match_by`: {stream} needs a list of fields")
        for name in fields:
            _check_field(stream, name)
    return {stream: tuple(dict.fromkeys(fields)) for stream, fields in rules.items()}


def _check_field(stream: str, name: str) -> None:
    outer, _, key = name.partition(".")
    if name in FIELDS.get(stream, ()) or (outer == "metadata" and key):
        return
    safe = ", ".join((*FIELDS.get(stream, ()), "metadata.<key>"))
    raise SettingsError(
        f"`match_by`: {stream} cannot be matched by {quoted(name, 'what is given')}: it is not "
        f"unique, or Stripe has no exact list by it, so another object could be written. Use one "
        f"of: {safe}"
    )


def _check_matching(policy: Policy) -> None:
    if policy.match_by and policy.id_mode == IdMode.COPY:
        raise SettingsError(
            "`match_by` does not go with `id_mode: copy`: a copy is found by its id there. Use "
            "`same_account` (records without an id) or `external`"
        )
    creates = policy.on_missing == OnMissing.CREATE and policy.id_mode == IdMode.SAME_ACCOUNT
    if creates and not policy.match_by:
        raise SettingsError(
            "`on_missing: create` needs `match_by` in `same_account`: what is created could not be "
            "found again. Set `match_by`, or use `id_mode: external`"
        )


def _account(config: Mapping[str, Any], name: str) -> str | None:
    value = config.get(name) or None
    if value is not None and not re.fullmatch(r"acct_\w+", str(value), re.ASCII):
        raise SettingsError(
            f"`{name}` is not an account ID{shown_value(str(value))}, expected 'acct_…'"
        )
    return value


def _number(value: Any) -> int | None:
    if value is None:
        return None
    if not str(value).isdecimal():
        raise SettingsError("`max_rejects` must be a number, 0 or more")
    return int(value)


def _check_mode(settings: TargetSettings) -> None:
    live_key = "_live_" in settings.connection.api_key and not settings.connection.emulated
    if live_key and not settings.live:
        raise SettingsError(
            "`api_key` is a live key, and `mode` is `test`: set `mode` to `live` if you mean it"
        )
    if settings.live and not live_key:
        raise SettingsError("`mode` is `live`, and `api_key` is not a live key")
    if settings.live and not settings.expected_account_id:
        raise SettingsError(
            "`mode` is `live`: name the account that is meant in `expected_account_id`"
        )


def _check_files(settings: TargetSettings) -> None:
    """Refuse one file for two purposes: one would destroy the other."""
    journal = settings.journal or ""
    named = {
        "journal": journal.removeprefix("sqlite:///") if journal.startswith("sqlite:") else None,
        "rejects": settings.rejects,
        "plan": settings.plan,
        "summary": settings.summary,
    }
    seen: dict[Path, str] = {}
    for name, file in named.items():
        found = _file(name, file)
        other = seen.setdefault(found, name) if found else name
        if other != name:
            raise SettingsError(f"`{other}` and `{name}` name one file: {file}. Use two")


def _file(name: str, file: str | None) -> Path | None:
    """Return the file that a setting names; None if it is a device, or not set."""
    if not file:
        return None
    try:
        path = Path(file)
        return path.resolve() if path.is_file() or not path.exists() else None
    except OSError as error:
        raise SettingsError(
            f"`{name}`: {shortened(file)} cannot be used: {error.strerror}"
        ) from None


__all__ = ["ALLOWED", "DECLARED", "TargetSettings", "read_target_settings"]
