"""Reports progress: a live table on a terminal, or log lines at intervals; and metrics."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from singer_sdk import metrics
from typing_extensions import Self

if TYPE_CHECKING:
    from stripe_alloy.api.client import StripeClient

LOG_EVERY = 30.0
"""Seconds between log lines."""
SHOW_EVERY = 0.25
"""Seconds between updates of the table on a terminal."""
COLUMNS = ("stream", "records", "pages", "records/s", "left")


@dataclass
class Line:
    """Counts of one stream."""

    started_at: float
    counter: metrics.Counter
    records: int = 0
    pages: int = 0


class Progress:
    """Counts written records; `left` returns stream → estimated pages left.

    As a context manager it shows the counts during the run, and logs the totals at its end.
    """

    def __init__(
        self,
        transport: StripeClient,
        left: Callable[[], Mapping[str, float]],
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._left = left
        self._logger = logger
        self._clock = clock
        self._lines: dict[str, Line] = {}
        self._reported_at = self._started_at = clock()
        self._screen: _Screen | None = None

    def __enter__(self) -> Self:
        # If Singer messages go to the same terminal, a table would only be in the way.
        if sys.stderr.isatty() and not sys.stdout.isatty():
            self._screen = _Screen()
            self._screen.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._screen:
            self._screen.show(self.rows(), self._footer())  # the final counts stay on the screen
            self._screen.__exit__(*failure)
        for line in self._lines.values():
            line.counter.exit()
        for endpoint, count in sorted(self._transport.requests_sent.items()):
            tags = {metrics.Tag.ENDPOINT.value: endpoint}
            _measure("counter", metrics.Metric.HTTP_REQUEST_COUNT, count, tags)
        _measure("timer", metrics.Metric.SYNC_DURATION, self._clock() - self._started_at, {})
        counts = Counter({name: line.records for name, line in self._lines.items()})
        per_stream = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)
        self._logger.info(
            "Records: %d (%s). Requests: %d, rate-limited: %d.",
            counts.total(),
            per_stream or "nothing new",
            self._transport.requests_sent.total(),
            self._transport.rate_limited,
        )

    def wrote(self, stream: str, records: int) -> None:
        """Count records of one page of a stream."""
        line = self._lines.get(stream)
        if line is None:
            line = Line(self._clock(), metrics.record_counter(stream))
            self._lines[stream] = line
        line.records += records
        line.pages += 1
        line.counter.increment(records)

    def tick(self) -> None:
        """Report progress if the interval has passed."""
        now = self._clock()
        if now - self._reported_at < (SHOW_EVERY if self._screen else LOG_EVERY):
            return
        self._reported_at = now
        if self._screen:
            self._screen.show(self.rows(), self._footer())
        else:
            text = "; ".join(
                f"{name} {records} records, {pages} pages, {rate}/s{left and f', {left} left'}"
                for name, records, pages, rate, left in self.rows()
            )
            self._logger.info("Reading: %s. %s", text or "no records yet", self._footer())

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the table row of each stream, with the columns of `COLUMNS`."""
        left = self._left()
        now = self._clock()
        for name, line in sorted(self._lines.items()):
            seconds = max(now - line.started_at, 0.001)
            pages_left = left.get(name, 0.0)
            wait = pages_left / (line.pages / seconds)
            yield (
                name,
                f"{line.records:,}",
                f"{line.pages:,}",
                f"{line.records / seconds:,.0f}",
                _duration(wait) if pages_left >= 1 else "",
            )

    def _footer(self) -> str:
        sent = self._transport.requests_sent.total()
        return f"Requests: {sent:,}, rate-limited: {self._transport.rate_limited:,}."


def _measure(kind: str, metric: metrics.Metric, value: float, tags: dict[str, Any]) -> None:
    logger = metrics.get_metrics_logger()
    metrics.log(logger, point=metrics.Point(kind, metric, value, tags))


def _duration(seconds: float) -> str:
    """Format a duration (seconds), rounded.

    >>> _duration(7), _duration(200), _duration(9000)
    ('7 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"


class _Screen:
    """A table on stderr that is updated in place; log lines appear above it."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import, only for terminals
        from rich.live import Live  # noqa: PLC0415

        self._live = Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False)
        self._stderr = sys.stderr
        self._handlers: list[logging.StreamHandler[Any]] = []

    def __enter__(self) -> Self:
        self._handlers = list(_handlers_on(self._stderr))
        self._live.start()
        for handler in self._handlers:
            handler.setStream(sys.stderr)  # replaced by rich, which prints above the table
        return self

    def __exit__(self, *failure: object) -> None:
        self._live.stop()
        for handler in self._handlers:
            handler.setStream(self._stderr)

    def show(self, rows: Iterable[tuple[str, ...]], footer: str) -> None:
        """Draw the table."""
        from rich.table import Table  # noqa: PLC0415

        table = Table(*COLUMNS, caption=footer, caption_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*row)
        self._live.update(table, refresh=True)


def _handlers_on(stream: object) -> Iterator[logging.StreamHandler[Any]]:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                yield handler
