"""Registers the receiver in Stripe: one webhook endpoint per scope, own or connected.

Each receiver has a name, which its endpoints carry: only those are changed or deleted.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stripe_alloy.api.client import Params, StripeClient
from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.params import param_type
from stripe_alloy.api.paths import item_path
from stripe_alloy.text_files import read_text
from stripe_alloy.webhooks.inbox import CONNECTED

PATH = "/v1/webhook_endpoints"
MARK = "stripe_alloy"
"""Metadata key of this project's endpoints; others are never changed."""
NAME_MARK = "stripe_alloy_receiver"
"""Metadata key of the receiver's name; endpoints of earlier versions have none."""
EVERY = "*"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_NAME_NOTE = "receiver="

RegisteredEndpoint = dict[str, Any]


@dataclass(frozen=True)
class DesiredEndpoint:
    """The endpoint that should exist; `scope` says of which accounts it receives events."""

    url: str
    scope: str
    events: Sequence[str]
    api_version: str
    name: str
    """Name of the receiver."""
    account: str | None = None
    """Account that the endpoint belongs to, if known."""

    def note(self, endpoint_id: str) -> str:
        """Return the comment after the secret in its file."""
        words = [endpoint_id, self.scope, self.account, f"{_NAME_NOTE}{self.name}", self.url]
        return " ".join(word for word in words if word)

    def params(self) -> Params:
        """Return the parameters of its creation."""
        made = [
            ("url", self.url),
            ("api_version", self.api_version),
            (f"metadata[{MARK}]", self.scope),
            (f"metadata[{NAME_MARK}]", self.name),
            ("description", "stripe-alloy listen"),
            *((f"enabled_events[{n}]", name) for n, name in enumerate(self.events)),
        ]
        return [*made, ("connect", "true")] if self.scope == CONNECTED else made


def event_types(subjects: Collection[str]) -> list[str]:
    """Return Stripe's event types of some subjects, such as `charge` or `customer.subscription`.

    `invoice.upcoming` is excluded, because its invoice does not exist yet.
    """
    shape = (param_type("WebhookEndpointCreateParams").fields or {})["enabled_events"].items
    known = shape.literals if shape else []
    return sorted(
        name for name in known if name.rpartition(".")[0] in subjects and name != "invoice.upcoming"
    )


def receiver_name(given: str | None, secret_file: Path) -> str:
    """Return the given name, or that of the file of secrets; raises `SettingsError`.

    A file with secrets contains the name, so the name stays where the file goes. Without one, it is
    derived from the host and the file's path.
    """
    if given is not None:
        if not _NAME.fullmatch(given):
            raise SettingsError("--name must be up to 40 letters, digits, dots, hyphens")
        return given
    names = [word for words in _notes(secret_file) for word in words if word.startswith(_NAME_NOTE)]
    if names:
        return names[0].removeprefix(_NAME_NOTE)
    place = f"{socket.gethostname()} {secret_file.resolve()}"
    return "r-" + hashlib.sha256(place.encode()).hexdigest()[:12]


def register(transport: StripeClient, wanted: DesiredEndpoint, secret_file: Path) -> str:
    """Create or update the endpoint and store its secret; return a log message.

    An endpoint's version cannot be changed, and its secret cannot be read again. If either is
    needed, a new endpoint is created, and the old one is deleted once the new secret is stored.
    """
    stored = {words[0] for words in _notes(secret_file) if words}
    mine = [endpoint for endpoint in transport.paginate(PATH) if _is_mine(endpoint, wanted, stored)]
    good = [
        endpoint
        for endpoint in mine
        if endpoint["api_version"] == wanted.api_version and endpoint["id"] in stored
    ]
    done = _update(transport, good[0], wanted) if good else _create(transport, wanted, secret_file)
    if good:
        _store(secret_file, note=wanted.note(good[0]["id"]))
    for endpoint in mine:
        if endpoint not in good[:1]:
            transport.request("DELETE", item_path(PATH, endpoint["id"]))
            _store(secret_file, drop=endpoint["id"])
    return done


def _is_mine(
    endpoint: RegisteredEndpoint, wanted: DesiredEndpoint, stored: Collection[str]
) -> bool:
    """Whether this receiver registered it: by its name, or without one, by its secret."""
    metadata = endpoint["metadata"]
    if endpoint["url"] != wanted.url or metadata.get(MARK) != wanted.scope:
        return False
    name = metadata.get(NAME_MARK)
    return bool(name == wanted.name if name else endpoint["id"] in stored)


def _update(transport: StripeClient, endpoint: RegisteredEndpoint, wanted: DesiredEndpoint) -> str:
    same = sorted(endpoint["enabled_events"]) == sorted(wanted.events)
    named = endpoint["metadata"].get(NAME_MARK) == wanted.name
    if same and named and endpoint["status"] == "enabled":
        return f"{endpoint['id']} is up to date"
    params = [("disabled", "false"), (f"metadata[{NAME_MARK}]", wanted.name)]
    params += [(f"enabled_events[{n}]", name) for n, name in enumerate(wanted.events)]
    _post(transport, item_path(PATH, endpoint["id"]), params)
    return f"{endpoint['id']} updated"


def _create(transport: StripeClient, wanted: DesiredEndpoint, secret_file: Path) -> str:
    _store(secret_file)  # fails before there is a secret to store
    endpoint = _post(transport, PATH, wanted.params())
    try:
        _store(secret_file, add=f"{endpoint['secret']}  # {wanted.note(endpoint['id'])}")
    except OSError:
        transport.request("DELETE", item_path(PATH, endpoint["id"]))
        raise
    return f"{endpoint['id']} created"


def _post(transport: StripeClient, path: str, params: Params) -> RegisteredEndpoint:
    key = f"alloy-listen-{uuid.uuid4().hex}"
    found: RegisteredEndpoint = transport.request("POST", path, params, idempotency_key=key).body
    return found


# ---------------------------------------------------------------------- the file of secrets


def _notes(file: Path) -> list[list[str]]:
    """Return the words after each secret; the first is the endpoint's ID."""
    lines = read_text(file).splitlines() if file.exists() else []
    return [line.partition("#")[2].split() for line in lines if line.partition("#")[0].strip()]


def _store(
    file: Path, *, add: str | None = None, drop: str | None = None, note: str | None = None
) -> None:
    """Rewrite the file with a line added, removed or changed for an endpoint.

    Only its owner may read it.
    """
    before = read_text(file).splitlines() if file.exists() else []
    lines = [line for line in before if not drop or drop not in _words_of(line)]
    if note:
        endpoint_id = note.split()[0]
        lines = [_noted(line, note) if endpoint_id in _words_of(line) else line for line in lines]
    lines += [add] if add else []
    if (drop or note) and lines == before:
        return
    new_file = file.with_name(file.name + ".new")
    new_file.unlink(missing_ok=True)
    opened = os.open(new_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in lines)
        out.flush()
        os.fsync(out.fileno())
    new_file.replace(file)


def _words_of(line: str) -> list[str]:
    return line.partition("#")[2].split()


def _noted(line: str, note: str) -> str:
    """Return a line with another comment; words added by a person are kept."""
    added = [
        word
        for word in _words_of(line)
        if word not in note.split() and not word.startswith((_NAME_NOTE, "acct_"))
    ]
    return f"{line.partition('#')[0].rstrip()}  # {' '.join([note, *added])}"
