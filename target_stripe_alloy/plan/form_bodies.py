"""Pure: from a form-encoded request body back to the tree of its parameters."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from target_stripe_alloy.params_tree import Tree

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def tree_from_form(body: str) -> dict[str, Tree]:
    """Return the parameters of a request body, the reverse of `params_tree.form_fields`.

    Parts that are counted from 0 become a list, what is empty None. A name that is no path, or
    that does not fit the others, stays as it is: a name that no parameter has.

    >>> tree_from_form("items[0][price]=p&metadata[k]=&confirm=true")
    {'items': [{'price': 'p'}], 'metadata': {'k': None}, 'confirm': 'true'}
    """
    root: dict[str, Any] = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        if not _put(root, _path(name), value or None):
            root[name] = value or None
    return {name: _listed(inner) for name, inner in root.items()}


def _path(name: str) -> list[str]:
    found = _NAME.fullmatch(name)
    return [found[1], *re.findall(r"\[([^\[\]]*)\]", found[2])] if found else [name]


def _put(tree: dict[str, Any], path: list[str], value: str | None) -> bool:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            return False
    if path[-1] in tree:
        return False
    tree[path[-1]] = value
    return True


def _listed(tree: Tree) -> Tree:
    if not isinstance(tree, dict):
        return tree
    inner = {name: _listed(value) for name, value in tree.items()}
    counted = [str(place) for place in range(len(inner))]
    return list(inner.values()) if inner and list(inner) == counted else inner
