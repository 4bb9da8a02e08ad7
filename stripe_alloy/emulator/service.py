"""Request pipeline: authentication, authorization, routing, faults, errors."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator import expand, reads
from stripe_alloy.emulator.coerce import coerce
from stripe_alloy.emulator.deliveries import RETRIES, Webhooks
from stripe_alloy.emulator.errors import ApiError, invalid, no_account, unrecognized_url
from stripe_alloy.emulator.faults import DEFORMING, Fault, deform, first
from stripe_alloy.emulator.form import nest, pairs
from stripe_alloy.emulator.http_messages import HttpRequest, HttpResponse, RequestLog
from stripe_alloy.emulator.idempotency import Answers, Stored, digest
from stripe_alloy.emulator.listing import Lists
from stripe_alloy.emulator.resources import RESOURCES
from stripe_alloy.emulator.routes import Reading, Route, Table
from stripe_alloy.emulator.seeded_random import SeededRandom
from stripe_alloy.emulator.session import Session
from stripe_alloy.emulator.writes import ROUTES as WRITES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stripe_alloy.emulator.api_keys import Keys
    from stripe_alloy.emulator.clock import Clock
    from stripe_alloy.emulator.faults import Faults
    from stripe_alloy.emulator.rate_limits import Limits
    from stripe_alloy.emulator.store import Store


_VERSION = re.compile(r"^\d{4}-\d{2}-\d{2}(\.[a-z]+)?(; ?[\w=]+)*$")
_NOT_KEPT = frozenset({401, 403, 409, 429})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_logger = logging.getLogger(__name__)


def _refused(error: ApiError, request_id: str) -> HttpResponse:
    return HttpResponse(error.status, _encode(error.body(request_id)), error.headers)


def _given(options: JSON) -> HttpResponse:
    """Return the response of an `answer` fault."""
    body = options.get("body", "")
    content = body.encode() if isinstance(body, str) else _encode(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return HttpResponse(int(options.get("status", 200)), content, content_type=kind)


TABLE = Table((*reads.ROUTES, *WRITES))


LIVE = ":live"
"""Suffix of an account's ID as the owner of its objects in live mode."""


@dataclass(frozen=True)
class Asked:
    """A request that was matched to an endpoint."""

    incoming: HttpRequest
    route: Route
    ids: dict[str, str]
    account: str
    request_id: str
    faults: list[Fault]
    live: bool = False

    @property
    def owner(self) -> str:
        """Return the name under which the store has the objects of the request."""
        # Accounts themselves are the same in both modes.
        apart = self.live and self.route.resource != "account"
        return self.account + LIVE if apart else self.account


@dataclass
class Service:
    """The emulated Stripe without its HTTP server."""

    store: Store
    clock: Clock
    dice: SeededRandom
    keys: Keys
    faults: Faults
    limits: Limits
    platform: str
    accounts: frozenset[str]
    version: str
    account_version: str
    latency: float = 0.0
    unscoped_payment_methods: str = "serve"
    unfiltered_prices: str = "active"
    webhook_retries: Sequence[float] = RETRIES
    revoked: set[str] = field(default_factory=set)
    """Accounts that revoked the platform's access."""
    modes_apart: bool = False
    """Whether live keys read objects of their own; webhooks are those of test mode."""

    def __post_init__(self) -> None:
        self.log = RequestLog()
        self.answers = Answers(self.store)
        self.webhooks = Webhooks(
            self.store, self.clock, self.dice, self.platform, self.version, self.webhook_retries
        )
        self._request_ids = SeededRandom(self.store.size())
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ the outside

    def admits(self, incoming: HttpRequest) -> bool:
        """Return whether to read a request's body: whether its key is valid."""
        try:
            self.keys.check(incoming.key)
        except ApiError:
            return False
        return True

    def answer(self, incoming: HttpRequest) -> HttpResponse:
        """Answer a request; errors become responses."""
        with self._lock:
            request_id = f"req_{self._request_ids.text(14)}"
        account = incoming.headers.get("stripe-account") or self.platform
        met = self.faults.take(incoming.method, incoming.path, incoming.query, account)
        answer = self._spoiled(met) or self._safe(incoming, request_id, met)
        answer.headers = {**self._headers(incoming, request_id), **answer.headers}
        dated = first(met, "date")
        if dated:
            ahead = float(dated.options.get("seconds", 0))
            answer.headers["Date"] = formatdate(self.clock() + ahead, usegmt=True)
        self._withhold(answer, met)
        self.log.add(incoming, 0 if answer.cut else answer.status, request_id)
        return answer

    def _safe(self, incoming: HttpRequest, request_id: str, met: list[Fault]) -> HttpResponse:
        try:
            return self._answer(incoming, request_id, met)
        except ApiError as error:
            return _refused(error, request_id)
        except Exception as bug:
            _logger.exception("%s %s", incoming.method, incoming.path)
            return _refused(ApiError(500, f"Emulator bug: {bug!r}", kind="api_error"), request_id)

    def _spoiled(self, met: list[Fault]) -> HttpResponse | None:
        """Return the response of a fault in place of executing the request."""
        fault = first(met, "cut_before", "garbage", "html", "answer")
        if fault is None:
            return None
        self._pause(met)
        if fault.kind == "cut_before":
            return HttpResponse(0, b"", cut="all")
        if fault.kind == "answer":
            return _given(fault.options)
        if fault.kind == "garbage":
            return HttpResponse(200, b'{"object": "list", "data": [{"id": "ch_')
        page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        return HttpResponse(502, page, content_type="text/html")

    @staticmethod
    def _withhold(answer: HttpResponse, met: list[Fault]) -> None:
        fault = first(met, "cut_after", "truncate")
        if fault is not None:
            answer.cut = "all" if fault.kind == "cut_after" else "half"

    def _headers(self, incoming: HttpRequest, request_id: str) -> dict[str, str]:
        given = incoming.headers
        echoed = {
            "Idempotency-Key": given.get("idempotency-key"),
            "Stripe-Account": given.get("stripe-account"),
        }
        return {
            "Date": self.clock.http_date(),
            "Request-Id": request_id,
            "Stripe-Version": given.get("stripe-version") or self.account_version,
            **{name: value for name, value in echoed.items() if value},
        }

    # ------------------------------------------------------------------ the checks

    def _answer(self, incoming: HttpRequest, request_id: str, met: list[Fault]) -> HttpResponse:
        key = self.keys.check(incoming.key)
        version = incoming.headers.get("stripe-version")
        if version and not _VERSION.match(version):
            raise invalid(f"Invalid Stripe API version: {version}")
        account = incoming.headers.get("stripe-account") or self.platform
        if account not in self.accounts or account in self.revoked:
            raise no_account(key, account)
        found = TABLE.find(incoming.method, incoming.path)
        if found is None:
            raise unrecognized_url(incoming.method, incoming.path)
        route, ids = found
        live = self.modes_apart and "_live_" in key
        asked = Asked(incoming, route, ids, account, request_id, met, live)
        with self.limits.admit(account, f"{route.method} {route.template}"):
            self.keys.allow(key, RESOURCES[route.resource], route.access, account)
            answer = self._dispatch(asked)
        if live:
            answer.body = answer.body.replace(b'"livemode":false', b'"livemode":true')
        return answer

    def _dispatch(self, asked: Asked) -> HttpResponse:
        fault = first(asked.faults, "status")
        if fault is not None and not fault.options.get("executed"):
            self._pause(asked.faults)
            raise fault.error()
        fields = pairs(asked.incoming.form)
        params = coerce(nest(fields), asked.route.shape)
        if asked.route.read is not None:
            self._pause(asked.faults)
            body = self._repeated(asked) or self._read(asked, params)
            return self._deformed(HttpResponse(200, body), asked.faults)
        return self._deformed(self._once(asked, params, fields), asked.faults)

    def _repeated(self, asked: Asked) -> bytes | None:
        """Return an earlier page again if a `cycle` fault makes the list endless."""
        fault = first(asked.faults, "cycle")
        if fault is None:
            return None
        with self._lock:
            given = fault.options.setdefault("given", [])
            number = fault.options["turn"] = fault.options.get("turn", -1) + 1
            if number >= int(fault.options.get("pages", 1)):
                again: bytes = given[number % len(given)]
                return again
        page = _decode(
            self._read(asked, coerce(nest(pairs(asked.incoming.form)), asked.route.shape))
        )
        given.append(_encode({**page, "has_more": True}))
        return bytes(given[-1])

    def _pause(self, met: list[Fault]) -> None:
        delayed = sum(float(f.options.get("seconds", 1)) for f in met if f.kind == "delay")
        if self.latency + delayed > 0:
            time.sleep(self.latency + delayed)

    @staticmethod
    def _deformed(answer: HttpResponse, met: list[Fault]) -> HttpResponse:
        if first(met, *DEFORMING):
            answer.body = _encode(deform(_decode(answer.body), met))
        return answer

    # ------------------------------------------------------------------ reading and writing

    def _read(self, asked: Asked, params: JSON) -> bytes:
        assert asked.route.read is not None  # noqa: S101 - the caller checked it
        delay = self.faults.events_delay()
        lists = Lists(self.store, asked.owner, self.clock(), delay, self.webhooks.undelivered)
        reading = Reading(
            self.store,
            lists,
            asked.owner,
            self.platform,
            asked.incoming.path,
            asked.ids,
            params,
            self.unscoped_payment_methods,
            self.unfiltered_prices,
        )
        return asked.route.read(reading)

    def _once(self, asked: Asked, params: JSON, fields: list[tuple[str, str]]) -> HttpResponse:
        key = asked.incoming.headers.get("idempotency-key")
        if key is None or asked.incoming.method != "POST":
            self._pause(asked.faults)
            return self._execute(asked, params)
        asks = digest(asked.incoming.method, asked.incoming.path, fields)
        with self.answers.reserve(asked.owner, key):
            self._pause(asked.faults)
            stored = self.answers.recall(asked.owner, key, asks, self.clock())
            if stored is not None:
                headers = {"Idempotent-Replayed": "true", "Original-Request": stored.request_id}
                return HttpResponse(stored.status, stored.body, headers)
            with self.store.lock:  # the store stays open between a write and its response
                answer = self._execute(asked, params)
                if answer.status not in _NOT_KEPT:
                    kept = Stored(answer.status, answer.body, asked.request_id)
                    self.answers.remember(asked.owner, key, asks, kept, self.clock())
            return answer

    def _execute(self, asked: Asked, params: JSON) -> HttpResponse:
        wanted = params.pop("expand", [])
        paths = expand.check(asked.route.resource, wanted, in_list=False)
        try:
            result = self._write(asked, params)
        except ApiError as error:
            return _refused(error, asked.request_id)
        if paths:
            result = expand.Expander(self.store, asked.owner).expand(result, paths)
        fault = first(asked.faults, "status")
        if fault is not None:
            return _refused(fault.error(), asked.request_id)
        return HttpResponse(200, _encode(result))

    def session(self, account: str) -> Session:
        """Return a session for one change; use it within a transaction of the store."""
        session = Session(self.store, account, self.dice, int(self.clock()), self.version)
        if self.account_version != self.version:
            session.shape_since = self.account_version
        if not account.endswith(LIVE) and self.webhooks.listening(account):
            session.deliverable = []
        return session

    def deliver(self, session: Session) -> None:
        """Send the events of a committed session to the webhook endpoints."""
        if session.deliverable:
            self.webhooks.enqueue(session.account, session.deliverable)
            session.deliverable = []

    def _write(self, asked: Asked, params: JSON) -> JSON:
        refused = None
        result: JSON = {}
        with self.store.transaction():
            session = self.session(asked.owner)
            key = asked.incoming.headers.get("idempotency-key")
            session.request = {"id": asked.request_id, "idempotency_key": key}
            try:
                result = asked.route.execute(session, asked.ids, params)
            except ApiError as error:
                if not error.keep:
                    raise
                refused = error
            session.flush()
        self.deliver(session)
        if refused is not None:
            raise refused
        return result
