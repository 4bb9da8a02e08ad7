"""Tracks which inbox events are new for each stream, and which events can be deleted."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stripe_alloy.api.errors import AccountAccessError, MissingPermissionError
from stripe_alloy.api.events import OVERLAP
from stripe_alloy.webhooks.inbox import AccountScope, Inbox
from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.events.event_feeds import (
    EventFeed,
    InboxFeed,
    ReadPosition,
    SelfWriteFilter,
)
from tap_stripe_alloy.records.partitions import StreamPartition, names_of

_logger = logging.getLogger(__name__)

HasEvent = Callable[[str, "str | None"], bool]
"""Whether Stripe has an event of this id, for an account (None: the key's account)."""


class InboxReader:
    """Reads new events of each stream from the inbox, and acknowledges written events."""

    def __init__(
        self,
        inbox: Inbox,
        *,
        livemode: bool,
        own_id: str | None,
        has_event: HasEvent,
        answered_at: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._livemode = livemode
        self._own_id = own_id
        self._has_event = has_event
        self._answered_at = answered_at
        self._accounts: list[str | None] = []
        self._may_not_ask = False
        self._reader = uuid.uuid4().hex
        self._pruned_to = (0, 0)
        self._known_reader = False
        self._newest = 0
        self._done = 0

    def scope_of(self, account: str | None) -> AccountScope:
        """Return the scope of an account; events of the key's account carry no account id."""
        other = None if account == self._own_id else account
        return AccountScope(other, self._livemode, self._own_id)

    def open(self, partitions: Sequence[StreamPartition]) -> None:
        """Start a run: acknowledge events that are written according to the state, and prune."""
        self._accounts = list(dict.fromkeys(partition.account for partition in partitions))
        if self._own_id:
            self._inbox.add_reader(self._own_id)
        self._claim_endpoints()
        positions = [self._known(partition.bookmark) for partition in partitions]
        readers = sorted({position["reader"] for position in positions if position})
        self._known_reader = bool(readers)
        self._reader = readers[0] if readers else self._reader
        done = [self._inbox.newest()]
        for partition, position in zip(partitions, positions, strict=True):
            if not partition.stream.object_type.has_events:
                continue
            if position:
                done.append(position["seq"])
            else:
                first = self._inbox.first_since(
                    self.scope_of(partition.account), self._needed_from(partition)
                )
                done += [] if first is None else [first - 1]
        self._done = min(done)
        self.prune()

    def prune(self) -> None:
        """Delete events that every reader has written, and events past the inbox's retention."""
        if self._known_reader:  # a reader that never returns would keep events forever
            self._inbox.acknowledge(self._reader, self._done)
        else:
            self._inbox.prune()

    def refresh(self) -> None:
        """Read which events were pruned, and claim endpoints that are new in the inbox."""
        self._claim_endpoints()
        self._pruned_to = self._inbox.pruned_to()

    def _claim_endpoints(self) -> None:
        """Claim unclaimed endpoints if their events belong to the key's account.

        Stripe is asked for one event of each endpoint, once. Without the permission to read events
        the endpoints stay unclaimed.
        """
        if self._own_id is None or self._may_not_ask:
            return
        for account in self._accounts:
            try:
                self._claim_endpoints_of(self.scope_of(account), self._own_id)
            except AccountAccessError:
                continue  # reported once the account's events are read
            except MissingPermissionError as error:
                self._may_not_ask = True
                _logger.warning(
                    "The inbox has events of a webhook endpoint of an unknown account, and the key "
                    "may not read events, which would tell whether the endpoint is of its account. "
                    "Until it may, these and later events are not read from the inbox. %s",
                    error,
                )
                return

    def _claim_endpoints_of(self, scope: AccountScope, own_id: str) -> None:
        for endpoint, event_id in self._inbox.unclaimed(scope):
            if self._has_event(event_id, scope.account):
                self._inbox.claim(endpoint, own_id)
            else:
                self._inbox.disclaim(endpoint, own_id)

    def has_all_events_for(self, partition: StreamPartition) -> bool:
        """Whether no event that is new for a stream was pruned from the inbox."""
        position = self._known(partition.bookmark)
        seq, created = self._pruned_to
        return position["seq"] >= seq if position else self._needed_from(partition) > created

    def feed(
        self, partitions: Sequence[StreamPartition], self_writes: SelfWriteFilter
    ) -> InboxFeed:
        """Return a feed of the new events of streams of one account."""
        account = partitions[0].account
        return InboxFeed(
            self._inbox,
            self.scope_of(account),
            account=account,
            streams=names_of(partitions),
            positions=self._positions(partitions),
            self_writes=self_writes,
            answered_at=self._answered_at,
        )

    def position_of(self, partition: StreamPartition, feed: EventFeed) -> dict[str, Any]:
        """Return the inbox position to store in a bookmark once the feed's events are written."""
        known = self._known(partition.bookmark)
        since = known["from"] if known else partition.bookmark.since
        return {"id": self._inbox.id, "reader": self._reader, "seq": feed.max_seq, "from": since}

    def has_news(self) -> bool:
        """Whether the inbox received events since the last call."""
        newest = self._inbox.newest()
        self._newest, before = newest, self._newest
        return newest > before

    def close(self) -> None:
        """Close the inbox."""
        self._inbox.close()

    def _known(self, bookmark: Bookmark) -> dict[str, Any] | None:
        found = bookmark.inbox if bookmark.listed else None
        return found if found and found.get("id") == self._inbox.id else None

    def _needed_from(self, partition: StreamPartition) -> int:
        """Return the oldest event time that a stream needs; from now on if it was not started."""
        bookmark = partition.bookmark
        started = bookmark.listed or bookmark.backfill
        return (bookmark.changes_from if started else int(self._inbox.clock()) - OVERLAP) - OVERLAP

    def _positions(self, partitions: Iterable[StreamPartition]) -> Mapping[str, ReadPosition]:
        """Return object type → read position, which is that of its stream furthest behind."""
        found: dict[str, ReadPosition] = {}
        for partition in partitions:
            kind = partition.stream.object_type.event_source.object_name
            bookmark = partition.bookmark
            known = self._known(bookmark)
            position = ReadPosition(
                known["seq"] if known else None,
                bookmark.since,
                known["from"] if known else bookmark.since,
                bookmark.seen,
            )
            found[kind] = position.merge(found[kind]) if kind in found else position
        return found
