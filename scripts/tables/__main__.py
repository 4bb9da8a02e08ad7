"""Write the tables of README and docs, or check that they are current.

python -m scripts.tables           write them between their marks
python -m scripts.tables --check   write nothing; exit 1 if one differs
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.tables import permissions, settings, streams, writable

ROOT = Path(__file__).resolve().parent.parent.parent
TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "tap settings": ("README.md", settings.tap_table),
    "target settings": ("README.md", settings.target_table),
    "streams": ("README.md", streams.table),
    "more streams": ("docs/streams.md", streams.more),
    "permissions": ("docs/keys.md", permissions.table),
    "writable": ("docs/writing.md", writable.table),
}


def renewed(text: str, name: str, table: str) -> str:
    """Return a document with a new table between `<!-- name -->` and `<!-- /name -->`.

    Raises ValueError if the marks are missing.
    """
    place = re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- /{name} -->)", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"there is no place for the table of {name}: <!-- {name} -->")
    return place.sub(lambda found: f"{found[1]}{table}\n{found[3]}", text)


def outdated() -> Iterator[tuple[Path, str]]:
    """Yield each document that is not current, with its new content."""
    current: dict[Path, str] = {}
    new: dict[Path, str] = {}
    for name, (file, table) in TABLES.items():
        path = ROOT / file
        current.setdefault(path, path.read_text(encoding="utf-8"))
        new[path] = renewed(new.get(path, current[path]), name, table())
    yield from ((path, text) for path, text in new.items() if text != current[path])


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on differences")
    options = parser.parse_args(arguments)
    found = list(outdated())
    for path, new in found:
        if options.check:
            print(
                f"{path.name}: a table differs. To write: ./run python -m scripts.tables",
                file=sys.stderr,
            )
        else:
            path.write_text(new, encoding="utf-8")
    return 1 if found and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
