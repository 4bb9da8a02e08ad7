"""Runs the commands in this process, as their entry points do, and keeps all that they say."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from source_stripe_alloy import source
from stripe_alloy_cli import cli
from tap_stripe_alloy import tap
from target_stripe_alloy import target

MAINS: dict[str, Callable[[], None]] = {
    "tap-stripe-alloy": tap.main,
    "target-stripe-alloy": target.main,
    "source-stripe-alloy": source.main,
    "stripe-alloy": cli.main,
}


@dataclass(frozen=True)
class Ended:
    """How a command ended, and all that it said."""

    code: int
    out: str
    err: str
    """Its standard error, as its own log wrote it."""

    @property
    def all(self) -> str:
        return self.out + self.err

    @property
    def errors(self) -> list[str]:
        """The lines about what ended it."""
        logged = ("CRITICAL", "Error: ", "See ")
        sent = ('"type":"TRACE"', '"status":"FAILED"')
        return [
            line
            for text, marks in ((self.err, logged), (self.out, sent))
            for line in text.splitlines()
            if any(mark in line for mark in marks)
        ]


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *command: str,
    stdin: str = "",
) -> Ended:
    """Run a command that is named by its first word."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)
    monkeypatch.setattr(sys, "argv", list(command))
    for option, unset in {"selection": (), "following": False}.items():  # put back after the test
        monkeypatch.setattr(tap.TapStripeAlloy, option, unset)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    capsys.readouterr()
    code = 0
    try:
        MAINS[command[0]]()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(level)
    said = capsys.readouterr()
    return Ended(code, said.out, said.err)
