"""`stripe-alloy emulator serve`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import stripe
from click.testing import CliRunner

from stripe_alloy.emulator import Emulator
from stripe_alloy_cli.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVE = [sys.executable, "-c", "from stripe_alloy_cli.cli import main; main()", "emulator", "serve"]


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    command = [*SERVE, "--port", "0", "--customers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def address(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())
    assert found is not None
    return found.group()


def test_it_serves(server: subprocess.Popen[str]) -> None:
    client = stripe.StripeClient("sk_test_emulator", base_addresses={"api": address(server)})
    assert len(client.v1.customers.list().data) == 2


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(server: subprocess.Popen[str], name: signal.Signals) -> None:
    address(server)
    server.send_signal(name)
    assert server.wait(10) == 0


def test_a_port_in_use_is_an_error() -> None:
    with Emulator(customers=0) as emu:
        port = emu.url.rpartition(":")[2]
        command = [*SERVE, "--port", port, "--customers", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_options_are_checked() -> None:
    assert CliRunner().invoke(main, ["emulator", "serve", "--limits", "some"]).exit_code == 2


def test_help_needs_nothing() -> None:
    assert "serve" in CliRunner().invoke(main, ["emulator", "--help"]).output
