"""The commands in README and docs run, or are listed here with the reason why they do not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import stripe

from stripe_alloy.emulator import Emulator
from tests.e2e.answers import ROOT, load

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "locks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
NOT_RUN = {
    # what a command begins with, without `./run` and variables: why it does not run here
    "meltano run": "installs plugins: tests/e2e/test_meltano.py and test_postgres.py run the jobs",
    "meltano --environment=prod": "needs a real Stripe account",
    "pip install": "installs: tests/e2e/test_container.py does so from the locks",
    "uv tool install": "installs for the user",
    "uv pip compile": "renews a lock, from the network",
    "echo airbyte |": "renews a lock, from the network",
    "echo target-": "renews a lock, from the network",
    "echo meltanolabs-target-postgres |": "renews a lock, from the network",
    "echo uv |": "renews a lock, from the network",
    "pytest": "runs all tests",
    ".ci/run": "runs all tests",
    "pre-commit install": "changes the repository",
    "python -m scripts.": "writes files of the repository: CI runs the generators with --check",
    "mkdocs build": "CI runs it",
    "python -m benchmarks": "takes a quarter of an hour: tests/test_benchmarks.py runs parts",
    "docker build": "needs Docker: tests/e2e/test_container.py runs the steps",
    "psql": "needs a PostgreSQL server: tests/e2e/test_postgres.py starts one",
    "export TARGET_POSTGRES_HOST": "needs a PostgreSQL server",
    "stripe-alloy listen": "registers in Stripe: tests/webhooks/test_realtime.py runs it",
    "tap-stripe-alloy --config config.json --catalog catalog.json --state state.json --follow": (
        "runs until it is stopped: tests/e2e/test_realtime.py"
    ),
    "tap-stripe-alloy --config config.json --test\ncustomers": (
        "shows a key without permissions: tests/test_keys.py"
    ),
    "stripe-alloy rejects replay": "needs a rejects file: tests/target/test_rejects.py",
}
OUTPUT_ONLY = {
    "Listening at": "output of the command above it: tests/webhooks",
    "! customers cus_18WnJomB9rS4SZ": "output of a job: tests/e2e/test_realtime.py",
}
"""What a console block without a command begins with."""
OTHER_OUTPUT = {
    "--input changes.jsonl": "the prorations are those of another day: tests/target/test_preview.py"
}
"""Parts of commands whose output differs from what is shown."""
PYTHON_NOT_RUN = {"import airbyte": "needs an environment of its own: tests/e2e/test_pyairbyte.py"}
PORTS = ("12111", "12112", "8042")
PLACEHOLDERS = ("we_1", "acct_1")

Substitute = Callable[[str], str]


@dataclass
class Block:
    """A fenced block."""

    kind: str
    text: str
    before: str
    """The paragraph above it."""


@dataclass
class Section:
    """A part of a document, from one heading of the second level to the next."""

    name: str
    blocks: list[Block] = field(default_factory=list)


def sections(path: Path) -> list[Section]:
    name = path.relative_to(ROOT).as_posix()
    found = []
    text = path.read_text(encoding="utf-8")
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        section = Section(f"{name}: {part.splitlines()[0].lstrip('# ')}")
        for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            before = part[: fence.start()].rstrip().rsplit("\n\n", 1)[-1]
            section.blocks.append(Block(fence[1], fence[2], before))
        found.append(section)
    return found


SECTIONS = [
    section
    for path in DOCUMENTS
    for section in sections(path)
    if any(block.kind in ("sh", "console") for block in section.blocks)
]
PYTHON = [
    block
    for path in DOCUMENTS
    for section in sections(path)
    for block in section.blocks
    if block.kind == "python"
]


@dataclass
class Shown:
    """A command and the output that the document shows."""

    command: str
    output: str = ""

    @property
    def reason(self) -> str | None:
        """Why it does not run."""
        bare = re.sub(r"^(\w+=\S+ )*(\./run )?", "", self.command)
        whole = f"{bare}\n{self.output}"
        return next((why for start, why in NOT_RUN.items() if whole.startswith(start)), None)


def shown_in(block: Block) -> list[Shown]:
    """The commands of a block of the shell."""
    found: list[Shown] = []
    for line in block.text.splitlines():
        if found and not _complete(found[-1].command):
            found[-1].command += f"\n{line}"
        elif block.kind == "sh":
            found += [Shown(line)] if line else []
        elif line.startswith("$ "):
            found.append(Shown(line.removeprefix("$ ")))
        elif found:
            found[-1].output += f"{line}\n"
        elif not any(line.startswith(start) for start in OUTPUT_ONLY):
            raise AssertionError(f"output without a command, listed nowhere: {line}")
        else:
            return []
    return found


def _complete(command: str) -> bool:
    parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    return parsed.returncode == 0


class Session:
    """A folder in which the commands of a section run, with the files and servers they need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {port: _free_port() for port in PORTS}
        (folder / "output").mkdir()
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "run").write_text('#!/bin/sh\nexec "$@"\n')
        (folder / "run").chmod(0o755)

    def here(self, text: str) -> str:
        """Text of a document, with the ports that are free here."""
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    def run(self, shown: Shown) -> None:
        command = self.here(shown.command)
        if "emulator serve" in command:
            self.serve(command, self.here(shown.output))
            return
        if self.here("127.0.0.1:12111") in command and not self.servers and "curl" in command:
            self.serve(self.here("stripe-alloy emulator serve --port 12111 --customers 12"))
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        output = ended.stdout.decode()
        expected = 3 if "rejected" in shown.output else 0
        assert ended.returncode == expected, f"{command}\n{output[-3000:]}"
        if command.startswith("curl") and not any(name in command for name in PLACEHOLDERS):
            assert '"error"' not in output
        if not any(part in command for part in OTHER_OUTPUT):
            missing = [line for line in wanted(self.here(shown.output)) if line not in output]
            assert not missing, f"{command}\n{output[-3000:]}"

    def serve(self, command: str, shown: str = "") -> None:
        """Start an emulator, and wait until it serves."""
        command = command.rstrip("& ")
        if "--port" not in command:
            command += self.here(" --port 12111")
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command.removeprefix('./run ')}"],
            cwd=self.folder,
            env=self.environment,
            stderr=subprocess.PIPE,
        )
        self.servers[command] = server
        assert server.stderr is not None
        said = server.stderr.readline().decode()
        assert "Stripe emulator at" in said
        assert shown in said

    @property
    def environment(self) -> dict[str, str]:
        programs = Path(sys.executable).parent
        return {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def close(self) -> None:
        for server in self.servers.values():
            server.send_signal(signal.SIGTERM)
            server.wait(20)


def wanted(output: str) -> list[str]:
    """Lines that the output must have; `…` stands for what is left out."""
    lines = [line.removeprefix("… ").rstrip() for line in output.splitlines()]
    return [line for line in lines if line and "…" not in line]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, business: Emulator, programs: Path) -> Path:
    """What the job `stripe-to-duckdb` leaves."""
    return load(business, programs, tmp_path_factory.mktemp("loaded"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_the_commands_of_a_section_run(
    section: Section, session: Session, request: pytest.FixtureRequest
) -> None:
    for block in section.blocks:
        named = re.findall(r"`(\w+\.(?:jsonl|csv))`", block.before)
        if block.kind in ("json", "csv") and named:
            (session.folder / named[-1]).write_text(session.here(block.text))
        if block.kind not in ("sh", "console"):
            continue
        for shown in shown_in(block):
            if shown.reason:
                continue
            file = session.folder / "output/emulator.duckdb"
            if re.search(r"emulator\.duckdb|examples/ask", shown.command) and not file.exists():
                shutil.copy(request.getfixturevalue("database"), file)
            session.run(shown)


def test_every_shell_block_is_found() -> None:
    fences = sum(
        len(re.findall(r"^ *```(?:sh|console|bash|shell|sql|python)$", text, re.MULTILINE))
        for text in (path.read_text(encoding="utf-8") for path in DOCUMENTS)
    )
    shell = [b for s in SECTIONS for b in s.blocks if b.kind in ("sh", "console")]
    assert fences == len(shell) + len(PYTHON)


def test_every_reason_is_needed() -> None:
    commands = [
        shown
        for section in SECTIONS
        for block in section.blocks
        if block.kind in ("sh", "console")
        for shown in shown_in(block)
    ]
    used = {shown.reason for shown in commands}
    assert set(NOT_RUN.values()) <= used


class _Accepts(BaseHTTPRequestHandler):
    """A receiver of webhooks that accepts all."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Accepts) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.text.splitlines()[0])
def test_the_python_examples_run(block: Block, receiver: int) -> None:
    if any(block.text.startswith(start) for start in PYTHON_NOT_RUN):
        return
    text = block.text.replace("8042", str(receiver)).replace("10_000", "100")
    code = compile(text, "example", "exec")
    if "import stripe" in text:
        exec(code, {})
        return
    with Emulator(customers=2) as emulator:  # it goes on from the example above it
        client = stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url})
        exec(code, {"emulator": emulator, "client": client})
