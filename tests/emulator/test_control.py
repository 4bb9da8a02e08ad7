"""`/_emulator/`: steering an emulator from another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
import stripe

from stripe_alloy.emulator.control import ControlledService
from stripe_alloy.emulator.http_messages import HttpRequest
from tests.emulator.helpers import NOW, client_of

if TYPE_CHECKING:
    from stripe_alloy.emulator import Emulator


def test_counts(emu: Emulator) -> None:
    got = requests.get(f"{emu.url}/_emulator/counts", timeout=10).json()
    assert got["counts"][emu.account_id]["customer"] == emu.count("customers")


def test_requests(emu: Emulator, api: stripe.StripeClient) -> None:
    api.v1.charges.list()
    got = requests.get(f"{emu.url}/_emulator/requests", timeout=10).json()["requests"]
    assert [request["path"] for request in got] == ["/v1/charges"]


def test_requests_can_be_forgotten(emu: Emulator, api: stripe.StripeClient) -> None:
    api.v1.charges.list()
    requests.delete(f"{emu.url}/_emulator/requests", timeout=10)
    assert emu.requests == []


def test_faults(emu: Emulator, api: stripe.StripeClient) -> None:
    fault = {"kind": "status", "path": "/v1/charges", "status": 503}
    requests.post(f"{emu.url}/_emulator/faults", json=fault, timeout=10)
    with pytest.raises(stripe.APIError):
        api.v1.charges.list()


def test_faults_can_be_cleared(emu: Emulator, api: stripe.StripeClient) -> None:
    emu.faults.add("status", times=None)
    requests.delete(f"{emu.url}/_emulator/faults", timeout=10)
    assert api.v1.charges.list().data


def test_the_clock(emu: Emulator) -> None:
    got = requests.post(f"{emu.url}/_emulator/clock", json={"advance": 60}, timeout=10).json()
    assert got["now"] == NOW + 60


def test_keys(emu: Emulator) -> None:
    key = {"key": "rk_test_made_over_http", "permissions": {"charge": "read"}}
    requests.post(f"{emu.url}/_emulator/keys", json=key, timeout=10)
    client = client_of(emu, "rk_test_made_over_http")
    assert client.v1.charges.list().data
    requests.post(f"{emu.url}/_emulator/keys", json={"revoke": key["key"]}, timeout=10)
    with pytest.raises(stripe.AuthenticationError):
        client.v1.charges.list()


@pytest.mark.parametrize("body", [b"{", b'{"kind": "earthquake"}', b"{}"])
def test_what_makes_no_sense_is_refused(emu: Emulator, body: bytes) -> None:
    answer = requests.post(f"{emu.url}/_emulator/faults", data=body, timeout=10)
    assert answer.status_code == 400


def test_an_unknown_control_endpoint_is_not_found(emu: Emulator) -> None:
    assert requests.get(f"{emu.url}/_emulator/cats", timeout=10).status_code == 404


def test_other_machines_may_not_steer(emu: Emulator) -> None:
    far = HttpRequest("GET", "/_emulator/counts", "", {}, b"", peer="192.0.2.7")
    assert ControlledService(emu.service).answer(far).status == 403


def test_control_requests_are_not_logged(emu: Emulator) -> None:
    requests.get(f"{emu.url}/_emulator/counts", timeout=10)
    assert emu.requests == []
