"""Which settings a stream's rows were made with, and what a change of them asks for.

The state of a stream keeps them, once for all its accounts, as `"shapes": {"3f2a…": {…}}`; each
account's bookmark names its own, `"shape": "3f2a…"`. What is at its default is left out.
Pure: dictionaries in, dictionaries and sentences out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

Shape = Mapping[str, Any]
"""What shapes rows: `api_version`, and as far as they are set `expand`, `timestamps`, `deselected`
(paths of properties), `maps` (a digest) and `key` (the key properties, other than `id`)."""

KEY = ("_account_id", "id")
"""What identifies a row where several accounts are read: ids are unique in one account only."""


def name_of(shape: Shape) -> str:
    """A short name that differs where shapes do."""
    return _digest(shape)


def digest_of_maps(config: Mapping[str, Any], stream: str) -> str | None:
    """A digest of the stream maps and the flattening that concern a stream; None for none."""
    found: dict[str, Any] = {}
    maps = {
        alias: map_
        for alias, map_ in (config.get("stream_maps") or {}).items()
        if alias == "__else__" or fnmatch(stream, _source(alias, map_))
    }
    if maps:
        found["maps"] = maps
        found |= {name: config.get(name) for name in ("stream_map_config", "faker_config")}
    if config.get("flattening_enabled"):
        found |= {name: config[name] for name in config if name.startswith("flattening_")}
    return _digest(found) if found else None


def _source(alias: str, map_: Any) -> str:
    named = map_.get("__source__") if isinstance(map_, Mapping) else None
    return named if isinstance(named, str) else alias


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reasons(old: Shape, new: Shape) -> Iterator[str]:
    """Yield why rows made with `old` are not what `new` makes; nothing if they will do."""
    for name in ("api_version", "timestamps", "expand"):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"`{name}` was {_shown(name, before)} and is {_shown(name, after)}"
    selected = newly_selected(old.get("deselected", ()), new.get("deselected", ()))
    if selected:
        yield f"properties are selected that were not: {', '.join(selected)}"
    if old.get("maps") != new.get("maps"):
        yield "`stream_maps` or flattening is another"
    if old.get("key") != new.get("key"):
        before, after = (shape.get("key") or ["id"] for shape in (old, new))
        yield f"rows were identified by {', '.join(before)} and are by {', '.join(after)}"


def newly_selected(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Paths that were left out and no longer are, in whole or in part."""
    return [path for path in before if not any(_covers(left_out, path) for left_out in now)]


def _covers(outer: str, path: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


def _shown(name: str, value: Any) -> str:
    if name == "timestamps":
        return str(value or "rfc3339")
    return ", ".join(value) if isinstance(value, list) else str(value or "empty")


def key_for(accounts: Sequence[str], state: Mapping[str, Any], *, every: bool) -> Sequence[str]:
    """The key properties of a stream's rows, given the accounts to read and the stream's state.

    `every`: whether whatever account is connected is read as well. A table that was begun with one
    account and the key `id` keeps it as long as no other account's rows can come into it.
    """
    shapes = state.get("shapes")
    known: Mapping[str, Shape] = shapes if isinstance(shapes, Mapping) else {}
    if any(shape.get("key") for shape in known.values()):
        return KEY
    begun = begun_accounts(state)
    if not begun:
        return KEY if accounts or every else ("id",)
    several = every or len(begun.union(accounts or ("",))) > 1
    return KEY if several else ("id",)


def begun_accounts(state: Mapping[str, Any]) -> set[str]:
    """The accounts whose rows were read, or begun to be; "" stands for the key's own."""
    found = {
        str(part["context"]["_account_id"])
        for part in state.get("partitions") or ()
        if is_begun(part)
    }
    return found | ({""} if is_begun(state) else set())


def is_begun(part: Mapping[str, Any]) -> bool:
    """Whether rows of an account may be in the table, as its bookmark says."""
    return "backfill" in part or part.get("replication_key_value") is not None


def key_changed(state: Mapping[str, Any], shape: Shape) -> bool:
    """Whether rows that a stream's state tells of were identified by another key."""
    known: Mapping[str, Shape] = state.get("shapes") or {}
    parts = [part for part in (state, *(state.get("partitions") or ())) if is_begun(part)]
    return any(
        known.get(part.get("shape") or "", {}).get("key") != shape.get("key") for part in parts
    )
