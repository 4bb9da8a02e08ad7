"""Reads an endpoint's parameters from the source of `stripe.params`, without importing it."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_SCALARS = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}
_SCALARS["Decimal"] = "decimal"
_WRAPPERS = ("NotRequired", "Optional", "Required")


@dataclass
class ParamType:
    """The values that a parameter may have; a union sets several of the fields."""

    scalars: set[str] = field(default_factory=set)
    literals: list[str] = field(default_factory=list)
    fields: dict[str, ParamType] | None = None
    needed: set[str] = field(default_factory=set)
    items: ParamType | None = None
    values: ParamType | None = None  # of a map with free keys
    clearable: bool = False
    doc: str = ""
    """Stripe's documentation of the parameter."""
    is_time: bool = False
    """Whether an integer is a time in Unix seconds; set by the caller."""

    def merge(self, other: ParamType) -> ParamType:
        """Merge another type into this one, as a union."""
        self.scalars |= other.scalars
        self.literals += other.literals
        self.clearable |= other.clearable
        self.needed |= other.needed
        self.fields = self.fields or other.fields
        self.items = self.items or other.items
        self.values = self.values or other.values
        self.doc = self.doc or other.doc
        return self


def union(one: ParamType, other: ParamType) -> ParamType:
    """Return a new type that accepts what either accepts, at any depth."""
    fields = None
    if one.fields is not None or other.fields is not None:
        mine, theirs = one.fields or {}, other.fields or {}
        fields = {**mine, **theirs}
        fields.update({name: union(mine[name], theirs[name]) for name in mine.keys() & theirs})
    return ParamType(
        one.scalars | other.scalars,
        list(dict.fromkeys([*one.literals, *other.literals])),
        fields,
        one.needed & other.needed,
        union(one.items, other.items) if one.items and other.items else one.items or other.items,
        one.values or other.values,
        one.clearable or other.clearable,
        "\n".join(dict.fromkeys(filter(None, (one.doc, other.doc)))),
    )


@cache
def param_type(params: str) -> ParamType:
    """Return the type of a class of `stripe.params`, such as `CustomerListParams`.

    A class of a package inside it is named `test_helpers.TestClockListParams`.
    """
    package, _, name = params.rpartition(".")
    source = _file(package, name).read_text(encoding="utf-8")
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return _Reader(classes).of_class(name)


def has_params(params: str) -> bool:
    """Whether `stripe.params` has a class of this name."""
    package, _, name = params.rpartition(".")
    return _file(package, name).is_file()


def _file(package: str, params: str) -> Path:
    spec = importlib.util.find_spec("stripe")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("stripe")
    file = params[: params.index("Params") + len("Params")]  # `XParamsY` is a part of `XParams`
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", file).lower()
    return Path(spec.origin).parent / "params" / package / f"_{name}.py"


class _Reader:
    """Converts annotations to parameter types."""

    def __init__(self, classes: dict[str, ast.ClassDef]) -> None:
        self._classes = classes
        self._done: dict[str, ParamType] = {}

    def of_class(self, name: str) -> ParamType:
        if name not in self._done:
            shape = self._done[name] = ParamType()
            fields = shape.fields = dict[str, ParamType]()
            body = self._classes[name].body
            for node, after in zip(body, [*body[1:], None], strict=True):
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    field_name = node.target.id
                    fields[field_name] = self.of(node.annotation)
                    fields[field_name].doc = _text_of(after)
                    if _head(node.annotation) != "NotRequired":
                        shape.needed.add(field_name)
            self._functional(shape, name)
        return self._done[name]

    def _functional(self, shape: ParamType, name: str) -> None:
        """Read `_XBase = TypedDict("XBase", {"in": ...})`, which has names that are keywords."""
        for base in self._classes[name].bases:
            if isinstance(base, ast.Name) and base.id in self._classes:
                shape.merge(self.of_class(base.id))

    def of(self, node: ast.expr) -> ParamType:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.of(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.BinOp):
            return self.of(node.left).merge(self.of(node.right))
        if isinstance(node, ast.Subscript):
            return self._generic(node)
        if isinstance(node, ast.Name):
            return self._named(node.id)
        return ParamType()

    def _named(self, name: str) -> ParamType:
        if name in _SCALARS:
            return ParamType(scalars={_SCALARS[name]})
        if name in self._classes:
            return ParamType().merge(self.of_class(name))
        return ParamType(scalars={"string"})

    def _generic(self, node: ast.Subscript) -> ParamType:
        head = _head(node)
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head in _WRAPPERS:
            return self.of(arguments[0])
        if head == "Literal":
            return _literal([str(a.value) for a in arguments if isinstance(a, ast.Constant)])
        if head == "List":
            return ParamType(items=self.of(arguments[0]))
        if head in ("Dict", "UntypedStripeObject"):
            return ParamType(values=self.of(arguments[-1]))
        shape = ParamType()
        for argument in arguments:
            shape.merge(self.of(argument))
        return shape


def _literal(values: list[str]) -> ParamType:
    return ParamType(literals=[value for value in values if value], clearable="" in values)


def _text_of(node: ast.stmt | None) -> str:
    """Return the docstring of the field before it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value).strip()
    return ""


def _head(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return node.value.id
    return ""
