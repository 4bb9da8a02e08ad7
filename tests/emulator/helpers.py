"""What several tests of the emulator need."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import stripe

from stripe_alloy.emulator.clock import SEED_END

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stripe_alloy.emulator import Emulator

JSON = dict[str, Any]
NOW = SEED_END + 3600.0


def client_of(emulator: Emulator, key: str | None = None) -> stripe.StripeClient:
    """The official client, without retries of its own."""
    return stripe.StripeClient(
        key or emulator.api_key, base_addresses={"api": emulator.url}, max_network_retries=0
    )


def get(client: stripe.StripeClient, path: str, **params: Any) -> JSON:
    """The decoded answer of a GET, whatever its parameters."""
    data: JSON = client.raw_request("get", path, **params).data
    return data


def error_of(error: stripe.StripeError) -> JSON:
    """The error of the answer's body: the client's classes drop some of it."""
    body: Any = error.json_body or {}
    error_body: JSON = body.get("error", {})
    return error_body


@contextmanager
def refused(status: int, code: str | None = None, param: str | None = None) -> Iterator[None]:
    """Stripe refuses, in exactly this way."""
    with pytest.raises(stripe.StripeError) as caught:
        yield
    error = caught.value
    body = error_of(error)
    assert (error.http_status, body.get("code"), body.get("param")) == (status, code, param), body


class Events:
    """The events since this was made, oldest first."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._before = set(emulator.ids("event", everything=True))

    def all(self) -> list[JSON]:
        """The new events."""
        now = self._emulator.objects("event", everything=True)
        return [event for event in reversed(now) if event["id"] not in self._before]

    def types(self) -> list[str]:
        """Their types."""
        return [event["type"] for event in self.all()]

    def one(self, name: str) -> JSON:
        """The only new event of a type."""
        (event,) = [event for event in self.all() if event["type"] == name]
        return event

    def previous(self, name: str) -> Any:
        """What its `previous_attributes` say."""
        return self.one(name)["data"].get("previous_attributes")
