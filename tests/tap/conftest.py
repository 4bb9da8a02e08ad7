"""What several tests of the tap share."""

from __future__ import annotations

import pytest

from stripe_alloy.api import list_endpoint as lists


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists come in pages of three, so that there is much to cut and most come as they are."""
    monkeypatch.setattr(lists, "PAGE_SIZE", 3)
