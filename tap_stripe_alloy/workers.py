"""A thread pool that does not delay the end of the program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Workers:
    """Runs up to `most` tasks concurrently, in daemon threads. Use it from one thread only.

    The standard library's pool keeps the program alive until its last task ends. For a request that
    may take minutes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, task: Callable[[], None]) -> None:
        """Run a task as soon as a thread is free; the task must not raise."""
        self._tasks.put(task)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._work, name="stripe", daemon=True).start()

    def stop(self) -> None:
        """Drop queued tasks. Running tasks continue, and nothing waits for them."""
        while not self._tasks.empty():
            self._tasks.get()
        for _ in range(self._started):
            self._tasks.put(None)

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()
            self._idle.release()
