"""The tap's settings: declared once, checked before the first request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from singer_sdk import typing as th

from stripe_alloy.configs import separated, shown_value
from stripe_alloy.emulator import emulates
from stripe_alloy.api.errors import SettingsError
from tap_stripe_alloy.records.conversion import stream_schemas as shape
from tap_stripe_alloy.records.conversion import unix_seconds

ALL_ACCOUNTS = "all"
STRIPE = "https://api.stripe.com"
MAX_CONCURRENCY = 32
MAX_NUMBER = 1_000_000
"""Above any number of requests that Stripe allows."""

DECLARED = th.PropertiesList(
    th.Property(
        "api_key",
        th.StringType,
        required=True,
        secret=True,
        title="API key",
        description="Secret or restricted key (`sk_…`, `rk_…`), or `emulator` for the embedded "
        "emulator, which needs no Stripe account.",
    ),
    th.Property(
        "api_url",
        th.StringType,
        default=STRIPE,
        title="API URL",
        description="Where Stripe answers; `emulator:FILE` is the embedded emulator, with an "
        "account that is kept in a file.",
    ),
    th.Property(
        "api_version",
        th.StringType,
        title="API version",
        description="The Stripe API version that renders the objects. Default: the one that the "
        f"schemas were generated for, {shape.api_version()}.",
    ),
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
        "max_requests_per_second",
        th.IntegerType,
        title="Maximum requests per second",
        description="For each account. Default: Stripe's limit for the key's mode, 100 live and "
        "25 test.",
    ),
    th.Property(
        "max_concurrency",
        th.IntegerType,
        default=MAX_CONCURRENCY,
        title="Maximum concurrency",
        description="Requests under way at once.",
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
class Settings:
    """The settings, checked and in the form the code uses."""

    api_key: str
    api_url: str
    api_version: str
    account_ids: Sequence[str]
    start: int
    """Unix seconds; 0 for the beginning."""
    expand: Mapping[str, Sequence[str]]
    unix_times: bool
    max_requests_per_second: float | None
    max_concurrency: int
    relist_days: int
    include_test_clocks: bool
    webhook_inbox: str | None
    ignore_own_writes: str | None

    @property
    def emulated(self) -> bool:
        """Whether the embedded emulator stands in for Stripe."""
        return emulates(self.api_key, self.api_url)

    @property
    def live(self) -> bool:
        """Whether the key is one of live mode."""
        return self.mode == "live"

    @property
    def mode(self) -> str | None:
        """The key's mode, "live" or "test"; None where the key does not tell."""
        if self.emulated:
            return "test"
        found = re.match(r"[sr]k_(?:org_)?(live|test)_", self.api_key)
        return found[1] if found else None

    @property
    def clocks(self) -> bool:
        """Whether to read what is on test clocks; live mode has none."""
        return self.include_test_clocks and not self.live


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read a configuration; an absent key is fine as long as nothing is read (discovery).

    Raises `SettingsError` on what the JSON schema of the settings cannot say.
    """
    settings = Settings(
        api_key=str(config.get("api_key") or "").strip(),
        api_url=str(config.get("api_url") or STRIPE).strip(),
        api_version=str(config.get("api_version") or shape.api_version()).strip(),
        account_ids=_accounts(config.get("account_ids") or ()),
        start=_start(config.get("start_date")),
        expand={name: tuple(paths) for name, paths in (config.get("expand") or {}).items()},
        unix_times=config.get("timestamps") == "unix",
        max_requests_per_second=_positive(config, "max_requests_per_second"),
        max_concurrency=int(_positive(config, "max_concurrency") or MAX_CONCURRENCY),
        relist_days=_days(config.get("relist_days") or 0),
        include_test_clocks=bool(config.get("include_test_clocks")),
        webhook_inbox=str(config.get("webhook_inbox") or "").strip() or None,
        ignore_own_writes=str(config.get("ignore_own_writes") or "").strip() or None,
    )
    _check(settings)
    return settings


def check_key(settings: Settings) -> None:
    """Refuse, before the first request, what cannot be a key that reads."""
    if settings.emulated or re.fullmatch(r"(sk|rk)_\w+", settings.api_key, re.ASCII):
        _check_way(settings)
        return
    if not settings.api_key:
        raise SettingsError(
            "`api_key` is not set: give a secret or restricted key, or `emulator`. "
            "Meltano's environment `prod` takes it from STRIPE_API_KEY"
        )
    if re.match(r"(sk|rk)_", settings.api_key):
        raise SettingsError("`api_key` holds characters that no key has: a quote, a blank?")
    raise SettingsError(
        "`api_key` is no key that reads: a secret key starts with 'sk_', a restricted one with "
        "'rk_'; a publishable key ('pk_') cannot read"
    )


def _check_way(settings: Settings) -> None:
    """Refuse to send a live key over a network that may read along."""
    url = settings.api_url.lower()
    if "_live_" not in settings.api_key or settings.emulated or url.startswith("https://"):
        return
    if not _is_this_machine(urlsplit(url).hostname or ""):
        raise SettingsError(
            "`api_url` begins with http://, and `api_key` is a live key: it would be sent "
            "unencrypted. Use https://"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _accounts(given: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(separated(given) if isinstance(given, str) else given)


def _check_database(url: str | None, name: str) -> None:
    if url:
        from stripe_alloy.database import checked_url  # noqa: PLC0415 - heavy, and few need it

        checked_url(url, name)


def _check(settings: Settings) -> None:
    _check_database(settings.webhook_inbox, "webhook_inbox")
    _check_database(settings.ignore_own_writes, "ignore_own_writes")
    web = re.fullmatch(r"https?://[^\s/\\]+(/\S*)?", settings.api_url)
    if not web and not emulates("", settings.api_url):
        shown = shown_value(settings.api_url)
        raise SettingsError(f"`api_url` is no URL{shown}, expected {STRIPE!r}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(\.\w+)?", settings.api_version):
        raise SettingsError(
            f"`api_version` is no version of Stripe's{shown_value(settings.api_version)}, "
            f"expected one like {shape.api_version()!r}"
        )
    for account in settings.account_ids:
        if account != ALL_ACCOUNTS and not re.fullmatch(r"acct_\w+", account, re.ASCII):
            raise SettingsError(
                f"`account_ids` names no account{shown_value(account)}, expected 'acct_…' or 'all'"
            )


def _start(text: str | None) -> int:
    if not text:
        return 0
    try:
        return unix_seconds(text)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"`start_date` is no date{shown_value(text)}, expected one like '2026-01-31T00:00:00Z'"
        ) from None


def _positive(config: Mapping[str, Any], name: str) -> float | None:
    value = config.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number <= MAX_NUMBER:
        raise SettingsError(f"`{name}` must be a number above 0, at most {MAX_NUMBER}")
    return number


def _days(value: Any) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", str(value)):
        raise SettingsError("`relist_days` must be a number of days, 0 or more, at most 99999")
    return int(value)
