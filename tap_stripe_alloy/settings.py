"""The tap's settings, validated before the first request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from singer_sdk import typing as th

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.timestamps import unix_seconds
from stripe_alloy.configs import separated, shown_value
from stripe_alloy.connection_settings import CONNECTION, ConnectionSettings, read_connection

ALL_ACCOUNTS = "all"

DECLARED = th.PropertiesList(
    *CONNECTION,
    th.Property(
        "account_ids",
        th.CustomType({"type": ["array", "string"], "items": {"type": ["string"]}}),
        default=[],
        title="Account IDs",
        description="Connected accounts to read (`acct_…`), or `all` for every one. Default: the "
        "key's own account.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description="Objects created before it are not backfilled; their changes are read.",
    ),
    th.Property(
        "expand",
        th.ObjectType(additional_properties=th.ArrayType(th.StringType)),
        default={},
        title="Expand",
        description="Stream → paths whose ids are replaced by the objects, such as "
        '`{"charges": ["balance_transaction"]}`.',
    ),
    th.Property(
        "timestamps",
        th.StringType,
        default="rfc3339",
        allowed_values=["rfc3339", "unix"],
        title="Timestamps",
        description="Times as RFC 3339 strings in UTC, or as Stripe's Unix seconds.",
    ),
    th.Property(
        "relist_days",
        th.IntegerType,
        default=0,
        title="Relist days",
        description="Each incremental run reads the payment intents of so many days again: Stripe "
        "sends no event when one's metadata, description or amount is edited.",
    ),
    th.Property(
        "include_test_clocks",
        th.BooleanType,
        default=False,
        title="Include test clocks",
        description="Also read customers, subscriptions and invoices on test clocks, which "
        "Stripe's lists leave out. There are none in live mode.",
    ),
    th.Property(
        "webhook_inbox",
        th.StringType,
        secret=True,
        title="Webhook inbox",
        description="SQLAlchemy URL of the inbox that `stripe-alloy listen` fills: changes come "
        "from there, and from `/v1/events` only for times in which no receiver was up.",
    ),
    th.Property(
        "ignore_own_writes",
        th.StringType,
        secret=True,
        title="Ignore own writes",
        description="SQLAlchemy URL of the target's `journal`: updates that only set what the "
        "target wrote are not read back.",
    ),
    th.Property(
        "emit_activate_version_messages",
        th.BooleanType,
        default=True,
        title="Emit ACTIVATE_VERSION messages",
        description="Whether a complete listing ends with ACTIVATE_VERSION, which lets a target "
        "drop what no longer exists.",
    ),
)


@dataclass(frozen=True)
class Settings(ConnectionSettings):
    """The validated settings, converted to the types that the code uses."""

    account_ids: Sequence[str]
    start: int
    """`start_date` in Unix seconds; 0 for the full history."""
    expand: Mapping[str, Sequence[str]]
    unix_times: bool
    relist_days: int
    include_test_clocks: bool
    webhook_inbox: str | None
    ignore_own_writes: str | None

    @property
    def clocks(self) -> bool:
        """Whether to read objects on test clocks; live mode has none."""
        return self.include_test_clocks and not self.live


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Convert a configuration to `Settings`; discovery needs no API key, so it may be absent.

    Raises `SettingsError` for invalid values that the settings' JSON schema accepts.
    """
    settings = Settings(
        **vars(read_connection(config)),
        account_ids=_accounts(config.get("account_ids") or ()),
        start=_start(config.get("start_date")),
        expand={name: tuple(paths) for name, paths in (config.get("expand") or {}).items()},
        unix_times=config.get("timestamps") == "unix",
        relist_days=_days(config.get("relist_days") or 0),
        include_test_clocks=bool(config.get("include_test_clocks")),
        webhook_inbox=str(config.get("webhook_inbox") or "").strip() or None,
        ignore_own_writes=str(config.get("ignore_own_writes") or "").strip() or None,
    )
    _check(settings)
    return settings


def _accounts(given: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(separated(given) if isinstance(given, str) else given)


def _check_database(url: str | None, name: str) -> None:
    if url:
        from stripe_alloy.database import checked_url  # noqa: PLC0415 - slow to import, rarely needed

        checked_url(url, name)


def _check(settings: Settings) -> None:
    _check_database(settings.webhook_inbox, "webhook_inbox")
    _check_database(settings.ignore_own_writes, "ignore_own_writes")
    for account in settings.account_ids:
        if account != ALL_ACCOUNTS and not re.fullmatch(r"acct_\w+", account, re.ASCII):
            raise SettingsError(
                f"`account_ids` contains an invalid account id{shown_value(account)}, expected "
                "'acct_…' or 'all'"
            )


def _start(text: str | None) -> int:
    if not text:
        return 0
    try:
        return unix_seconds(text)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"`start_date` is not a valid date{shown_value(text)}, expected one like "
            "'2026-01-31T00:00:00Z'"
        ) from None


def _days(value: Any) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", str(value)):
        raise SettingsError("`relist_days` must be a number of days from 0 to 99999")
    return int(value)
