"""Files that people write: text in UTF-8, or an error that names the file and quotes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stripe_alloy.errors import SettingsError


def read_text(file: Path) -> str:
    """Read a text in UTF-8, with or without a byte order mark; raises `SettingsError`, OSError."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SettingsError(f"{file} is not a text in UTF-8: save it in that encoding")
    return text


def read_config(file: Path) -> dict[str, Any]:
    """Read a configuration, a JSON object; raises `SettingsError`, OSError."""
    try:
        found = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"{file} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError):
        raise SettingsError(f"{file} is not JSON that can be read") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{file} must be a JSON object, {{…}}")
    return found
