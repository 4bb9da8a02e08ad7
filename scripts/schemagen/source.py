"""The `stripe` package's classes, read from its source, where fields have docstrings."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\ufeff]+")


@dataclass(frozen=True)
class Field:
    """An annotated field: `wire` is its name in JSON, because Python cannot say `from`."""

    label: str
    wire: str
    annotation: ast.expr
    doc: str


@dataclass(eq=False)
class Klass:
    """A class of the package; `label` is its readable path, such as `Invoice.StatusTransitions`."""

    label: str
    node: ast.ClassDef
    module: Module

    @cached_property
    def object_name(self) -> str | None:
        """Value of Stripe's `object` field, such as `charge`; None for an inner class."""
        value = self._assigned("OBJECT_NAME")
        return str(ast.literal_eval(value)) if value is not None else None

    @cached_property
    def inner(self) -> Mapping[str, Klass]:
        """Classes defined in this one's body."""
        return {
            node.name: Klass(f"{self.label}.{node.name}", node, self.module)
            for node in self.node.body
            if isinstance(node, ast.ClassDef)
        }

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Data fields by their name in Stripe's JSON, inherited ones included."""
        found: dict[str, Field] = {}
        for base in self._bases():
            found.update(base.fields)
        found.update((entry.wire, entry) for entry in self._own_fields())
        return found

    def lookup(self, name: str) -> Klass | None:
        """Return the class that a name means inside this one; None if it is not the package's."""
        return self.inner.get(name) or self.module.lookup(name)

    def _own_fields(self) -> Iterator[Field]:
        remapped = self._field_remappings()
        body = self.node.body
        for statement, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and _is_data(statement):
                name = ast.unparse(statement.target)
                label = f"{self.label}.{name}"
                yield Field(label, remapped.get(name, name), statement.annotation, _doc(after))

    def _bases(self) -> Iterator[Klass]:
        for base in self.node.bases:
            name = base.value if isinstance(base, ast.Subscript) else base
            if (found := self.module.lookup(ast.unparse(name))) is not None:
                yield found

    def _field_remappings(self) -> Mapping[str, str]:
        value = self._assigned("_field_remappings")
        return dict(ast.literal_eval(value)) if value is not None else {}

    def _assigned(self, name: str) -> ast.expr | None:
        for statement in self.node.body:
            if isinstance(statement, ast.Assign):
                target = statement.targets[0]
            elif isinstance(statement, ast.AnnAssign):
                target = statement.target
            else:
                continue
            if isinstance(target, ast.Name) and target.id == name:
                return statement.value
        return None


@dataclass(eq=False)
class Module:
    """A file of the package: the classes that it defines and imports."""

    name: str
    tree: ast.Module
    package: Package

    def lookup(self, name: str) -> Klass | None:
        """Return the class that a name means in this file, from where it is defined."""
        if name in self._classes:
            return self._classes[name]
        if name not in self._imports:
            return None
        module, original = self._imports[name]
        return self.package.module(module).lookup(original)

    @cached_property
    def _classes(self) -> Mapping[str, Klass]:
        folder = ".".join(self.name.split(".")[1:-1])  # `stripe.issuing._card` -> `issuing`
        return {
            node.name: Klass(f"{folder}.{node.name}".lstrip("."), node, self)
            for node in self.tree.body
            if isinstance(node, ast.ClassDef)
        }

    @cached_property
    def _imports(self) -> Mapping[str, tuple[str, str]]:
        return {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stripe.")
            for alias in node.names
            if node.module is not None
        }


class Package:
    """All files of the package, each parsed once. `read` returns a module's source."""

    def __init__(self, read: Callable[[str], str]) -> None:
        self._read = read
        self._modules: dict[str, Module] = {}

    def module(self, name: str) -> Module:
        """Return the module of a dotted name, such as `stripe._charge`."""
        if name not in self._modules:
            self._modules[name] = Module(name, ast.parse(self._read(name)), self)
        return self._modules[name]

    def klass(self, path: str) -> Klass:
        """Return the class of a dotted path, such as `stripe._charge.Charge`."""
        module, _, name = path.rpartition(".")
        found = self.module(module).lookup(name)
        if found is None:
            msg = f"no class {name} in {module}: has the stripe package moved it?"
            raise LookupError(msg)
        return found


def plain(text: str) -> str:
    """Return the text on one line, without control characters and other invisible ones."""
    return UNPRINTABLE.sub(" ", text).strip()


def _is_data(statement: ast.AnnAssign) -> bool:
    name = ast.unparse(statement.target)
    annotation = ast.unparse(statement.annotation)
    return not name.startswith("_") and not annotation.startswith("ClassVar")


def _doc(statement: ast.stmt | None) -> str:
    """Return the string that follows a field, which is how Stripe documents it."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return plain(value.value)
    return ""
