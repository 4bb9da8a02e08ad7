"""Plans a parallel backfill: splits a list into windows of `created` while it is read.

Stripe lists newest first and paginates by cursor, one page after the other. To read a list with
concurrent requests, it is split into half-open windows of `created`, each paginated by cursor.
The density and the start of a history are unknown, so windows are split by what the pages read so
far show, and only while the extra requests stay within `MAX_SPLIT_OVERHEAD`: each split may cost a
partly filled page.

Pure: no clock, no network. `WindowPlanner` returns the next request; its caller sends it and passes
the rows back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stripe_alloy.api.client import PAGE_SIZE
from stripe_alloy.api.object_type import ASSUMED_HISTORY

MAX_SPLIT_OVERHEAD = 0.05
"""Extra requests that splits may cost, as a share of all requests."""
RAMP_PAGES = 4
"""Pages to read before the first split: a small list is never split."""
MIN_PAGES = 3
"""Estimated pages that each side of a split must have."""
PROBE_FACTOR = 3
"""A probe starts this many times the span read so far below the oldest row seen."""

RemainingWindow = tuple[int, int, "str | None"]
"""(low, high, cursor): `created` in [low, high) still to read, after the cursor if not None."""


class ListPosition(NamedTuple):
    """The position of an object in its list."""

    created: int
    id: str


@dataclass(eq=False)
class Window:
    """`created` in [low, high), read newest first."""

    low: int
    high: int
    cursor: str | None = None
    density: float = 0.0
    """Rows per second: its own, or of the window that it was split from."""
    busy: bool = False
    probing: bool = False
    """Whether it is not known yet if the window contains any rows."""
    upper: int = field(init=False)
    """Upper bound in requests (exclusive). It stays the same while there is a cursor, so that rows
    out of order are still returned."""
    top: int = field(init=False)
    """Upper bound of the rows read so far (exclusive); `high` is their lower bound."""
    rows: int = 0
    edge: frozenset[str] = frozenset()
    """Ids already read in the second of the cursor, in case its object is deleted meanwhile."""
    saved: tuple[int, str | None] = field(init=False)
    """(high, cursor) of the part of the window that is not written yet."""
    unsaved: deque[Page] = field(default_factory=deque)
    """Pages received but not saved, in list order: pages may be written in another order."""

    def __post_init__(self) -> None:
        self.top = self.upper = self.high
        self.saved = (self.high, self.cursor)


@dataclass(frozen=True)
class PageRequest:
    """A page to request: `created` in [low, high), after `cursor`."""

    window: Window
    low: int
    high: int
    cursor: str | None


@dataclass(eq=False)
class Page:
    """The rows of a response that belong to the window, and the position to save once written."""

    window: Window
    keep: Sequence[ListPosition]
    position: tuple[int, str] | None
    """(high, cursor) of what is left; None if the window is finished."""
    written: bool = False


class WindowPlanner:
    """Plans requests that read each row of the windows exactly once, with any concurrency.

    `can_split`: whether Stripe filters the list by `created`, so that it can be split. `history`:
    the assumed length of the history (seconds) as long as it is unknown.
    """

    def __init__(
        self,
        remaining: Iterable[RemainingWindow],
        *,
        page_size: int = PAGE_SIZE,
        can_split: bool = True,
        history: int = ASSUMED_HISTORY,
    ) -> None:
        self._page_size = page_size
        self._can_split = can_split
        self._history = history
        self._unsaved = [Window(low, high, cursor) for low, high, cursor in remaining if low < high]
        self._open = list(self._unsaved)
        self._pages = 0.0
        self._requests = 0
        self._first_windows = len(self._open)
        self._newest: int | None = None
        self._oldest: int | None = None
        self._history_begins = 0

    @property
    def done(self) -> bool:
        """Whether all rows were read (not necessarily written)."""
        return not self._open

    def left(self) -> float:
        """Return the estimated number of pages left to read."""
        pages = 0.0
        for window in self._open:
            begins = max(window.low, self._history_begins) or self._oldest_known(window)
            pages += max(0, window.high - begins) * window.density / self._page_size
        return pages

    def remaining(self) -> list[RemainingWindow]:
        """Return what is left to read, with only `saved` pages counted: newest first, disjoint."""
        left = [(window.low, *window.saved) for window in self._unsaved]
        return sorted(left, key=lambda window: -window[1])

    def next(self) -> PageRequest | None:
        """Return the next request; None until a response in flight allows another one."""
        idle = [window for window in self._open if not window.busy]
        window = max(idle, key=self._estimate, default=None) or self._split_one()
        if window is None:
            return None
        window.busy = True
        return PageRequest(window, window.low, window.upper, window.cursor)

    def received(
        self, page_request: PageRequest, rows: Sequence[ListPosition], *, has_more: bool
    ) -> Page:
        """Return the page of a response, with the rows that belong to the window as it is now.

        Rows below `low` belong to a window split off while the request was in flight. No row is
        dropped because of its order: without `can_split` the order of a list is unknown.
        """
        window = page_request.window
        fresh = [row for row in rows if row.id not in window.edge]
        keep = [row for row in fresh if row.created >= window.low]
        window.busy = False
        if rows:
            self._advance(window, rows)
        self._count(keep)
        if window.probing and not rows:
            self._history_begins = window.high
        unfinished = has_more and rows and not (self._can_split and rows[-1].created < window.low)
        if not unfinished:
            self._open.remove(window)
        high = max(window.high, window.low + 1)  # an empty window would be dropped
        page = Page(window, keep, (high, rows[-1].id) if unfinished else None)
        window.probing = False
        window.unsaved.append(page)
        return page

    def cursor_deleted(self, page_request: PageRequest) -> None:
        """Drop the cursor of a window because its object was deleted.

        A list filtered by `created` continues by time. Any other starts over and repeats rows.
        """
        page_request.window.busy = False
        page_request.window.cursor = None
        page_request.window.upper = page_request.window.high

    def saved(self, page: Page) -> None:
        """Note that a page's records were written; it counts once all earlier pages were, too."""
        page.written = True
        window = page.window
        while window.unsaved and window.unsaved[0].written:
            position = window.unsaved.popleft().position
            if position is None:
                self._unsaved.remove(window)
            else:
                window.saved = position

    def _advance(self, window: Window, rows: Sequence[ListPosition]) -> None:
        last = rows[-1]
        window.cursor = last.id
        if last.created >= window.high:
            return  # catching up after the cursor was deleted
        if not window.rows:
            window.top = max(row.created for row in rows) + 1
        at_edge = frozenset(row.id for row in rows if row.created == last.created)
        window.edge = at_edge | window.edge if last.created + 1 == window.high else at_edge
        window.high = last.created + 1
        window.rows += len(rows)
        if rows[0].created > last.created:
            # The lower of the window's and the page's: a second with thousands of rows says
            # nothing about older rows.
            window.density = min(
                window.rows / max(1, window.top - last.created),
                len(rows) / (rows[0].created - last.created),
            )

    def _count(self, keep: Sequence[ListPosition]) -> None:
        self._requests += 1
        self._pages += len(keep) / self._page_size
        if keep:
            first, last = keep[0].created, keep[-1].created
            self._newest = first if self._newest is None else max(self._newest, first)
            self._oldest = last if self._oldest is None else min(self._oldest, last)

    # Splits: where to split, and whether it is affordable.

    def _split_one(self) -> Window | None:
        evidence = self._can_split and self._open and self._pages >= RAMP_PAGES
        if not evidence or not self._affordable():
            return None
        return self._probe() or self._halve()

    def _affordable(self) -> bool:
        """Whether one more split keeps the extra requests within `MAX_SPLIT_OVERHEAD` at worst."""
        still_open = len(self._open)
        wasted = self._requests - self._pages
        known = self._pages + sum(self._estimate(window) for window in self._open)
        allowed = MAX_SPLIT_OVERHEAD * max(known, known * self._history_factor())
        return wasted + still_open <= self._first_windows - 1 + (allowed if allowed >= 1 else 0)

    def _history_factor(self) -> float:
        """Return the assumed length of the history as a multiple of the known part.

        A probe that found nothing limits it.
        """
        if self._newest is None or self._oldest is None:
            return 0.0
        longest = min(self._history, self._newest - self._history_begins)
        return longest / (self._newest - self._oldest + 1)

    def _probe(self) -> Window | None:
        """Split far below the oldest row seen, to find out whether the history is longer."""
        oldest, newest = self._oldest, self._newest
        if oldest is None or newest is None or any(window.probing for window in self._open):
            return None
        for window in self._open:
            if window.low >= oldest or window.high < oldest:
                continue
            at = max(oldest - PROBE_FACTOR * (newest - oldest + 1), (window.low + oldest) // 2)
            if (oldest - at) * window.density >= MIN_PAGES * self._page_size:
                return self._split(window, at, probing=True)
        return None

    def _halve(self) -> Window | None:
        """Split the window with the most pages left, if both halves very likely have rows."""
        window = max(self._open, key=self._estimate)
        floor = self._oldest_known(window)
        at = (floor + window.high) // 2
        if self._estimate(window) < 2 * MIN_PAGES or at <= floor:
            return None
        return self._split(window, at, probing=False)

    def _split(self, window: Window, at: int, *, probing: bool) -> Window | None:
        if not window.low < at < window.high - 1:
            return None
        lower = Window(window.low, at, density=window.density, probing=probing)
        window.low = at
        self._open.append(lower)
        self._unsaved.append(lower)
        return lower

    def _estimate(self, window: Window) -> float:
        """Return the estimated pages left in the part of the window that is known to have rows."""
        seconds = max(0, window.high - 1 - self._oldest_known(window))
        return seconds * window.density / self._page_size

    def _oldest_known(self, window: Window) -> int:
        oldest = window.high if self._oldest is None else self._oldest
        return max(window.low, min(oldest, window.high))
