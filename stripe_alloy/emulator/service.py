"""Request pipeline: authentication, authorization, routing, faults, errors."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator import api_versions, expand, reads, searches
from stripe_alloy.emulator.coerce import coerce
from stripe_alloy.emulator.deliveries import RETRIES, Webhooks
from stripe_alloy.emulator.emulated_types import RESOURCES
from stripe_alloy.emulator.errors import ApiError, no_account, unrecognized_url
from stripe_alloy.emulator.faults import DEFORMING, Fault, deform, first
from stripe_alloy.emulator.form import nest, pairs
from stripe_alloy.emulator.http_messages import HttpRequest, HttpResponse, RequestLog
from stripe_alloy.emulator.idempotency import Answers, Stored, digest
from stripe_alloy.emulator.listing import Lists
from stripe_alloy.emulator.routes import ReadHandler, Reading, Route, Table
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


_NOT_KEPT = frozenset({401, 403, 409, 429})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_logger = logging.getLogger(__name__)


def _error_response(error: ApiError, request_id: str) -> HttpResponse:
    return HttpResponse(error.status, _encode(error.body(request_id)), error.headers)


def _faulty_answer(options: JSON) -> HttpResponse:
    """Return the response of an `answer` fault."""
    body = options.get("body", "")
    content = body.encode() if isinstance(body, str) else _encode(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return HttpResponse(int(options.get("status", 200)), content, content_type=kind)


TABLE = Table((*reads.ROUTES, *searches.ROUTES, *WRITES))


LIVE = ":live"
"""Suffix of an account's ID as the owner of its objects in live mode."""


@dataclass(frozen=True)
class ApiCall:
    """A request that was matched to an endpoint."""

    incoming: HttpRequest
    route: Route
    ids: dict[str, str]
    account: str
    request_id: str
    faults: list[Fault]
    version: str
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
            self.store, self.clock, self.dice, self.platform, self.webhook_retries
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
        faults = self.faults.take(incoming.method, incoming.path, incoming.query, account)
        answer = self._fault_response(faults) or self._answer_or_error(incoming, request_id, faults)
        answer.headers = {**self._headers(incoming, request_id), **answer.headers}
        dated = first(faults, "date")
        if dated:
            ahead = float(dated.options.get("seconds", 0))
            answer.headers["Date"] = formatdate(self.clock() + ahead, usegmt=True)
        self._cut(answer, faults)
        self.log.add(incoming, 0 if answer.cut else answer.status, request_id)
        return answer

    def _answer_or_error(
        self, incoming: HttpRequest, request_id: str, faults: list[Fault]
    ) -> HttpResponse:
        try:
            return self._answer(incoming, request_id, faults)
        except ApiError as error:
            return _error_response(error, request_id)
        except Exception as bug:
            _logger.exception("%s %s", incoming.method, incoming.path)
            return _error_response(
                ApiError(500, f"Emulator bug: {bug!r}", kind="api_error"), request_id
            )

    def _fault_response(self, faults: list[Fault]) -> HttpResponse | None:
        """Return the response of a fault in place of executing the request."""
        fault = first(faults, "cut_before", "garbage", "html", "answer")
        if fault is None:
            return None
        self._pause(faults)
        if fault.kind == "cut_before":
            return HttpResponse(0, b"", cut="all")
        if fault.kind == "answer":
            return _faulty_answer(fault.options)
        if fault.kind == "garbage":
            return HttpResponse(200, b'{"object": "list", "data": [{"id": "ch_')
        page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        return HttpResponse(502, page, content_type="text/html")

    @staticmethod
    def _cut(answer: HttpResponse, faults: list[Fault]) -> None:
        fault = first(faults, "cut_after", "truncate")
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

    def _answer(self, incoming: HttpRequest, request_id: str, faults: list[Fault]) -> HttpResponse:
        key = self.keys.check(incoming.key)
        header = incoming.headers.get("stripe-version")
        version = api_versions.check(header) if header else self.account_version
        account = incoming.headers.get("stripe-account") or self.platform
        if account not in self.accounts or account in self.revoked:
            raise no_account(key, account)
        found = TABLE.find(incoming.method, incoming.path)
        if found is None:
            raise unrecognized_url(incoming.method, incoming.path)
        route, ids = found
        live = self.modes_apart and "_live_" in key
        call = ApiCall(incoming, route, ids, account, request_id, faults, version, live)
        with self.limits.admit(account, f"{route.method} {route.template}"):
            self.keys.allow(key, RESOURCES[route.resource], route.access, account)
            answer = self._dispatch(call)
        self._render(answer, version, call.owner)
        if live:
            answer.body = answer.body.replace(b'"livemode":false', b'"livemode":true')
        return answer

    def _render(self, answer: HttpResponse, version: str, owner: str) -> None:
        """Render a response in the version that the request asks for."""
        if version < api_versions.CLOVER:
            coupon_of = expand.Expander(self.store, owner).coupon
            body = api_versions.response_as_of(version, _decode(answer.body), coupon_of)
            answer.body = _encode(body)

    def _dispatch(self, call: ApiCall) -> HttpResponse:
        fault = first(call.faults, "status")
        if fault is not None and not fault.options.get("executed"):
            self._pause(call.faults)
            raise fault.error()
        fields = pairs(call.incoming.form)
        given = api_versions.params_of(call.version, call.route.resource, nest(fields))
        params = coerce(given, call.route.shape)
        read = call.route.read
        if read is not None:
            self._pause(call.faults)
            reading = self._reading(call, params)
            body = self._endless_page(call, reading, read) or read(reading)
            return self._deformed(HttpResponse(200, body), call.faults)
        return self._deformed(self._idempotent(call, params, fields), call.faults)

    def _endless_page(self, call: ApiCall, reading: Reading, read: ReadHandler) -> bytes | None:
        """Return an earlier page again if a `cycle` fault makes the list endless."""
        fault = first(call.faults, "cycle")
        if fault is None:
            return None
        with self._lock:
            given = fault.options.setdefault("given", [])
            number = fault.options["turn"] = fault.options.get("turn", -1) + 1
            if number >= int(fault.options.get("pages", 1)):
                again: bytes = given[number % len(given)]
                return again
        given.append(_encode({**_decode(read(reading)), "has_more": True}))
        return bytes(given[-1])

    def _pause(self, faults: list[Fault]) -> None:
        delayed = sum(float(f.options.get("seconds", 1)) for f in faults if f.kind == "delay")
        if self.latency + delayed > 0:
            time.sleep(self.latency + delayed)

    @staticmethod
    def _deformed(answer: HttpResponse, faults: list[Fault]) -> HttpResponse:
        if first(faults, *DEFORMING):
            answer.body = _encode(deform(_decode(answer.body), faults))
        return answer

    # ------------------------------------------------------------------ reading and writing

    def _reading(self, call: ApiCall, params: JSON) -> Reading:
        delay = self.faults.delay_of("late_events")
        lists = Lists(self.store, call.owner, self.clock(), delay, self.webhooks.undelivered)
        return Reading(
            self.store,
            lists,
            call.owner,
            self.platform,
            call.incoming.path,
            call.ids,
            params,
            self.unscoped_payment_methods,
            self.unfiltered_prices,
            self.faults.delay_of("late_search"),
        )

    def _idempotent(
        self, call: ApiCall, params: JSON, fields: list[tuple[str, str]]
    ) -> HttpResponse:
        key = call.incoming.headers.get("idempotency-key")
        if key is None or call.incoming.method != "POST":
            self._pause(call.faults)
            return self._execute(call, params)
        request_digest = digest(call.incoming.method, call.incoming.path, fields)
        with self.answers.reserve(call.owner, key):
            self._pause(call.faults)
            stored = self.answers.recall(call.owner, key, request_digest, self.clock())
            if stored is not None:
                headers = {"Idempotent-Replayed": "true", "Original-Request": stored.request_id}
                return HttpResponse(stored.status, stored.body, headers)
            with self.store.lock:  # the store stays open between a write and its response
                answer = self._execute(call, params)
                if answer.status not in _NOT_KEPT:
                    kept = Stored(answer.status, answer.body, call.request_id)
                    self.answers.remember(call.owner, key, request_digest, kept, self.clock())
            return answer

    def _execute(self, call: ApiCall, params: JSON) -> HttpResponse:
        expand_paths = params.pop("expand", [])
        paths = expand.check(call.route.resource, expand_paths, in_list=False)
        try:
            result = self._write(call, params)
        except ApiError as error:
            return _error_response(error, call.request_id)
        if paths:
            result = expand.Expander(self.store, call.owner).expand(result, paths)
        fault = first(call.faults, "status")
        if fault is not None:
            return _error_response(fault.error(), call.request_id)
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

    def _write(self, call: ApiCall, params: JSON) -> JSON:
        refusal = None
        result: JSON = {}
        with self.store.transaction():
            session = self.session(call.owner)
            key = call.incoming.headers.get("idempotency-key")
            session.request = {"id": call.request_id, "idempotency_key": key}
            try:
                result = call.route.execute(session, call.ids, params)
            except ApiError as error:
                if not error.keep:
                    raise
                refusal = error
            session.flush()
        self.deliver(session)
        if refusal is not None:
            raise refusal
        return result
