"""Environments of their own for programs that are not the project's, from its lock files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(folder: Path, lock: str) -> Path:
    """The folder of the programs that a lock file of ours names."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert uv
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    install = [uv, "pip", "install", "-q", "-p", str(programs / "python")]
    subprocess.run([*install, "-r", str(ROOT / "locks" / lock)], check=True)
    return programs
