"""Who works on what, and when: many records at a time, those of one object one after another."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

AHEAD = 8
"""Jobs for each worker that may wait; whoever hands in more waits himself."""


class Lanes:
    """Runs jobs in threads; jobs of one lane in the order they came.

    The first error stops everything: what waits is dropped, what runs ends, `raise_failure` tells.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="write")
        self._most = workers * AHEAD
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._count = 0
        self._change = threading.Condition()
        self._failure: BaseException | None = None
        self._stopped = False

    def submit(self, lane: str, job: Callable[[], None], *, patient: bool = True) -> None:
        """Hand in a job; waits while too many do, unless it comes from a worker."""
        with self._change:
            while patient and self._count >= self._most and not self._stopped:
                self._change.wait()
            if self._stopped:
                return
            self._count += 1
            if lane in self._waiting:
                self._waiting[lane].append(job)
                return
            self._waiting[lane] = deque()
        self._pool.submit(self._run, lane, job)

    def busy(self, lane: str) -> bool:
        """Whether something of the lane waits or runs."""
        with self._change:
            return lane in self._waiting

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
        self._pool.shutdown(wait=True, cancel_futures=True)

    def raise_failure(self) -> None:
        """Raise what stopped the work."""
        if self._failure is not None:
            raise self._failure

    def _run(self, lane: str, job: Callable[[], None]) -> None:
        try:
            if not self._stopped:
                job()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
            self.stop(error)
        finally:
            self._next(lane)

    def _next(self, lane: str) -> None:
        with self._change:
            self._count -= 1
            self._change.notify_all()
            queue = self._waiting[lane]
            if not queue:
                del self._waiting[lane]
                return
            job = queue.popleft()
            if self._stopped:
                return
        self._pool.submit(self._run, lane, job)


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
