"""Reads configurations; errors are one line and contain no values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from jsonschema import Draft7Validator, ValidationError

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.text_files import read_object

ENVIRONMENT = "ENV"
"""In place of a file: read the settings from environment variables."""
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
_PLAIN = re.compile(r"[a-z][a-z ._/:-]{0,40}[0-9]{0,4}")


def shown_value(value: str) -> str:
    """Return a value quoted for a message, or "" if it could be a secret.

    Not for settings that contain secrets.

    >>> shown_value("last week"), shown_value("T0pSecret")
    (": 'last week'", '')
    """
    return f": {value!r}" if _PLAIN.fullmatch(value) else ""


def quoted(value: str, otherwise: str) -> str:
    """Return a value quoted for a message, or `otherwise` if it could be a secret."""
    return repr(value) if _PLAIN.fullmatch(value) else otherwise


# ---------------------------------------------------------------------- where it comes from


class ConfigFiles:
    """The files of `--config`, read when needed: `--help` and `--about` need none."""

    def __init__(self, given: Sequence[str]) -> None:
        self._files = [file for file in given if file != ENVIRONMENT]
        self.parse_env = len(self._files) < len(given)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Return the merged settings; raises `SettingsError`."""
        return merged(self._files)


def merged(files: Sequence[str]) -> dict[str, Any]:
    """Merge configuration files, later ones win; raises `SettingsError`."""
    config: dict[str, Any] = {}
    for file in files:
        config.update(read_object(file, "--config"))
    return config


def from_environment(
    prefix: str, declared: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Read settings from environment variables; raises `SettingsError`.

    The SDK would show or misread some values: it takes "ture" for false.
    """
    config = {}
    for name, setting in declared.items():
        variable = prefix + name.upper().replace("-", "_")
        if variable in environment:
            config[name] = _parsed(variable, environment[variable], setting.get("type", ()))
    return config


def _parsed(variable: str, value: str, types: str | Collection[str]) -> Any:
    kinds = [types] if isinstance(types, str) else types
    for kind, (parse, what) in _PARSERS.items():
        if kind in kinds:
            try:
                return parse(value)
            except (ValueError, RecursionError):
                raise SettingsError(f"{variable} must be {what}") from None
    return value


def _boolean(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError
    return text.lower() in _TRUE


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError  # noqa: TRY004 - the one error that says it cannot be read
    return found


def _list(text: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return separated(text)
    found: list[Any] = json.loads(text)
    return found


def separated(text: str) -> list[str]:
    """Split a comma-separated list.

    >>> separated("acct_1, acct_2")
    ['acct_1', 'acct_2']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


_PARSERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "boolean": (_boolean, "true or false"),
    "integer": (_integer, "an integer"),
    "object": (_object, "a JSON object"),
    "array": (_list, "a JSON list, or words separated by commas"),
}


# ---------------------------------------------------------------------- what is wrong with it


def problems_in(
    config: Mapping[str, Any], schema: Mapping[str, Any], *, partial: bool = False
) -> list[str]:
    """Return what is wrong with settings, without values; with `partial`, none is required."""
    found = list(Draft7Validator(schema).iter_errors(dict(config)))
    if partial:
        found = [error for error in found if error.validator != "required"]
    problems = sorted({_problem_of(error) for error in found})
    if any(error.validator == "required" for error in found):
        problems = [*unknown_settings(config, schema["properties"]), *problems]
    return problems


def unknown_settings(config: Mapping[str, Any], declared: Collection[str]) -> Iterator[str]:
    """Return a message for each unknown setting, with a suggestion."""
    for name in config:
        if name in declared:
            continue
        near = get_close_matches(_flat(name), {_flat(n): n for n in declared}, 1)
        meant = next((n for n in declared if near and _flat(n) == near[0]), None)
        shown = repr(name) if _NAME.fullmatch(name) else "of a name that is not shown"
        yield f"Unknown setting {shown}" + (f": did you mean {meant!r}?" if meant else "")


def _flat(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _problem_of(error: ValidationError) -> str:
    name = _place_of(error)
    rule: Any = error.validator_value
    if error.validator == "enum":
        return f"`{name}` must be one of {', '.join(map(str, rule))}"
    if error.validator == "type":
        wanted = [rule] if isinstance(rule, str) else [t for t in rule if t != "null"]
        return f"`{name}` must be of the type {' or '.join(wanted)}"
    if error.validator == "required":
        settings: Any = error.instance
        missing = next(n for n in rule if n not in settings)
        return f"`{missing}` is not set: {missing!r} is a required property"
    return f"`{name}` is not as described by --about"


def _place_of(error: ValidationError) -> str:
    """Return the place of an error in the settings; plain nested names are shown."""
    setting, *inside = (str(part) for part in error.absolute_path or ("",))
    shown = (part if _PLAIN.fullmatch(part) or part.isdecimal() else "…" for part in inside)
    return ".".join((setting, *shown))


def check_characters(config: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for characters that no file, database or request can contain."""
    for name, value in config.items():
        if any(_UNUSABLE.search(text) for text in _texts_in(value)):
            shown = name if _NAME.fullmatch(name) else "…"
            raise SettingsError(
                f"`{shown}` holds a NUL character or half of a surrogate pair: remove it"
            )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_in(inner)
