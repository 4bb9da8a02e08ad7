"""Who works on what, and when: many records at a time, those of one object one after another."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, deque
from collections.abc import Callable

AHEAD = 10_000
"""Jobs that may wait; whoever hands in more waits himself. So many, since a tap sends one stream
after the other, and Stripe's limits are by endpoint: only with several streams at hand can the
account's whole limit be used."""

Job = Callable[[], None]


class Lanes:
    """Runs jobs in threads: those of one lane in the order they came, all groups alike.

    The first error stops everything: what waits is dropped, what runs ends, `raise_failure` tells.
    """

    def __init__(self, workers: int) -> None:
        self._change = threading.Condition()
        self._lanes: dict[str, deque[tuple[str, Job]]] = {}
        self._ready: dict[str, deque[tuple[str, Job]]] = {}
        self._running: Counter[str] = Counter()
        self._count = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"write-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, lane: str, job: Job, *, group: str = "", patient: bool = True) -> None:
        """Hand in a job; waits while too many do, unless it comes from a worker."""
        with self._change:
            while patient and self._count >= AHEAD and not self._stopped:
                self._change.wait()
            if self._stopped:
                return
            self._count += 1
            if lane in self._lanes:
                self._lanes[lane].append((group, job))
                return
            self._lanes[lane] = deque()
            self._make_ready(lane, group, job)

    def busy(self, lane: str) -> bool:
        """Whether something of the lane waits or runs."""
        return lane in self._lanes

    def drain(self) -> None:
        """Wait until nothing is left to do."""
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

    def _make_ready(self, lane: str, group: str, job: Job) -> None:
        self._ready.setdefault(group, deque()).append((lane, job))
        self._change.notify()

    def _take(self) -> tuple[str, str, Job] | None:
        """The next job, of the group that the fewest work for; None at the end."""
        with self._change:
            while not self._ready and not self._stopped:
                self._change.wait()
            if self._stopped:
                return None
            group = min(self._ready, key=lambda name: self._running[name])
            queue = self._ready[group]
            lane, job = queue.popleft()
            if not queue:
                del self._ready[group]
            self._running[group] += 1
            return group, lane, job

    def _work(self) -> None:
        while taken := self._take():
            group, lane, job = taken
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
                self.stop(error)
            self._done(group, lane)

    def _done(self, group: str, lane: str) -> None:
        with self._change:
            self._count -= 1
            self._running[group] -= 1
            queue = self._lanes[lane]
            if queue:
                self._make_ready(lane, *queue.popleft())
            else:
                del self._lanes[lane]
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
