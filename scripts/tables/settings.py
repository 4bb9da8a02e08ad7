"""The tables of settings in the README."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from singer_sdk.plugin_base import PluginBase

from tap_stripe_alloy.tap import TapStripeAlloy
from target_stripe_alloy.target import TargetStripeAlloy

COMPUTED = " Default: "
"""Starts the last sentence of a description if the default is not a plain value."""
STREAM_MAPS = "https://sdk.meltano.com/en/latest/stream_maps.html"
SDK_SETTINGS = {
    TapStripeAlloy: "Stream maps and flattening",
    TargetStripeAlloy: "Stream maps",
}
"""Purpose of the settings that the Singer SDK adds."""

Properties = Mapping[str, Mapping[str, Any]]


def tap_table() -> str:
    """Return Markdown with a row per setting of the tap, and one for the Singer SDK's."""
    return _table(TapStripeAlloy, own(TapStripeAlloy))


def target_table() -> str:
    """Return the same for the target, without the settings that it shares with the tap."""
    shared = own(TapStripeAlloy).keys()
    settings = {name: row for name, row in own(TargetStripeAlloy).items() if name not in shared}
    return _table(TargetStripeAlloy, settings)


def own(plugin: type[PluginBase]) -> Properties:
    """Return the settings that a plugin declares itself."""
    properties: Properties = plugin.config_jsonschema["properties"]
    from_sdk = {"stream_maps", "stream_map_config", "faker_config"}
    unused = {"add_record_metadata", "load_method", "batch_size_rows"}
    return {
        name: row
        for name, row in properties.items()
        if name not in from_sdk | unused and not name.startswith("flattening_")
    }


def from_the_sdk(plugin: type[PluginBase]) -> list[str]:
    """Return the names of the settings that the Singer SDK adds to a plugin."""
    schema: dict[str, Any] = json.loads(json.dumps(plugin.config_jsonschema))
    plugin.append_builtin_config(schema)
    return [
        name
        for name in schema["properties"]
        if name.startswith(("stream_map", "faker_", "flattening_"))
    ]


def _table(plugin: type[PluginBase], settings: Properties) -> str:
    rows = ["| setting | default | what it does |", "|---|---|---|"]
    required = plugin.config_jsonschema.get("required", ())
    rows += [_row(name, setting, name in required) for name, setting in settings.items()]
    title = f"[{SDK_SETTINGS[plugin]}]({STREAM_MAPS}) of the Singer SDK."
    rows.append(f"| {_codes(from_the_sdk(plugin))} | none | {title} |")
    return "\n".join(rows)


def _row(name: str, setting: Mapping[str, Any], required: bool) -> str:
    description, _, computed = str(setting["description"]).partition(COMPUTED)
    default = "required" if required else computed.rstrip(".") or _shown(setting.get("default"))
    return f"| `{name}` | {default} | {description} |"


def _shown(default: Any) -> str:
    if default is None or default in ([], {}):
        return "none"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
