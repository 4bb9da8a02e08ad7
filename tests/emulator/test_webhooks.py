"""Webhook endpoints, and what is delivered to them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import stripe

from stripe_alloy.emulator import Emulator
from stripe_alloy.emulator.schemas import pinned_version
from tests.emulator.helpers import NOW, client_of, refused

JSON = dict[str, Any]


@dataclass
class Sink:
    """A receiver that keeps everything, and answers as it is told."""

    url: str = ""
    got: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """For the next requests; then 200."""

    def events(self) -> list[JSON]:
        return [json.loads(body) for body, _ in self.got]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events()]


@contextmanager
def receiving() -> Iterator[Sink]:
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sink.got.append((body, {k.lower(): v for k, v in self.headers.items()}))
            self.send_response(sink.statuses.pop(0) if sink.statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    sink.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with receiving() as found:
        yield found


@pytest.fixture
def quick() -> Iterator[Emulator]:
    """An empty account whose webhooks are tried again at once."""
    with Emulator(customers=0, clock=lambda: NOW, webhook_retries=(0.01, 0.01)) as emulator:
        yield emulator


def listen(emulator: Emulator, sink: Sink, *events: str, **more: Any) -> JSON:
    params: Any = {"url": sink.url, "enabled_events": list(events or ["*"]), **more}
    made: JSON = client_of(emulator).v1.webhook_endpoints.create(params).to_dict()
    return made


def test_an_endpoint_is_made_read_changed_listed_and_deleted(quick: Emulator, sink: Sink) -> None:
    api = client_of(quick).v1.webhook_endpoints
    made = listen(quick, sink, "charge.failed", metadata={"a": "b"}, api_version=pinned_version())
    assert made["secret"].startswith("whsec_")
    found = api.retrieve(made["id"])
    assert (found.url, found.enabled_events, found.status) == (
        sink.url,
        ["charge.failed"],
        "enabled",
    )
    assert (found.api_version, found.metadata.to_dict()) == (pinned_version(), {"a": "b"})
    changed = api.update(made["id"], {"enabled_events": ["*"], "disabled": True})
    assert (changed.enabled_events, changed.status) == (["*"], "disabled")
    assert [one.id for one in api.list().data] == [made["id"]]
    assert api.delete(made["id"]).deleted
    assert api.list().data == []


def test_the_secret_is_told_once(quick: Emulator, sink: Sink) -> None:
    made = listen(quick, sink)
    api = client_of(quick).v1.webhook_endpoints
    for found in (api.retrieve(made["id"]), api.list().data[0], api.update(made["id"], {})):
        assert "secret" not in found.to_dict()


@pytest.mark.parametrize("url", ["receiver.example.com", "ftp://receiver.example.com", ""])
def test_what_is_no_url_is_refused(quick: Emulator, url: str) -> None:
    with refused(400, None, "url"):
        client_of(quick).v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})


def test_an_unknown_type_of_event_is_refused(quick: Emulator, sink: Sink) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        listen(quick, sink, "customer.sneezed")


def test_a_restricted_key_needs_its_permission(quick: Emulator) -> None:
    quick.keys.add("rk_test_reads", {"webhook": "read"})
    with pytest.raises(stripe.PermissionError, match="rak_webhook_write"):
        client_of(quick, "rk_test_reads").v1.webhook_endpoints.create(
            {"url": "https://x.example", "enabled_events": ["*"]}
        )
    assert client_of(quick, "rk_test_reads").v1.webhook_endpoints.list().data == []


def test_an_event_is_delivered_signed(quick: Emulator, sink: Sink) -> None:
    made = listen(quick, sink)
    customer = client_of(quick).v1.customers.create({"name": "Ada"})
    assert quick.webhooks.wait(30)
    [(body, headers)] = sink.got
    verified = stripe.Webhook.construct_event(
        body,
        headers["stripe-signature"],
        made["secret"],
        tolerance=None,  # type: ignore[arg-type]
    )
    assert (verified.type, verified.data.object["id"]) == ("customer.created", customer.id)
    assert body.startswith(b'{\n  "id": "evt_')
    assert json.loads(body)["id"] == quick.ids("event")[0]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(
            body + b" ", headers["stripe-signature"], made["secret"]
        )


def test_only_the_types_that_are_wanted_are_delivered(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink, "product.created", "customer.deleted")
    api = client_of(quick).v1
    api.customers.delete(api.customers.create().id)
    api.products.create({"name": "Bolt"})
    assert quick.webhooks.wait(30)
    assert sorted(sink.types()) == ["customer.deleted", "product.created"]


def test_a_disabled_or_deleted_endpoint_gets_nothing(quick: Emulator, sink: Sink) -> None:
    endpoints, api = client_of(quick).v1.webhook_endpoints, client_of(quick).v1
    first, second = listen(quick, sink)["id"], listen(quick, sink)["id"]
    endpoints.update(first, {"disabled": True})
    endpoints.delete(second)
    api.customers.create()
    assert quick.webhooks.wait(30)
    assert sink.got == []


def test_connected_accounts_have_endpoints_of_their_own() -> None:
    with Emulator(customers=0, accounts=1) as emulator, receiving() as own, receiving() as connect:
        listen(emulator, own)
        listen(emulator, connect, connect=True)
        [other] = emulator.account_ids
        api = client_of(emulator).v1
        api.customers.create({"name": "Ours"})
        api.customers.create({"name": "Theirs"}, options={"stripe_account": other})
        assert emulator.webhooks.wait(30)
        assert [(e.get("account"), e["data"]["object"]["name"]) for e in own.events()] == [
            (None, "Ours")
        ]
        assert [(e["account"], e["data"]["object"]["name"]) for e in connect.events()] == [
            (other, "Theirs")
        ]


def test_an_endpoint_has_a_version_of_its_own() -> None:
    with (
        Emulator(customers=0, account_api_version="2020-08-27") as emulator,
        receiving() as old,
        receiving() as new,
    ):
        listen(emulator, old)
        listen(emulator, new, api_version=pinned_version())
        client_of(emulator).v1.customers.create({"name": "Ada"})
        assert emulator.webhooks.wait(30)
        [aged], [fresh] = old.events(), new.events()
        assert (aged["api_version"], fresh["api_version"]) == ("2020-08-27", pinned_version())
        assert fresh["data"]["object"] == emulator.objects("customer")[0]
        assert aged["data"]["object"] != fresh["data"]["object"]
        assert aged == emulator.objects("event")[0]


def test_what_is_refused_is_tried_again_and_given_up_at_last(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    api = client_of(quick).v1.customers
    sink.statuses[:] = [500, 302]
    api.create()
    assert quick.webhooks.wait(30)
    assert [one.status for one in quick.webhooks.deliveries] == [500, 302, 200]
    assert len({body for body, _ in sink.got}) == 1
    sink.statuses[:] = [400, 400, 400, 400]
    api.create()
    assert quick.webhooks.wait(30)
    assert [one.status for one in quick.webhooks.deliveries[3:]] == [400, 400, 400]


def test_a_receiver_that_is_down_is_tried_again(quick: Emulator) -> None:
    with receiving() as sink:
        listen(quick, sink)
    client_of(quick).v1.customers.create()
    assert quick.webhooks.wait(30)
    assert [one.status for one in quick.webhooks.deliveries] == [0, 0, 0]


def test_deliveries_are_held_back_and_let_go(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    quick.webhooks.pause()
    client_of(quick).v1.customers.create()
    assert not quick.webhooks.wait(0.1)
    assert (quick.webhooks.pending(), sink.got) == (1, [])
    quick.webhooks.resume()
    assert quick.webhooks.wait(30)
    assert len(sink.got) == 1


def test_deliveries_come_twice_and_out_of_order(sink: Sink) -> None:
    with Emulator(customers=5) as emulator:
        listen(emulator, sink)
        emulator.webhooks.duplicates, emulator.webhooks.disorder = 0.5, 0.3
        emulator.bulk(200)
        assert emulator.webhooks.wait(60)
        ids = [event["id"] for event in sink.events()]
        order = list(dict.fromkeys(ids))
        assert len(order) == 200
        assert 240 < len(ids) < 360
        assert order != emulator.ids("event")[:200][::-1]


def test_both_secrets_sign_while_one_is_rolled(sink: Sink) -> None:
    with Emulator(customers=0) as emulator:
        made = listen(emulator, sink)
        old, api = made["secret"], client_of(emulator).v1.customers
        new = emulator.webhooks.roll_secret(made["id"], expires_in=60)
        api.create()
        assert emulator.webhooks.wait(30)
        body, headers = sink.got[0]
        for secret in (old, new):
            assert stripe.WebhookSignature.verify_header(body, headers["stripe-signature"], secret)
        emulator.clock_advance(61)
        api.create()
        assert emulator.webhooks.wait(30)
        body, headers = sink.got[1]
        assert stripe.WebhookSignature.verify_header(body, headers["stripe-signature"], new)
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(body, headers["stripe-signature"], old)


def test_another_process_can_look_and_steer(quick: Emulator, sink: Sink) -> None:
    made = listen(quick, sink)
    control = f"{quick.url}/_emulator/webhooks"
    assert requests.post(control, json={"paused": True}, timeout=10).json() == {"ok": True}
    client_of(quick).v1.customers.create()
    assert requests.get(control, timeout=10).json() == {"pending": 1, "deliveries": []}
    rolled = requests.post(control, json={"roll": made["id"], "expires_in": 5}, timeout=10).json()
    assert rolled["secret"].startswith("whsec_")
    requests.post(control, json={"paused": False, "duplicates": 1, "disorder": 0.1}, timeout=10)
    assert quick.webhooks.wait(30)
    found = requests.get(control, timeout=10).json()
    assert [one["status"] for one in found["deliveries"]] == [200, 200]
    assert requests.post(control, json={"roll": "we_no"}, timeout=10).status_code == 400
    assert requests.post(control, json={"sing": True}, timeout=10).status_code == 400


def test_a_price_that_the_dashboard_deletes_is_told_too(sink: Sink) -> None:
    with Emulator(customers=0) as emulator:
        api = client_of(emulator).v1
        product = api.products.create({"name": "Bolt"})
        price = api.prices.create({"product": product.id, "currency": "usd", "unit_amount": 1})
        listen(emulator, sink)
        emulator.delete("price", price.id)
        assert emulator.webhooks.wait(30)
        assert sink.types() == ["price.deleted"]


def test_without_an_endpoint_there_is_no_thread(quick: Emulator) -> None:
    client_of(quick).v1.customers.create()
    assert quick.webhooks.pending() == 0
    assert not any(thread.name == "stripe-webhooks" for thread in threading.enumerate())
