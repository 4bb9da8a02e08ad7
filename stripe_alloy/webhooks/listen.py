"""`stripe-alloy listen`: the receiver as a server, and its registration in Stripe."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.errors import (
    AlloyError,
    MissingPermissionError,
    NotFoundError,
    SettingsError,
    StripeError,
)
from stripe_alloy.api.events import EVENT
from stripe_alloy.api.object_types import BY_NAME, OBJECT_TYPES
from stripe_alloy.api.responses import OneObject
from stripe_alloy.connection import Connection
from stripe_alloy.connection_settings import ConnectionSettings, check_key
from stripe_alloy.singer_main import discreet
from stripe_alloy.webhooks.connections import (
    ACCEPTED_AT_ONCE,
    HEADER_BYTES,
    Connections,
    connections_allowed,
)
from stripe_alloy.webhooks.inbox import CONNECTED, OWN, Inbox
from stripe_alloy.webhooks.rate_limited_log import ComplaintFilter
from stripe_alloy.webhooks.receiver import Receiver
from stripe_alloy.webhooks.registration import (
    EVERY,
    DesiredEndpoint,
    event_types,
    receiver_name,
    register,
)
from stripe_alloy.webhooks.signing_secrets import VARIABLE, Secrets, secrets_given, secrets_in

_ACCOUNT = re.compile(r"\bacct_\w+")
BACKLOG = 1024
GRACE = 10
"""Seconds that requests in progress have to finish at the end."""


def secrets_from(env: Mapping[str, str], file: Path | None, *, later: bool) -> Secrets:
    """Return the signing secrets; `later` accepts none, because --register will add one.

    Raises `SettingsError` if there is none, or one is invalid.
    """
    given = secrets_given(env)
    stored = secrets_in(file) if file and file.exists() else []
    if not (given or stored or later):
        raise SettingsError(
            f"No signing secret: set {VARIABLE}, give --secret-file, or let --register get one"
        )
    return Secrets(given, file)


def serve(inbox: Inbox, secrets: Secrets, options: Options, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; raises an `AlloyError` if it cannot start.

    `started` is called with the receiver's URL, in a thread of its own.
    """
    receiver = Receiver(inbox, secrets, tolerance=options.tolerance, max_body=options.max_body)
    connections = Connections(connections_allowed())
    config = uvicorn.Config(
        receiver.app,
        http=connections.protocol,  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        backlog=ACCEPTED_AT_ONCE,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=GRACE,
    )
    server = uvicorn.Server(config)
    listening = _listening_at(options.host, options.port)
    receiver.begin()
    url = f"http://{options.host}:{listening.getsockname()[1]}"
    for name in (signal.SIGINT, signal.SIGTERM):  # uvicorn replaces these while it serves
        signal.signal(name, lambda *_: None)
    failures: list[BaseException] = []

    def begin() -> None:
        while not server.started and not server.should_exit:
            if done.wait(0.02):
                return
        listening.listen(BACKLOG)  # connections that wait; fewer are accepted at once
        try:
            started(url)
        except (AlloyError, OSError) as error:
            failures.append(error)
            server.should_exit = True

    done = threading.Event()
    beginning = threading.Thread(target=begin, daemon=True)
    beginning.start()
    with listening:
        server.run(sockets=[listening])
    done.set()
    if failures:
        raise failures[0]
    if not server.started:
        raise AlloyError("The receiver could not start: see the log above.")


def _listening_at(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such host"
        raise AlloyError(f"Cannot listen on {host}:{port}: {reason}") from None
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or answers wait for 40 ms
    return found


@dataclass(frozen=True)
class Options:
    """The command's options."""

    connection: ConnectionSettings | None
    account_ids: Sequence[str]
    """Accounts to receive events of; empty for the key's own."""
    inbox: str | None
    host: str
    port: int
    secret_file: Path | None
    register: str | None
    streams: Sequence[str]
    tolerance: int
    max_body: int
    name: str | None = None


def listen(options: Options, say: Callable[[str], None]) -> None:
    """Run the command; raises an `AlloyError` or `OSError` that says what to do."""
    connection = options.connection
    if not options.inbox:
        raise SettingsError("No inbox: give --inbox, or a --config with `webhook_inbox`")
    if options.register and not (connection and options.secret_file):
        raise SettingsError(
            "--register needs --config with the `api_key`, and --secret-file to store the secret in"
        )
    _log_to_stderr()
    if options.register and not re.fullmatch(r"https?://[^\s@]+", options.register):
        raise SettingsError("--register must be the URL that Stripe is to deliver to, https://…")
    secrets = secrets_from(os.environ, options.secret_file, later=bool(options.register))
    name = receiver_name(options.name, options.secret_file) if options.secret_file else ""
    inbox = Inbox(options.inbox)

    def started(at: str) -> None:
        say(f"Listening at {at}/ for Stripe's webhooks, {at}/healthz is the health check.")
        if options.register and connection and options.secret_file:
            url, file = options.register, options.secret_file
            for done in register_all(connection, options, url, file, name):
                say(done)

    try:
        serve(inbox, secrets, options, started)
    finally:
        inbox.close()


def _log_to_stderr() -> None:
    """Log the warnings of all libraries, one line per minute and kind."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(ComplaintFilter())
    handler.addFilter(discreet)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def register_all(
    settings: ConnectionSettings, options: Options, url: str, secret_file: Path, name: str
) -> Iterator[str]:
    """Register the endpoints for the streams and accounts; yield log lines."""
    check_key(settings)
    connection = Connection(
        api_key=settings.api_key,
        api_url=settings.api_url,
        api_version=settings.api_version,
        max_requests_per_second=settings.max_requests_per_second,
        max_concurrency=1,
        read_only=False,
    )
    events = events_of(options.streams)
    try:
        own = own_account(connection.transport)
        for scope in _scopes(options.account_ids, own):
            wanted = DesiredEndpoint(url, scope, events, settings.api_version, name, own)
            done = register(connection.transport, wanted, secret_file)
            yield f"Webhook endpoint for {scope} account{'s' * (scope == CONNECTED)}: {done}."
    except StripeError as error:
        raise AlloyError(
            f"The webhook endpoint cannot be registered: {error.failure}. The key needs "
            "'Webhook Endpoints: write', and the URL must be one that Stripe can reach."
        ) from None
    finally:
        connection.close()


def own_account(transport: StripeClient) -> str | None:
    """Return the ID of the key's own account, which an error response contains as well."""
    try:
        return str(transport.get("/v1/account", expected=OneObject("account")).body["id"])
    except (MissingPermissionError, NotFoundError) as error:
        named = _ACCOUNT.search(error.failure.message)
        return named.group() if named else None


def _scopes(account_ids: Sequence[str], own: str | None) -> list[str]:
    if not account_ids:
        return [OWN]
    others = [account for account in account_ids if account != own]
    return [OWN] * (own in account_ids) + [CONNECTED] * bool(others)


def events_of(streams: Sequence[str]) -> list[str]:
    """Return the event types that streams need; all types for `events`."""
    for name in streams:
        if name not in BY_NAME:
            raise SettingsError(f"Unknown stream {name!r}: one of {', '.join(BY_NAME)}")
    chosen = [BY_NAME[name] for name in streams] or list(OBJECT_TYPES)
    if any(stream.object_name == EVENT for stream in chosen):
        return [EVERY]
    return event_types(
        {prefix for stream in chosen for prefix in stream.event_source.event_prefixes}
    )
