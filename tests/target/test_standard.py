"""The SDK's standard tests for targets: their streams become customers with keys of their own."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
from singer_sdk.testing import get_target_test_class

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.target import TargetStripeAlloy

_emulator = Emulator(customers=0).start()


@pytest.fixture(scope="module", autouse=True)
def _stop() -> object:
    yield
    _emulator.stop()


AS_CUSTOMERS = {"__alias__": "customers"}
STREAMS = {
    name
    for file in resources.files("singer_sdk.testing.target_test_streams").iterdir()
    if file.name.endswith(".singer")
    for name in re.findall(r'"stream": *"([^"]*)"', file.read_text(encoding="utf-8"))
}


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


TestTargetStripeAlloy = get_target_test_class(
    target_class=TargetStripeAlloy,
    config={
        "api_key": _emulator.api_key,
        "api_url": _emulator.url,
        "id_mode": "external",
        "stream_maps": dict.fromkeys(STREAMS, AS_CUSTOMERS),
    },
)
