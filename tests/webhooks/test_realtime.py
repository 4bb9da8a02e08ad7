"""From the emulated Stripe through the receiver and the inbox to a destination."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import stripe

from stripe_alloy.api.object_types import OBJECT_TYPES
from stripe_alloy.api.schemas import api_version
from stripe_alloy.emulator import Emulator
from stripe_alloy.webhooks.listen import events_of
from stripe_alloy.webhooks.registration import event_types
from tests.conftest import Output, catalog_of, config_of, read
from tests.tap.histories import Destination, History, differences
from tests.webhooks.helpers import Listening, inbox_url, kept, listen, wait_for

JSON = dict[str, Any]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def api_of(emulator: Emulator) -> Any:
    return stripe.StripeClient(emulator.api_key, base_addresses={"api": emulator.url}).v1


class Business:
    """An emulated account, its receiver's folder, and a destination of its records."""

    def __init__(self, emulator: Emulator, folder: Path, **settings: Any) -> None:
        self.emulator, self.folder, self.port = emulator, folder, free_port()
        self.config = config_of(emulator, webhook_inbox=inbox_url(folder), **settings)
        (folder / "config.json").write_text(json.dumps(self.config))
        self.destination = Destination()
        self.catalog: Any = None

    @contextmanager
    def receiver(self, *options: str) -> Iterator[Listening]:
        """Registered, so that the emulator delivers to it."""
        where = ["--config", str(self.folder / "config.json")]
        secrets = ["--secret-file", str(self.folder / "secrets")]
        url = f"http://127.0.0.1:{self.port}/"
        with listen(
            self.folder, *where, *secrets, "--register", url, *options, port=self.port
        ) as receiver:
            wait_for(lambda: "Webhook endpoint" in receiver.log())
            yield receiver

    def run(self) -> Output:
        output = read(self.config, catalog=self.catalog, state=self.destination.state)
        self.destination.take(output.messages)
        return output

    def differences(self) -> dict[str, Any]:
        return differences(self.destination, self.emulator, [self.emulator.account_id])

    def endpoints(self) -> list[JSON]:
        return [one.to_dict() for one in api_of(self.emulator).webhook_endpoints.list().data]


@pytest.fixture
def business(tmp_path: Path) -> Iterator[Business]:
    with Emulator(customers=12, webhook_retries=(0.1, 0.2, 0.5, *[1] * 600)) as emulator:
        yield Business(emulator, tmp_path)


# ---------------------------------------------------------------------- registration


def test_it_registers_just_what_is_needed_once(business: Business) -> None:
    wanted = ("--stream", "customers", "--stream", "subscription_items")
    with business.receiver(*wanted):
        pass
    [made] = business.endpoints()
    assert made["enabled_events"] == [
        "customer.created",
        *(f"customer.{what}" for what in ("deleted",)),
        *(name for name in event_types({"customer.subscription"})),
        "customer.updated",
    ]
    assert made["api_version"] == api_version()
    file = business.folder / "secrets"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text()
    assert made["id"] in secret
    with business.receiver(*wanted) as again:
        assert "is up to date" in again.log()
    with business.receiver("--stream", "customers") as fewer:
        assert "updated" in fewer.log()
    [same] = business.endpoints()
    assert (same["id"], file.read_text()) == (made["id"], secret)
    assert same["enabled_events"] == [f"customer.{x}" for x in ("created", "deleted", "updated")]


def test_an_endpoint_whose_secret_is_lost_or_version_old_is_replaced(business: Business) -> None:
    with business.receiver():
        pass
    [first] = business.endpoints()
    (business.folder / "secrets").unlink()
    with business.receiver():
        pass
    [second] = business.endpoints()
    assert second["id"] != first["id"]
    config = {**business.config, "api_version": "2026-01-28.clover"}
    (business.folder / "config.json").write_text(json.dumps(config))
    with business.receiver():
        pass
    [third] = business.endpoints()
    assert third["api_version"] == "2026-01-28.clover"
    text = (business.folder / "secrets").read_text()
    assert third["id"] in text
    assert second["id"] not in text


def test_endpoints_of_others_are_left_alone(business: Business) -> None:
    url = f"http://127.0.0.1:{business.port}/"
    theirs = api_of(business.emulator).webhook_endpoints.create(
        {"url": url, "enabled_events": ["charge.failed"]}
    )
    with business.receiver():
        pass
    assert theirs.id in [endpoint["id"] for endpoint in business.endpoints()]
    assert len(business.endpoints()) == 2


def second_receiver(business: Business, folder: Path, *options: str) -> None:
    """Register a receiver with a file of secrets of its own, at the same URL."""
    folder.mkdir(exist_ok=True)
    where = ["--config", str(business.folder / "config.json")]
    url = f"http://127.0.0.1:{business.port}/"
    secrets = ["--secret-file", str(folder / "secrets")]
    with listen(folder, *where, *secrets, "--register", url, *options) as receiver:
        wait_for(lambda: "Webhook endpoint" in receiver.log())


def test_a_second_receiver_leaves_the_firsts_endpoint_alone(business: Business) -> None:
    with business.receiver():
        pass
    [first] = business.endpoints()
    for _ in range(2):
        second_receiver(business, business.folder / "second")
        with business.receiver() as again:
            assert "is up to date" in again.log()
        endpoints = business.endpoints()
        assert len(endpoints) == 2
        assert first["id"] in [endpoint["id"] for endpoint in endpoints]


def test_a_receiver_is_known_by_its_name_wherever_its_secrets_are(business: Business) -> None:
    second_receiver(business, business.folder / "here", "--name", "hooks-1")
    [first] = business.endpoints()
    second_receiver(business, business.folder / "there", "--name", "hooks-1")
    [second] = business.endpoints()
    assert second["id"] != first["id"]  # whose secret is not there
    (business.folder / "there/secrets").rename(business.folder / "secrets")
    with business.receiver() as moved:
        assert "is up to date" in moved.log()


def unnamed(business: Business) -> JSON:
    """An endpoint and a file of secrets as cb5f45d made them."""
    url = f"http://127.0.0.1:{business.port}/"
    made = api_of(business.emulator).webhook_endpoints.create(
        {
            "url": url,
            "api_version": api_version(),
            "metadata": {"stripe_alloy": "own"},
            "description": "stripe-alloy listen",
            "enabled_events": ["customer.created"],
        }
    )
    line = f"{made.secret}  # {made.id} own {url}\n"
    (business.folder / "secrets").write_text(line)
    return {"id": made.id, "secret": made.secret}


def test_an_endpoint_without_a_name_is_adopted_by_whoever_has_its_secret(
    business: Business,
) -> None:
    before = unnamed(business)
    second_receiver(business, business.folder / "second")
    assert before["id"] in [endpoint["id"] for endpoint in business.endpoints()]
    with business.receiver("--stream", "customers") as receiver:
        assert f"{before['id']} updated" in receiver.log()
        [adopted] = [one for one in business.endpoints() if one["id"] == before["id"]]
        assert adopted["metadata"]["stripe_alloy_receiver"]
        lines = (business.folder / "secrets").read_text().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"{before['secret']}  # {before['id']} own acct_")
    with business.receiver("--stream", "customers") as receiver:
        assert "is up to date" in receiver.log()
    assert len(business.endpoints()) == 2


def test_registration_says_whose_the_secret_is(business: Business) -> None:
    with business.receiver():
        pass
    assert f" {business.emulator.account_id} " in (business.folder / "secrets").read_text()


def test_connected_accounts_need_an_endpoint_of_their_own(tmp_path: Path) -> None:
    with Emulator(customers=3, accounts=1) as emulator:
        accounts = [emulator.account_id, *emulator.account_ids]
        business = Business(emulator, tmp_path, account_ids=accounts)
        with business.receiver() as receiver:
            assert "own account:" in receiver.log()
            wait_for(lambda: "connected accounts:" in receiver.log())
            api = api_of(emulator).customers
            made = [
                api.create({"name": "Ada"}, options={"stripe_account": account}).id
                for account in accounts
            ]
            assert emulator.webhooks.wait(30)
            business.run()
            assert set(made) <= set(business.destination.of("customers"))
        assert len(kept(tmp_path)) == 2


def test_a_key_that_may_not_register_is_said(business: Business) -> None:
    business.emulator.keys.add("rk_test_reads", {"*": "read"})
    config = {**business.config, "api_key": "rk_test_reads"}
    (business.folder / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "stripe_alloy_cli.cli", "listen", "--port", "0", "--config",
         str(business.folder / "config.json"), "--register", "https://x.example/",
         "--secret-file", str(business.folder / "secrets")],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"'Webhook Endpoints: write'" in done.stderr
    assert b"rk_test_reads" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("stream", OBJECT_TYPES, ids=lambda stream: stream.name)
def test_every_event_about_a_streams_objects_is_asked_for(stream: Any) -> None:
    """Those that the emulator makes, by the object they carry."""
    types = {
        event["type"]
        for event in BUSINESS.events
        if event["data"]["object"]["object"] == stream.event_source.object_name
        and event["data"]["object"].get("id")
    }
    asked = events_of([stream.name])
    assert asked == ["*"] or types <= set(asked)
    if stream.has_events and stream.object_name != "event":
        assert asked


class _Everything:
    """The events of the default business and of a random history, made when first asked for."""

    _events: list[JSON] | None = None

    @property
    def events(self) -> list[JSON]:
        if self._events is None:
            with Emulator(customers=30) as emulator:
                history = History(emulator, random.Random(2), emulator.account_id)
                for _ in range(150):
                    history.happen()
                self._events = emulator.objects("event")
        return self._events


BUSINESS = _Everything()


# ---------------------------------------------------------------------- through the receiver


def test_what_is_delivered_needs_no_request(business: Business) -> None:
    business.run()
    with business.receiver():
        api = api_of(business.emulator)
        api.customers.create({"name": "The first to be delivered"})
        assert business.emulator.webhooks.wait(30)
        business.run()
        business.emulator.webhooks.duplicates = 0.5
        business.emulator.webhooks.disorder = 0.5
        history = History(business.emulator, random.Random(3), business.emulator.account_id)
        for _ in range(40):
            history.happen()
        assert business.emulator.webhooks.wait(60)
        before = len(business.emulator.requests)
        output = business.run()
        asked = [request.path for request in business.emulator.requests[before:]]
        assert "/v1/events" not in asked
        assert sum(map(len, output.records.values())) > 20
        assert business.differences() == {}


def test_a_receiver_killed_while_10_000_events_come_loses_none(business: Business) -> None:
    emulator, rng = business.emulator, random.Random(5)
    business.catalog = catalog_of(business.config, "customers", "products")
    business.run()
    with business.receiver():
        emulator.webhooks.paused = True
    api = api_of(emulator)
    for number in range(100):
        emulator.bulk(99)
        api.products.create({"name": f"Product {number}"})
    assert emulator.webhooks.pending() >= 10_000
    emulator.webhooks.paused = False
    kills = 0

    def pending_at_most(left: int) -> bool:
        return emulator.webhooks.pending() <= left

    while emulator.webhooks.pending():
        with business.receiver() as receiver:
            left = max(0, emulator.webhooks.pending() - rng.randrange(100, 1_500))
            wait_for(partial(pending_at_most, left))
            receiver.kill()
            kills += 1
        if rng.random() < 0.3:
            business.run()
    assert kills > 3
    assert {one.status for one in emulator.webhooks.deliveries} >= {0, 200}
    business.run()
    for stream in ("customers", "products"):
        assert stream not in business.differences()
    assert len(business.destination.of("products")) == emulator.count("product")


def test_rolling_a_secret_loses_no_event(business: Business) -> None:
    business.emulator.webhooks.disorder = 0.2
    with business.receiver() as receiver:
        [endpoint] = business.endpoints()
        file = business.folder / "secrets"
        business.emulator.bulk(50)
        new = business.emulator.webhooks.roll_secret(endpoint["id"], expires_in=60)
        business.emulator.bulk(50)
        assert business.emulator.webhooks.wait(60)
        with file.open("a") as secrets:
            secrets.write(f"{new}  # {endpoint['id']}\n")
        business.emulator.bulk(50)
        business.emulator.clock_advance(61)  # the old one is gone
        business.emulator.bulk(50)
        assert business.emulator.webhooks.wait(60)
        assert "Refused" not in receiver.log()
        # Rolled at once, without a time in which both sign: it is tried again until we know it.
        newest = business.emulator.webhooks.roll_secret(endpoint["id"], expires_in=-1)
        business.emulator.bulk(50)
        wait_for(lambda: "Refused" in receiver.log())
        file.write_text(f"{newest}  # {endpoint['id']}\n")
        assert business.emulator.webhooks.wait(60)
    assert len(kept(business.folder)) == 250


# ---------------------------------------------------------------------- staying up


class Following:
    """`tap-stripe-alloy --follow` in a process of its own."""

    def __init__(self, business: Business, *streams: str, state: JSON | None = None) -> None:
        folder = business.folder
        files = {"config": business.config, "catalog": catalog_of(business.config, *streams)}
        options = ["--follow"]
        for name, content in {**files, **({"state": state} if state else {})}.items():
            (folder / f"follow-{name}.json").write_text(json.dumps(content))
            options += [f"--{name}", str(folder / f"follow-{name}.json")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tap_stripe_alloy.tap", *options],
            stdout=subprocess.PIPE,
            stderr=(folder / "follow.log").open("wb"),
            env={**os.environ},
        )
        self.messages: list[JSON] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.messages.append({**json.loads(line), "at": time.monotonic()})

    def records(self, stream: str) -> list[JSON]:
        return [m for m in list(self.messages) if m.get("stream") == stream and "record" in m]

    def states(self) -> list[JSON]:
        return [m for m in list(self.messages) if m["type"] == "STATE"]

    def comes(self, source_id: str) -> None:
        """Wait for a record of an object, and for the STATE after it."""

        def found() -> bool:
            messages = list(self.messages)
            places = [
                n for n, m in enumerate(messages) if m.get("record", {}).get("id") == source_id
            ]
            return bool(places) and any(m["type"] == "STATE" for m in messages[places[-1] :])

        wait_for(found)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join()
        return code


@contextmanager
def following(business: Business, *streams: str, state: JSON | None = None) -> Iterator[Following]:
    tap = Following(business, *streams, state=state)
    try:
        yield tap
    finally:
        tap.process.kill()
        tap.process.wait(30)


def test_it_stays_up_and_stops_cleanly(business: Business) -> None:
    api = api_of(business.emulator)
    with business.receiver(), following(business, "customers") as tap:
        wait_for(lambda: len(tap.records("customers")) >= business.emulator.count("customer"))
        assert business.emulator.webhooks.wait(30)
        api.customers.create({"name": "The first to be delivered"})
        wait_for(lambda: len(tap.records("customers")) > business.emulator.count("customer") - 1)
        requests = len(business.emulator.requests)
        for number in range(3):
            tap.comes(api.customers.create({"name": f"Number {number}"}).id)
        for before, after in pairwise(tap.messages):
            if "record" in after:  # its STATE is never long in coming
                states = [m["at"] for m in tap.states() if m["at"] >= after["at"]]
                assert min(states, default=0.0) - after["at"] < 10, before
        requests += 3
        assert len(business.emulator.requests) <= requests + 1
        assert tap.stop() == 0
        assert tap.messages[-1]["type"] == "STATE"
        business.destination.take(tap.messages)
        assert set(business.destination.of("customers")) == set(business.emulator.ids("customer"))
        business.catalog = catalog_of(business.config, "customers")
        assert business.run().records == {}


def test_without_an_inbox_it_walks_every_few_seconds(business: Business) -> None:
    business.config.pop("webhook_inbox")
    api = api_of(business.emulator)
    with following(business, "customers") as tap:
        wait_for(lambda: len(tap.records("customers")) >= business.emulator.count("customer"))
        tap.comes(api.customers.create({"name": "Seen by a walk"}).id)
        assert tap.stop() == 0


def test_what_a_target_lost_comes_again(business: Business) -> None:
    """The tap follows, the target dies before its last STATE: nothing was removed."""
    api = api_of(business.emulator)
    business.catalog = catalog_of(business.config, "customers")
    business.run()
    with business.receiver():
        api.customers.create({"name": "The first to be delivered"})
        assert business.emulator.webhooks.wait(30)
        business.run()
        before = business.destination.state
        with following(business, "customers", state=before) as tap:
            made = [api.customers.create({"name": f"Number {n}"}).id for n in range(5)]
            wait_for(lambda: set(made) <= {m["record"]["id"] for m in tap.records("customers")})
        again = business.run()  # from the state before
        assert set(made) <= set(again.ids("customers"))


def test_a_stream_without_permission_is_told_at_once_and_the_others_go_on(
    business: Business,
) -> None:
    key = "rk_test_some"
    business.emulator.keys.add(key, {"customer": "read", "event": "read", "*": "none"})
    business.config.update(api_key=key)  # the receiver keeps the one it was given
    api = api_of(business.emulator)
    with business.receiver(), following(business, "customers", "products") as tap:
        wait_for(lambda: "products was not read" in (business.folder / "follow.log").read_text())
        tap.comes(api.customers.create({"name": "Still read"}).id)
        assert tap.stop() == 1
    log = (business.folder / "follow.log").read_text()
    assert log.count("products was not read") == 1


def test_a_stream_that_one_account_refuses_is_followed_for_the_others(tmp_path: Path) -> None:
    with Emulator(customers=3, accounts=2) as emulator:
        business = Business(emulator, tmp_path, account_ids=list(emulator.account_ids))
        business.config.pop("webhook_inbox")
        denied, other = emulator.account_ids
        path = "/v1/customers"
        emulator.faults.add("status", path, times=None, account=denied, status=403)
        api, log = api_of(emulator), tmp_path / "follow.log"
        with following(business, "customers") as tap:
            wait_for(lambda: "customers was not read" in log.read_text())
            made = api.customers.create({"name": "New"}, {"stripe_account": other})
            tap.comes(made.id)
            assert tap.stop() == 1
    assert log.read_text().count("customers was not read") == 1
