"""An embedded Stripe: the same HTTP surface, a seeded business, faults on demand.

with Emulator(seed=7) as emulator:
    client = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stripe_alloy.emulator.emulator import Emulator as Emulator
    from stripe_alloy.emulator.wire import Request as Request

__all__ = ["EMULATOR", "Emulator", "Request"]
EMULATOR = "emulator"
"""The `api_key` that starts the embedded emulator."""
_HOMES = {"Emulator": "emulator", "Request": "wire"}


def __getattr__(name: str) -> Any:
    """Load on first use: importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
