"""Nests form fields: `items[0][price]=p` is {"items": {"0": {"price": "p"}}}."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from stripe_alloy.emulator.errors import invalid

Raw = dict[str, Any]

_KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PART = re.compile(r"\[([^\[\]]*)\]")


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the decoded fields in their order."""
    return parse_qsl(text, keep_blank_values=True)


def nest(fields: list[tuple[str, str]]) -> Raw:
    """Return nested dicts of strings; a list is a dict whose keys are its indexes."""
    tree: Raw = {}
    for name, value in fields:
        _insert(tree, _path(name), value, name)
    return tree


def _path(name: str) -> list[str]:
    match = _KEY.match(name)
    if match is None:
        raise invalid(f"Invalid parameter name: {name}", name)
    return [match.group(1), *_PART.findall(match.group(2))]


def _insert(tree: Raw, path: list[str], value: str, name: str) -> None:
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part or str(len(node)), {})
        if not isinstance(node, dict):
            raise invalid(f"Invalid parameter: {name} is both a value and a hash", name)
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise invalid(f"Invalid parameter: {name} is both a value and a hash", name)
    node[last] = value
