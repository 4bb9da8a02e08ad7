"""Several GETs at a time, their answers handled one by one in the caller's thread.

The pool only sends and parses. Whoever iterates over `Scheduler.run` writes the batches; while it
does, nothing new is asked for, so a slow reader of our output slows the requests and memory holds
no more than the pages under way.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from stripe_alloy.api.client import Response, StripeClient
from stripe_alloy.api.errors import AccountAccessError, MissingPermissionError, StripeError
from stripe_alloy.api.requests import Gather, GetRequest, Reader
from tap_stripe_alloy.workers import Workers

POLL = 0.5
"""Seconds after which a waiting run looks whether it was told to stop."""
USEFUL_RATE = 400.0
"""Requests a second that one process can handle; where nothing limits them, more only wait."""
BACKLOG = 3
"""Answers that may wait for us before fewer are asked for at a time."""
LATENCY = 0.3
"""Seconds that an answer is expected to take before the first came."""


@dataclass(frozen=True)
class Batch:
    """Records to write, as (output, its records), and what to do once they are written."""

    parts: Sequence[tuple[Any, Sequence[Any]]]
    written: Callable[[], None]


@dataclass(frozen=True)
class Get:
    """A request, and what follows from its answer."""

    request: GetRequest
    then: Callable[[Response], Iterable[Step]]
    otherwise: Callable[[StripeError], Iterable[Step]] | None = None
    """What follows from a refusal; without it the error ends the source or the run."""

    def fetch(self, transport: StripeClient) -> Response:
        """Send it."""
        return self.request.send(transport)


@dataclass(frozen=True)
class LocalRead:
    """Something to look up on this machine, and what follows from it; no request is sent."""

    read: Callable[[], Any]
    then: Callable[[Any], Iterable[Step]]

    def fetch(self, _: StripeClient) -> Any:
        """Look it up."""
        return self.read()


@dataclass(frozen=True)
class AddSource:
    """A source to read as well."""

    source: Source


Step = Batch | Get | LocalRead | AddSource


def no_op() -> None:
    """Nothing is to be done once a batch is written."""


T = TypeVar("T")


def steps_of(
    reader: Reader[T],
    then: Callable[[T], Iterable[Step]],
    otherwise: Callable[[StripeError], Iterable[Step]] | None = None,
) -> Iterable[Step]:
    """Run a reader; return its first requests, or what follows from its result.

    `otherwise` is asked what follows from an error that the reader lets through.
    """
    return _resume(reader, then, otherwise, None)


def _resume(
    reader: Reader[T],
    then: Callable[[T], Iterable[Step]],
    otherwise: Callable[[StripeError], Iterable[Step]] | None,
    outcome: Any,
) -> Iterable[Step]:
    """Give a reader what it waits for."""
    try:
        failed = isinstance(outcome, StripeError)
        wanted = reader.throw(outcome) if failed else reader.send(outcome)
    except StopIteration as end:
        return then(end.value)
    except StripeError as error:
        if otherwise is None:
            raise
        return otherwise(error)
    go_on = partial(_resume, reader, then, otherwise)
    if isinstance(wanted, Gather):
        return _gather(wanted.readers, go_on)
    return [Get(wanted, go_on, go_on)]


def _gather(
    readers: Sequence[Reader[Any]], go_on: Callable[[Any], Iterable[Step]]
) -> Iterator[Step]:
    """Run readers side by side; the first error counts, and what the others find then does not."""
    results: dict[int, Any] = {}
    failed: list[StripeError] = []

    def ended(number: int, result: Any) -> Iterable[Step]:
        results[number] = result
        done = len(results) == len(readers) and not failed
        return go_on([results[number] for number in range(len(readers))]) if done else ()

    def refused(error: StripeError) -> Iterable[Step]:
        failed.append(error)
        return go_on(error) if len(failed) == 1 else ()

    if not readers:
        yield from go_on([])
    for number, reader in enumerate(readers):
        yield from steps_of(reader, partial(ended, number), refused)


class Source(Protocol):
    """Something to read, in pages."""

    account: str | None
    """The account whose objects it reads; None for the key's own."""
    streams: list[str]
    """The names of the streams it reads."""

    def next(self) -> Get | LocalRead | None:
        """Return the page to ask for now; None while only answers can tell more."""

    def left(self) -> Mapping[str, float]:
        """Stream → pages that are left, as far as known."""

    def refused(self, error: MissingPermissionError) -> None:
        """Learn that the key may not read this; nothing more will be asked."""


class Scheduler:
    """Runs sources side by side."""

    def __init__(
        self,
        transport: StripeClient,
        *,
        max_concurrency: int,
        stopped: Callable[[], bool],
        rejected: Callable[[str, AccountAccessError], None],
    ) -> None:
        self._rejected = rejected
        self._lost: set[str | None] = set()
        self._transport = transport
        self._max_concurrency = max_concurrency
        self._stopped = stopped
        self._answers: SimpleQueue[tuple[Source, Get | LocalRead, Any]]
        self._answers = SimpleQueue()
        self._follow_ups: deque[tuple[Source, Get | LocalRead]] = deque()
        self._under_way: Counter[int] = Counter()
        self._latency = LATENCY
        self._room = max_concurrency

    def run(self, sources: Iterable[Source]) -> Iterator[Batch]:
        """Batches in the order in which their pages arrive; raises what stops the run.

        When none came for a while there is an empty one, so that the caller can say how far it is.
        """
        turns = deque(sources)
        pool = Workers(self._max_concurrency)
        try:
            self._fill(pool, turns)
            while self._under_way.total() and not self._stopped():
                try:
                    source, get, outcome = self._answers.get(timeout=POLL)
                except Empty:
                    yield Batch((), no_op)
                    continue
                if self._stopped():
                    return  # what came may be but the end of what was given up
                self._under_way[id(source)] -= 1
                self._make_room()
                batches = list(self._handle(source, get, outcome, turns))
                self._fill(pool, turns)
                yield from batches
                if not self._under_way.total():
                    self._fill(pool, turns)  # a source may have waited until these were written
        finally:
            pool.stop()

    def _handle(
        self,
        source: Source,
        get: Get | LocalRead,
        outcome: Any,
        turns: deque[Source],
    ) -> Iterator[Batch]:
        if source.account in self._lost:
            return  # what was under way for an account that refuses us
        try:
            steps = list(self._steps(get, outcome))
        except AccountAccessError as error:
            self._lose(source.account, error, turns)
            return
        except MissingPermissionError as error:
            self._drop(source, turns)
            source.refused(error)
            return
        for step in steps:
            if isinstance(step, Get | LocalRead):
                self._follow_ups.append((source, step))
            elif isinstance(step, AddSource):
                turns.append(step.source)
            else:
                yield step

    def _steps(self, get: Get | LocalRead, outcome: Any) -> Iterable[Step]:
        """What follows; an error in place of an outcome is raised, unless it may happen."""
        if isinstance(outcome, StripeError) and isinstance(get, Get) and get.otherwise:
            return get.otherwise(outcome)
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, Response):
            self._latency += (outcome.seconds - self._latency) / 8
        return get.then(outcome)

    def _lose(self, account: str | None, error: AccountAccessError, turns: deque[Source]) -> None:
        """Go on without an account that refuses us; it is an error where no account was named."""
        if account is None:
            raise error
        self._lost.add(account)
        for source in [source for source in turns if source.account == account]:
            self._drop(source, turns)
        kept = [one for one in self._follow_ups if one[0].account != account]
        self._follow_ups = deque(kept)
        self._rejected(account, error)

    def _drop(self, source: Source, turns: deque[Source]) -> None:
        if source in turns:
            turns.remove(source)
        kept = [follow_up for follow_up in self._follow_ups if follow_up[0] is not source]
        self._follow_ups = deque(kept)

    def _make_room(self) -> None:
        """Have no more under way than keeps us busy: more would only fill memory and caches."""
        waiting = self._answers.qsize()
        if waiting > BACKLOG:
            self._room = max(BACKLOG, self._room - 1)
        elif not waiting:
            self._room = min(self._max_concurrency, self._room + 1)

    def _fill(self, pool: Workers, turns: deque[Source]) -> None:
        """Send what may be sent now: follow-ups first, then one page of each source in turn."""
        while self._follow_ups and self._under_way.total() < self._room:
            self._send(pool, *self._follow_ups.popleft())
        idle = 0
        while idle < len(turns) and self._under_way.total() < self._room:
            source = turns[0]
            turns.rotate(-1)
            get = source.next() if self._under_way[id(source)] < self._useful() else None
            idle = 0 if get else idle + 1
            if get:
                self._send(pool, source, get)

    def _useful(self) -> int:
        """How many requests of one source to have under way: more would wait for their turn."""
        rate = min(self._transport.budget.ceiling_of_endpoint, USEFUL_RATE)
        return math.ceil(rate * self._latency * 1.25) + 1

    def _send(self, pool: Workers, source: Source, get: Get | LocalRead) -> None:
        self._under_way[id(source)] += 1
        pool.submit(partial(self._fetch, source, get))

    def _fetch(self, source: Source, get: Get | LocalRead) -> None:
        outcome: Any
        try:
            outcome = get.fetch(self._transport)
        except StripeError as error:
            error.about = _about(source, get)
            outcome = error
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome = error
        self._answers.put((source, get, outcome))


def _about(source: Source, get: Get | LocalRead) -> str:
    """What an error is to name: stream, object and account."""
    stream = get.request.stream if isinstance(get, Get) else None
    names = [stream] if stream else source.streams
    found = f"Stream{'s' if len(names) > 1 else ''} {', '.join(names)}"
    if isinstance(get, Get) and get.request.of:
        found += f", {get.request.of.object} {get.request.of.id!r}"
    return f"{found}, account {source.account}" if source.account else found
