"""Pure: from what Stripe gives, or a record holds, to what Stripe takes.

A *tree* is a parameter's value with its leaves as they are sent: text, or None for what is to be
empty. An object and a record become trees the same way, so trees compare leaf by leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from stripe_alloy.params import Shape
from tap_stripe_alloy.records import unix_seconds

Tree = Any
"""`str | None | list[Tree] | dict[str, Tree]`."""
Path = tuple[str, ...]

_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class Unwritable(ValueError):
    """A record holds what no parameter of Stripe's can take; the text says what and where."""


# ---------------------------------------------------------------------- making trees


def tree_of(value: Any, shape: Shape, path: str = "") -> Tree:
    """The tree of a value; fields that are only read are left out. Raises `Unwritable`."""
    if value is None or value == "":
        return None
    if isinstance(value, dict):
        return _of_hash(value, shape, path)
    if isinstance(value, (list, tuple)):
        if shape.items is None:
            raise Unwritable(f"{path}: expected {_expected(shape)}, got a list")
        items = shape.items
        return [tree_of(entry, items, f"{path}[{i}]") for i, entry in enumerate(value)]
    return _text(value, shape, path)


def _of_hash(value: Mapping[str, Any], shape: Shape, path: str) -> Tree:
    if shape.items is not None and isinstance(value.get("data"), list):  # a list of Stripe's
        return tree_of(value["data"], shape, path)
    if shape.fields is not None and not ("object" in value and shape.scalars):
        known = shape.fields
        return {
            name: tree_of(inner, known[name], f"{path}.{name}")
            for name, inner in value.items()
            if name in known
        }
    if shape.values is not None:
        values = shape.values
        return {str(k): tree_of(inner, values, f"{path}.{k}") for k, inner in value.items()}
    if "string" in shape.scalars and isinstance(value.get("id"), str):
        return value["id"]  # expanded; it is sent as its id
    raise Unwritable(f"{path}: expected {_expected(shape)}, got an object")


def _text(value: Any, shape: Shape, path: str) -> str:
    if not (shape.scalars or shape.literals):
        raise Unwritable(f"{path}: expected {_expected(shape)}, got {value!r}")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        return digits(value)
    if not isinstance(value, str):
        raise Unwritable(f"{path}: expected {_expected(shape)}, got {type(value).__name__}")
    if value in shape.literals:
        return value
    if "integer" in shape.scalars and not _INTEGER.fullmatch(value):
        moment = _as_time(value)
        return value if moment is None else str(moment)
    if "string" not in shape.scalars and _NUMBER.fullmatch(value):
        return digits(Decimal(value))
    return value


def digits(number: float | Decimal) -> str:
    """Plain digits: no exponent, no zeros that say nothing.

    >>> digits(Decimal("1E-7")), digits(100.0), digits(Decimal("1.50"))
    ('0.0000001', '100', '1.5')
    """
    text = str(number) if isinstance(number, int) else format(Decimal(str(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _expected(shape: Shape) -> str:
    if shape.fields is not None or shape.values is not None:
        return "an object"
    return "a list" if shape.items is not None else " or ".join(sorted(shape.scalars)) or "text"


# ---------------------------------------------------------------------- looking at trees


def leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """Each leaf with its path; a list is one leaf, for Stripe replaces it whole.

    An empty hash has none: it speaks of nothing.
    """
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path, tree


def at(tree: Tree, path: Path) -> Tree:
    """What stands at a path; None where nothing does."""
    for name in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(name)
    return tree


def has(tree: Tree, path: Path) -> bool:
    """Whether anything stands at a path, be it nothing."""
    *above, last = path
    holder = at(tree, tuple(above))
    return isinstance(holder, dict) and last in holder


def put(tree: dict[str, Tree], path: Path, leaf: Tree) -> None:
    """Set what stands at a path."""
    for name in path[:-1]:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[path[-1]] = leaf


def is_empty(tree: Any) -> bool:
    """Whether nothing is in it: no text anywhere."""
    if isinstance(tree, dict):
        return all(is_empty(inner) for inner in tree.values())
    if isinstance(tree, list):
        return not tree
    return tree is None or bool(tree == "")


def alike(one: Tree, other: Tree) -> bool:
    """Whether two trees say the same; an empty hash, an empty list and nothing do."""
    if is_empty(one) or is_empty(other):
        return is_empty(one) and is_empty(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(alike(one.get(name), other.get(name)) for name in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def filled(tree: Tree) -> Tree:
    """The tree without what is empty: for creating, where nothing needs to be cleared."""
    if isinstance(tree, dict):
        return {name: filled(inner) for name, inner in tree.items() if not is_empty(inner)}
    if isinstance(tree, list):
        return [filled(entry) for entry in tree]
    return tree


def shape_at(shape: Shape, path: Path) -> Shape:
    """The shape of what stands at a path of a tree of `shape`; that of text if unknown."""
    for name in path:
        inner = shape.items if shape.items is not None and shape.fields is None else None
        inner = inner or (shape.fields or {}).get(name) or shape.values
        if inner is None:
            return Shape(scalars={"string"})
        shape = inner
    return shape


def reaches(shape: Shape, path: Path) -> bool:
    """Whether a parameter of this shape stands at a path."""
    for name in path:
        inner = (shape.fields or {}).get(name) or shape.values
        if inner is None:
            return False
        shape = inner
    return True


def pruned(tree: Tree, shape: Shape) -> Tree:
    """The tree without what a parameter of this shape does not take."""
    if isinstance(tree, dict) and shape.fields is not None:
        known = shape.fields
        return {name: pruned(inner, known[name]) for name, inner in tree.items() if name in known}
    return tree


def refusal(leaf: Tree, shape: Shape) -> str | None:
    """Why Stripe would not take a leaf, as far as its types tell."""
    if is_empty(leaf):
        text = "string" in shape.scalars and not shape.literals
        can = shape.clearable or text or shape.items is not None or shape.values is not None
        return None if can else "cannot be cleared"
    if not isinstance(leaf, str) or not (shape.scalars or shape.literals):
        return None
    if leaf in shape.literals or "string" in shape.scalars:
        return None
    if not shape.scalars:
        return f"must be one of {', '.join(shape.literals)}, got {leaf!r}"
    return None if _fits(leaf, shape.scalars) else f"must be {_expected(shape)}, got {leaf!r}"


def _fits(leaf: str, scalars: set[str]) -> bool:
    if "integer" in scalars and _INTEGER.fullmatch(leaf):
        return True
    if scalars & {"number", "decimal"} and _NUMBER.fullmatch(leaf):
        return True
    return "boolean" in scalars and leaf in ("true", "false")


# ---------------------------------------------------------------------- what only can be read


def unwritable(value: Any, shape: Shape | None, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The parts of a value, with their paths, that no parameter of `shape` takes."""
    if shape is None:
        yield path, value
    elif isinstance(value, dict) and shape.fields is not None and "object" not in value:
        for name, inner in value.items():
            yield from unwritable(inner, shape.fields.get(name), (*path, name))


def same(one: Any, other: Any) -> bool:
    """Whether a record's value says what an object's does, as far as it speaks of it."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(inner, other.get(name)) for name, inner in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) != isinstance(other, dict):
        return _named(one, other)
    if isinstance(one, str) and type(other) is int:
        return _as_time(one) == other
    if isinstance(one, Decimal) and isinstance(other, float):
        return float(one) == other
    return bool(one == other)


def _named(one: Any, other: Any) -> bool:
    """Whether one is the id of the other, or both are nothing."""
    whole, name = (one, other) if isinstance(one, dict) else (other, one)
    return (
        bool(whole.get("id") == name) if isinstance(name, str) else name is None and is_empty(whole)
    )


def _as_time(text: str) -> int | None:
    try:
        return unix_seconds(text)
    except ValueError:
        return None


# ---------------------------------------------------------------------- sending


def pairs_of(tree: Tree, name: str = "") -> Iterator[tuple[str, str]]:
    """Form fields, in a stable order; what is empty clears.

    >>> list(pairs_of({"items": [{"price": "p"}], "metadata": {"k": None}, "images": []}))
    [('items[0][price]', 'p'), ('metadata[k]', ''), ('images', '')]
    """
    if isinstance(tree, dict) and (tree or not name):
        for key, inner in tree.items():
            yield from pairs_of(inner, f"{name}[{key}]" if name else key)
    elif isinstance(tree, list) and tree:
        for index, entry in enumerate(tree):
            yield from pairs_of(entry, f"{name}[{index}]")
    else:
        yield name, tree or ""
