"""The SDK's standard tests for taps, against the emulator, and what they overlook."""

from __future__ import annotations

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.tap import TapStripeAlloy
from tests.conftest import FullRead

_emulator = Emulator(customers=30).start()


@pytest.fixture(scope="module", autouse=True)
def _stop() -> object:
    yield
    _emulator.stop()


TestTapStripeAlloy = get_tap_test_class(
    tap_class=TapStripeAlloy,
    config={
        "api_key": _emulator.api_key,
        "api_url": _emulator.url,
        "max_requests_per_second": 100_000,
    },
    suite_config=SuiteConfig(max_records_limit=400),
    parse_env_config=False,
)


def test_no_id_comes_twice(full_read: FullRead) -> None:
    for stream in full_read.output.records:
        assert max(full_read.output.ids(stream).values()) == 1


def test_the_final_state_has_no_progress_markers(full_read: FullRead) -> None:
    for bookmark in full_read.output.state["bookmarks"].values():
        assert "progress_markers" not in bookmark


def test_every_time_of_every_record_is_one(full_read: FullRead) -> None:
    schema = full_read.output.schemas["subscriptions"]["properties"]
    times = [name for name, value in schema.items() if value.get("format") == "date-time"]
    assert len(times) > 8
    for record in full_read.output.records["subscriptions"]:
        for name in times:
            assert record.get(name) is None or record[name][10:20].count(":") == 2
