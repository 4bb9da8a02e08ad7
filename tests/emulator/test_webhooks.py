"""Webhook endpoints, and what is delivered to them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import stripe

from stripe_alloy.api.schemas import api_version
from stripe_alloy.emulator import Emulator
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
def receiving(port: int = 0) -> Iterator[Sink]:
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

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
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


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def listen(emulator: Emulator, sink: Sink, *events: str, **more: Any) -> JSON:
    params: Any = {"url": sink.url, "enabled_events": list(events or ["*"]), **more}
    made: JSON = client_of(emulator).v1.webhook_endpoints.create(params).to_dict()
    return made


def test_an_endpoint_is_made_read_changed_listed_and_deleted(quick: Emulator, sink: Sink) -> None:
    api = client_of(quick).v1.webhook_endpoints
    made = listen(quick, sink, "charge.failed", metadata={"a": "b"}, api_version=api_version())
    assert made["secret"].startswith("whsec_")
    found = api.retrieve(made["id"])
    assert (found.url, found.enabled_events, found.status) == (
        sink.url,
        ["charge.failed"],
        "enabled",
    )
    assert (found.api_version, found.metadata.to_dict()) == (api_version(), {"a": "b"})
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


def test_a_description_can_be_taken_away(quick: Emulator, sink: Sink) -> None:
    made = listen(quick, sink, description="Ours")
    changed = client_of(quick).v1.webhook_endpoints.update(made["id"], {"description": ""})
    assert (made["description"], changed.description) == ("Ours", None)


@pytest.mark.parametrize(
    "url",
    [
        "receiver.example.com",
        "ftp://receiver.example.com",
        "",
        "https://",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:70000/",
        "http://[::1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/caf\u00e9",
    ],
)
def test_what_is_no_url_is_refused(quick: Emulator, url: str) -> None:
    with refused(400, None, "url"):
        client_of(quick).v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})


def test_an_endpoint_wants_at_least_one_type(quick: Emulator, sink: Sink) -> None:
    made = listen(quick, sink)
    nothing: Any = {"enabled_events": ""}
    with refused(400, None, "enabled_events"):
        client_of(quick).v1.webhook_endpoints.update(made["id"], nothing)


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
    assert headers["stripe-signature"].startswith(f"t={int(NOW)},v1=")
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["user-agent"] == "Stripe/1.0 (+https://stripe.com/docs/webhooks)"
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


def test_an_endpoint_that_is_disabled_meanwhile_gets_no_further_tries(sink: Sink) -> None:
    with Emulator(customers=0, webhook_retries=(0.05,) * 400) as emulator:
        sink.statuses[:] = [500] * 400
        made, api = listen(emulator, sink), client_of(emulator).v1
        api.customers.create()
        until(lambda: len(emulator.webhooks.deliveries) > 1)
        api.webhook_endpoints.update(made["id"], {"disabled": True})
        assert emulator.webhooks.wait(30)
        assert len(emulator.webhooks.deliveries) < 400


def test_an_answer_that_is_replayed_tells_nothing_twice(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    for _ in range(2):
        client_of(quick).v1.customers.create({}, options={"idempotency_key": "once"})
    assert quick.webhooks.wait(30)
    assert sink.types() == ["customer.created"]


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


def test_a_connected_account_can_have_an_endpoint_itself(sink: Sink) -> None:
    with Emulator(customers=0, accounts=1) as emulator:
        [other] = emulator.account_ids
        api = client_of(emulator).v1
        made = api.webhook_endpoints.create(
            {"url": sink.url, "enabled_events": ["*"]}, options={"stripe_account": other}
        )
        api.customers.create({"name": "Ours"})
        api.customers.create({"name": "Theirs"}, options={"stripe_account": other})
        assert emulator.webhooks.wait(30)
        [event] = sink.events()
        assert (event["data"]["object"]["name"], event.get("account")) == ("Theirs", None)
        assert emulator.webhooks.roll_secret(made.id) != made.secret


def test_an_endpoint_may_be_older_than_the_account(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink, api_version="2020-08-27")
    client_of(quick).v1.customers.create()
    assert quick.webhooks.wait(30)
    [event] = sink.events()
    assert event["api_version"] == "2020-08-27"
    assert "default_card" in event["data"]["object"]
    assert quick.objects("event")[0]["api_version"] == api_version()


def test_an_endpoint_has_a_version_of_its_own() -> None:
    with (
        Emulator(customers=0, account_api_version="2020-08-27") as emulator,
        receiving() as old,
        receiving() as new,
    ):
        listen(emulator, old)
        listen(emulator, new, api_version=api_version())
        client_of(emulator).v1.customers.create({"name": "Ada"})
        assert emulator.webhooks.wait(30)
        [aged], [fresh] = old.events(), new.events()
        assert (aged["api_version"], fresh["api_version"]) == ("2020-08-27", api_version())
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


def test_a_receiver_that_comes_back_gets_what_it_missed() -> None:
    with Emulator(customers=0, webhook_retries=(0.05,) * 400) as emulator:
        with receiving() as away:
            listen(emulator, away)
        port = int(away.url.split(":")[2].split("/")[0])
        client_of(emulator).v1.customers.create()
        until(lambda: emulator.webhooks.deliveries)
        with receiving(port) as back:
            assert emulator.webhooks.wait(30)
        assert back.types() == ["customer.created"]
        statuses = [one.status for one in emulator.webhooks.deliveries]
        assert (set(statuses[:-1]), statuses[-1]) == ({0}, 200)


def test_a_host_that_is_no_name_is_not_reached(quick: Emulator) -> None:
    listen(quick, Sink(f"http://{'a' * 80}.invalid/"))
    client_of(quick).v1.customers.create()
    assert quick.webhooks.wait(30)
    assert [one.status for one in quick.webhooks.deliveries] == [0, 0, 0]


def test_each_try_is_signed_anew(sink: Sink) -> None:
    with Emulator(customers=0, webhook_retries=(0.01,)) as emulator:
        made = listen(emulator, sink)
        sink.statuses[:] = [500]
        emulator.webhooks.paused = True
        client_of(emulator).v1.customers.create()
        emulator.clock_advance(86_400)  # a tolerance of five minutes holds against the try's time
        emulator.webhooks.paused = False
        assert emulator.webhooks.wait(30)
        for _, headers in sink.got:
            sent = int(headers["stripe-signature"].split(",")[0].removeprefix("t="))
            assert sent - time.time() > 86_000
        body, headers = sink.got[1]
        assert stripe.WebhookSignature.verify_header(
            body, headers["stripe-signature"], made["secret"], 300
        )


def test_who_waits_does_not_keep_deliveries_from_beginning() -> None:
    with Emulator(customers=1, webhook_retries=(3_600,)) as emulator, receiving() as down:
        listen(emulator, down)
        down.statuses[:] = [500] * 1_000
        done = threading.Event()

        def wait() -> None:
            while not done.is_set():
                emulator.webhooks.wait(0.02)

        def delivered_beyond(number: int) -> bool:
            return len(emulator.webhooks.deliveries) > number

        waiters = [threading.Thread(target=wait) for _ in range(8)]
        for waiter in waiters:
            waiter.start()
        try:
            for number in range(40):
                emulator.bulk(1)
                until(partial(delivered_beyond, number))
        finally:
            done.set()
            for waiter in waiters:
                waiter.join()


def test_it_stops_at_once_though_a_receiver_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        emulator = Emulator(customers=0).start()
        listen(emulator, Sink(f"http://127.0.0.1:{hanging.getsockname()[1]}/"))
        client_of(emulator).v1.customers.create()
        connection, _ = hanging.accept()
        connection.recv(1)
        began = time.monotonic()
        emulator.stop()
        assert time.monotonic() - began < 5  # where a try may last ten
        connection.close()


def test_pausing_is_an_attribute_too(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    quick.webhooks.paused = True
    client_of(quick).v1.customers.create()
    assert (quick.webhooks.pending(), quick.webhooks.paused) == (1, True)
    quick.webhooks.paused = False
    assert quick.webhooks.wait(30)


def test_events_are_listed_by_whether_they_were_taken(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    api = client_of(quick).v1
    sink.statuses[:] = [500] * 3  # given up
    lost = api.customers.create().id
    assert quick.webhooks.wait(30)
    taken = api.customers.create().id
    assert quick.webhooks.wait(30)

    def listed(**filters: Any) -> list[str]:
        return [event.data.object["id"] for event in api.events.list(filters).data]  # type: ignore[arg-type]

    assert listed(delivery_success=False) == [lost]
    assert listed(delivery_success=True) == [taken]
    assert listed() == [taken, lost]


def test_deliveries_are_held_back_and_let_go(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    quick.webhooks.paused = True
    client_of(quick).v1.customers.create()
    assert not quick.webhooks.wait(0.1)
    assert (quick.webhooks.pending(), sink.got) == (1, [])
    quick.webhooks.paused = False
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


def test_each_success_is_made_twice_at_the_most(quick: Emulator, sink: Sink) -> None:
    listen(quick, sink)
    quick.webhooks.duplicates = 1.0
    client_of(quick).v1.customers.create()
    assert quick.webhooks.wait(30)
    assert len(sink.got) == 2
    assert len({body for body, _ in sink.got}) == 1


def test_both_secrets_sign_while_one_is_rolled(sink: Sink) -> None:
    with Emulator(customers=0) as emulator:
        made = listen(emulator, sink)
        old, api = made["secret"], client_of(emulator).v1.customers
        new = emulator.webhooks.roll_secret(made["id"], expires_in=60)
        api.create()
        assert emulator.webhooks.wait(30)
        body, headers = sink.got[0]
        assert headers["stripe-signature"].count("v1=") == 2
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


def test_very_many_events() -> None:
    with Emulator(customers=4, accounts=1) as emulator:
        before = emulator.count("event", everything=True)
        emulator.bulk(250)
        emulator.bulk(2)
        made = emulator.objects("event", everything=True)[: -before or None]
        assert len(made) == 252
        assert {event["type"] for event in made} == {"customer.updated"}
        changes = [event["data"]["previous_attributes"] for event in made]
        assert all(change["metadata"].keys() == {"bulk"} for change in changes)
        customers = {event["data"]["object"]["id"] for event in made}
        assert customers == set(emulator.ids("customer"))


def test_nobody_cannot_be_changed(empty: Emulator) -> None:
    with pytest.raises(ValueError, match="customers"):
        empty.bulk(1)


def test_without_an_endpoint_there_is_no_thread(quick: Emulator) -> None:
    client_of(quick).v1.customers.create()
    assert quick.webhooks.pending() == 0
    assert not any(thread.name == "stripe-webhooks" for thread in threading.enumerate())
