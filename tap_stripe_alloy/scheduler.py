"""Runs readers concurrently: sends their requests, and yields the records that they write.

A reader is a generator (`stripe_alloy.api.requests`). In the tap it may also yield

- `Write`, records for the output: it is resumed once they are written,
- `LocalRead`, a blocking call on this machine, such as a database query, run in a worker thread,
- a `PageSource`, with several pages in flight: it is resumed after the last page.

Worker threads only send requests and parse responses. Readers run in the caller's thread, which
iterates over `Scheduler.run` and writes the batches. While it writes, no new requests are sent: a
slow target slows down the requests, and memory contains only the pages in flight.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from stripe_alloy.api.client import Response, StripeClient
from stripe_alloy.api.requests import Gather, GetRequest
from tap_stripe_alloy.workers import Workers

POLL = 0.5
"""Seconds between checks for a stop signal while waiting for responses."""
USEFUL_RATE = 400.0
"""Requests per second that one process can handle; used if no rate limit is lower."""
BACKLOG = 3
"""Unprocessed responses above which fewer requests are kept in flight."""
LATENCY = 0.3
"""Assumed latency of a response (seconds) before the first one arrives."""

Parts = Sequence[tuple[Any, Sequence[Any]]]
"""(stream partition, its records) pairs."""


@dataclass(frozen=True)
class Write:
    """Records to write."""

    parts: Parts


@dataclass(frozen=True)
class LocalRead:
    """A blocking call on this machine, without a request to Stripe."""

    read: Callable[[], Any]


class PageSource(Protocol):
    """A list with several pages in flight."""

    def next(self) -> TapReader[None] | None:
        """Return a reader of the next page; None until a page in flight allows another one."""

    def left(self) -> Mapping[str, float]:
        """Return stream → estimated pages left to read."""


T = TypeVar("T")
TapReader = Generator[GetRequest | Gather | Write | LocalRead | PageSource, Any, T]


@dataclass(frozen=True)
class Batch:
    """Records to write, and a function to call once they are written."""

    parts: Parts
    written: Callable[[], None]


@dataclass(eq=False)
class _Task:
    """A running reader, and the function that receives its outcome."""

    reader: Generator[Any, Any, Any]
    on_end: Callable[[Any], None]
    """Called with its result, or with the exception that it raised."""
    parts: list[_Task] = field(default_factory=list)
    """The tasks that it waits for."""
    canceled: bool = False

    def cancel(self) -> None:
        """End the task, and all tasks that it waits for, without an outcome."""
        self.canceled = True
        for part in self.parts:
            part.cancel()


@dataclass(eq=False)
class _Pages:
    """A page source that is being read, and the task that waits for its end."""

    task: _Task
    source: PageSource


class Scheduler:
    """Runs readers concurrently."""

    def __init__(
        self, transport: StripeClient, *, max_concurrency: int, stopped: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._max_concurrency = max_concurrency
        self._stopped = stopped
        self._ready: deque[tuple[_Task, Any]] = deque()
        """Tasks to resume, with the outcome that they waited for."""
        self._reads: deque[tuple[_Task, GetRequest | LocalRead]] = deque()
        """Reads to send as soon as fewer than `_limit` are in flight."""
        self._writes: deque[tuple[_Task, Write]] = deque()
        self._sources: deque[_Pages] = deque()
        self._outcomes: SimpleQueue[tuple[_Task, Any]] = SimpleQueue()
        self._in_flight = 0
        self._latency = LATENCY
        self._limit = max_concurrency

    def run(self, readers: Iterable[TapReader[None]]) -> Iterator[Batch]:
        """Yield batches in the order in which their pages arrive; raise what a reader raises.

        Empty batches are yielded while no response arrives, so that the caller can report progress.
        """
        pool = Workers(self._max_concurrency)
        try:
            for reader in readers:
                self._start(reader, _raise)
            self._fill(pool)
            yield from self._write_batches(pool)
            while self._in_flight and not self._stopped():
                try:
                    task, outcome = self._outcomes.get(timeout=POLL)
                except Empty:
                    yield Batch((), lambda: None)
                    continue
                if self._stopped():
                    return  # the outcome may be the error of a canceled request
                self._handle_outcome(task, outcome)
                self._fill(pool)
                yield from self._write_batches(pool)
        finally:
            pool.stop()

    def left(self) -> Mapping[str, float]:
        """Return stream → estimated pages left to read."""
        found: defaultdict[str, float] = defaultdict(float)
        for pages in self._sources:
            for stream, count in pages.source.left().items():
                found[stream] += count
        return found

    def _write_batches(self, pool: Workers) -> Iterator[Batch]:
        while self._writes:
            task, write = self._writes.popleft()
            yield Batch(write.parts, partial(self._resume, task, None))
            self._fill(pool)

    def _handle_outcome(self, task: _Task, outcome: Any) -> None:
        self._in_flight -= 1
        if isinstance(outcome, Response):
            self._latency += (outcome.seconds - self._latency) / 8
        self._adjust_limit()
        self._ready.append((task, outcome))

    def _adjust_limit(self) -> None:
        """Adapt the number of requests in flight to the speed of the consumer."""
        waiting = self._outcomes.qsize()
        if waiting > BACKLOG:
            self._limit = max(BACKLOG, self._limit - 1)
        elif not waiting:
            self._limit = min(self._max_concurrency, self._limit + 1)

    # Tasks

    def _start(self, reader: Generator[Any, Any, Any], on_end: Callable[[Any], None]) -> _Task:
        task = _Task(reader, on_end)
        self._ready.append((task, None))
        return task

    def _resume(self, task: _Task, outcome: Any) -> None:
        self._ready.append((task, outcome))
        self._run_ready()

    def _run_ready(self) -> None:
        """Run ready tasks until each of them waits for something."""
        while self._ready:
            task, outcome = self._ready.popleft()
            if not task.canceled:
                self._run(task, outcome)

    def _run(self, task: _Task, outcome: Any) -> None:
        """Resume a reader with the outcome that it waited for; raise it there if it is an error."""
        try:
            if isinstance(outcome, BaseException):
                wanted = task.reader.throw(outcome)
            else:
                wanted = task.reader.send(outcome)
        except StopIteration as end:
            task.on_end(end.value)
        except BaseException as error:  # noqa: BLE001 - raised in the reader that waits for it
            task.on_end(error)
        else:
            self._wait_for(task, wanted)

    def _wait_for(
        self, task: _Task, wanted: GetRequest | Gather | Write | LocalRead | PageSource
    ) -> None:
        if isinstance(wanted, GetRequest | LocalRead):
            self._reads.append((task, wanted))
        elif isinstance(wanted, Write):
            self._writes.append((task, wanted))
        elif isinstance(wanted, Gather):
            self._gather(task, wanted.readers)
        else:
            self._sources.append(_Pages(task, wanted))

    def _gather(self, task: _Task, readers: Sequence[Generator[Any, Any, Any]]) -> None:
        """Run readers concurrently; the first error cancels the others."""
        results: list[Any] = [None] * len(readers)
        left = set(range(len(readers)))

        def on_end(number: int, outcome: Any) -> None:
            left.discard(number)
            results[number] = outcome
            if isinstance(outcome, BaseException):
                self._fail(task, outcome)
            elif not left:
                self._resume_later(task, results)

        task.parts = [self._start(one, partial(on_end, at)) for at, one in enumerate(readers)]
        if not readers:
            self._resume_later(task, results)

    def _fail(self, task: _Task, error: BaseException) -> None:
        for part in task.parts:
            part.cancel()
        self._sources = deque(pages for pages in self._sources if not pages.task.canceled)
        self._resume_later(task, error)

    def _resume_later(self, task: _Task, outcome: Any) -> None:
        task.parts = []
        self._ready.append((task, outcome))

    # Requests

    def _fill(self, pool: Workers) -> None:
        """Send requests up to the limit: those of readers first, then a page of each source."""
        self._run_ready()
        while self._in_flight < self._limit:
            if self._reads:
                self._send(pool, *self._reads.popleft())
            elif not self._open_page():
                return

    def _open_page(self) -> bool:
        """Start a page of the source that waited longest; False if none started or ended."""
        for _ in range(len(self._sources)):
            pages = self._sources[0]
            self._sources.rotate(-1)
            if len(pages.task.parts) >= self._max_per_source():
                continue
            reader = pages.source.next()
            if reader:
                self._start_page(pages, reader)
                return True
            if not pages.task.parts:
                self._sources.remove(pages)
                self._resume(pages.task, None)
                return True
        return False

    def _start_page(self, pages: _Pages, reader: TapReader[None]) -> None:
        def on_end(outcome: Any) -> None:
            pages.task.parts.remove(page)
            if isinstance(outcome, BaseException):
                self._sources.remove(pages)
                self._fail(pages.task, outcome)

        page = self._start(reader, on_end)
        pages.task.parts.append(page)
        self._run_ready()

    def _max_per_source(self) -> int:
        """Return the useful number of pages in flight per source: rate limit times latency."""
        rate = min(self._transport.budget.ceiling_of_endpoint, USEFUL_RATE)
        return math.ceil(rate * self._latency * 1.25) + 1

    def _send(self, pool: Workers, task: _Task, read: GetRequest | LocalRead) -> None:
        if not task.canceled:
            self._in_flight += 1
            pool.submit(partial(self._fetch, task, read))

    def _fetch(self, task: _Task, read: GetRequest | LocalRead) -> None:
        outcome: Any
        try:
            outcome = read.send(self._transport) if isinstance(read, GetRequest) else read.read()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome = error
        self._outcomes.put((task, outcome))


def _raise(outcome: Any) -> None:
    """Raise the error of a reader, which ends the run."""
    if isinstance(outcome, BaseException):
        raise outcome
