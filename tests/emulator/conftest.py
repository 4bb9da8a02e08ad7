"""Emulators to read from and to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stripe_alloy.emulator import Emulator
from tests.emulator.helpers import NOW, Events, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import stripe


@pytest.fixture(scope="session")
def business() -> Iterator[Emulator]:
    """The default business; nobody writes to it."""
    with Emulator(accounts=1, clock=lambda: NOW) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def reader(business: Emulator) -> stripe.StripeClient:
    """A client of the default business."""
    return client_of(business)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    """A small business to write to."""
    with Emulator(customers=14, clock=lambda: NOW) as emulator:
        yield emulator


@pytest.fixture
def empty() -> Iterator[Emulator]:
    """An account without anything."""
    with Emulator(customers=0, clock=lambda: NOW) as emulator:
        yield emulator


@pytest.fixture
def api(emu: Emulator) -> stripe.StripeClient:
    """A client of the small business."""
    return client_of(emu)


@pytest.fixture
def events(emu: Emulator) -> Events:
    """What happens in the small business during a test."""
    return Events(emu)
