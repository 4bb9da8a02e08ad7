"""What the target inherits from the Singer SDK: each part is decided, or this fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from singer_sdk.helpers import capabilities as sdk
from singer_sdk.io_base import SingerMessageType

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.emulator import Emulator
from target_stripe_alloy.sdk_features import IGNORED, REFUSED, WORKING
from target_stripe_alloy.settings import DECLARED
from target_stripe_alloy.target import TargetStripeAlloy
from tests.target.helpers import record, schema, state, write

MESSAGES = {"SCHEMA", "RECORD", "BATCH", "STATE", "ACTIVATE_VERSION"}
"""Message types; any other is refused."""

OFFERED = {"about", "batch", "stream-maps", "structured-logging"}
"""Capabilities of the SDK in --about."""
NOT_OFFERED = {
    "activate-version",
    "datatype-failsafe",
    "hard-delete",
    "schema-flattening",
    "soft-delete",
    "target-schema",
    "validate-records",
}

OPTIONS = {"--version", "--about", "--format", "--config", "--input"}
"""Options of the command."""

SETTINGS = {*WORKING, *REFUSED, *IGNORED}


def about() -> dict[str, Any]:
    result = CliRunner().invoke(TargetStripeAlloy.cli, ["--about", "--format", "json"])
    found: dict[str, Any] = json.loads(result.output)
    return found


def sdk_settings() -> set[str]:
    """The settings of all that the SDK can build into a plugin."""
    tables = [value for value in vars(sdk).values() if isinstance(value, dict)]
    return {name for table in tables for name in table.get("properties", ())}


def test_every_message_type_is_decided() -> None:
    assert {kind.value for kind in SingerMessageType} == MESSAGES


def test_every_setting_of_the_sdk_is_decided() -> None:
    assert sdk_settings() == SETTINGS


def test_every_capability_of_the_sdk_is_decided() -> None:
    known = {c.value for c in (*sdk.PluginCapabilities, *sdk.TargetCapabilities)}
    assert known == OFFERED | NOT_OFFERED


def test_every_option_of_the_command_is_decided() -> None:
    command = TargetStripeAlloy.get_singer_command()
    assert isinstance(command, click.Command)
    assert {parameter.opts[0] for parameter in command.params} == OPTIONS


def test_only_what_works_is_offered() -> None:
    offered = about()
    own = {setting for setting in DECLARED.to_dict()["properties"] if setting not in SETTINGS}
    assert set(offered["settings"]["properties"]) == own | WORKING
    assert set(offered["capabilities"]) == OFFERED


ASKS: dict[str, Any] = {
    "load_method": "overwrite",
    "hard_delete": True,
    "flattening_enabled": True,
    "batch_config": {"storage": {"root": "file:///tmp"}},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_stops_the_run(account: Emulator, tmp_path: Path, name: str) -> None:
    asked: dict[str, Any] = {name: ASKS[name]}
    with pytest.raises(SettingsError, match=f"^`{name}` is not offered by this target: "):
        write(account, tmp_path, [schema("customers")], **asked)


@pytest.mark.parametrize("name", IGNORED)
def test_what_has_no_effect_is_named(
    account: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    found = account.ids("customers")[0]
    messages = [schema("customers"), record("customers", id=found, name="New"), state(done=True)]
    setting: dict[str, Any] = {name: 1}
    run = write(account, tmp_path, messages, **setting)
    assert f"`{name}` has no effect" in caplog.text
    assert [write.params for write in run.writes] == [{"name": ["New"]}]


@pytest.mark.parametrize("value", ["append-only", "upsert", None])
def test_a_load_method_that_asks_for_nothing_passes(
    account: Emulator, tmp_path: Path, value: str | None
) -> None:
    write(account, tmp_path, [schema("customers"), state(done=True)], load_method=value)


def test_activate_version_deletes_nothing(account: Emulator, tmp_path: Path) -> None:
    version = {"type": "ACTIVATE_VERSION", "stream": "customers", "version": 1}
    messages = [schema("customers"), version, state(done=True)]
    run = write(account, tmp_path, messages, delete_policy="delete")
    assert (run.writes, run.states) == ([], [{"done": True}])
