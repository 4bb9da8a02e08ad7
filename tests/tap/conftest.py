"""What several tests of the tap share."""

from __future__ import annotations

import pytest

from tap_stripe_alloy import clocks, listing


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists come in pages of three, so that there is much to cut and most come as they are."""
    for module in (clocks, listing):
        monkeypatch.setattr(module, "PAGE_SIZE", 3)
