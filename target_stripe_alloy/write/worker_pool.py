"""Worker pool that runs jobs concurrently, but in order per key and one at a time per lock."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_WAITING = 10_000
"""Jobs that may wait: `submit` blocks when there are as many. It is large because taps send one
stream after another, while Stripe's limits are per endpoint: only with several streams in the queue
can the account's limit be used up."""
MAX_WAITING_BYTES = 64 << 20
"""Bytes of records that may wait."""

Work = Callable[[], bool]
"""Does the work; returns whether it is finished. A job that is not waits for `resume`."""


@dataclass(eq=False)
class Ticket:
    """A job in the queue."""

    key: str
    """Only the first job of a key works, until it is finished."""
    locks: Sequence[str]
    """Names of what Stripe locks during a write: of jobs that share one, one works at a time."""
    work: Work
    spill: Callable[[], None] = lambda: None
    """Called when the job will wait for longer: its record can leave the memory."""
    group: str = ""
    size: int = 0
    counted: bool = False
    running: bool = False
    paused: bool = False
    woken: bool = False
    """Whether `resume` was called before the job had paused."""


class KeyedWorkerPool:
    """Runs jobs in threads: in order per key, with the groups sharing the threads evenly.

    A job waits until it is the first of its key, then until it is the first of each of its locks.
    A job that pauses keeps its key and gives up its locks, so that what it waits for can be
    written. The first error stops the pool: waiting jobs are dropped, running ones end, and
    `raise_failure` raises it.
    """

    def __init__(self, workers: int) -> None:
        self._change = threading.Condition()
        self._keys: dict[str, deque[Ticket]] = {}
        self._locks: dict[str, deque[Ticket]] = {}
        self._ready: dict[str, deque[Ticket]] = {}
        self._running: Counter[str] = Counter()
        self._count = 0
        self._bytes = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"write-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Queue a job; blocks while the queue is full.

        Jobs behind a paused one do not count: the reader must reach what the paused one waits for.
        """
        with self._change:
            while self._is_full() and not self._stopped:
                self._change.wait()
            if self._stopped:
                return
            queue = self._keys.setdefault(ticket.key, deque())
            queue.append(ticket)
            if queue[0].paused:
                ticket.spill()  # here, where it cannot begin meanwhile
                return
            self._count_in(ticket)
            if queue[0] is ticket:
                self._queue_for_locks(ticket)

    def resume(self, ticket: Ticket) -> None:
        """Let a paused job work again, ahead of the others of its key."""
        with self._change:
            if self._stopped:
                return
            if ticket.running:
                ticket.woken = True
                return
            ticket.paused = False
            for waiting in self._keys[ticket.key]:
                self._count_in(waiting)
            self._queue_for_locks(ticket)

    def release(self, ticket: Ticket) -> bool:
        """Finish a paused job; return whether another job of its key follows."""
        with self._change:
            if not self._stopped:
                self._finish(ticket)
            return ticket.key in self._keys

    def busy(self, key: str) -> bool:
        """Whether a job of the key waits, runs or is paused."""
        return key in self._keys

    def drain(self) -> None:
        """Wait until all jobs are finished or paused; raise the error that stopped the pool."""
        with self._change:
            while self._count and not self._stopped:
                self._change.wait()
        self.raise_failure()

    def stop(self, failure: BaseException | None = None) -> None:
        """Start no more jobs."""
        with self._change:
            self._failure = self._failure or failure
            self._stopped = True
            self._change.notify_all()

    def close(self) -> None:
        """Stop, and wait for the jobs that run."""
        self.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def raise_failure(self) -> None:
        """Raise the error that stopped the pool, if any did."""
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------------ with the lock

    def _is_full(self) -> bool:
        return self._count >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    def _count_in(self, ticket: Ticket) -> None:
        if not ticket.counted:
            ticket.counted = True
            self._count += 1
            self._bytes += ticket.size

    def _count_out(self, ticket: Ticket) -> None:
        if ticket.counted:
            ticket.counted = False
            self._count -= 1
            self._bytes -= ticket.size

    def _queue_for_locks(self, ticket: Ticket) -> None:
        for name in ticket.locks:
            self._locks.setdefault(name, deque()).append(ticket)
        self._start_if_first(ticket)

    def _start_if_first(self, ticket: Ticket) -> None:
        if all(self._locks[name][0] is ticket for name in ticket.locks):
            self._ready.setdefault(ticket.group, deque()).append(ticket)
            self._change.notify()

    def _release_locks(self, ticket: Ticket) -> None:
        following = []
        for name in ticket.locks:
            queue = self._locks[name]
            queue.popleft()
            if queue:
                following.append(queue[0])
            else:
                del self._locks[name]
        for waiting in dict.fromkeys(following):
            self._start_if_first(waiting)

    def _pause(self, ticket: Ticket) -> None:
        ticket.paused = True
        self._count_out(ticket)
        for waiting in list(self._keys[ticket.key])[1:]:
            self._count_out(waiting)
            waiting.spill()

    def _finish(self, ticket: Ticket) -> None:
        self._count_out(ticket)
        queue = self._keys[ticket.key]
        queue.popleft()
        if not queue:
            del self._keys[ticket.key]
            return
        for waiting in queue:
            self._count_in(waiting)
        self._queue_for_locks(queue[0])

    # ------------------------------------------------------------------ the threads

    def _take(self) -> Ticket | None:
        """Return the next job, of the group with the fewest running jobs; None at the end."""
        with self._change:
            while not self._ready and not self._stopped:
                self._change.wait()
            if self._stopped:
                return None
            group = min(self._ready, key=lambda name: self._running[name])
            queue = self._ready[group]
            ticket = queue.popleft()
            if not queue:
                del self._ready[group]
            self._running[group] += 1
            ticket.running, ticket.woken = True, False
            return ticket

    def _work(self) -> None:
        while ticket := self._take():
            done = True
            try:
                done = ticket.work()
            except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
                self.stop(error)
            self._after(ticket, done=done)

    def _after(self, ticket: Ticket, *, done: bool) -> None:
        with self._change:
            self._running[ticket.group] -= 1
            ticket.running = False
            self._release_locks(ticket)
            if done:
                self._finish(ticket)
            elif ticket.woken:
                self._queue_for_locks(ticket)
            else:
                self._pause(ticket)
            self._change.notify_all()


class Watermark:
    """Tracks which records are settled: all up to the mark are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._early: list[int] = []
        self._mark = 0

    def issue(self) -> int:
        """Number the next record."""
        with self._lock:
            self._last += 1
            return self._last

    def settle(self, number: int) -> None:
        """Note that a record is settled, in any order."""
        with self._lock:
            heapq.heappush(self._early, number)
            while self._early and self._early[0] == self._mark + 1:
                self._mark = heapq.heappop(self._early)

    @property
    def last(self) -> int:
        """The newest number."""
        return self._last

    @property
    def mark(self) -> int:
        """Every record up to this one is settled."""
        with self._lock:
            return self._mark
