"""Webhook endpoints as deliveries see them: what they want, how it is rendered and signed."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.api_versions import older
from stripe_alloy.emulator.store import Query

if TYPE_CHECKING:
    from stripe_alloy.emulator.seeded_random import SeededRandom
    from stripe_alloy.emulator.store import Store

KIND = "webhook_endpoint"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class WebhookEndpoint(NamedTuple):
    """Where events are delivered to."""

    account: str  # that made it
    shown: JSON  # as the API shows it
    beside: JSON  # what is stored with it: `secret`, `old_secret` and `old_until`, `connect`

    @property
    def enabled(self) -> bool:
        """Whether it gets anything."""
        return bool(self.shown["status"] == "enabled")

    def wants(self, account: str, kind: str) -> bool:
        """Whether it gets this type of event of an account: its own, or those connected to it."""
        others = account != self.account
        types = self.shown["enabled_events"]
        return self.enabled and others == self.beside["connect"] and ("*" in types or kind in types)

    def body(self, account: str, event: JSON, snapshot: JSON, pinned: str) -> bytes:
        """The event in the endpoint's own version, or as `/v1/events` holds it if it has none."""
        deliverable = dict(event)
        version = self.shown["api_version"]
        if version is not None:
            rendered = snapshot if version == pinned else older(snapshot)
            deliverable.update(api_version=version, data={**event["data"], "object": rendered})
        if self.beside["connect"]:
            deliverable["account"] = account
        return msgspec.json.format(_encode(deliverable), indent=2)

    def signature(self, body: bytes, now: float) -> str:
        """The `Stripe-Signature`: docs.stripe.com/webhooks#verify-manually."""
        secrets = [self.beside["secret"]]
        if self.beside.get("old_until", 0) > now:
            secrets.append(self.beside["old_secret"])
        signed = b"%d.%s" % (int(now), body)
        made = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
        return ",".join([f"t={int(now)}", *(f"v1={signature}" for signature in made)])


def found_in(store: Store, *accounts: str) -> list[WebhookEndpoint]:
    """The endpoints that these accounts made."""
    return [
        WebhookEndpoint(account, _decode(row.body), _decode(row.extra or "{}"))
        for account in dict.fromkeys(accounts)
        for row in store.select(Query(account, KIND))
    ]


def find(store: Store, account: str, endpoint_id: str) -> WebhookEndpoint | None:
    """An endpoint as it is now."""
    row = store.get(account, KIND, endpoint_id)
    return row and WebhookEndpoint(account, _decode(row.body), _decode(row.extra or "{}"))


def new_secret(dice: SeededRandom) -> str:
    """A signing secret."""
    return "whsec_" + dice.text(32)


def roll(store: Store, endpoint_id: str, dice: SeededRandom, now: float, expires_in: float) -> str:
    """Give an endpoint a new secret; KeyError if there is none of this id."""
    asked = "SELECT account, extra FROM objects WHERE object = ? AND id = ?"
    with store.transaction():
        rows = store.execute(asked, KIND, endpoint_id)
        if not rows:
            raise KeyError(f"No such webhook endpoint: {endpoint_id}")
        account, private_fields = rows[0]
        beside, made = _decode(private_fields), new_secret(dice)
        beside.update(secret=made, old_secret=beside["secret"], old_until=now + expires_in)
        store.execute(
            "UPDATE objects SET extra = ? WHERE account = ? AND object = ? AND id = ?",
            _encode(beside).decode(),
            account,
            KIND,
            endpoint_id,
        )
    return made
