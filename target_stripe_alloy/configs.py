"""Reads configuration files; whatever is wrong with one is said in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stripe_alloy.errors import SettingsError


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
