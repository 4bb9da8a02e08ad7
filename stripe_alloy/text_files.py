"""Reads text files in UTF-8; errors are one line with the file's name and no content."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import IO, Any, NoReturn

from stripe_alloy.api.errors import SettingsError

_FILE_NAME = re.compile(r"[\w.,+()@~ /\\:-]{0,255}")
"""File names that a message may show: users may pass the settings themselves as a file."""


def shown_name(file: str | Path, option: str = "") -> str:
    """Return a file's name for a message, unless it does not look like a file name.

    >>> shown_name("config.json"), shown_name('{"api_key": "…"}', "--config")
    ('config.json', 'the value of --config')
    """
    name = str(file)
    if _FILE_NAME.fullmatch(name) and "://" not in name:
        return name or "''"
    return f"the value of {option}" if option else "what is given for a file"


def read_text(file: Path) -> str:
    """Read a text in UTF-8, with or without a byte order mark; raises `SettingsError`, OSError."""
    return _decoded(file.read_bytes(), shown_name(file))


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SettingsError(f"{name} is not UTF-8: save it in that encoding")
    return text


def read_object(file: str | Path, option: str) -> dict[str, Any]:
    """Read a JSON object from the file of an option; raises `SettingsError`."""
    found = read_json(file, option)
    if not isinstance(found, dict):
        what = "holds no settings: it " if option == "--config" else ""
        name = shown_name(file, option)
        raise SettingsError(f"{option}: {name} {what}must be a JSON object, {{…}}")
    return found


def read_json(file: str | Path, option: str) -> Any:
    """Read JSON from the file of an option; raises `SettingsError`."""
    name = f"{option}: {shown_name(file, option)}"
    try:
        text = _decoded(Path(file).read_bytes(), name)
        return json.loads(text, parse_constant=_refused)
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise SettingsError(f"{name} is not valid JSON: {why}") from None
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {_why(file, error)}") from None
    except (RecursionError, ValueError):
        raise SettingsError(
            f"{name} is not valid JSON: it is nested too deeply, or contains an invalid number"
        ) from None


def _refused(constant: str) -> NoReturn:
    """Raise an error for NaN and Infinity, which Python accepts and JSON does not."""
    raise ValueError(constant)


def _why(file: str | Path, error: OSError) -> str:
    if str(file).lstrip().startswith(("{", "[")):
        return "the option takes the name of a file, not JSON"
    return error.strerror or type(error).__name__


def open_lines(file: str, option: str) -> IO[str]:
    """Open the messages file of an option; raises `SettingsError`."""
    try:
        return Path(file).open(encoding="utf-8-sig")
    except OSError as error:
        name = shown_name(file, option)
        raise SettingsError(f"`{option}`: {name} cannot be read: {_why(file, error)}") from None
