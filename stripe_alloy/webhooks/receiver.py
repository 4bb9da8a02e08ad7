"""The receiver: verifies what Stripe delivers, and answers 200 once it is on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stripe_alloy.errors import AlloyError, SettingsError
from stripe_alloy.webhooks import inbox as inboxes
from stripe_alloy.webhooks.coverage import ALIVE
from stripe_alloy.webhooks.inbox import Inbox
from stripe_alloy.webhooks.signature import TOLERANCE, SignatureRefused, verify

_logger = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Bytes of a request; Stripe's events have some kilobytes, rarely hundreds."""
HEARTBEAT = 1.0
"""Seconds between signs of life."""
SECRET = "whsec_"  # noqa: S105 - how one begins
_TELL_EVERY = 60.0
"""Seconds between log lines about refused requests, of which anybody can send many."""


class Secrets:
    """The signing secrets: some given, some in a file that is read again when it changes.

    The file has one a line; what follows a `#` is for whoever reads it.
    """

    def __init__(self, given: Sequence[str], file: Path | None) -> None:
        self._given = list(given)
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._read: list[str] = []

    def __call__(self) -> list[str]:
        """The secrets that are good now."""
        if self._file:
            with contextlib.suppress(OSError):  # while it is replaced, the last ones count
                found = os.stat(self._file)  # noqa: PTH116 - once a request
                stamp = (found.st_mtime_ns, found.st_ino)
                if stamp != self._stamp:
                    self._read, self._stamp = secrets_in(self._file), stamp
        return [*self._given, *self._read]


def secrets_in(file: Path) -> list[str]:
    """The secrets of a file; `SettingsError` where a line is none."""
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    found = [line for line in lines if line]
    if not all(line.startswith(SECRET) for line in found):
        raise SettingsError(f"{file}: each line must be a signing secret, {SECRET}…")
    return found


class Receiver:
    """An ASGI application around an inbox: `POST /` (or any path) and `GET /healthz`."""

    def __init__(
        self,
        inbox: Inbox,
        secrets: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float] = time.time,
        tolerance: int = TOLERANCE,
        max_body: int = MAX_BODY,
    ) -> None:
        self._inbox = inbox
        self._secrets = secrets
        self._clock = clock
        self._tolerance = tolerance
        self._max_body = max_body
        self._alive_at = 0.0
        self._told_at = 0.0
        self._refused = 0
        self.app = Starlette(
            routes=[
                Route("/healthz", self._health, methods=["GET"]),
                Route("/{path:path}", self._receive, methods=["POST"]),
            ],
            lifespan=self._lifespan,
        )

    # ------------------------------------------------------------------ as long as it is up

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._waiting: list[tuple[Mapping[str, Any], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._session, self._started = uuid.uuid4().hex, self._clock()
        await self._beat()
        tasks = [asyncio.create_task(self._beat_on()), asyncio.create_task(self._write_on())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(AlloyError):
                await self._beat()
            self._disk.shutdown()

    async def _on_disk(self, act: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._disk, act, *arguments)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                await self._beat()
            except AlloyError as error:
                _logger.error("%s Events are refused until it works again.", error)  # noqa: TRY400 - foreseen

    async def _beat(self) -> None:
        await self._on_disk(self._inbox.alive, self._session, self._started)
        self._alive_at = time.monotonic()

    async def _write_on(self) -> None:
        """Put on the disk what came during the last write: few commits, many events."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            failure: AlloyError | None = None
            try:
                await self._on_disk(self._inbox.deliver, [row for row, _ in batch])
            except AlloyError as error:
                failure = error
            for _, kept in batch:
                if kept.done():  # who sent it has gone
                    continue
                if failure:
                    kept.set_exception(failure)
                else:
                    kept.set_result(None)

    async def _keep(self, row: Mapping[str, Any]) -> None:
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((row, kept))
        self._wake.set()
        await kept

    async def _health(self, _: Request) -> Response:
        if time.monotonic() - self._alive_at < ALIVE:
            return PlainTextResponse("ok")
        return PlainTextResponse("the inbox cannot be written", 503)

    # ------------------------------------------------------------------ one request

    async def _receive(self, request: Request) -> Response:
        body = await self._body(request)
        if body is None:
            return self._refuse(413, "The body is too large")
        try:
            header = request.headers.get("stripe-signature")
            now = self._clock()
            verify(body, header, self._secrets(), now=now, tolerance=self._tolerance)
            row = inboxes.row_of(body, now)
        except SignatureRefused as refused:
            return self._refuse(400, str(refused))
        except SettingsError as error:
            return self._refuse(500, str(error))
        except (msgspec.DecodeError, ValueError):  # its message may quote the body
            return self._refuse(400, "Signed, but no event as Stripe's API has them")
        try:
            await self._keep(row)
        except AlloyError as error:
            return self._refuse(503, str(error))
        return PlainTextResponse("kept")

    async def _body(self, request: Request) -> bytes | None:
        """The body, or None if it is too large."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body:
            return None
        body = bytearray()
        with contextlib.suppress(ClientDisconnect):  # what came has no good signature
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._max_body:
                    return None
        return bytes(body)

    def _refuse(self, status: int, why: str) -> Response:
        self._refused += 1
        now = time.monotonic()
        if not self._told_at or now - self._told_at > _TELL_EVERY:
            _logger.warning(
                "Refused with %d: %s (%d refused so far; more are told once a minute).",
                status,
                why,
                self._refused,
            )
            self._told_at = now
        return PlainTextResponse("not kept", status)  # why is nobody's business but ours
