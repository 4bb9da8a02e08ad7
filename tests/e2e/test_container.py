"""The Dockerfile: linted, and its steps run in a clean environment, since no engine is here."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from stripe_alloy.emulator import Emulator
from tests.conftest import catalog_of, config_of, parse

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Dockerfile"
BIN = Path(sys.executable).parent


def steps(*instructions: str) -> list[tuple[str, str]]:
    """(instruction, argument) of the file, in its order."""
    parser = DockerfileParser(path=str(FILE), cache_content=True)
    found = [(step["instruction"], step["value"]) for step in parser.structure]
    return [step for step in found if step[0] in instructions]


def test_the_linter_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=str(BIN)) or shutil.which("hadolint")
    assert linter
    run = subprocess.run([linter, str(FILE)], capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (0, b"")


class Image:
    """What the steps leave: a folder for /app, an environment for the image's Python."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.bin = folder / "python" / "bin"
        self.home = folder / "home"
        for made in (self.app, self.home):
            made.mkdir()
        subprocess.run([sys.executable, "-m", "venv", str(folder / "python")], check=True)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        return {**kept, "PATH": f"{self.bin}{os.pathsep}/usr/bin:/bin", "HOME": str(self.home)}

    def copy(self, *paths: str) -> None:
        *sources, destination = paths
        for source in sources:
            there = self.app / destination
            if (ROOT / source).is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, there, ignore=skip)
            else:
                shutil.copy2(ROOT / source, there)

    def run(self, command: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, input=stdin, cwd=self.app, env=self.env, capture_output=True, check=False
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Each COPY and each RUN of pip, in their order; the user and the volume need an engine."""
    image = Image(tmp_path_factory.mktemp("image"))
    for instruction, argument in steps("COPY", "RUN"):
        words = shlex.split(argument)
        if instruction == "COPY":
            image.copy(*words)
        elif words[0] == "pip":
            done = image.run(["/bin/sh", "-c", argument])
            assert done.returncode == 0, done.stderr.decode()[-2000:]
    return image


def test_all_that_is_installed_is_pinned_by_hash() -> None:
    installs = [value for _, value in steps("RUN") if value.startswith("pip install")]
    own = "pip install --no-cache-dir --no-deps --no-build-isolation ."
    assert installs == ["pip install --no-cache-dir --require-hashes -r image.txt", own]


def test_what_is_copied_is_not_ignored() -> None:
    """Only what the image needs is sent to the engine: no key, state or journal of a folder."""
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [path for _, value in steps("COPY") for path in shlex.split(value)[:-1]]
    assert kept[0] == "*"
    assert {line[1:] for line in kept if line.startswith("!")} == set(copied)


def test_it_does_not_run_as_root() -> None:
    assert steps("USER") == [("USER", "10001")]


@pytest.mark.parametrize(
    "command",
    ["tap-stripe-alloy", "target-stripe-alloy", "source-stripe-alloy", "stripe-alloy"],
)
def test_each_command_is_there(image: Image, command: str) -> None:
    done = image.run([command, "--version"])
    assert done.returncode == 0
    assert b"0." in done.stdout


@pytest.mark.parametrize("kind", ["ENTRYPOINT", "CMD"])
def test_what_a_container_starts_is_there(image: Image, kind: str) -> None:
    for _, value in steps(kind):
        words = json.loads(value)
        assert (image.bin / words[0]).exists()
        inner = [word for word in words[1:] if not word.startswith(("-", "/", "0"))]
        assert image.run([words[0], *inner, "--help"]).returncode == 0


def test_the_tap_pipes_into_the_target(image: Image) -> None:
    with Emulator(customers=3) as emulator:
        for name, content in {
            "config": config_of(emulator),
            "catalog": catalog_of(config_of(emulator), "products"),
            "target": {"api_key": emulator.api_key, "api_url": emulator.url},
        }.items():
            (image.app / f"{name}.json").write_text(json.dumps(content))
        tap = image.run(
            ["tap-stripe-alloy", "--config", "config.json", "--catalog", "catalog.json"]
        )
        target = image.run(["target-stripe-alloy", "--config", "target.json"], tap.stdout)
    assert parse(tap.stdout)[-1]["type"] == "STATE"
    assert b"unchanged 10" in target.stderr, target.stderr.decode()


def test_airbytes_entrypoint_answers(image: Image) -> None:
    done = image.run(["source-stripe-alloy", "spec"])
    assert parse(done.stdout)[-1]["type"] == "SPEC"
