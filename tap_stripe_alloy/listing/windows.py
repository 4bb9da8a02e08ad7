"""Which page to read next when a whole list is wanted: windows of `created`, split as they go.

Stripe lists newest first and pages by cursor, one page after the other. To read a list with
several requests at once it is cut into half-open windows of `created`; each is walked by cursor.
Nobody tells how dense a history is or where it begins, so windows are cut where pages already
read give evidence, and no more often than the books allow: a cut costs a partly filled page.

Pure: no clock, no network. `WindowPlanner` says what to ask for;
its caller asks and hands back the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stripe_alloy.api.client import PAGE_SIZE
from stripe_alloy.api.object_types import ASSUMED_HISTORY

MAX_SPLIT_OVERHEAD = 0.05
"""Share of requests that cutting may cost."""
RAMP_PAGES = 4
"""Pages read in a row before the first cut: a small list is never cut."""
MIN_PAGES = 3
"""Estimated pages that each side of a cut must keep."""
PROBE_FACTOR = 3
"""How many times the stretch already read a probe jumps below the oldest row seen."""

RemainingWindow = tuple[int, int, "str | None"]
"""What is still to read: `created` in [low, high), and after this cursor if there is one."""


class ListPosition(NamedTuple):
    """Where an object stands in its list."""

    created: int
    id: str


@dataclass(eq=False)
class Window:
    """`created` in [low, high), read newest first."""

    low: int
    high: int
    cursor: str | None = None
    density: float = 0.0
    """Rows a second: its own, or of the window it was cut from."""
    busy: bool = False
    probing: bool = False
    """Nobody knows yet whether it holds anything."""
    upper: int = field(init=False)
    """Above what requests ask for: it stays while there is a cursor, so that a row out of order
    still comes."""
    top: int = field(init=False)
    """Above its first row; with `high`, the stretch that is read."""
    rows: int = 0
    edge: frozenset[str] = frozenset()
    """Ids already read at the second of the cursor, in case the cursor is deleted meanwhile."""
    saved: tuple[int, str | None] = field(init=False)
    """(high, cursor) as far as records were written."""
    unsaved: deque[Page] = field(default_factory=deque)
    """Pages received but not saved, in order: one may be written before those ahead of it."""

    def __post_init__(self) -> None:
        self.top = self.upper = self.high
        self.saved = (self.high, self.cursor)


@dataclass(frozen=True)
class PageRequest:
    """A page to read: `created` in [low, high), after `cursor`."""

    window: Window
    low: int
    high: int
    cursor: str | None


@dataclass(eq=False)
class Page:
    """What of an answer to keep, and the position to save once it is written."""

    window: Window
    keep: Sequence[ListPosition]
    position: tuple[int, str] | None
    """(high, cursor) of what is left; None when the window is finished."""
    written: bool = False


class WindowPlanner:
    """Reads each row of [low, high) exactly once, by as many requests at a time as asked for.

    A list that Stripe does not filter by `created` is not `cuttable`; `history` is how many
    seconds it is taken to go back as long as nothing is known.
    """

    def __init__(
        self,
        remaining: Iterable[RemainingWindow],
        *,
        page_size: int = PAGE_SIZE,
        cuttable: bool = True,
        history: int = ASSUMED_HISTORY,
    ) -> None:
        self._page_size = page_size
        self._cuttable = cuttable
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
        """Whether everything was read (not: written)."""
        return not self._open

    def left(self) -> float:
        """Pages that are left, as far as where the history begins is known."""
        pages = 0.0
        for window in self._open:
            begins = max(window.low, self._history_begins) or self._oldest_known(window)
            pages += max(0, window.high - begins) * window.density / self._page_size
        return pages

    def remaining(self) -> list[RemainingWindow]:
        """What is left to read, as far as pages were `saved`: newest first, disjoint."""
        left = [(window.low, *window.saved) for window in self._unsaved]
        return sorted(left, key=lambda window: -window[1])

    def next(self) -> PageRequest | None:
        """Return the page to ask for now; None while only answers can tell more."""
        idle = [window for window in self._open if not window.busy]
        window = max(idle, key=self._estimate, default=None) or self._cut()
        if window is None:
            return None
        window.busy = True
        return PageRequest(window, window.low, window.upper, window.cursor)

    def received(self, ask: PageRequest, rows: Sequence[ListPosition], *, has_more: bool) -> Page:
        """Take an answer; the rows to keep are those of the window as it is now.

        Rows below `low` belong to a window cut off while the request was under way. Their order
        drops none: where a list is not cuttable nobody knows what it is sorted by.
        """
        window = ask.window
        fresh = [row for row in rows if row.id not in window.edge]
        keep = [row for row in fresh if row.created >= window.low]
        window.busy = False
        if rows:
            self._advance(window, rows)
        self._count(keep)
        if window.probing and not rows:
            self._history_begins = window.high
        goes_on = has_more and rows and not (self._cuttable and rows[-1].created < window.low)
        if not goes_on:
            self._open.remove(window)
        high = max(window.high, window.low + 1)  # a window that holds nothing would be dropped
        page = Page(window, keep, (high, rows[-1].id) if goes_on else None)
        window.probing = False
        window.unsaved.append(page)
        return page

    def cursor_deleted(self, ask: PageRequest) -> None:
        """Go on without the cursor, whose object Stripe no longer knows.

        A list that can be filtered goes on by time, any other begins anew: its rows repeat.
        """
        ask.window.busy = False
        ask.window.cursor = None
        ask.window.upper = ask.window.high

    def saved(self, page: Page) -> None:
        """Note that the page's records were written; it counts once all before it were too."""
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
            return  # on the way back to where a cursor was lost
        if not window.rows:
            window.top = max(row.created for row in rows) + 1
        at_edge = frozenset(row.id for row in rows if row.created == last.created)
        window.edge = at_edge | window.edge if last.created + 1 == window.high else at_edge
        window.high = last.created + 1
        window.rows += len(rows)
        if rows[0].created > last.created:
            # The lower of the window's and the page's: a second with thousands of rows tells
            # nothing of what is below it.
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

    # Cutting: where, and whether the books allow it.

    def _cut(self) -> Window | None:
        evidence = self._cuttable and self._open and self._pages >= RAMP_PAGES
        if not evidence or not self._affordable():
            return None
        return self._probe() or self._halve()

    def _affordable(self) -> bool:
        """Whether one more cut keeps the extra requests within `MAX_SPLIT_OVERHEAD` at worst."""
        still_open = len(self._open)
        wasted = self._requests - self._pages
        known = self._pages + sum(self._estimate(window) for window in self._open)
        allowed = MAX_SPLIT_OVERHEAD * max(known, known * self._history_factor())
        return wasted + still_open <= self._first_windows - 1 + (allowed if allowed >= 1 else 0)

    def _history_factor(self) -> float:
        """How many times as long as what is known of the history all of it is taken to be.

        Once a probe has found nothing, it is no longer than up to there.
        """
        if self._newest is None or self._oldest is None:
            return 0.0
        longest = min(self._history, self._newest - self._history_begins)
        return longest / (self._newest - self._oldest + 1)

    def _probe(self) -> Window | None:
        """Jump below the oldest row seen: the history may be longer than what is read."""
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
        """Cut the window with the most left, where rows on both sides are as good as certain."""
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
        """Pages left in the stretch of the window that is known to hold rows."""
        stretch = max(0, window.high - 1 - self._oldest_known(window))
        return stretch * window.density / self._page_size

    def _oldest_known(self, window: Window) -> int:
        oldest = window.high if self._oldest is None else self._oldest
        return max(window.low, min(oldest, window.high))
