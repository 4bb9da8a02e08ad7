"""An embedded Stripe: the same HTTP API, a seeded business, simulated faults.

with Emulator(seed=7) as emulator:
    client = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stripe_alloy.emulator.emulator import Emulator as Emulator
    from stripe_alloy.emulator.http_messages import Request as Request

__all__ = ["EMULATOR", "IN_MEMORY", "Emulator", "Request", "emulates", "store_of"]
EMULATOR = "emulator"
"""The `api_key` that starts the embedded emulator; as `api_url`, `emulator` or `emulator:FILE`."""
IN_MEMORY = ":memory:"
"""The store of an emulated account that ends with its process."""
_HOMES = {"Emulator": "emulator", "Request": "http_messages"}


def emulates(api_key: str, api_url: str) -> bool:
    """Return whether these settings name the embedded emulator, so that Stripe is not called."""
    return api_key == EMULATOR or api_url.partition(":")[0] == EMULATOR


def store_of(api_url: str) -> str:
    """Return the file that keeps the emulated account from one run to the next.

    >>> store_of("emulator:output/stripe.db"), store_of("https://api.stripe.com")
    ('output/stripe.db', ':memory:')
    """
    scheme, _, file = api_url.partition(":")
    return file if scheme == EMULATOR and file else IN_MEMORY


def __getattr__(name: str) -> Any:
    """Load on first use: importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
