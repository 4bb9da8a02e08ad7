"""Pure: turns objects and records into trees of request parameters.

A *tree* is a parameter's value with its leaves as they are sent: text, or None for an empty value.
Objects and records become trees in the same way, so that they can be compared leaf by leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from stripe_alloy.api.params import ParamType
from stripe_alloy.api.timestamps import DAY, unix_seconds

Tree = Any
"""`str | None | list[Tree] | dict[str, Tree]`."""
Path = tuple[str, ...]

_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)
_FRACTION = re.compile(r"\.[0-9]+")
_NOT_WHOLE = re.compile(r"\.0*[1-9]")
_TIME_WANTED = "expected RFC 3339, such as 2026-01-31T00:00:00Z, or Unix seconds"
_SECONDS = ((-(10**10), 0), (100_000, 10_000_000), (100_000_000, 253_402_300_800))
"""What numbers may be Unix seconds: small ones are days or years, larger ones milliseconds, and
those of eight digits are dates."""
_EAST, _WEST = 14 * 3600, 12 * 3600
_NULLS = (
    (-(10**12), DAY + _WEST),
    (946_684_800 - _EAST, 946_771_200 + _WEST),
    (4_102_358_400 - _EAST, 10**12),
)
"""Days that stand for NULL, in any time zone: up to 1970-01-01, 2000-01-01, from 2099-12-31 on."""
_DIGITS = 40
_LARGEST = 2**63 - 1


class InvalidRecord(ValueError):
    """A record has a value that no parameter accepts; the message says which and where."""


# ---------------------------------------------------------------------- making trees


def tree_of(value: Any, shape: ParamType, path: str = "") -> Tree:
    """Return the tree of a value, without read-only fields; raises `InvalidRecord`."""
    if value is None or value == "":
        return None
    if isinstance(value, dict):
        return _of_hash(value, shape, path)
    if isinstance(value, (list, tuple)):
        if shape.items is None:
            raise InvalidRecord(f"{path}: expected {_expected(shape)}, got a list")
        items = shape.items
        return [tree_of(entry, items, f"{path}[{i}]") for i, entry in enumerate(value)]
    return _text(value, shape, path)


def _of_hash(value: Mapping[str, Any], shape: ParamType, path: str) -> Tree:
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
        return {str(k): _of_entry(inner, values, f"{path}.{k}") for k, inner in value.items()}
    if "string" in shape.scalars and isinstance(value.get("id"), str):
        return value["id"]  # expanded; it is sent as its id
    raise InvalidRecord(f"{path}: expected {_expected(shape)}, got an object")


def _of_entry(value: Any, shape: ParamType, path: str) -> Tree:
    """Return the tree of an entry of a map, where an object is never a reference."""
    if isinstance(value, dict) and shape.fields is None and shape.values is None:
        raise InvalidRecord(f"{path}: expected {_expected(shape)}, got an object")
    return tree_of(value, shape, path)


def _text(value: Any, shape: ParamType, path: str) -> str:
    """Return a scalar as it is sent: exactly the value; raises `InvalidRecord`."""
    if not (shape.scalars or shape.literals):
        raise InvalidRecord(f"{path}: expected {_expected(shape)}, got {_kind(value)}")
    if isinstance(value, str):
        return _of_text(value, shape, path)
    if isinstance(value, bool):
        return _of_boolean(value, shape, path)
    if type(value) is int and not shape.is_time and abs(value) <= _LARGEST:
        return str(value)  # the most frequent case; `validation_error` checks it
    if isinstance(value, (int, float, Decimal)):
        return _of_number(Decimal(str(value)), shape, path)
    raise InvalidRecord(f"{path}: expected {_expected(shape)}, got {_kind(value)}")


def _of_text(value: str, shape: ParamType, path: str) -> str:
    """Return text, or the number or time that it represents; `validation_error` checks it."""
    if value in shape.literals:
        return value
    if shape.is_time:
        return str(_seconds(value, shape, path))
    if "integer" in shape.scalars or (
        "string" not in shape.scalars and shape.scalars & {"number", "decimal"}
    ):
        return _of_number(Decimal(value), shape, path) if _NUMBER.fullmatch(value) else value
    return value


def _of_boolean(value: bool, shape: ParamType, path: str) -> str:
    if shape.is_time or (shape.scalars and not shape.scalars & {"boolean", "string"}):
        raise InvalidRecord(f"{path}: must be {_expected(shape)}, got a boolean")
    return "true" if value else "false"


def _of_number(value: Decimal, shape: ParamType, path: str) -> str:
    if not value.is_finite() or (value and abs(value.adjusted()) > _DIGITS):
        raise InvalidRecord(f"{path}: no number that Stripe takes")
    if shape.is_time:
        return str(_seconds(value, shape, path))
    if shape.scalars & {"string", "number", "decimal"} or not shape.scalars:
        return digits(value)
    if "integer" not in shape.scalars:
        raise InvalidRecord(f"{path}: must be {_expected(shape)}, got a number")
    if value != value.to_integral_value() or abs(value) > _LARGEST:
        raise InvalidRecord(f"{path}: must be an integer of at most 64 bits")
    return str(int(value))


def _seconds(value: str | Decimal, shape: ParamType, path: str) -> int:
    try:
        return _no_null_day(unix_seconds_of(value, exact=True))
    except ValueError as error:
        others = "".join(f", or {literal!r}" for literal in shape.literals)
        raise InvalidRecord(f"{path}: must be a time: {error}{others}") from None


def unix_seconds_of(value: Any, *, exact: bool = False) -> int:
    """Return a time as Unix seconds: RFC 3339 (UTC where no zone is given), or a number of seconds.

    Raises ValueError for what is neither, for numbers that are days, dates or milliseconds rather
    than seconds, and, if `exact`, for fractions of a second.
    """
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        if not _TIME.fullmatch(value):
            raise ValueError(_TIME_WANTED)
        if exact and _NOT_WHOLE.search(value):
            raise ValueError("expected whole seconds")
        return unix_seconds(_FRACTION.sub("", value).replace("z", "Z"))
    text = "" if isinstance(value, bool) else str(value)
    if not isinstance(value, (str, int, float, Decimal)) or not text:
        raise ValueError(_TIME_WANTED)
    number = Decimal(text)
    if not number.is_finite() or not any(low <= number < high for low, high in _SECONDS):
        raise ValueError("a number must be Unix seconds, not milliseconds, days or a date")
    if exact and number != number.to_integral_value():
        raise ValueError("expected whole seconds")
    return int(number)


def _no_null_day(seconds: int) -> int:
    """Return a time; raises ValueError if it is on a day that many programs write for NULL."""
    if any(first <= seconds < end for first, end in _NULLS):
        raise ValueError("many programs write this day for no time: use null")
    return seconds


def _kind(value: Any) -> str:
    """Name the type of a value, as JSON has it."""
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "a boolean"
    return "a text" if isinstance(value, str) else "a number"


def digits(number: float | Decimal) -> str:
    """Return plain digits: no exponent, no superfluous zeros.

    >>> digits(Decimal("1E-7")), digits(100.0), digits(Decimal("1.50"))
    ('0.0000001', '100', '1.5')
    """
    text = str(number) if isinstance(number, int) else format(Decimal(str(number)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _expected(shape: ParamType) -> str:
    if shape.is_time:
        return "a time"
    if shape.fields is not None or shape.values is not None:
        return "an object"
    return "a list" if shape.items is not None else " or ".join(sorted(shape.scalars)) or "text"


# ---------------------------------------------------------------------- looking at trees


def leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """Yield each leaf with its path. A list is one leaf, since Stripe replaces it as a whole.

    An empty hash has none.
    """
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path, tree


def get_path(tree: Tree, path: Path) -> Tree:
    """Return the tree at a path; None if there is none."""
    for name in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(name)
    return tree


def has_path(tree: Tree, path: Path) -> bool:
    """Whether a tree has a value at a path, even None."""
    *above, last = path
    holder = get_path(tree, tuple(above))
    return isinstance(holder, dict) and last in holder


def set_path(tree: dict[str, Tree], path: Path, leaf: Tree) -> None:
    """Set the leaf at a path."""
    for name in path[:-1]:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[path[-1]] = leaf


def is_empty(tree: Any) -> bool:
    """Whether a tree has no text anywhere."""
    if isinstance(tree, dict):
        return all(is_empty(inner) for inner in tree.values())
    if isinstance(tree, list):
        return not tree
    return tree is None or bool(tree == "")


def without_nulls(tree: Any) -> Any:
    """Return a tree, or a record, without the names whose value is null or the empty text."""
    if isinstance(tree, dict):
        present = {name: value for name, value in tree.items() if value is not None and value != ""}
        return {name: without_nulls(value) for name, value in present.items()}
    if isinstance(tree, list):
        return [without_nulls(entry) for entry in tree]
    return tree


def null_metadata(value: Any, *, inside: bool = False) -> Iterator[str]:
    """Return the metadata keys, at any depth of a record, that are null or the empty text."""
    if isinstance(value, list):
        for entry in value:
            yield from null_metadata(entry)
    if isinstance(value, dict):
        for name, inner in value.items():
            if inside and (inner is None or inner == ""):
                yield str(name)
            yield from null_metadata(inner, inside=name == "metadata")


def trees_equal(one: Tree, other: Tree) -> bool:
    """Whether two trees are equal; {}, [] and None are."""
    if is_empty(one) or is_empty(other):
        return is_empty(one) and is_empty(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(
            trees_equal(one.get(name), other.get(name)) for name in one.keys() | other.keys()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(trees_equal, one, other))
    return bool(one == other)


def without_empty(tree: Tree) -> Tree:
    """Return a tree without empty values: for creation, where nothing has to be cleared."""
    if isinstance(tree, dict):
        return {name: without_empty(inner) for name, inner in tree.items() if not is_empty(inner)}
    if isinstance(tree, list):
        return [without_empty(entry) for entry in tree]
    return tree


def shape_at(shape: ParamType, path: Path) -> ParamType:
    """Return the type of the parameter at a path; that of text if unknown."""
    for name in path:
        inner = shape.items if shape.items is not None and shape.fields is None else None
        inner = inner or (shape.fields or {}).get(name) or shape.values
        if inner is None:
            return ParamType(scalars={"string"})
        shape = inner
    return shape


def with_time(shape: ParamType, path: Path) -> ParamType:
    """Return a copy of a shape in which the integer at a path is a time; `*` is any entry."""
    if not path:
        return replace(shape, is_time=True)
    name, rest = path[0], path[1:]
    if name != "*":
        fields = dict(shape.fields or {})
        return replace(shape, fields={**fields, name: with_time(fields[name], rest)})
    if shape.items is not None:
        return replace(shape, items=with_time(shape.items, rest))
    if shape.values is None:
        raise KeyError(path)
    return replace(shape, values=with_time(shape.values, rest))


def accepts_path(shape: ParamType, path: Path) -> bool:
    """Whether a parameter of this type has a part at a path."""
    for name in path:
        inner = (shape.fields or {}).get(name) or shape.values
        if inner is None:
            return False
        shape = inner
    return True


def accepted(tree: Tree, shape: ParamType) -> Tree:
    """Return the part of a tree that a parameter of this type accepts, without empty values."""
    return without_empty(_restricted(tree, shape))


def _restricted(tree: Tree, shape: ParamType) -> Tree:
    if isinstance(tree, dict) and shape.fields is not None:
        known = shape.fields.keys() & tree.keys()
        return {k: _restricted(v, shape.fields[k]) for k, v in tree.items() if k in known}
    return tree


def validation_error(leaf: Tree, shape: ParamType) -> str | None:
    """Return why Stripe would not accept a leaf, according to its types; None if it would."""
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


# ---------------------------------------------------------------------- what can only be read


def record_matches_object(one: Any, other: Any) -> bool:
    """Whether an object has every value of a record's; its other fields are ignored."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(record_matches_object(inner, other.get(name)) for name, inner in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, list):
        return len(one) == len(other) and all(map(record_matches_object, one, other))
    if isinstance(one, dict) != isinstance(other, dict):
        return _is_reference_to(one, other)
    if isinstance(one, str) and type(other) is int:
        return _integer_of(one) == other
    if isinstance(one, Decimal) and isinstance(other, float):
        return float(one) == other
    return bool(one == other)


def _is_reference_to(one: Any, other: Any) -> bool:
    """Whether one is the id of the other, or both are empty."""
    source, reference = (one, other) if isinstance(one, dict) else (other, one)
    if isinstance(reference, str):
        return bool(source.get("id") == reference)
    return reference is None and is_empty(source)


def _integer_of(text: str) -> int | None:
    """Return the integer or the time that a text represents; None if it is neither."""
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= _DIGITS else None
    try:
        return unix_seconds_of(text)
    except ValueError:
        return None


# ---------------------------------------------------------------------- sending


def form_fields(tree: Tree, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield form fields, in a stable order; an empty value clears.

    >>> list(form_fields({"items": [{"price": "p"}], "metadata": {"k": None}, "images": []}))
    [('items[0][price]', 'p'), ('metadata[k]', ''), ('images', '')]
    """
    if isinstance(tree, dict) and (tree or not name):
        for key, inner in tree.items():
            yield from form_fields(inner, f"{name}[{key}]" if name else key)
    elif isinstance(tree, list) and tree:
        for index, entry in enumerate(tree):
            yield from form_fields(entry, f"{name}[{index}]")
    else:
        yield name, tree or ""
