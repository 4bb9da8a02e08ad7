"""Tells Stripe where the receiver is: one webhook endpoint for each kind of account it hears of."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stripe_alloy.params import shape_of
from stripe_alloy.transport import Params, Transport
from stripe_alloy.webhooks.inbox import CONNECTED

PATH = "/v1/webhook_endpoints"
MARK = "stripe_alloy"
"""The metadata key of the endpoints that are ours: others are never touched."""
EVERY = "*"

Endpoint = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """The endpoint that there is to be; `scope` says whose events it brings."""

    url: str
    scope: str
    events: Sequence[str]
    api_version: str

    def params(self) -> Params:
        """As a creation takes it."""
        made = [
            ("url", self.url),
            ("api_version", self.api_version),
            (f"metadata[{MARK}]", self.scope),
            ("description", "stripe-alloy listen"),
            *((f"enabled_events[{n}]", name) for n, name in enumerate(self.events)),
        ]
        return [*made, ("connect", "true")] if self.scope == CONNECTED else made


def event_types(subjects: Collection[str]) -> list[str]:
    """The types about some subjects, such as `charge` or `customer.subscription`, that Stripe has.

    All but `invoice.upcoming`, whose invoice does not exist yet.
    """
    shape = (shape_of("WebhookEndpointCreateParams").fields or {})["enabled_events"].items
    known = shape.literals if shape else []
    return sorted(
        name for name in known if name.rpartition(".")[0] in subjects and name != "invoice.upcoming"
    )


def register(transport: Transport, wanted: Wanted, secret_file: Path) -> str:
    """See that there is such an endpoint, and its secret in the file; what was done, in a word.

    An endpoint's version cannot be changed, nor its secret be read again. Where either is not at
    hand a new one is made, and the old one deleted only once the new secret is on the disk.
    """
    mine = [
        endpoint
        for endpoint in transport.walk(PATH)
        if endpoint["url"] == wanted.url and endpoint["metadata"].get(MARK) == wanted.scope
    ]
    stored = _stored_for(secret_file)
    good = [
        endpoint
        for endpoint in mine
        if endpoint["api_version"] == wanted.api_version and endpoint["id"] in stored
    ]
    done = _update(transport, good[0], wanted) if good else _create(transport, wanted, secret_file)
    for endpoint in mine:
        if endpoint not in good[:1]:
            transport.request("DELETE", f"{PATH}/{endpoint['id']}")
            _store(secret_file, drop=endpoint["id"])
    return done


def _update(transport: Transport, endpoint: Endpoint, wanted: Wanted) -> str:
    same = sorted(endpoint["enabled_events"]) == sorted(wanted.events)
    if same and endpoint["status"] == "enabled":
        return f"{endpoint['id']} is as it should be"
    params = [("disabled", "false")]
    params += [(f"enabled_events[{n}]", name) for n, name in enumerate(wanted.events)]
    _post(transport, f"{PATH}/{endpoint['id']}", params)
    return f"{endpoint['id']} updated"


def _create(transport: Transport, wanted: Wanted, secret_file: Path) -> str:
    _store(secret_file)  # before there is a secret that could not be written down
    endpoint = _post(transport, PATH, wanted.params())
    note = f"{endpoint['id']} {wanted.scope} {wanted.url}"
    try:
        _store(secret_file, add=f"{endpoint['secret']}  # {note}")
    except OSError:
        transport.request("DELETE", f"{PATH}/{endpoint['id']}")
        raise
    return f"{endpoint['id']} created"


def _post(transport: Transport, path: str, params: Params) -> Endpoint:
    key = f"alloy-listen-{uuid.uuid4().hex}"
    found: Endpoint = transport.request("POST", path, params, idempotency_key=key).body
    return found


# ---------------------------------------------------------------------- the file of secrets


def _stored_for(file: Path) -> set[str]:
    """The endpoints whose secrets the file has, by the note behind each."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return {word for line in lines for word in line.partition("#")[2].split()[:1]}


def _store(file: Path, *, add: str | None = None, drop: str | None = None) -> None:
    """Replace the file by one with a line more or less; only its owner may read it."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    kept = [line for line in lines if not drop or drop not in line.partition("#")[2].split()]
    beside = file.with_name(file.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.writelines(f"{line}\n" for line in [*kept, *([add] if add else [])])
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
