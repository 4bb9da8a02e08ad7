"""What the Singer SDK offers every target, and what becomes of it here.

A test compares these tables with the installed SDK: it fails on what a later one adds, until that
is decided.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stripe_alloy.api.errors import SettingsError

_logger = logging.getLogger(__name__)

WORKS, IGNORED, REFUSED = "works", "ignored", "refused"


@dataclass(frozen=True)
class Setting:
    """What becomes of one of the SDK's settings."""

    outcome: str
    why: str = ""
    harmless: tuple[Any, ...] = (None, False)
    """Values of a refused setting that ask for nothing."""


_IN_PLACE = "records are created or updated by their key, `id_mode` says how"

SETTINGS: Mapping[str, Setting] = {
    "stream_maps": Setting(WORKS),
    "stream_map_config": Setting(WORKS),
    "faker_config": Setting(WORKS),
    "load_method": Setting(REFUSED, _IN_PLACE, (None, "upsert", "append-only")),
    "hard_delete": Setting(REFUSED, "`delete_policy` says what a tombstone does"),
    "flattening_enabled": Setting(REFUSED, "Stripe's parameters are nested: leave records as are"),
    "batch_config": Setting(REFUSED, "BATCH files are read where their URLs say", (None, {})),
    "flattening_max_depth": Setting(IGNORED, "nothing is flattened"),
    "flattening_max_key_length": Setting(IGNORED, "nothing is flattened"),
    "flattening_separator": Setting(IGNORED, "nothing is flattened"),
    "add_record_metadata": Setting(IGNORED, "`_sdc_` fields are not written"),
    "batch_size_rows": Setting(IGNORED, "the target chooses how many records it handles at once"),
    "default_target_schema": Setting(IGNORED, "Stripe has no schemas"),
    "emit_activate_version_messages": Setting(IGNORED, "it is a setting of taps"),
    "process_activate_version_messages": Setting(IGNORED, "only a tombstone deletes"),
    "use_singer_decimal": Setting(IGNORED, "it is a setting of taps"),
    "validate_records": Setting(IGNORED, "records are checked against Stripe's parameters"),
}

MESSAGES: Mapping[str, str] = {
    "SCHEMA": WORKS,
    "RECORD": WORKS,
    "BATCH": WORKS,
    "STATE": WORKS,
    "ACTIVATE_VERSION": IGNORED,  # what a listing no longer holds may be anything
}
"""Message types; any other is refused."""

CAPABILITIES: Mapping[str, str] = {
    "about": WORKS,
    "batch": WORKS,
    "stream-maps": WORKS,
    "structured-logging": WORKS,
    "activate-version": REFUSED,
    "datatype-failsafe": REFUSED,
    "hard-delete": REFUSED,
    "schema-flattening": REFUSED,
    "soft-delete": REFUSED,
    "target-schema": REFUSED,
    "validate-records": REFUSED,
}
"""Capabilities; what is refused is not offered in --about."""

OPTIONS: Mapping[str, str] = {
    "--version": WORKS,
    "--about": WORKS,
    "--format": WORKS,
    "--config": WORKS,
    "--input": WORKS,
}
"""Options of the command."""


def check_inherited(config: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for a setting of the SDK's that asks for what is not done here."""
    for name, setting in SETTINGS.items():
        value = config.get(name)
        if setting.outcome == REFUSED and value not in setting.harmless:
            raise SettingsError(f"`{name}` is not offered by this target: {setting.why}. Remove it")
        if setting.outcome == IGNORED and value is not None:
            _logger.warning("`%s` has no effect: %s", name, setting.why)
