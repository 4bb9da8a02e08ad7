"""Webhook endpoints: subscribed events, rendering and signatures."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.api_versions import snapshot_as_of
from stripe_alloy.emulator.store import Query

if TYPE_CHECKING:
    from stripe_alloy.emulator.seeded_random import SeededRandom
    from stripe_alloy.emulator.store import Store

KIND = "webhook_endpoint"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class WebhookEndpoint(NamedTuple):
    """A webhook endpoint, and the fields stored with it."""

    account: str
    """Account that created it."""
    shown: JSON
    """The object, as the API returns it."""
    private: JSON
    """Its private fields: `secret`, `old_secret`, `old_until`, `connect`."""

    @property
    def enabled(self) -> bool:
        """Whether it is enabled."""
        return bool(self.shown["status"] == "enabled")

    def wants(self, account: str, kind: str) -> bool:
        """Whether it receives this type of event of an account: its own, or a connected one."""
        others = account != self.account
        types = self.shown["enabled_events"]
        return (
            self.enabled and others == self.private["connect"] and ("*" in types or kind in types)
        )

    def body(self, account: str, event: JSON, snapshot: JSON) -> bytes:
        """Return the event in the endpoint's API version, or as in `/v1/events` if it has none."""
        deliverable = dict(event)
        version = self.shown["api_version"]
        if version is not None:
            rendered = snapshot_as_of(version, snapshot)
            deliverable.update(api_version=version, data={**event["data"], "object": rendered})
        if self.private["connect"]:
            deliverable["account"] = account
        return msgspec.json.format(_encode(deliverable), indent=2)

    def signature(self, body: bytes, now: float) -> str:
        """Return the `Stripe-Signature`: docs.stripe.com/webhooks#verify-manually."""
        secrets = [self.private["secret"]]
        if self.private.get("old_until", 0) > now:
            secrets.append(self.private["old_secret"])
        signed = b"%d.%s" % (int(now), body)
        made = [hmac.new(secret.encode(), signed, sha256).hexdigest() for secret in secrets]
        return ",".join([f"t={int(now)}", *(f"v1={signature}" for signature in made)])


def found_in(store: Store, *accounts: str) -> list[WebhookEndpoint]:
    """Return the endpoints of these accounts."""
    return [
        WebhookEndpoint(account, _decode(row.body), _decode(row.extra or "{}"))
        for account in dict.fromkeys(accounts)
        for row in store.select(Query(account, KIND))
    ]


def find(store: Store, account: str, endpoint_id: str) -> WebhookEndpoint | None:
    """Return an endpoint in its current state."""
    row = store.get(account, KIND, endpoint_id)
    return row and WebhookEndpoint(account, _decode(row.body), _decode(row.extra or "{}"))


def new_secret(dice: SeededRandom) -> str:
    """Return a new signing secret."""
    return "whsec_" + dice.text(32)


def roll(store: Store, endpoint_id: str, dice: SeededRandom, now: float, expires_in: float) -> str:
    """Roll the secret of an endpoint; raises KeyError if the endpoint does not exist."""
    query = "SELECT account, extra FROM objects WHERE object = ? AND id = ?"
    with store.transaction():
        rows = store.execute(query, KIND, endpoint_id)
        if not rows:
            raise KeyError(f"No such webhook endpoint: {endpoint_id}")
        account, private_fields = rows[0]
        private, made = _decode(private_fields), new_secret(dice)
        private.update(secret=made, old_secret=private["secret"], old_until=now + expires_in)
        store.execute(
            "UPDATE objects SET extra = ? WHERE account = ? AND object = ? AND id = ?",
            _encode(private).decode(),
            account,
            KIND,
            endpoint_id,
        )
    return made
