"""Threads that end with the program, whatever they wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Workers:
    """Runs tasks beside the caller, so many at a time; to be used from one thread.

    The standard library's pool would keep the program from ending until the last task has ended,
    which for a request may take minutes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, task: Callable[[], None]) -> None:
        """Run a task as soon as a thread is free; it must raise nothing."""
        self._tasks.put(task)
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._work, name="stripe", daemon=True).start()

    def stop(self) -> None:
        """Begin no more tasks; those under way go on, and nobody waits for them."""
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
