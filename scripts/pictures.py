"""Draw the terminal pictures of the README: `python -m scripts.pictures`.

Each picture is the output of a real command, run on a pseudo-terminal against the emulator, and
saved as an SVG file in docs/pictures/. POSIX only.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.clock import SEED_END

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
PROGRAMS = Path(sys.executable).parent
WIDTH = 92
"""Columns of the terminal."""
LATENCY = 0.3
"""Seconds that the emulator waits before each answer, so that a run takes some seconds."""
CUSTOMERS = 2_000
STREAMS = "charges,customers,invoices"
SDK_LINES = ("Skipping parse of env var", "Reader 'target-stripe-alloy' completed")
"""Beginnings of the lines that the Singer SDK logs; they are left out of the picture."""

# Without the web fonts that rich names, the picture needs no network.
SVG = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Run the commands and save their pictures."""
    PICTURES.mkdir(exist_ok=True)
    save("progress", progress())
    save("plan", plan())


def save(name: str, lines: str) -> None:
    """Write docs/pictures/NAME.svg: a terminal that shows `lines`, which may hold ANSI colors."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(lines))
    svg = console.export_svg(title="", code_format=SVG, unique_id=name)
    path = PICTURES / f"{name}.svg"
    path.write_text("\n".join(map(str.rstrip, svg.splitlines())) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(lines.splitlines())} lines")


def progress() -> str:
    """Return the middle of a backfill, as the tap's progress table shows it."""
    with Emulator(customers=CUSTOMERS, latency=LATENCY) as emulator, TemporaryDirectory() as name:
        folder = Path(name)
        written(folder / "config.json", {"api_key": emulator.api_key, "api_url": emulator.url})
        command = ["tap-stripe-alloy", "--config", "config.json", "--select", STREAMS]
        output = on_terminal(command, folder, stdout="records.jsonl")
    # rich erases the table line by line before it draws it again: frames lie between erasures.
    frames = re.split(r"(?:\r?\x1b\[2K|\x1b\[1A)+", output)
    tables = [frame for frame in frames if "Requests:" in frame]
    shown = tables[len(tables) // 2]
    return f"$ {' '.join(command)} > records.jsonl\n{without_controls(shown)}"


def plan() -> str:
    """Return the plan of a free change, a change that costs money, and a blocked change."""
    with Emulator(clock=lambda: SEED_END) as emulator, TemporaryDirectory() as name:
        folder = Path(name)
        config = {"api_key": emulator.api_key, "api_url": emulator.url}
        written(folder / "target.json", {**config, "allow_actions": ["subscriptions.items"]})
        messages = [json.dumps(message) for message in changes()]
        (folder / "changes.jsonl").write_text("\n".join(messages) + "\n", encoding="utf-8")
        command = ["stripe-alloy", "plan", "--config", "target.json", "--input", "changes.jsonl"]
        output = on_terminal(command, folder)
    lines = [line for line in without_controls(output).splitlines() if line]
    return "\n".join(
        [f"$ {' '.join(command)}", *(line for line in lines if not line.startswith(SDK_LINES))]
    )


def changes() -> list[dict[str, Any]]:
    """Return the Singer messages that the plan is made of; the ids are in the seeded account."""
    item = {"id": "si_1m0UlGirRi6Fin", "quantity": 3}
    return [
        _schema("customers"),
        _record("customers", id="cus_YQ176UWGb7tvaZ", phone="+49301234", metadata={"score": 71}),
        _record("customers", id="cus_011RcvpiNSXxYl", balance=-500),
        _schema("subscriptions"),
        _record(
            "subscriptions",
            id="sub_Pm9J1D7wMuVgTQF0fy2zwhYw",
            items=[item],
            proration_behavior="always_invoice",
        ),
    ]


def _schema(stream: str) -> dict[str, Any]:
    schema = {"properties": {"id": {"type": "string"}}}
    return {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": ["id"]}


def _record(stream: str, **fields: Any) -> dict[str, Any]:
    return {"type": "RECORD", "stream": stream, "record": fields}


def written(path: Path, settings: dict[str, Any]) -> None:
    """Write a configuration file."""
    path.write_text(json.dumps(settings), encoding="utf-8")


def on_terminal(command: Sequence[str], folder: Path, stdout: str | None = None) -> str:
    """Run a command of this project on a terminal and return what it shows there.

    `stdout` names a file in `folder` that takes the standard output instead.
    """
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": "40"}
    with (folder / (stdout or "unused")).open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - one of the project's own commands
            [str(PROGRAMS / command[0]), *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file if stdout else child,
            stderr=child,
        )
    os.close(child)
    with open(parent, "rb", buffering=0) as terminal:  # noqa: PTH123 - a file descriptor
        output = b"".join(_chunks(terminal))
    if process.wait() != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{output.decode()}")
    return output.decode()


def _chunks(terminal: io.FileIO) -> list[bytes]:
    found = []
    try:
        while chunk := terminal.read(65_536):
            found.append(chunk)
    except OSError:  # Linux: the last writer closed the terminal
        pass
    return found


def without_controls(output: str) -> str:
    """Remove carriage returns and cursor movements; colors stay."""
    return re.sub(r"\r|\x1b\[\?25[hl]|\x1b\[[0-9]*[ABCDK]", "", output)


if __name__ == "__main__":
    main()
