"""Settings of the Singer SDK for every target: which work here, which do not, and why.

A test compares them with the installed SDK: it fails on a new one until that is decided.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from stripe_alloy.api.errors import SettingsError

_logger = logging.getLogger(__name__)


class Support(str, Enum):
    """What becomes of a feature of the SDK's."""

    WORKS = "works"
    IGNORED = "ignored"
    REFUSED = "refused"
    __str__ = str.__str__


@dataclass(frozen=True)
class Setting:
    """What becomes of one of the SDK's settings."""

    support: Support
    why: str = ""
    harmless: tuple[Any, ...] = (None, False)
    """Values of a refused setting that ask for nothing."""


_IN_PLACE = "records are created or updated by their key, `id_mode` says how"

SETTINGS: Mapping[str, Setting] = {
    "stream_maps": Setting(Support.WORKS),
    "stream_map_config": Setting(Support.WORKS),
    "faker_config": Setting(Support.WORKS),
    "load_method": Setting(Support.REFUSED, _IN_PLACE, (None, "upsert", "append-only")),
    "hard_delete": Setting(Support.REFUSED, "`delete_policy` says what a tombstone does"),
    "flattening_enabled": Setting(
        Support.REFUSED, "Stripe's parameters are nested: leave records as are"
    ),
    "batch_config": Setting(
        Support.REFUSED, "BATCH files are read where their URLs say", (None, {})
    ),
    "flattening_max_depth": Setting(Support.IGNORED, "nothing is flattened"),
    "flattening_max_key_length": Setting(Support.IGNORED, "nothing is flattened"),
    "flattening_separator": Setting(Support.IGNORED, "nothing is flattened"),
    "add_record_metadata": Setting(Support.IGNORED, "`_sdc_` fields are not written"),
    "batch_size_rows": Setting(
        Support.IGNORED, "the target chooses how many records it handles at once"
    ),
    "default_target_schema": Setting(Support.IGNORED, "Stripe has no schemas"),
    "emit_activate_version_messages": Setting(Support.IGNORED, "it is a setting of taps"),
    "process_activate_version_messages": Setting(Support.IGNORED, "only a tombstone deletes"),
    "use_singer_decimal": Setting(Support.IGNORED, "it is a setting of taps"),
    "validate_records": Setting(Support.IGNORED, "records are checked against Stripe's parameters"),
}


def check_inherited(config: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for a setting of the SDK's that asks for what is not done here."""
    for name, setting in SETTINGS.items():
        value = config.get(name)
        if setting.support == Support.REFUSED and value not in setting.harmless:
            raise SettingsError(f"`{name}` is not offered by this target: {setting.why}. Remove it")
        if setting.support == Support.IGNORED and value is not None:
            _logger.warning("`%s` has no effect: %s", name, setting.why)
