"""target-stripe-alloy: the Singer target. This release compares; it has no way to write."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import Target
from singer_sdk import typing as th
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities
from typing_extensions import override

from stripe_alloy.connect import Connection
from stripe_alloy.errors import SettingsError
from stripe_alloy.program import run
from tap_stripe_alloy.settings import DECLARED as TAPS
from tap_stripe_alloy.settings import MAX_CONCURRENCY, check_key, read_settings
from target_stripe_alloy.sink import CompareSink

if TYPE_CHECKING:
    from stripe_alloy.transport import Transport

SHARED = ("api_key", "api_url", "api_version", "max_requests_per_second")
"""Settings that mean the same as the tap's."""

DECLARED = th.PropertiesList(
    *(setting for name, setting in TAPS.items() if name in SHARED),
    th.Property(
        "account_id",
        th.StringType,
        title="Account ID",
        description="The connected account (`acct_…`) to compare with. Default: the key's own.",
    ),
    th.Property(
        "dry_run",
        th.BooleanType,
        default=False,
        title="Dry run",
        description="Say what differs, change nothing. This release has nothing else to offer, "
        "and refuses to run without it.",
    ),
)


class TargetStripeAlloy(Target):
    """Holds records against Stripe and says where they differ."""

    name = "target-stripe-alloy"
    package_name = "stripe-alloy"
    config_jsonschema: ClassVar[dict[str, Any]] = DECLARED.to_dict()
    default_sink_class = CompareSink
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    @cached_property
    def _connection(self) -> Connection:
        if not self.config.get("dry_run"):
            raise SettingsError(
                "This release compares and writes nothing: set `dry_run` to true to say so"
            )
        settings = read_settings({name: self.config.get(name) for name in SHARED})
        check_key(settings)
        return Connection(
            api_key=settings.api_key,
            api_url=settings.api_url,
            api_version=settings.api_version,
            max_requests_per_second=settings.max_requests_per_second,
            max_concurrency=MAX_CONCURRENCY,
        )

    @property
    def transport(self) -> Transport:
        """The way to Stripe; it refuses whatever is not a GET."""
        return self._connection.transport

    @override
    def process_endofpipe(self) -> None:
        try:
            super().process_endofpipe()
        finally:
            if "_connection" in self.__dict__:
                self._connection.close()


def main() -> None:
    """Run the command."""
    run(TargetStripeAlloy.cli, TargetStripeAlloy.logger)


if __name__ == "__main__":
    main()
