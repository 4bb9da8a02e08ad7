"""Row settings: the settings that affect a stream's rows, and the reasons to list rows again.

The state of a stream stores them once for all accounts, as `"shapes": {"3f2a…": {…}}`. Each
account's bookmark refers to one of them, as `"shape": "3f2a…"`. Default values are left out.
Pure: dictionaries in, dictionaries and sentences out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

Shape = Mapping[str, Any]
"""Settings that affect rows: `api_version` and, if not at their default, `expand`, `timestamps`,
`deselected` (paths of properties), `maps` (a digest) and `key` (key properties other than `id`)."""

KEY = ("_account_id", "id")
"""Primary key with several accounts: ids are unique only within one account."""


def name_of(shape: Shape) -> str:
    """Return a short name for row settings: a digest."""
    return _digest(shape)


def digest_of_maps(config: Mapping[str, Any], stream: str) -> str | None:
    """Return a digest of the stream maps and flattening of a stream; None if it has neither."""
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
    source = map_.get("__source__") if isinstance(map_, Mapping) else None
    return source if isinstance(source, str) else alias


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reasons(old: Shape, new: Shape) -> Iterator[str]:
    """Yield the reasons why rows made with `old` are outdated with `new`, if they are."""
    for name in ("api_version", "timestamps", "expand"):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield f"`{name}` was {_shown(name, before)} and is now {_shown(name, after)}"
    selected = newly_selected(old.get("deselected", ()), new.get("deselected", ()))
    if selected:
        yield f"newly selected properties: {', '.join(selected)}"
    if old.get("maps") != new.get("maps"):
        yield "`stream_maps` or flattening has changed"
    if old.get("key") != new.get("key"):
        before, after = (shape.get("key") or ["id"] for shape in (old, new))
        yield f"the primary key was {', '.join(before)} and is now {', '.join(after)}"


def newly_selected(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return paths that were deselected before and are not, or not completely, now."""
    return [path for path in before if not any(_covers(left_out, path) for left_out in now)]


def _covers(outer: str, path: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


def _shown(name: str, value: Any) -> str:
    if name == "timestamps":
        return str(value or "rfc3339")
    return ", ".join(value) if isinstance(value, list) else str(value or "empty")


def key_for(accounts: Sequence[str], state: Mapping[str, Any], *, every: bool) -> Sequence[str]:
    """Return the primary key of a stream for the accounts to read and the stream's state.

    `every`: whether all connected accounts are read. A table that was started with one account and
    the key `id` keeps this key as long as no other account is read.
    """
    shapes = state.get("shapes")
    known: Mapping[str, Shape] = shapes if isinstance(shapes, Mapping) else {}
    if any(shape.get("key") for shape in known.values()):
        return KEY
    started = begun_accounts(state)
    if not started:
        return KEY if accounts or every else ("id",)
    several = every or len(started.union(accounts or ("",))) > 1
    return KEY if several else ("id",)


def begun_accounts(state: Mapping[str, Any]) -> set[str]:
    """Return the accounts that may have rows in the table; "" for the key's account."""
    found = {
        str(part["context"]["_account_id"])
        for part in state.get("partitions") or ()
        if is_begun(part)
    }
    return found | ({""} if is_begun(state) else set())


def is_begun(part: Mapping[str, Any]) -> bool:
    """Whether the table may contain rows of an account, according to its bookmark."""
    return "backfill" in part or part.get("replication_key_value") is not None


def key_changed(state: Mapping[str, Any], shape: Shape) -> bool:
    """Whether rows of a stream were written with another primary key, according to its state."""
    known: Mapping[str, Shape] = state.get("shapes") or {}
    parts = [part for part in (state, *(state.get("partitions") or ())) if is_begun(part)]
    return any(
        known.get(part.get("shape") or "", {}).get("key") != shape.get("key") for part in parts
    )
