"""The receiver: verifies events, and answers 200 once they are durable."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.webhooks import inbox as inboxes
from stripe_alloy.webhooks.event_writer import MAX_WAITING_BYTES, NoRoom, Reservation, Room, Writer
from stripe_alloy.webhooks.inbox import Inbox, UnstorableEvent
from stripe_alloy.webhooks.rate_limited_log import Complaints
from stripe_alloy.webhooks.signature import TOLERANCE, SignatureVerificationError, verify
from stripe_alloy.webhooks.signing_secrets import SigningSecret

_logger = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Maximum bytes of a request body; Stripe's events have some kilobytes, rarely hundreds."""
RETRY_AFTER = 10
"""Seconds of `Retry-After` for an event that was turned away."""


class Receiver:
    """An ASGI application with an inbox: `POST /` (or any path) and `GET /healthz`."""

    def __init__(
        self,
        inbox: Inbox,
        secrets: Callable[[], Sequence[SigningSecret]],
        *,
        clock: Callable[[], float] = time.time,
        tolerance: int = TOLERANCE,
        max_body: int = MAX_BODY,
    ) -> None:
        self._secrets = secrets
        self._clock = clock
        self._tolerance = tolerance
        self._max_body = max_body
        self._room = Room(max(MAX_WAITING_BYTES, 2 * max_body))
        self._writer = Writer(inbox, clock, secrets)
        self._complaints = Complaints()
        self._refused = 0
        self.app = Starlette(
            routes=[
                Route("/healthz", self._health, methods=["GET"]),
                Route("/{path:path}", self._receive, methods=["POST"]),
            ],
            lifespan=self._lifespan,
        )

    def begin(self) -> None:
        """Write the first heartbeat; raises `InboxError` if the inbox cannot be written."""
        self._writer.begin()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self._writer.running():
            yield

    async def _health(self, _: Request) -> Response:
        if problem := self._writer.problem:
            return PlainTextResponse(problem, 503)
        return PlainTextResponse("ok")

    # ------------------------------------------------------------------ one request

    async def _receive(self, request: Request) -> Response:
        with self._room.place() as place:
            try:
                body = await self._body(request, place)
            except NoRoom:
                return self._refuse(503, "Too many bytes wait to be written")
            if body is None:
                return self._refuse(413, "The body is too large")
            return await self._received(body, request.headers.get("stripe-signature"))

    async def _received(self, body: bytes, header: str | None) -> Response:
        now = self._clock()
        try:
            known = {one.secret: one for one in self._secrets()}
            signed = verify(body, header, list(known), now=now, tolerance=self._tolerance)
        except SignatureVerificationError as refused:
            return self._refuse(400, str(refused))
        try:
            _, endpoint, account = known[signed]
            row = inboxes.row_of(body, now, account=account, endpoint=endpoint)
        except msgspec.ValidationError as error:  # its message quotes no value
            return self._refuse_event(body, str(error))
        except (msgspec.DecodeError, ValueError):  # its message may quote the body
            return self._refuse_event(body, "")
        try:
            await self._writer.store(row)
        except UnstorableEvent as error:
            return self._refuse_event(body, str(error))
        except AlloyError as error:
            return self._refuse(503, str(error))
        return PlainTextResponse("stored")

    async def _body(self, request: Request, place: Reservation) -> bytes | None:
        """Return the body, or None if it is too large; raises `NoRoom`."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body:
            return None
        body = bytearray()
        with contextlib.suppress(ClientDisconnect):  # an incomplete body fails the signature check
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._max_body:
                    return None
                place.take(len(chunk))
        return bytes(body)

    def _refuse_event(self, body: bytes, why: str) -> Response:
        """Answer 400 to a signed request; the log names it once if it is an event."""
        name = inboxes.name_of(body)
        if not name:
            return self._refuse(400, "Signed, but not an event of Stripe's API")
        self._writer.names.add(name, why or "its JSON cannot be read")
        self._refused += 1
        return PlainTextResponse("not stored", 400)

    def _refuse(self, status: int, why: str) -> Response:
        self._refused += 1
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._writer.interrupt()
        if self._complaints.is_due(f"{status} {why}"):
            _logger.warning(
                "Refused with %d: %s (%d refused so far; further ones are logged once a minute).",
                status,
                why,
                self._refused,
                extra={"limited": True},
            )
        again = status == HTTPStatus.SERVICE_UNAVAILABLE
        return PlainTextResponse(
            "not stored", status, {"Retry-After": str(RETRY_AFTER)} if again else None
        )
