"""The generated files: their content, and their comparison with those on disk."""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

from scripts.schemagen.catalog import CUT, EXPANDABLE_TEXTS, INCLUDED, SHALLOW
from scripts.schemagen.schema import Builder, SeenFields
from scripts.schemagen.times import ReviewNeeded
from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.schemas import Schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from scripts.schemagen.source import Klass, Package
    from scripts.schemagen.times import ReviewedTimes

# What json.dumps spreads over four lines; inside a JSON string no line break can match.
NULLABLE = re.compile(r'\[\n\s+("\w+"),\n\s+"null"\n\s+\]')
VERSION_FILE = "_version.json"
Files = dict[str, str]


def generate(package: Package, times: ReviewedTimes) -> Files:
    """Return the content of every file by its path inside the schemas' folder.

    Raises ReviewNeeded if the list of times, or the catalog, does not fit the package.
    """
    kinds = sorted(OBJECT_TYPES, key=lambda kind: kind.name)
    roots = {kind.name: package.klass(kind.source) for kind in kinds}
    seen = SeenFields()
    built = {stream: _stream(klass, times, seen) for stream, klass in roots.items()}
    files = {f"{stream}.json": _text(schema) for stream, (schema, _) in built.items()}
    objects, inside = _objects(roots, times, seen)
    files.update(objects)
    files["_expandable_objects.json"] = _text(inside)
    times.check(seen.integers)
    _check_catalog(seen)
    files["_expandable.json"] = _text({stream: paths for stream, (_, paths) in built.items()})
    files[VERSION_FILE] = _text(versions(package))
    files["_event_types.json"] = _text(_event_types(package))
    return files


def versions(package: Package) -> dict[str, str]:
    """Return the version of the package, and the API version that its types describe."""
    (version,) = _constants(package, "stripe._version", "VERSION")
    (api_version,) = _constants(package, "stripe._api_version", "CURRENT")
    return {"api_version": api_version, "stripe": version}


def differences(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Return the differences between the files and those on disk, one line per file."""
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    for name in sorted(files.keys() - present):
        yield f"{name}: missing"
    for name in sorted(present - files.keys()):
        yield f"{name}: superfluous, no stream or expandable object of this name"
    for name in sorted(files.keys() & present):
        if (folder / name).read_text(encoding="utf-8") != files[name]:
            yield f"{name}: differs from what the stripe package says"


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files, and delete those that are no longer generated."""
    for path in folder.rglob("*.json"):
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def _stream(klass: Klass, times: ReviewedTimes, seen: SeenFields) -> tuple[Schema, dict[str, Any]]:
    builder = Builder(klass, times.times, seen)
    schema = builder.build()
    schema["properties"].pop("deleted", None)  # the tap adds one to every stream
    return schema, dict(sorted(builder.expandable.items()))


def _objects(
    roots: Mapping[str, Klass], times: ReviewedTimes, seen: SeenFields
) -> tuple[Files, dict[str, dict[str, Any]]]:
    """Return the schemas of objects that only appear expanded, and what they can expand."""
    own = {klass.object_name for klass in roots.values()}
    wanted = {name: klass for name, klass in sorted(seen.classes.items()) if name not in own}
    builders = {name: Builder(klass, times.times, seen) for name, klass in wanted.items()}
    files = {f"objects/{name}.json": _text(each.build()) for name, each in builders.items()}
    return files, {name: dict(sorted(each.expandable.items())) for name, each in builders.items()}


def _check_catalog(seen: SeenFields) -> None:
    classes = {label.rpartition(".")[0] for label in seen.labels}
    stale = sorted((CUT | INCLUDED | SHALLOW | EXPANDABLE_TEXTS.keys()) - seen.labels - classes)
    if stale:
        raise ReviewNeeded(f"catalog.py names what the stripe package has not: {stale}")


def _event_types(package: Package) -> list[str]:
    """Return the types that Stripe's events can have."""
    declared = next(
        node.annotation
        for node in ast.walk(package.module("stripe._event").tree)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "type"
    )
    assert isinstance(declared, ast.Subscript)  # noqa: S101 - a Literal
    return sorted(ast.literal_eval(declared.slice))


def _constants(package: Package, module: str, name: str) -> list[str]:
    return [
        str(ast.literal_eval(node.value))
        for node in ast.walk(package.module(module).tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]


def _text(content: object) -> str:
    indented = json.dumps(content, indent=1, ensure_ascii=False)
    return NULLABLE.sub(r'[\1, "null"]', indented) + "\n"
