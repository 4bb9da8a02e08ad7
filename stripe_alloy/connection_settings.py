"""Connection settings of the tap, the target and the receiver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from singer_sdk import typing as th

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.schemas import api_version
from stripe_alloy.configs import shown_value
from stripe_alloy.emulator import emulates

STRIPE = "https://api.stripe.com"
MAX_CONCURRENCY = 32
MAX_NUMBER = 1_000_000
"""Larger than any rate that Stripe allows."""

CONNECTION: tuple[th.Property[Any], ...] = (
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
        description="Base URL of the Stripe API. `emulator:FILE` starts the embedded emulator and "
        "keeps its account in FILE.",
    ),
    th.Property(
        "api_version",
        th.StringType,
        title="API version",
        description="Stripe API version to request (`Stripe-Version` header). Default: the version "
        f"that the schemas were generated from, {api_version()}.",
    ),
    th.Property(
        "max_requests_per_second",
        th.IntegerType,
        title="Maximum requests per second",
        description="Maximum number of requests per second and account. Default: Stripe's limit, "
        "100 in live mode and 25 in test mode.",
    ),
    th.Property(
        "max_concurrency",
        th.IntegerType,
        default=MAX_CONCURRENCY,
        title="Maximum concurrency",
        description="Maximum number of requests that wait for a response at the same time.",
    ),
)


@dataclass(frozen=True)
class ConnectionSettings:
    """Checked connection settings."""

    api_key: str
    api_url: str
    api_version: str
    max_requests_per_second: float | None
    max_concurrency: int

    @property
    def emulated(self) -> bool:
        """Whether the embedded emulator takes Stripe's place."""
        return emulates(self.api_key, self.api_url)

    @property
    def live(self) -> bool:
        """Whether the key is a live key."""
        return self.mode == "live"

    @property
    def mode(self) -> str | None:
        """The key's mode, "live" or "test"; None if the key does not show it."""
        if self.emulated:
            return "test"
        found = re.match(r"[sr]k_(?:org_)?(live|test)_", self.api_key)
        return found[1] if found else None


def read_connection(config: Mapping[str, Any]) -> ConnectionSettings:
    """Read the connection settings; the key may be absent if nothing is sent (discovery).

    Raises `SettingsError` for errors that the JSON schema cannot express.
    """
    settings = ConnectionSettings(
        api_key=str(config.get("api_key") or "").strip(),
        api_url=str(config.get("api_url") or STRIPE).strip(),
        api_version=str(config.get("api_version") or api_version()).strip(),
        max_requests_per_second=_positive(config, "max_requests_per_second"),
        max_concurrency=int(_positive(config, "max_concurrency") or MAX_CONCURRENCY),
    )
    _check(settings)
    return settings


def check_key(settings: ConnectionSettings) -> None:
    """Check the format of the API key; raises `SettingsError`."""
    if settings.emulated or re.fullmatch(r"(sk|rk)_\w+", settings.api_key, re.ASCII):
        _check_way(settings)
        return
    if not settings.api_key:
        raise SettingsError(
            "`api_key` is not set: give a secret or restricted key, or `emulator`. "
            "Meltano's environment `prod` takes it from STRIPE_API_KEY"
        )
    if re.match(r"(sk|rk)_", settings.api_key):
        raise SettingsError(
            "`api_key` contains characters that are not valid in a key: a quote or a space?"
        )
    raise SettingsError(
        "`api_key` is not a key that can read: a secret key starts with 'sk_', a restricted one "
        "with 'rk_'; a publishable key ('pk_') cannot read"
    )


def _check_way(settings: ConnectionSettings) -> None:
    """Raise `SettingsError` if a live key would be sent unencrypted."""
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


def _check(settings: ConnectionSettings) -> None:
    web = re.fullmatch(r"https?://[^\s/\\]+(/\S*)?", settings.api_url)
    if not web and not emulates("", settings.api_url):
        shown = shown_value(settings.api_url)
        raise SettingsError(f"`api_url` is not a URL{shown}, expected {STRIPE!r}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(\.\w+)?", settings.api_version):
        raise SettingsError(
            f"`api_version` is not a version of Stripe's API{shown_value(settings.api_version)}, "
            f"expected one like {api_version()!r}"
        )


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
