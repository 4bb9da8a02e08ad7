"""`./run`: makes the environment once, checks hashes, then only starts what it is told to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE_OF = ("run", "pyproject.toml", "README.md", "LICENSE", "locks/dev.txt", "locks/uv.txt")
PACKAGES = ("stripe_alloy", "tap_stripe_alloy", "target_stripe_alloy")


def copy_to(folder: Path) -> Path:
    for name in MADE_OF:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    if (ROOT / ".tools").is_dir():
        shutil.copytree(ROOT / ".tools", folder / ".tools", symlinks=True)
    return folder


def run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, **env}
    environment.pop("VIRTUAL_ENV", None)
    return subprocess.run(
        [str(folder / "run"), *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which `./run` was called once."""
    folder = copy_to(tmp_path_factory.mktemp("project"))
    first = run(folder, "python", "-c", "import tap_stripe_alloy; print(tap_stripe_alloy.__file__)")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(folder / "tap_stripe_alloy/__init__.py")
    assert "making the environment" in first.stderr.splitlines()[0]
    return folder


def test_the_environment_is_in_the_folder(made: Path) -> None:
    activated = subprocess.run(
        [". .venv/bin/activate && command -v tap-stripe-alloy"],
        cwd=made,
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert activated.stdout.strip() == str(made / ".venv/bin/tap-stripe-alloy")


def test_a_second_call_installs_nothing(made: Path) -> None:
    (made / ".tools/bin/uv").write_text("#!/bin/sh\nexit 9\n")
    again = run(made, "python", "-c", "print('started')")
    assert (again.returncode, again.stdout, again.stderr) == (0, "started\n", "")


def test_an_unknown_command_is_named(made: Path) -> None:
    unknown = run(made, "meltanoo")
    assert unknown.returncode == 127
    assert unknown.stderr == "./run: there is no command 'meltanoo'. ./run --help shows some.\n"


def test_another_lock_makes_another_environment(made: Path) -> None:
    with (made / "locks/dev.txt").open("a") as lock:
        lock.write("\n# another\n")
    (made / ".tools/bin/uv").write_text("#!/bin/sh\necho asked for uv >&2\nexit 9\n")
    (made / ".tools/bin/uv").chmod(0o755)
    again = run(made, "true")
    assert again.returncode == 1
    assert "asked for uv" in again.stderr


def test_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    folder = copy_to(tmp_path)
    lock = folder / "locks/dev.txt"
    text = lock.read_text()
    start = text.index("\niniconfig==")
    end = text.index("    # via", start)
    wrong = re.sub(r"sha256:\w{8}", "sha256:00000000", text[start:end])
    lock.write_text(text[:start] + wrong + text[end:])
    refused = run(folder, "true")
    assert refused.returncode == 1
    assert "iniconfig" in refused.stderr
    assert "ash mismatch" in refused.stderr
    assert not (folder / ".venv/made-from").exists()


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_help_names_the_commands(arguments: list[str], code: int) -> None:
    told = run(ROOT, *arguments)
    assert told.returncode == code
    assert "./run meltano run stripe-to-duckdb" in told.stdout + told.stderr


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    folder = copy_to(tmp_path)
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = run(folder, "true", PYTHON=str(old))
    assert refused.returncode == 1
    assert "needs Python 3.10 to 3.14" in refused.stderr
