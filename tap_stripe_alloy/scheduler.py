"""Runs readers: sends their requests side by side, and hands over what they write.

A reader is a generator (`stripe_alloy.api.requests`). In the tap it may also yield

- `Write`, records for the output: it is resumed once they are written,
- `LocalRead`, something to look up on this machine, beside the main thread,
- a `PageSource`, whose pages are read several at a time: it is resumed after the last of them.

The pool only sends and parses. Readers run in the caller's thread, that of whoever iterates over
`Scheduler.run` and writes the batches. While it writes, no new requests are sent: a slow consumer
of our output slows the requests down, and memory holds no more than the pages in flight.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from stripe_alloy.api.client import Response, StripeClient
from stripe_alloy.api.requests import Gather, GetRequest
from tap_stripe_alloy.workers import Workers

POLL = 0.5
"""Seconds after which a waiting run checks whether it was asked to stop."""
USEFUL_RATE = 400.0
"""Requests a second that one process can handle; where nothing limits them, more only wait."""
BACKLOG = 3
"""Responses that may wait for us before fewer are asked for at a time."""
LATENCY = 0.3
"""Seconds that a response is expected to take before the first arrived."""

Parts = Sequence[tuple[Any, Sequence[Any]]]
"""(stream partition, its records)."""


@dataclass(frozen=True)
class Write:
    """Records to write."""

    parts: Parts


@dataclass(frozen=True)
class LocalRead:
    """Something to look up on this machine; no request is sent."""

    read: Callable[[], Any]


class PageSource(Protocol):
    """A list that is read several pages at a time."""

    def next(self) -> TapReader[None] | None:
        """Return a reader of the next page; None while only the pages in flight can tell more."""

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""


T = TypeVar("T")
TapReader = Generator[GetRequest | Gather | Write | LocalRead | PageSource, Any, T]


@dataclass(frozen=True)
class Batch:
    """Records to write, and what to call once they are written."""

    parts: Parts
    written: Callable[[], None]


@dataclass(eq=False)
class _Task:
    """A reader that runs, and what is told of its outcome."""

    reader: Generator[Any, Any, Any]
    ended: Callable[[Any], None]
    """Takes its result, or the exception that it raised."""
    parts: list[_Task] = field(default_factory=list)
    """Those that it waits for."""
    canceled: bool = False

    def cancel(self) -> None:
        """End it, and all that it waits for, without an outcome."""
        self.canceled = True
        for part in self.parts:
            part.cancel()


@dataclass(eq=False)
class _Pages:
    """A page source that is read, for the task that waits for its end."""

    task: _Task
    source: PageSource


class Scheduler:
    """Runs readers side by side."""

    def __init__(
        self, transport: StripeClient, *, max_concurrency: int, stopped: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._max_concurrency = max_concurrency
        self._stopped = stopped
        self._ready: deque[tuple[_Task, Any]] = deque()
        """Tasks to resume, with what they waited for."""
        self._reads: deque[tuple[_Task, GetRequest | LocalRead]] = deque()
        """What is to be sent as soon as there is room."""
        self._writes: deque[tuple[_Task, Write]] = deque()
        self._sources: deque[_Pages] = deque()
        self._outcomes: SimpleQueue[tuple[_Task, Any]] = SimpleQueue()
        self._in_flight = 0
        self._latency = LATENCY
        self._room = max_concurrency

    def run(self, readers: Iterable[TapReader[None]]) -> Iterator[Batch]:
        """Yield batches in the order in which their pages arrive; raise what a reader raises.

        While none comes there are empty ones, so that the caller can report progress.
        """
        pool = Workers(self._max_concurrency)
        try:
            for reader in readers:
                self._start(reader, _raise)
            self._fill(pool)
            yield from self._written(pool)
            while self._in_flight and not self._stopped():
                try:
                    task, outcome = self._outcomes.get(timeout=POLL)
                except Empty:
                    yield Batch((), lambda: None)
                    continue
                if self._stopped():
                    return  # the outcome may be only that the request was given up
                self._received(task, outcome)
                self._fill(pool)
                yield from self._written(pool)
        finally:
            pool.stop()

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""
        found: Counter[str] = Counter()
        for pages in self._sources:
            for stream, count in pages.source.left().items():
                found[stream] += count  # type: ignore[assignment]
        return found

    def _written(self, pool: Workers) -> Iterator[Batch]:
        while self._writes:
            task, write = self._writes.popleft()
            yield Batch(write.parts, partial(self._resume, task, None))
            self._fill(pool)

    def _received(self, task: _Task, outcome: Any) -> None:
        self._in_flight -= 1
        if isinstance(outcome, Response):
            self._latency += (outcome.seconds - self._latency) / 8
        self._make_room()
        self._ready.append((task, outcome))

    def _make_room(self) -> None:
        """Have no more in flight than keeps us busy: more would only fill memory and caches."""
        waiting = self._outcomes.qsize()
        if waiting > BACKLOG:
            self._room = max(BACKLOG, self._room - 1)
        elif not waiting:
            self._room = min(self._max_concurrency, self._room + 1)

    # Tasks

    def _start(self, reader: Generator[Any, Any, Any], ended: Callable[[Any], None]) -> _Task:
        task = _Task(reader, ended)
        self._ready.append((task, None))
        return task

    def _resume(self, task: _Task, outcome: Any) -> None:
        self._ready.append((task, outcome))
        self._run_ready()

    def _run_ready(self) -> None:
        """Run readers until each waits for something."""
        while self._ready:
            task, outcome = self._ready.popleft()
            if not task.canceled:
                self._run(task, outcome)

    def _run(self, task: _Task, outcome: Any) -> None:
        """Give a reader what it waited for; an exception is raised where it waits."""
        try:
            if isinstance(outcome, BaseException):
                wanted = task.reader.throw(outcome)
            else:
                wanted = task.reader.send(outcome)
        except StopIteration as end:
            task.ended(end.value)
        except BaseException as error:  # noqa: BLE001 - raised in the reader that waits for it
            task.ended(error)
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
        """Run readers side by side; the first that fails ends the others."""
        results: list[Any] = [None] * len(readers)
        left = set(range(len(readers)))

        def ended(number: int, outcome: Any) -> None:
            left.discard(number)
            results[number] = outcome
            if isinstance(outcome, BaseException):
                self._fail(task, outcome)
            elif not left:
                self._go_on(task, results)

        task.parts = [self._start(one, partial(ended, at)) for at, one in enumerate(readers)]
        if not readers:
            self._go_on(task, results)

    def _fail(self, task: _Task, error: BaseException) -> None:
        for part in task.parts:
            part.cancel()
        self._sources = deque(pages for pages in self._sources if not pages.task.canceled)
        self._go_on(task, error)

    def _go_on(self, task: _Task, outcome: Any) -> None:
        task.parts = []
        self._ready.append((task, outcome))

    # Requests

    def _fill(self, pool: Workers) -> None:
        """Send what may be sent now: what readers wait for first, then a page of each source."""
        self._run_ready()
        while self._in_flight < self._room:
            if self._reads:
                self._send(pool, *self._reads.popleft())
            elif not self._open_page():
                return

    def _open_page(self) -> bool:
        """Begin one more page, of the source that waited longest; whether anything happened."""
        for _ in range(len(self._sources)):
            pages = self._sources[0]
            self._sources.rotate(-1)
            if len(pages.task.parts) >= self._useful():
                continue
            reader = pages.source.next()
            if reader:
                self._begin_page(pages, reader)
                return True
            if not pages.task.parts:
                self._sources.remove(pages)
                self._resume(pages.task, None)
                return True
        return False

    def _begin_page(self, pages: _Pages, reader: TapReader[None]) -> None:
        def ended(outcome: Any) -> None:
            pages.task.parts.remove(page)
            if isinstance(outcome, BaseException):
                self._sources.remove(pages)
                self._fail(pages.task, outcome)

        page = self._start(reader, ended)
        pages.task.parts.append(page)
        self._run_ready()

    def _useful(self) -> int:
        """How many pages of one source to read at a time: more would wait for their turn."""
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
    """End the run with what a reader raised."""
    if isinstance(outcome, BaseException):
        raise outcome
