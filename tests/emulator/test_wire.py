"""Headers, compression, keep-alive, the request log."""

from __future__ import annotations

import http.client
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from tests.emulator.helpers import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    import stripe

    from stripe_alloy.emulator import Emulator


@pytest.fixture
def session(emu: Emulator) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {emu.api_key}"
        yield session


def test_every_answer_has_a_request_id(emu: Emulator, session: requests.Session) -> None:
    answers = [session.get(emu.url + path) for path in ("/v1/charges", "/v1/cats")]
    ids = [answer.headers["Request-Id"] for answer in answers]
    assert all(request_id.startswith("req_") for request_id in ids)
    assert len(set(ids)) == 2


def test_the_date_is_the_clocks(emu: Emulator, session: requests.Session) -> None:
    date = session.get(emu.url + "/v1/charges").headers["Date"]
    assert parsedate_to_datetime(date).timestamp() == NOW


def test_the_version_asked_for_is_echoed(emu: Emulator, session: requests.Session) -> None:
    answer = session.get(emu.url + "/v1/charges", headers={"Stripe-Version": "2024-06-20"})
    assert answer.headers["Stripe-Version"] == "2024-06-20"


def test_the_account_and_the_key_are_echoed(emu: Emulator, session: requests.Session) -> None:
    headers = {"Stripe-Account": emu.account_id, "Idempotency-Key": "k1"}
    answer = session.post(emu.url + "/v1/customers", headers=headers)
    assert {name: answer.headers[name] for name in headers} == headers


def test_large_answers_are_compressed(emu: Emulator, session: requests.Session) -> None:
    answer = session.get(emu.url + "/v1/charges")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json()["object"] == "list"


def test_answers_are_plain_unless_asked(emu: Emulator, session: requests.Session) -> None:
    answer = session.get(emu.url + "/v1/charges", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in answer.headers


def test_small_answers_are_plain(emu: Emulator, session: requests.Session) -> None:
    answer = session.get(emu.url + "/v1/cats")
    assert "Content-Encoding" not in answer.headers


def test_a_connection_is_kept(emu: Emulator) -> None:
    connection = http.client.HTTPConnection(urlsplit(emu.url).netloc)
    for _ in range(3):
        connection.request("GET", "/v1/charges?limit=1")
        connection.getresponse().read()
        used = connection.sock
    connection.request("GET", "/v1/charges?limit=1")
    assert connection.sock is used
    connection.close()


def test_a_connection_is_closed_on_request(emu: Emulator) -> None:
    connection = http.client.HTTPConnection(urlsplit(emu.url).netloc)
    connection.request("GET", "/v1/charges", headers={"Connection": "close"})
    connection.getresponse().read()
    assert connection.sock is None or connection.sock.recv(1) == b""
    connection.close()


def test_the_log_holds_what_was_asked(emu: Emulator, api: stripe.StripeClient) -> None:
    api.v1.charges.list({"limit": 3, "expand": ["data.customer"]})
    last = emu.requests[-1]
    assert (last.method, last.path, last.status) == ("GET", "/v1/charges", 200)
    assert last.params == {"limit": ["3"], "expand[0]": ["data.customer"]}


def test_the_log_holds_headers_of_interest(emu: Emulator, api: stripe.StripeClient) -> None:
    options: stripe.RequestOptions = {"idempotency_key": "k1", "stripe_version": "2024-06-20"}
    api.v1.customers.create({"name": "x"}, options)
    last = emu.requests[-1]
    assert (last.idempotency_key, last.stripe_version) == ("k1", "2024-06-20")


def test_an_unknown_parameter_name_is_an_error_not_a_crash(
    emu: Emulator, session: requests.Session
) -> None:
    answer = session.post(emu.url + "/v1/customers", data={"a[b": "1"})
    assert answer.status_code == 400


def test_latency_is_slept(empty: Emulator) -> None:
    from stripe_alloy.emulator import Emulator  # noqa: PLC0415

    with Emulator(customers=0, latency=0.05) as slow:
        headers = {"Authorization": f"Bearer {slow.api_key}"}
        answer = requests.get(slow.url + "/v1/charges", headers=headers, timeout=10)
    assert answer.elapsed.total_seconds() >= 0.05
