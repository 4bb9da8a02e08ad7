"""The order of work: many records at a time, those of one key and those of one object in turn."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_WAITING = 10_000
"""Jobs that may wait; whoever hands in more waits himself. So many, since a tap sends one stream
after the other, and Stripe's limits are by endpoint: only with several streams at hand can the
account's whole limit be used."""
MAX_WAITING_BYTES = 64 << 20
"""Bytes of records that may wait, whatever their number."""

Act = Callable[[], bool]
"""Does the work; returns whether the record is done with. One that is not waits for `resume`."""


@dataclass(eq=False)
class Ticket:
    """A job's place in line."""

    key: str
    """The record's own key: only the first job of a key works, until its record is done with."""
    locks: Sequence[str]
    """What Stripe locks for a write: of those that share one, one works at a time."""
    act: Act
    put_aside: Callable[[], None] = lambda: None
    """Called when the job will wait for longer: its record need not be in memory."""
    group: str = ""
    size: int = 0
    counted: bool = False
    running: bool = False
    paused: bool = False
    woken: bool = False
    """Whether `resume` came before the job had paused."""


class KeyedWorkerPool:
    """Runs jobs in threads: those of one key in the order they came, all groups alike.

    A job goes two steps: it waits until it is the first of its key, then until it is the first of
    each of its locks. One that pauses keeps its key and leaves its locks, so that what it waits for
    can be written. The first error stops everything: what waits is dropped, what runs ends,
    `raise_failure` tells.
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
        """Hand in a job; waits while too many do.

        What waits behind a paused one does not count: the reader must go on to what that waits for.
        """
        with self._change:
            while self._is_full() and not self._stopped:
                self._change.wait()
            if self._stopped:
                return
            line = self._keys.setdefault(ticket.key, deque())
            line.append(ticket)
            if line[0].paused:
                ticket.put_aside()  # here, where it cannot begin meanwhile
                return
            self._count_in(ticket)
            if line[0] is ticket:
                self._enter(ticket)

    def resume(self, ticket: Ticket) -> None:
        """Let a paused job work again, before the others of its key."""
        with self._change:
            if self._stopped:
                return
            if ticket.running:
                ticket.woken = True
                return
            ticket.paused = False
            for waiting in self._keys[ticket.key]:
                self._count_in(waiting)
            self._enter(ticket)

    def release(self, ticket: Ticket) -> bool:
        """Give up on a paused job; returns whether another one of its key goes on."""
        with self._change:
            if not self._stopped:
                self._end(ticket)
            return ticket.key in self._keys

    def busy(self, key: str) -> bool:
        """Whether a job of the key waits, runs or is paused."""
        return key in self._keys

    def drain(self) -> None:
        """Wait until nothing is left to do but what is paused."""
        with self._change:
            while self._count and not self._stopped:
                self._change.wait()
        self.raise_failure()

    def stop(self, failure: BaseException | None = None) -> None:
        """Begin nothing more."""
        with self._change:
            self._failure = self._failure or failure
            self._stopped = True
            self._change.notify_all()

    def close(self) -> None:
        """Wait for what runs, and let the threads go."""
        self.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def raise_failure(self) -> None:
        """Raise what stopped the work."""
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

    def _enter(self, ticket: Ticket) -> None:
        """Get in line for the locks."""
        for name in ticket.locks:
            self._locks.setdefault(name, deque()).append(ticket)
        self._check(ticket)

    def _check(self, ticket: Ticket) -> None:
        if all(self._locks[name][0] is ticket for name in ticket.locks):
            self._ready.setdefault(ticket.group, deque()).append(ticket)
            self._change.notify()

    def _leave(self, ticket: Ticket) -> None:
        """Give the locks to the next ones."""
        following = []
        for name in ticket.locks:
            line = self._locks[name]
            line.popleft()
            if line:
                following.append(line[0])
            else:
                del self._locks[name]
        for waiting in dict.fromkeys(following):
            self._check(waiting)

    def _pause(self, ticket: Ticket) -> None:
        ticket.paused = True
        self._count_out(ticket)
        for waiting in list(self._keys[ticket.key])[1:]:
            self._count_out(waiting)
            waiting.put_aside()

    def _end(self, ticket: Ticket) -> None:
        self._count_out(ticket)
        line = self._keys[ticket.key]
        line.popleft()
        if not line:
            del self._keys[ticket.key]
            return
        for waiting in line:
            self._count_in(waiting)
        self._enter(line[0])

    # ------------------------------------------------------------------ the threads

    def _take(self) -> Ticket | None:
        """The next job, of the group that the fewest work for; None at the end."""
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
                done = ticket.act()
            except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
                self.stop(error)
            self._after(ticket, done=done)

    def _after(self, ticket: Ticket, *, done: bool) -> None:
        with self._change:
            self._running[ticket.group] -= 1
            ticket.running = False
            self._leave(ticket)
            if done:
                self._end(ticket)
            elif ticket.woken:
                self._enter(ticket)
            else:
                self._pause(ticket)
            self._change.notify_all()


class Watermark:
    """Which records are settled: those up to the mark all are."""

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
        """A record is done with; the numbers may come in any order."""
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
