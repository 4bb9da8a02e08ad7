"""The lists of the `stripe` package: declared as object types, or excluded with a reason."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING

from stripe_alloy.api.object_types import OBJECT_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def endpoints(package: Path) -> dict[str, str]:
    """Return path → type of every v1 list in the source of the package's services."""
    return {
        path: kind
        for file in sorted(package.rglob("_*_service.py"))
        for path, kind in _lists_in(ast.parse(file.read_text(encoding="utf-8")))
    }


def undecided(found: Mapping[str, str], left_out: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each list that is neither declared nor excluded."""
    found = {_unnamed(path): kind for path, kind in found.items()}
    left_out = {_unnamed(path): reason for path, reason in left_out.items()}
    declared = _declared()
    for path in sorted(found.keys() - declared - left_out.keys()):
        yield (
            f"{path} ({found[path]}): neither declared in stripe_alloy/api/"
            "optional_object_types.py nor left out in scripts/lists_left_out.json. Declare it, or "
            "say there why it is no stream"
        )
    for path in sorted(left_out.keys() & declared):
        yield f"{path}: declared, and left out in scripts/lists_left_out.json as well"
    for path in sorted((declared | left_out.keys()) - found.keys()):
        yield f"{path}: the installed stripe package has no such list"


def reasons(file: Path) -> dict[str, str]:
    """Return path → reason of the excluded lists."""
    grouped = json.loads(file.read_text(encoding="utf-8"))
    return {path: reason for reason, paths in grouped.items() for path in paths}


def drop_declared(file: Path) -> None:
    """Remove declared lists from the excluded ones."""
    declared = _declared()
    grouped = json.loads(file.read_text(encoding="utf-8"))
    kept = {
        reason: [path for path in paths if _unnamed(path) not in declared]
        for reason, paths in grouped.items()
    }
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _declared() -> set[str]:
    return {_unnamed(kind.path) for kind in OBJECT_TYPES}


def _unnamed(path: str) -> str:
    """Return a path without the names of its parameters, which differ from the fields' names."""
    return re.sub(r"\{\w+\}", "{}", path)


def _lists_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Constant):
            kind = str(node.returns.value)
            if kind.startswith("ListObject["):
                path = _path_of(node)
                if path.startswith("/v1/"):
                    yield path, kind.removeprefix("ListObject[").removesuffix("]")


def _path_of(method: ast.FunctionDef) -> str:
    """Return the path that a method GETs; "" if it sends another request."""
    for call in ast.walk(method):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "self._request":
            verb, path = call.args[:2]
            constants = [part.value for part in ast.walk(path) if isinstance(part, ast.Constant)]
            if ast.literal_eval(verb) == "get":
                return str(constants[0])
    return ""
