"""Emulators to read from and to write to."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from stripe_alloy.emulator import Emulator
from tests.emulator.helpers import NOW, Events, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small business, seeded once."""
    path = tmp_path_factory.mktemp("small") / "stripe.db"
    with Emulator(customers=14, db=str(path)):
        return path


@pytest.fixture
def emu(small: Path, tmp_path: Path) -> Iterator[Emulator]:
    """A small business to write to."""
    db = shutil.copy(small, tmp_path / "stripe.db")
    with Emulator(db=str(db), clock=lambda: NOW) as emulator:
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
