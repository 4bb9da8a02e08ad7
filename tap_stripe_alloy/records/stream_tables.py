"""The tables of streams at the destination: when a target may drop rows of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tap_stripe_alloy.records.partitions import StreamPartition, kept_from

if TYPE_CHECKING:
    from tap_stripe_alloy.bookmarks import Bookmark
    from tap_stripe_alloy.stream import StripeStream


class StreamTables:
    """Knows, of each stream, the bookmarks of all accounts that its table has rows of."""

    def __init__(self, outputs: Iterable[StreamPartition], *, start: int) -> None:
        self._outputs = list(outputs)
        self._start = start

    def bookmarks_of(self, stream: StripeStream) -> list[Bookmark]:
        """Return the stream's bookmarks, one an account."""
        return [output.bookmark for output in self._outputs if output.stream is stream]

    def prepare(self, stream: StripeStream, now: float) -> None:
        """Forget what is to be listed in this run, and see that records carry a version."""
        bookmarks = self.bookmarks_of(stream)
        whole = stream.replication_method == "FULL_TABLE"
        if whole and all(mark.listed for mark in bookmarks):
            for bookmark in bookmarks:
                bookmark.forget()
        if self._activates(stream):
            version = next(out.version for out in self._outputs if out.stream is stream)
            version.prepare(bookmarks, now, kept_from=kept_from(now), whole=whole)
            stream.carry(version.number)

    def begin_anew(self, output: StreamPartition, now: float) -> None:
        """Forget a bookmark that is older than Stripe's events, and say so."""
        stream, activates = output.stream, self._activates(output.stream)
        stream.logger.warning(
            "%s was last read more than 30 days ago, longer than Stripe keeps events: it is "
            "listed again from the beginning. %s",
            stream.name,
            "ACTIVATE_VERSION then lets the target drop what no longer exists."
            if activates
            else "What was deleted meanwhile stays in the destination.",
        )
        if activates and output.version.used_by(output.bookmark):
            output.version.renew(now)
            stream.carry(output.version.number)
        output.bookmark.forget()

    def completed(self, outputs: Sequence[StreamPartition]) -> None:
        """Write ACTIVATE_VERSION for a stream once the lists of all its accounts were read."""
        for output in outputs:
            bookmarks = self.bookmarks_of(output.stream)
            if output.version.complete(bookmarks):
                if output.version.left_out(bookmarks):
                    output.stream.logger.warning(
                        "%s: ACTIVATE_VERSION lets the target drop the rows of accounts that are "
                        "no longer read. An account that is read again later is listed again.",
                        output.stream.name,
                    )
                output.stream.activate()
                output.version.activated()

    def _activates(self, stream: StripeStream) -> bool:
        """Whether a listing of the stream brings all that a destination may hold of it."""
        if not stream.emit_activate_version_messages:
            return False
        whole = stream.object_type.is_complete_history and not self._start
        return whole or stream.replication_method == "FULL_TABLE"
