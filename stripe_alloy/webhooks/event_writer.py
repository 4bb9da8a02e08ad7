"""The task that writes events in batches, and the receiver's heartbeat with them.

The receiver's health and uptime depend on this task alone: the receiver is up while it writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stripe_alloy.api.errors import AlloyError
from stripe_alloy.database import MOST
from stripe_alloy.webhooks.coverage import HEARTBEAT_TTL
from stripe_alloy.webhooks.inbox import EventRow, Inbox, InboxError, UnstorableEvent
from stripe_alloy.webhooks.rate_limited_log import Complaints
from stripe_alloy.webhooks.signing_secrets import SigningSecret

_logger = logging.getLogger(__name__)

HEARTBEAT = 1.0
"""Seconds between heartbeats."""
ANSWER_SECONDS = 25.0
"""Seconds that an event may wait to be written; then Stripe is asked to send it again."""
STOP_SECONDS = 10.0
"""Seconds to write the remaining events at the end."""
MAX_WAITING_BYTES = 64 << 20
"""Maximum bytes of bodies that arrive or wait; beyond, Stripe is asked to send again."""
BATCH_BYTES = 8 << 20
"""Maximum bytes of bodies per transaction."""
_REQUEST_BYTES = 2_048
"""Bytes that a request needs in addition to its body."""
_MAX_NAMES = 10_000
_NAMES_A_LINE = 20


class NoRoom(Exception):
    """The limit of waiting bytes is reached."""


class Room:
    """Limits the bytes in memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._reserved = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[Reservation]:
        """Reserve memory for one request, which grows with its body, until the block ends."""
        place = Reservation(self)
        try:
            yield place
        finally:
            self._reserved -= place.size

    def take(self, size: int) -> None:
        """Reserve bytes; raises `NoRoom`."""
        if self._reserved + size > self._most:
            raise NoRoom
        self._reserved += size


class Reservation:
    """The memory of one request."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def take(self, size: int) -> None:
        """Reserve more bytes; raises `NoRoom`."""
        size += 0 if self.size else _REQUEST_BYTES
        self._room.take(size)
        self.size += size


class Names:
    """Logs events that cannot be stored: each once, one line per minute and reason."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._complaints = Complaints()
        self._gathered: dict[str, list[str]] = {}

    def add(self, name: str, why: str) -> None:
        """Add an event that was refused."""
        if name in self._known:
            return
        self._known[name] = None
        if len(self._known) > _MAX_NAMES:
            self._known.popitem(last=False)
        self._gathered.setdefault(why, []).append(name)
        self.log()

    def log(self) -> None:
        """Log the collected events, if the last line is a minute old."""
        for why in [why for why in self._gathered if self._complaints.is_due(why)]:
            names = self._gathered.pop(why)
            more = len(names) - _NAMES_A_LINE
            _logger.warning(
                "Refused with 400, since it cannot be stored (%s): %s%s.",
                why,
                ", ".join(names[:_NAMES_A_LINE]),
                f" and {more} more" if more > 0 else "",
                extra={"limited": True},
            )


_Result = asyncio.Future[None]


class Writer:
    """Writes the events given to `store`, and a heartbeat every second.

    A session is a period in which every event was stored. It ends when one could not be, and the
    next one starts once that event can be written.
    """

    def __init__(
        self,
        inbox: Inbox,
        clock: Callable[[], float],
        secrets: Callable[[], Sequence[SigningSecret]],
    ) -> None:
        self._inbox = inbox
        self._clock = clock
        self._secrets = secrets
        self._endpoints: dict[str, str] = {}
        self.names = Names()
        self._complaints = Complaints()
        self._waiting: OrderedDict[_Result, EventRow] = OrderedDict()
        self._failed_row: EventRow | None = None
        self._failure: str | None = None
        self._interrupted = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._heartbeat_at = float("-inf")  # monotonic
        self._noted_at = 0.0  # the inbox's clock
        self._new_session()

    def _new_session(self) -> None:
        self._session, self._started = uuid.uuid4().hex, self._clock()
        self._interrupted = False

    # ------------------------------------------------------------------ for the receiver

    def begin(self) -> None:
        """Write the first heartbeat; raises `InboxError`."""
        self._endpoints = self._known_endpoints()
        self._inbox.add_endpoints(self._endpoints)
        self._new_session()
        self._write_heartbeat()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write during the block, and the remaining events at its end."""
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._writer_loop(), name="inbox writer")
        self._task.add_done_callback(self._ended)
        try:
            yield
        finally:
            self._stopping = True
            self._wake.set()
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            self._task.cancel()
            self._disk.shutdown(wait=False)

    @property
    def problem(self) -> str | None:
        """The current error in one line; None if there is none."""
        if self._task is None or self._task.done():
            return "the writer has ended"
        if self._failure:
            return "the inbox cannot be written"
        if time.monotonic() - self._heartbeat_at >= HEARTBEAT_TTL:
            return "the inbox has not been written for too long"
        return None

    def interrupt(self) -> None:
        """Note that an event was rejected: this period does not count as covered."""
        self._interrupted = True

    async def store(self, row: EventRow) -> None:
        """Write an event; it is durable on return.

        Raises `UnstorableEvent` if the event cannot be stored, `InboxError` if Stripe must send it
        again.
        """
        if self._task is None or self._task.done():
            raise InboxError("The writer has ended")
        result = asyncio.get_running_loop().create_future()
        self._waiting[result] = row
        self._wake.set()
        try:
            await asyncio.wait_for(result, ANSWER_SECONDS)
        except asyncio.TimeoutError:
            self._waiting.pop(result, None)
            raise InboxError("The inbox takes too long") from None

    # ------------------------------------------------------------------ the task

    async def _writer_loop(self) -> None:
        next_heartbeat = time.monotonic() + HEARTBEAT
        while True:
            if not self._waiting:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(
                        self._wake.wait(), max(0.0, next_heartbeat - time.monotonic())
                    )
            self._wake.clear()
            await self._write_batch()
            ends = self._stopping and not self._waiting
            if ends or time.monotonic() >= next_heartbeat:
                await self._send_heartbeat()
                self.names.log()
                next_heartbeat = time.monotonic() + HEARTBEAT
            if ends:
                return

    async def _write_batch(self) -> None:
        batch = self._batch()
        if not batch:
            return
        rows = [row for _, row in batch]
        if any(row["endpoint"] not in self._endpoints for row in rows):
            # A new secret: the session that covers it begins with its first event.
            await self._send_heartbeat()
        failures: list[AlloyError | None]
        try:
            failures = list(await self._on_disk(self._inbox.deliver_each, rows))
        except Exception as error:  # noqa: BLE001 - the writer must survive
            failures = [self._unforeseen(error)] * len(batch)
        for (result, row), failure in zip(batch, failures, strict=True):
            if failure and not isinstance(failure, UnstorableEvent):
                self._fails(failure, row)
            if result.done():  # it took too long
                continue
            if failure:
                result.set_exception(failure)
            else:
                result.set_result(None)

    def _batch(self) -> list[tuple[_Result, EventRow]]:
        batch: list[tuple[_Result, EventRow]] = []
        size = 0
        while self._waiting and len(batch) < MOST and size < BATCH_BYTES:
            batch.append(self._waiting.popitem(last=False))
            size += len(batch[-1][1]["body"])
        return batch

    async def _send_heartbeat(self) -> None:
        try:
            if not await self._recovered():
                return
            late = (
                self._clock() - self._noted_at > HEARTBEAT_TTL
            )  # it was stopped, or a write took long
            endpoints = self._known_endpoints()
            if endpoints != self._endpoints:
                await self._on_disk(self._inbox.add_endpoints, endpoints)
                self._endpoints, self._interrupted = endpoints, True
            if self._interrupted or late:
                self._new_session()
            await self._on_disk(self._write_heartbeat)
            self._failure = None
        except AlloyError as error:
            self._fails(error)
        except Exception as error:  # noqa: BLE001 - the writer must survive
            self._fails(self._unforeseen(error))

    async def _recovered(self) -> bool:
        """Whether the event that failed can be written now."""
        if self._failed_row is None:
            return True
        [failure] = await self._on_disk(self._inbox.deliver_each, [self._failed_row])
        if failure and not isinstance(failure, UnstorableEvent):
            self._fails(failure)
            return False
        self._failed_row = None
        return True

    def _fails(self, error: AlloyError, row: EventRow | None = None) -> None:
        self._failure = str(error)
        self._failed_row = self._failed_row or row
        self._interrupted = True
        if self._complaints.is_due(str(error)):
            _logger.error(
                "%s Events are rejected until it works again.", error, extra={"limited": True}
            )

    def _unforeseen(self, error: Exception) -> AlloyError:
        kind = type(error).__name__
        if self._complaints.is_due(kind):
            _logger.error("The inbox fails unexpectedly.", exc_info=error, extra={"limited": True})
        return InboxError(f"The inbox fails: {kind}")

    def _known_endpoints(self) -> dict[str, str]:
        """Return endpoint → account of the endpoints whose secrets are known."""
        found: dict[str, str] = {}
        for one in self._secrets():
            found[one.endpoint] = one.account or found.get(one.endpoint, "")
        return found

    def _write_heartbeat(self) -> None:
        self._inbox.heartbeat(self._session, self._started, endpoints=self._endpoints)
        self._heartbeat_at, self._noted_at = time.monotonic(), self._clock()

    async def _on_disk(self, act: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._disk, act, *arguments)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Fail all waiting events, because the writer has ended."""
        if not self._stopping:
            _logger.critical("The writer has ended: no event is stored until a restart.")
        while self._waiting:
            result, _ = self._waiting.popitem(last=False)
            if not result.done():
                result.set_exception(InboxError("The writer has ended"))
        if not task.cancelled():
            task.exception()
