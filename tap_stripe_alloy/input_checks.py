"""Validates the state and the catalog of a run, before the first request.

Pure: documents in, documents out. Errors contain the place of the invalid value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from math import inf
from typing import Any

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.timestamps import unix_seconds

_ADVICE = "Pass the last state that this tap wrote, or no state to start over"
Check = Callable[[Any, str], None]
"""Raises `_Wrong` if the value at a place is invalid."""


class _Wrong(Exception):
    """A value is invalid; the text contains its place and what is expected there."""


# ---------------------------------------------------------------------- the state


def bookmarks_of(
    document: Any, streams: Collection[str], *, latest: float = inf
) -> tuple[dict[str, Any], list[str]]:
    """Return the bookmarks in a state, and its stream names that this tap does not have.

    A complete STATE message and Meltano's `singer_state` are unwrapped. Raises `SettingsError` if
    the state is malformed or has a time after `latest` (Unix seconds).
    """
    inner = _unwrapped(document)
    if not isinstance(inner, dict):
        raise SettingsError(f"The state is not a JSON object with `bookmarks`. {_ADVICE}")
    if not inner:
        return {}, []
    if "bookmarks" not in inner:
        raise SettingsError(f"The state has no `bookmarks`: is it from another program? {_ADVICE}")
    bookmarks = inner["bookmarks"]
    if not isinstance(bookmarks, dict):
        raise SettingsError(f"The `bookmarks` of the state are not a JSON object. {_ADVICE}")
    unknown = [name for name in bookmarks if name not in streams]
    if unknown and len(unknown) == len(bookmarks):
        raise SettingsError(
            f"The state is from another tap: this one has no stream {_quoted(unknown)}. {_ADVICE}"
        )
    kept = {name: state for name, state in bookmarks.items() if state not in (None, {})}
    return {name: _checked(name, state, latest) for name, state in kept.items()}, unknown


def _unwrapped(document: Any) -> Any:
    while isinstance(document, dict) and "bookmarks" not in document:
        if document.get("type") == "STATE" and "value" in document:
            document = document["value"]
        elif "singer_state" in document:
            document = document["singer_state"]
        else:
            break
    return document


def _checked(stream: str, state: Any, latest: float) -> Any:
    try:
        _check_stream(state)
        for part in (state, *(state.get("partitions") or ())):
            _check_times(part, latest)
        return _without_nulls(state)
    except _Wrong as wrong:
        raise SettingsError(
            f"The state of stream {stream!r} cannot be read: {wrong}. {_ADVICE}. A stream that is "
            "set to null starts over"
        ) from None


def _without_nulls(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state without its null values."""
    found = {name: value for name, value in state.items() if value is not None}
    for name in ("backfill", "again", "table"):
        if name in found:
            found[name] = _without_nulls(found[name])
    if "partitions" in found:
        found["partitions"] = [_without_nulls(part) for part in found["partitions"]]
    return found


def _check_stream(state: Any) -> None:
    _is(dict, "an object")(state, "it")
    _check_part(state, "")
    _each(state, _OF_STREAM, "")
    accounts = set[str]()
    for number, part in enumerate(state.get("partitions") or ()):
        place = f"partitions[{number}]"
        _is(dict, "an object")(part, place)
        context = part.get("context")
        account = context.get("_account_id") if isinstance(context, dict) else None
        if not isinstance(account, str) or account in accounts:
            raise _Wrong(f"`{place}.context` has no `_account_id`, or one that is used twice")
        accounts.add(account)
        _check_part(part, f"{place}.")


def _check_part(part: Mapping[str, Any], place: str) -> None:
    _each(part, _OF_PART, place)
    for name in ("backfill", "again"):
        if part.get(name) is not None:
            _is(dict, "an object")(part[name], place + name)
            _each(part[name], _OF_LISTING, f"{place}{name}.")


def _each(holder: Mapping[str, Any], checks: Mapping[str, Check], place: str) -> None:
    for name, check in checks.items():
        if holder.get(name) is not None:
            check(holder[name], place + name)


def _is(kind: type, what: str) -> Check:
    def check(value: Any, place: str) -> None:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _Wrong(f"{place if place == 'it' else f'`{place}`'} is not {what}")

    return check


def _time(value: Any, place: str) -> None:
    _seconds(value, place)


def _seconds(value: Any, place: str) -> int:
    try:
        return unix_seconds(value)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise _Wrong(f"`{place}` is not a time like '2026-01-31T00:00:00Z'") from None


def _check_times(part: Mapping[str, Any], latest: float) -> None:
    for place, holder in (
        ("", part),
        ("", part.get("backfill") or {}),
        ("created.", part.get("created") or {}),
    ):
        for name in ("replication_key_value", "events_until", "listed_at", "begun", "anchor"):
            if holder.get(name) is not None and _seconds(holder[name], place + name) > latest:
                raise _Wrong(f"`{place}{name}` is in the future")


def _ids(value: Any, place: str) -> None:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise _Wrong(f"`{place}` is not a list of ids")


def _table(value: Any, place: str) -> None:
    _is(dict, "an object")(value, place)
    _is(int, "a number")(value.get("version"), f"{place}.version")


def _created(value: Any, place: str) -> None:
    _is(dict, "an object")(value, place)
    _time(value.get("replication_key_value"), f"{place}.replication_key_value")
    _ids(value.get("seen") or [], f"{place}.seen")


def _inbox(value: Any, place: str) -> None:
    _is(dict, "an object")(value, place)
    for name, kind, what in (
        ("id", str, "a string"),
        ("reader", str, "a string"),
        ("seq", int, "a number"),
        ("from", int, "a number"),
    ):
        _is(kind, what)(value.get(name), f"{place}.{name}")


def _shapes(value: Any, place: str) -> None:
    _is(dict, "an object")(value, place)
    for name, shape in value.items():
        _is(dict, "an object")(shape, f"{place}.{name}")
        for key in ("expand", "deselected", "key"):
            _ids(shape.get(key) or [], f"{place}.{name}.{key}")
        for key in ("api_version", "timestamps", "maps"):
            _text(shape.get(key) or "", f"{place}.{name}.{key}")


def _windows(value: Any, place: str) -> None:
    windows = value if isinstance(value, list) else [value]
    for window in windows:
        fits = isinstance(window, list) and len(window) == len(_WINDOW)
        if not fits or not all(type(v) in kinds for v, kinds in zip(window, _WINDOW, strict=True)):
            raise _Wrong(f"`{place}` is not a list of [from, to, cursor]")


def _mode(value: Any, place: str) -> None:
    if value not in ("live", "test"):
        raise _Wrong(f"`{place}` is neither 'live' nor 'test'")


_WINDOW = ((int,), (int,), (str, type(None)))
_text = _is(str, "a string")
_OF_STREAM: Mapping[str, Check] = {
    "account_id": _text,
    "key": _text,
    "mode": _mode,
    "table": _table,
    "shapes": _shapes,
    "partitions": _is(list, "a list"),
}
_OF_PART: Mapping[str, Check] = {
    "replication_key_value": _time,
    "events_until": _time,
    "created": _created,
    "listed_at": _time,
    "begun": _time,
    "start": _time,
    "seen": _ids,
    "inbox": _inbox,
    "version": _is(int, "a number"),
    "shape": _text,
}
_OF_LISTING: Mapping[str, Check] = {
    "anchor": _time,
    "missing": _windows,
    "expected": _ids,
    "route": _text,
    "before": _is(int, "a number"),
}


# ---------------------------------------------------------------------- the catalog


def check_catalog(catalog: Any, streams: Collection[str]) -> list[str]:
    """Return the stream names in a catalog that this tap does not have.

    Raises `SettingsError` if the document is not a catalog, or is from another tap.
    """
    entries = catalog.get("streams") if isinstance(catalog, Mapping) else None
    if not isinstance(entries, list):
        raise SettingsError(
            "The catalog has no list of `streams`: pass one that `--discover` printed, or none to "
            "read everything"
        )
    names = [_name_in(entry, number) for number, entry in enumerate(entries)]
    unknown = [name for name in names if name not in streams]
    if unknown and len(unknown) == len(names):
        raise SettingsError(
            f"The catalog is from another tap: this one has no stream {_quoted(unknown)}. Pass one "
            "that `--discover` printed, or none to read everything"
        )
    return unknown


def _name_in(entry: Any, number: int) -> str:
    name = entry.get("tap_stream_id") if isinstance(entry, Mapping) else None
    if not isinstance(name, str):
        raise SettingsError(f"The catalog cannot be read: streams[{number}] has no `tap_stream_id`")
    return name


def guess(name: str, streams: Collection[str]) -> str:
    """Return a hint with the most similar stream name, or "" if none is similar."""
    close = get_close_matches(name, streams, 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _quoted(names: Collection[str]) -> str:
    shown = [repr(str(name)[:60]) for name in list(names)[:5]]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")
