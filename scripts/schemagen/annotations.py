"""Reads annotations of the `stripe` package as types of JSON values."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scripts.schemagen.source import Klass

Scalar = Literal["string", "integer", "number", "boolean"]
Kind = Literal[Scalar, "any", "map", "array", "list", "object", "expandable"]

SCALARS: dict[str, Scalar] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "Decimal": "string",  # "decimal_string" on the wire: the package turns it into a Decimal
}
CONTAINERS: dict[str, Kind] = {
    "List": "array",
    "ListObject": "list",
    "UntypedStripeObject": "map",
    "Dict": "map",
}


@dataclass(frozen=True)
class Type:
    """A JSON type: `item` for the entries of a container, `classes` for an object."""

    kind: Kind
    nullable: bool = False
    item: Type | None = None
    classes: tuple[Klass, ...] = ()


def parse(annotation: ast.expr, owner: Klass) -> Type:
    """Read an annotation in the body of `owner`.

    Raises TypeError for an unknown form, so that new forms are not guessed.
    """
    if isinstance(annotation, ast.Subscript):
        return _generic(annotation, owner)
    name = str(ast.literal_eval(annotation)) if isinstance(annotation, ast.Constant) else None
    name = name or ast.unparse(annotation)
    if name in SCALARS:
        return Type(SCALARS[name])
    if name == "Any":
        return Type("any")
    found = owner.lookup(name)
    if found is None:
        raise TypeError(f"{owner.label}: the annotation {name!r} names no class of the package")
    return Type("object", classes=(found,))


def _generic(annotation: ast.Subscript, owner: Klass) -> Type:
    outer = ast.unparse(annotation.value)
    inside = annotation.slice
    if outer == "Literal":
        return Type(_literal(inside))
    if outer == "Optional":
        return replace(parse(inside, owner), nullable=True)
    if outer == "ExpandableField":
        return replace(parse(inside, owner), kind="expandable")
    if outer == "Union" and isinstance(inside, ast.Tuple):
        return _union([parse(member, owner) for member in inside.elts], owner)
    if outer in CONTAINERS:
        return Type(CONTAINERS[outer], item=parse(inside, owner))
    raise TypeError(f"{owner.label}: unknown annotation {ast.unparse(annotation)}")


def _literal(values: ast.expr) -> Scalar:
    first = values.elts[0] if isinstance(values, ast.Tuple) else values
    return "boolean" if isinstance(ast.literal_eval(first), bool) else "string"


def _union(members: list[Type], owner: Klass) -> Type:
    kinds = {member.kind for member in members}
    if len(kinds) > 1:
        raise TypeError(f"{owner.label}: a union of {sorted(kinds)} has no single shape")
    classes = tuple(klass for member in members for klass in member.classes)
    return replace(members[0], classes=classes)
