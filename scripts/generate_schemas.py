"""Write the schemas from the installed `stripe` package, or check that they are current.

python -m scripts.generate_schemas           write stripe_alloy/api/schemas/
python -m scripts.generate_schemas --check   write nothing; exit 1 on differences
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

from scripts.schemagen.lists import drop_declared, endpoints, reasons, undecided
from scripts.schemagen.output import VERSION_FILE, differences, generate, versions, write
from scripts.schemagen.source import Package
from scripts.schemagen.times import ReviewedTimes, ReviewNeeded

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "stripe_alloy" / "api" / "schemas"
TIMES = ROOT / "scripts" / "time_fields.json"
LEFT_OUT = ROOT / "scripts" / "lists_left_out.json"


def installed() -> Package:
    """Find the installed `stripe` package without importing it."""
    site = package_folder().parent

    def read(module: str) -> str:
        path = site.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return file.read_text(encoding="utf-8")

    return Package(read)


def package_folder() -> Path:
    """Return the folder of the installed `stripe` package."""
    spec = find_spec("stripe")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the stripe package is not installed: uv sync")
    return Path(spec.submodule_search_locations[0])


def check(package: Package, times: ReviewedTimes, folder: Path) -> list[str]:
    """Return the differences between `folder` and a fresh run, one line each; empty if current."""
    recorded = folder / VERSION_FILE
    if recorded.is_file():
        expected, got = json.loads(recorded.read_text(encoding="utf-8")), versions(package)
        if expected != got:
            return [f"generated from {_named(expected)}, installed is {_named(got)}"]
    return list(differences(folder, generate(package, times)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on differences")
    options = parser.parse_args(arguments)
    package = installed()
    try:
        times = ReviewedTimes.load(TIMES)
        if not options.check:
            write(SCHEMAS, generate(package, times))
            drop_declared(LEFT_OUT)
            return 0
        problems = check(package, times, SCHEMAS)
    except ReviewNeeded as review:
        print(review, f"The list of times: scripts/{TIMES.name}", sep="\n", file=sys.stderr)
        return 1
    lists = list(undecided(endpoints(package_folder()), reasons(LEFT_OUT)))
    if problems:
        print(
            *problems,
            "To write: ./run python -m scripts.generate_schemas",
            sep="\n",
            file=sys.stderr,
        )
    if lists:
        print(*lists, sep="\n", file=sys.stderr)
    return 1 if problems or lists else 0


def _named(version: dict[str, str]) -> str:
    return f"stripe {version.get('stripe')} (API {version.get('api_version')})"


if __name__ == "__main__":
    sys.exit(main())
