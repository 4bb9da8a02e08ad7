"""`source-stripe-alloy`: the tap as an Airbyte source."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command."""
    try:
        from source_stripe_alloy.source import main as command  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is missing: install stripe-alloy[airbyte]")
    command()
