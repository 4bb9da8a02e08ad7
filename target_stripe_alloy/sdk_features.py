"""Settings of the Singer SDK for every target: which work here, which do not, and why.

A test compares them with the installed SDK: it fails on a new one until that is decided.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from stripe_alloy.api.errors import SettingsError

_logger = logging.getLogger(__name__)

WORKING = frozenset({"stream_maps", "stream_map_config", "faker_config"})

REFUSED: Mapping[str, str] = {
    "load_method": "records are created or updated by their key, `id_mode` says how",
    "hard_delete": "`delete_policy` says what a tombstone does",
    "flattening_enabled": "Stripe's parameters are nested: leave records as are",
    "batch_config": "BATCH files are read where their URLs say",
}
"""Setting → why it is an error."""
_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "load_method": (None, "upsert", "append-only"),
    "batch_config": (None, {}),
}
"""Setting → values that are no error; others may be false."""

IGNORED: Mapping[str, str] = {
    "flattening_max_depth": "nothing is flattened",
    "flattening_max_key_length": "nothing is flattened",
    "flattening_separator": "nothing is flattened",
    "add_record_metadata": "`_sdc_` fields are not written",
    "batch_size_rows": "the target chooses how many records it handles at once",
    "default_target_schema": "Stripe has no schemas",
    "emit_activate_version_messages": "it is a setting of taps",
    "process_activate_version_messages": "only a tombstone deletes",
    "use_singer_decimal": "it is a setting of taps",
    "validate_records": "records are checked against Stripe's parameters",
}
"""Setting → why it has no effect."""


def check_inherited(config: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for a refused setting; warn of ignored ones."""
    for name, why in REFUSED.items():
        if config.get(name) not in _HARMLESS.get(name, (None, False)):
            raise SettingsError(f"`{name}` is not offered by this target: {why}. Remove it")
    for name, why in IGNORED.items():
        if config.get(name) is not None:
            _logger.warning("`%s` has no effect: %s", name, why)
