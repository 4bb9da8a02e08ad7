"""The webhook inbox, as one run's bookmarks stand in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stripe_alloy.api.errors import AccountAccessError
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

HasEvent = Callable[[str, "str | None"], bool]
"""Whether Stripe has an event of this id, for an account or the key's own."""


class InboxReader:
    """Finds what of the inbox is new to each stream, and tells the inbox what need not be kept."""

    def __init__(
        self, inbox: Inbox, *, livemode: bool, own_id: str | None, has_event: HasEvent
    ) -> None:
        self._inbox = inbox
        self._livemode = livemode
        self._own_id = own_id
        self._has_event = has_event
        self._accounts: list[str | None] = []
        self._reader = uuid.uuid4().hex
        self._taken = (0, 0)
        self._known_reader = False
        self._newest = 0
        self._done = 0

    def scope_of(self, account: str | None) -> AccountScope:
        """The events of an account; those of the account that the key belongs to name none."""
        other = None if account == self._own_id else account
        return AccountScope(other, self._livemode, self._own_id)

    def open(self, outputs: Sequence[StreamPartition]) -> None:
        """Begin a run: what the state says was written, the inbox need not keep."""
        self._accounts = list(dict.fromkeys(output.account for output in outputs))
        if self._own_id:
            self._inbox.know_reader(self._own_id)
        self._claim_endpoints()
        positions = [self._known(output.bookmark) for output in outputs]
        readers = sorted({position["reader"] for position in positions if position})
        self._known_reader = bool(readers)
        self._reader = readers[0] if readers else self._reader
        done = [self._inbox.newest()]
        for output, position in zip(outputs, positions, strict=True):
            if not output.stream.object_type.has_events:
                continue
            if position:
                done.append(position["seq"])
            else:
                first = self._inbox.first_since(
                    self.scope_of(output.account), self._needed_from(output)
                )
                done += [] if first is None else [first - 1]
        self._done = min(done)
        self.tidy()

    def tidy(self) -> None:
        """Let the inbox drop what is done with or too old."""
        if self._known_reader:  # one whose state never comes back would hold events for good
            self._inbox.acknowledge(self._reader, self._done)
        else:
            self._inbox.tidy()

    def look(self) -> None:
        """See what of the inbox is gone by now, and which endpoints are new in it."""
        self._claim_endpoints()
        self._taken = self._inbox.taken()

    def _claim_endpoints(self) -> None:
        """Ask Stripe about endpoints that no account has claimed: Stripe has their events or not.

        One request for each endpoint, once.
        """
        if self._own_id is None:
            return
        for account in self._accounts:
            scope = self.scope_of(account)
            for endpoint, event_id in self._inbox.unclaimed(scope):
                try:
                    ours = self._has_event(event_id, scope.account)
                except AccountAccessError:
                    break  # it is named once its own events are asked for
                if ours:
                    self._inbox.claim(endpoint, self._own_id)
                else:
                    self._inbox.disclaim(endpoint, self._own_id)

    def serves(self, output: StreamPartition) -> bool:
        """Whether all that is new to a stream can still be in the inbox, or be put there."""
        position = self._known(output.bookmark)
        seq, created = self._taken
        return position["seq"] >= seq if position else self._needed_from(output) > created

    def feed(self, outputs: Sequence[StreamPartition], own: SelfWriteFilter) -> InboxFeed:
        """What is new to some streams of one account."""
        account = outputs[0].account
        return InboxFeed(
            self._inbox,
            self.scope_of(account),
            account=account,
            streams=names_of(outputs),
            positions=self._positions(outputs),
            own=own,
        )

    def position_of(self, output: StreamPartition, feed: EventFeed) -> dict[str, Any]:
        """Where a stream stands once a feed was written."""
        known = self._known(output.bookmark)
        since = known["from"] if known else output.bookmark.since
        return {"id": self._inbox.id, "reader": self._reader, "seq": feed.upto, "from": since}

    def has_news(self) -> bool:
        """Whether something came since this was last asked."""
        newest = self._inbox.newest()
        self._newest, before = newest, self._newest
        return newest > before

    def close(self) -> None:
        """Close the inbox."""
        self._inbox.close()

    def _known(self, bookmark: Bookmark) -> dict[str, Any] | None:
        found = bookmark.inbox if bookmark.listed else None
        return found if found and found.get("id") == self._inbox.id else None

    def _needed_from(self, output: StreamPartition) -> int:
        """Since when events are new to a stream; one not begun will be read from now on."""
        bookmark = output.bookmark
        begun = bookmark.listed or bookmark.backfill
        return (bookmark.changes_from if begun else int(self._inbox.clock()) - OVERLAP) - OVERLAP

    def _positions(self, outputs: Iterable[StreamPartition]) -> Mapping[str, ReadPosition]:
        """By kind of object; of its streams the one that is behind counts."""
        found: dict[str, ReadPosition] = {}
        for output in outputs:
            kind, bookmark = output.stream.root.object_type.object_name, output.bookmark
            known = self._known(bookmark)
            mine = ReadPosition(
                known["seq"] if known else None,
                bookmark.since,
                known["from"] if known else bookmark.since,
                bookmark.seen,
            )
            found[kind] = mine.behind(found[kind]) if kind in found else mine
        return found
