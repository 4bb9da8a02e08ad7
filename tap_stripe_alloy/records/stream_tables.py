"""Decides when ACTIVATE_VERSION may be sent, so that a target removes deleted rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tap_stripe_alloy.records.partitions import StreamPartition, kept_from

if TYPE_CHECKING:
    from tap_stripe_alloy.bookmarks import Bookmark
    from tap_stripe_alloy.stream import StripeStream


class StreamTables:
    """Manages the table versions of streams, over the bookmarks of all accounts."""

    def __init__(self, partitions: Iterable[StreamPartition], *, start: int) -> None:
        self._partitions = list(partitions)
        self._start = start

    def bookmarks_of(self, stream: StripeStream) -> list[Bookmark]:
        """Return the stream's bookmarks, one per account."""
        return [partition.bookmark for partition in self._partitions if partition.stream is stream]

    def ensure(self, stream: StripeStream, now: float) -> None:
        """Reset the bookmarks that a full refresh lists again, and set the version of the records.

        `now` is Stripe's time (Unix seconds).
        """
        bookmarks = self.bookmarks_of(stream)
        full_table = stream.replication_method == "FULL_TABLE"
        if full_table and all(mark.listed for mark in bookmarks):
            for bookmark in bookmarks:
                bookmark.forget()
        if self._activates(stream):
            version = next(out.version for out in self._partitions if out.stream is stream)
            version.ensure(bookmarks, now, kept_from=kept_from(now), whole=full_table)
            stream.set_version(version.number)

    def begin_anew(self, partition: StreamPartition, now: float) -> None:
        """Reset a bookmark that is older than Stripe's event retention, and log a warning."""
        stream, activates = partition.stream, self._activates(partition.stream)
        stream.logger.warning(
            "%s was last read more than 30 days ago, longer than Stripe keeps events: "
            "backfilling it again. %s",
            stream.name,
            "ACTIVATE_VERSION then lets the target remove rows that no longer exist in Stripe."
            if activates
            else "Rows deleted in Stripe meanwhile stay in the destination.",
        )
        self.begin_full_list(partition, now)

    def begin_full_list(self, partition: StreamPartition, now: float) -> None:
        """Reset a bookmark, so that the whole list is read again.

        `now` is Stripe's time (Unix seconds).
        """
        if self._activates(partition.stream) and partition.version.needs_renewal_for(
            partition.bookmark
        ):
            partition.version.start_new(now)
            partition.stream.set_version(partition.version.number)
        partition.bookmark.forget()

    def completed(self, partitions: Sequence[StreamPartition], whole: bool) -> None:
        """Write ACTIVATE_VERSION for each stream with complete lists of all accounts.

        `whole`: whether the lists contained all rows; otherwise none may be removed.
        """
        for partition in partitions:
            if not whole and partition.version.pending:
                partition.stream.logger.warning(
                    "%s: Stripe refused a part of the list, so no ACTIVATE_VERSION is sent: rows "
                    "of objects that no longer exist stay in the destination",
                    partition.stream.name,
                )
                partition.version.mark_activated()
            bookmarks = self.bookmarks_of(partition.stream)
            if partition.stream.object_type.needs_full_lists:
                partition.bookmark.note_listed_at(partition.bookmark.since)
            if partition.version.is_complete(bookmarks):
                if partition.version.left_out(bookmarks):
                    partition.stream.logger.warning(
                        "%s: ACTIVATE_VERSION lets the target remove the rows of accounts that are "
                        "no longer read. An account that is added again later is backfilled again.",
                        partition.stream.name,
                    )
                partition.stream.send_activate_version()
                partition.version.mark_activated()

    def _activates(self, stream: StripeStream) -> bool:
        """Whether a listing of the stream contains every row that a destination may have."""
        if not stream.emit_activate_version_messages:
            return False
        complete = stream.object_type.is_complete_history and not self._start
        return complete or stream.replication_method == "FULL_TABLE"
