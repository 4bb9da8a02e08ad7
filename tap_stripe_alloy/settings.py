"""The tap's settings, validated before the first request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from singer_sdk import typing as th

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.timestamps import unix_seconds
from stripe_alloy.configs import quoted, separated, shown_value
from stripe_alloy.connection_settings import CONNECTION, ConnectionSettings, read_connection

ALL_ACCOUNTS = "all"
_SILENT = [
    kind.name for kind in OBJECT_TYPES if kind.has_silent_updates and not kind.needs_full_lists
]

DECLARED = th.PropertiesList(
    *CONNECTION,
    th.Property(
        "account_ids",
        th.CustomType({"type": ["array", "string"], "items": {"type": ["string"]}}),
        default=[],
        title="Account IDs",
        description="Connected accounts to read: a list of IDs (`acct_…`), or `all`. The key's "
        "own account is then read only if its ID is listed too. Default: the key's own account.",
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description="Backfill only objects created on or after this date, such as `2026-01-31`. "
        "Later changes to older objects are still read. Default: the full history.",
    ),
    th.Property(
        "expand",
        th.ObjectType(additional_properties=th.ArrayType(th.StringType)),
        default={},
        title="Expand",
        description='Fields to expand per stream, up to four levels deep, such as `{"charges": '
        '["payment_intent.customer"]}`. The expanded object replaces its ID.',
    ),
    th.Property(
        "timestamps",
        th.StringType,
        default="rfc3339",
        allowed_values=["rfc3339", "unix"],
        title="Timestamps",
        description="Format of timestamps: `rfc3339` for strings in UTC, or `unix` for seconds, "
        "as Stripe returns them.",
    ),
    th.Property(
        "lookback_days",
        th.ObjectType(additional_properties=th.IntegerType),
        default={},
        title="Lookback days",
        description='Number of days per stream, such as `{"payment_intents": 3}`: every '
        "incremental run reads the objects created in these last days again. Possible for streams "
        "in which some updates emit no event, such as edits of a payment intent's metadata.",
    ),
    th.Property(
        "relist_days",
        th.IntegerType,
        default=0,
        title="Relist days",
        description="`lookback_days` of all such streams that `lookback_days` does not name.",
    ),
    th.Property(
        "full_list_hours",
        th.IntegerType,
        default=24,
        title="Full list hours",
        description="Hours after which the whole list of a stream is read again. Applies to "
        "streams of which neither events nor a list of new objects shows all changes.",
    ),
    th.Property(
        "include_test_clocks",
        th.BooleanType,
        default=False,
        title="Include test clocks",
        description="Also read customers, subscriptions, invoices and invoice items on test "
        "clocks, which Stripe's lists omit. Live mode has no test clocks.",
    ),
    th.Property(
        "webhook_inbox",
        th.StringType,
        secret=True,
        title="Webhook inbox",
        description="SQLAlchemy URL of the inbox: the database in which `stripe-alloy listen` "
        "stores events. If set, changes are read from the inbox, and from `/v1/events` only for "
        "periods in which no receiver was running, and for a daily check.",
    ),
    th.Property(
        "ignore_own_writes",
        th.StringType,
        secret=True,
        title="Ignore own writes",
        description="SQLAlchemy URL of the target's `journal`. If set, update events that contain "
        "only what the target itself wrote are skipped.",
    ),
    th.Property(
        "emit_activate_version_messages",
        th.BooleanType,
        default=True,
        title="Emit ACTIVATE_VERSION messages",
        description="Send ACTIVATE_VERSION after the complete list of a stream was read, so that "
        "the target can remove rows of objects that no longer exist in Stripe.",
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
    lookback_days: Mapping[str, int]
    relist_days: int
    full_list_hours: int
    include_test_clocks: bool
    webhook_inbox: str | None
    ignore_own_writes: str | None

    @property
    def clocks(self) -> bool:
        """Whether to read objects on test clocks; live mode has none."""
        return self.include_test_clocks and not self.live

    def lookback_of(self, stream: str) -> int:
        """Return the days that a stream is to be read again on every incremental run."""
        return self.lookback_days.get(stream, self.relist_days)


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
        lookback_days={
            name: _count(days, f"lookback_days.{name}", "days")
            for name, days in (config.get("lookback_days") or {}).items()
        },
        relist_days=_count(config.get("relist_days") or 0, "relist_days", "days"),
        full_list_hours=_count(config.get("full_list_hours", 24), "full_list_hours", "hours"),
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
    for stream in settings.lookback_days:
        if stream not in _SILENT:
            raise SettingsError(
                f"`lookback_days` contains {quoted(stream, 'a stream')}, which is no stream with "
                f"updates without an event. Those are: {', '.join(_SILENT)}"
            )
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


def _count(value: Any, name: str, unit: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", str(value)):
        raise SettingsError(f"`{name}` must be a number of {unit} from 0 to 99999")
    return int(value)
