"""Reads configuration files; whatever is wrong with one is said in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from jsonschema import ValidationError

from stripe_alloy.errors import SettingsError

ENVIRONMENT = "ENV"
"""Given for a file, it stands for variables of the environment."""
_TRUTH = ("true", "1", "yes", "on", "false", "0", "no", "off", "")


def check_environment(
    prefix: str, declared: Mapping[str, Any], environment: Mapping[str, str]
) -> None:
    """Raise `SettingsError` for a variable that the SDK would misread: it takes "ture" for no."""
    for name, setting in declared.items():
        variable = prefix + name.upper()
        value, types = environment.get(variable), setting.get("type", ())
        if value is None:
            continue
        if "boolean" in types and value.lower() not in _TRUTH:
            raise SettingsError(f"{variable} must be true or false")
        if "integer" in types and not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise SettingsError(f"{variable} must be an integer")
        if "object" in types:
            _check_object(variable, value)


def _check_object(variable: str, value: str) -> None:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SettingsError(f"{variable} must be a JSON object")


def problem_of(error: ValidationError) -> str:
    """Say what is wrong with a setting, without its value, which may be a secret."""
    name = ".".join(str(part) for part in error.absolute_path)
    types: Any = error.validator_value
    if error.validator == "enum":
        return f"`{name}` must be one of {', '.join(map(str, types))}"
    if error.validator == "type":
        wanted = [types] if isinstance(types, str) else [t for t in types if t != "null"]
        return f"`{name}` must be of the type {' or '.join(wanted)}"
    if error.validator == "required":
        held: Any = error.instance
        missing = [n for n in types if n not in held]
        return f"`{missing[0]}` is not set"
    return f"`{name}` is not as described by --about"


def open_input(file: str) -> IO[str]:
    """Open a file of messages; raises `SettingsError`."""
    try:
        return Path(file).open(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"`--input`: {file} cannot be read: {error.strerror}") from None


def merged(files: Sequence[str]) -> dict[str, Any]:
    """Merge configurations, later ones win; raises `SettingsError`."""
    config: dict[str, Any] = {}
    for file in files:
        config.update(read_config(file))
    return config


def read_config(file: str) -> dict[str, Any]:
    """Read a configuration; raises `SettingsError`."""
    try:
        found = json.loads(Path(file).read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        raise SettingsError(f"The configuration {file} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The configuration {file} is no JSON: {_why(error)}") from None
    except OSError as error:
        raise SettingsError(f"The configuration {file} cannot be read: {error.strerror}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"The configuration {file} must be a JSON object of settings")
    return found


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        if error.doc.startswith("\ufeff"):
            return "it begins with a byte order mark, save it without"
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "it is nested too deeply"
