"""Stream maps: errors are one line with stream and column, without the record."""

from __future__ import annotations

import ast
import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import simpleeval  # type: ignore[import-untyped]
from singer_sdk import mapper
from singer_sdk.exceptions import StreamMapConfigError
from singer_sdk.mapper import CustomStreamMap, StreamMap

from stripe_alloy.api.errors import SettingsError

_NULL = (None, "__NULL__")
_SOURCE, _ALIAS, _FILTER = "__source__", "__alias__", "__filter__"
_ELSE, _KEYS = "__else__", "__key_properties__"
_FUNCTIONS = frozenset(
    {*simpleeval.DEFAULT_FUNCTIONS, *("md5", "sha256", "datetime", "bool", "json", "fake")}
)


def check_stream_maps(maps: Any) -> None:
    """Raise `SettingsError` for maps that cannot be applied to any record."""
    if not isinstance(maps, Mapping):
        return  # the settings' schema says so
    for stream, mapping in maps.items():
        if stream == _ELSE:
            _check_null(mapping, stream)
        elif stream.startswith("__"):
            raise SettingsError(f"`stream_maps`: there is no option {stream!r}, only {_ELSE!r}")
        elif isinstance(mapping, Mapping):
            for column, rule in mapping.items():
                _CHECKS.get(column, _check_column)(rule, f"{stream}.{column}")
        else:
            _check_null(mapping, stream)


def sources_of(maps: Mapping[str, Any]) -> Iterator[str]:
    """Yield the streams that maps are for; they may be patterns, such as `invoice*`."""
    for stream, mapping in maps.items():
        if stream != _ELSE:
            yield mapping.get(_SOURCE, stream) if isinstance(mapping, Mapping) else stream


def _check_null(rule: Any, place: str) -> None:
    if not (rule is None or isinstance(rule, str)) or rule not in _NULL:
        raise SettingsError(f"`stream_maps`: {place} must be an object of columns, or null")


def _check_else(rule: Any, place: str) -> None:
    if not (rule is None or isinstance(rule, str)) or rule not in _NULL:
        raise SettingsError(f"`stream_maps`: {place} can only be null")


def _check_keys(rule: Any, place: str) -> None:
    names = rule if isinstance(rule, list) else [None]
    if rule is not None and not all(isinstance(name, str) for name in names):
        raise SettingsError(f"`stream_maps`: {place} must be a list of columns, or null")


def _check_name(rule: Any, place: str) -> None:
    if not isinstance(rule, str) or not rule:
        raise SettingsError(f"`stream_maps`: {place} must be the name of a stream")


def _check_filter(rule: Any, place: str) -> None:
    if rule is not None:
        _check_expression(rule, place)


def _check_column(rule: Any, place: str) -> None:
    if not isinstance(rule, str) or rule not in _NULL:
        _check_filter(rule, place)


def _check_expression(rule: Any, place: str) -> None:
    if not isinstance(rule, str):
        raise SettingsError(f"`stream_maps`: {place} must be an expression in a string, or null")
    try:
        statement = ast.parse(rule).body[0]
    except (SyntaxError, IndexError, ValueError, RecursionError, MemoryError):
        statement = None  # its message would quote it
    if not isinstance(statement, ast.Expr):
        raise SettingsError(f"`stream_maps`: {place} holds no expression that can be evaluated")
    unknown = sorted(
        node.func.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id not in _FUNCTIONS
    )
    if unknown:
        raise SettingsError(
            f"`stream_maps`: {place} calls a function that there is not, {unknown[0]!r}. "
            f"There are {', '.join(sorted(_FUNCTIONS))}"
        )


_CHECKS: Mapping[str, Callable[[Any, str], None]] = {
    _SOURCE: _check_name,
    _ALIAS: _check_name,
    _FILTER: _check_filter,
    _ELSE: _check_else,
    _KEYS: _check_keys,
}


@contextlib.contextmanager
def stream_map_errors() -> Iterator[None]:
    """Convert the SDK's errors about stream maps to `SettingsError`, without expressions."""
    try:
        yield
    except StreamMapConfigError as error:  # it names columns
        raise SettingsError(f"`stream_maps`: {error}") from None
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        if not any(frame.f_code.co_filename == mapper.__file__ for frame, _ in frames):
            raise
        raise SettingsError(
            "`stream_maps`, `stream_map_config` or `faker_config` cannot be applied "
            f"({type(error).__name__})"
        ) from None


def transformed(stream_map: StreamMap, record: dict[str, Any]) -> dict[str, Any] | None:
    """Apply a stream map; raises `SettingsError` if an expression fails on a record."""
    try:
        return stream_map.transform(record)
    except Exception as error:  # noqa: BLE001 - an expression may raise anything, with the value in its message
        place = f"{stream_map.stream_alias}.{_column_in(error.__traceback__)}"
        cause = error.__cause__ or error
        raise SettingsError(
            f"`stream_maps`: the expression of {place} fails on a record ({_kind_of(cause)})"
        ) from None


def _column_in(trace: TracebackType | None) -> str:
    """Return the column whose expression was evaluated."""
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_code is CustomStreamMap._eval.__code__:  # noqa: SLF001 - nothing else knows
            return frame.f_locals.get("property_name") or _FILTER
    return "*"


def _kind_of(error: BaseException) -> str:
    if isinstance(error, simpleeval.NameNotDefined):
        return f"there is no {error.name!r}"
    return type(error).__name__
