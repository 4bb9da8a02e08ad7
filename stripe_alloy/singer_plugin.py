"""Base of the tap and the target: reading settings, and reporting errors in them."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, ClassVar

import click
from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.plugin_base import PluginBase, _plugin_log_level
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR, extend_validator_with_defaults
from typing_extensions import override

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.configs import (
    ConfigFiles,
    check_characters,
    from_environment,
    problems_in,
    unknown_settings,
)
from stripe_alloy.singer_main import check_output, log_discreetly, run
from stripe_alloy.stream_maps import check_stream_maps, stream_map_errors

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_WithDefaults = extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)


class Plugin(PluginBase):
    """A tap or target that reports errors in its settings in one line, without values."""

    needs_output: ClassVar[bool] = True
    """Whether it needs a standard output."""

    @property
    def _env_var_config(self) -> dict[str, Any]:
        """Return the settings in the environment; raises `SettingsError`."""
        prefix = str(self._env_var_prefix)
        try:
            parse_environment_config({}, prefix)  # the SDK reads a file `.env` into it
        except UnicodeDecodeError:
            raise SettingsError("The file .env is not UTF-8: save it in that encoding") from None
        self.append_builtin_config(self.config_jsonschema)
        return from_environment(prefix, self.config_jsonschema["properties"], os.environ)

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        self.append_builtin_config(self.config_jsonschema)
        self._config = dict(self._config)  # the caller's own gets no defaults
        check_characters(self._config)
        check_stream_maps(self._config.get("stream_maps"))  # it names the column, the schema none
        problems = problems_in(self._config, self.config_jsonschema, partial=not raise_errors)
        if problems:
            raise SettingsError("; ".join(problems))
        for unknown in unknown_settings(self._config, self.config_jsonschema["properties"]):
            self.logger.warning("%s (it is ignored)", unknown)
        list(_WithDefaults(self.config_jsonschema).iter_errors(self._config))
        return []

    @override
    def setup_mapper(self) -> None:
        with stream_map_errors():
            super().setup_mapper()

    @classmethod
    @override
    def cb_config(  # type: ignore[override]
        cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]
    ) -> ConfigFiles:
        # Read later: a parameter's callback is called while `--help` is, too.
        return ConfigFiles(value)


def run_plugin(plugin: type[Plugin]) -> None:
    """Run a plugin's command; exits with a code if it fails."""
    run(partial(_run, plugin), plugin.logger)


def _run(plugin: type[Plugin]) -> object:
    if _plugin_log_level(plugin_name=plugin.name) not in LEVELS:
        raise SettingsError(f"`LOGLEVEL` must be one of {', '.join(LEVELS)}")
    command = plugin.cli  # it sets the log up
    log_discreetly()
    if plugin.needs_output:
        check_output()
    return command.main(standalone_mode=False)
