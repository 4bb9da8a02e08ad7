"""One run of the tap: opens inbox and journal, and yields the batches of all accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.errors import SettingsError
from stripe_alloy.api.events import OVERLAP
from stripe_alloy.api.object_types import BY_NAME
from stripe_alloy.api.timestamps import DAY
from tap_stripe_alloy.account_reader import AccountReader, Refusals
from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.changed_settings import follow_settings
from tap_stripe_alloy.events.event_feeds import keep_all
from tap_stripe_alloy.events.own_writes import OwnWrites
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.records.stream_tables import StreamTables
from tap_stripe_alloy.records.table_versions import TableVersion
from tap_stripe_alloy.scheduler import Batch, Scheduler
from tap_stripe_alloy.settings import ALL_ACCOUNTS
from tap_stripe_alloy.state_owner import KEY, OWN, StateOwner

if TYPE_CHECKING:
    from stripe_alloy.write_log import WriteLog
    from tap_stripe_alloy.events.inbox_reader import InboxReader
    from tap_stripe_alloy.settings import Settings
    from tap_stripe_alloy.stream import StripeStream


class Sync:
    """Reads the streams of all accounts: iterate over `first_pass`, then check `refusals`."""

    def __init__(
        self,
        streams: Sequence[StripeStream],
        *,
        settings: Settings,
        transport: StripeClient,
        stopped: Callable[[], bool],
        direct: bool = False,
    ) -> None:
        self._streams = streams
        self._settings = settings
        self.transport = transport
        self._stopped = stopped
        self._direct = direct
        self.refusals = Refusals()
        self._readers: list[AccountReader] = []
        self._scheduler: Scheduler | None = None
        self._partitions: list[StreamPartition] = []
        self._versions = {stream.name: TableVersion(stream.stream_state) for stream in streams}
        self._tables = StreamTables((), start=settings.start)
        self._origin = StateOwner(settings, transport)
        self._with_lookback = True
        self._inbox: InboxReader | None = None
        self._write_log: WriteLog | None = None

    def first_pass(self) -> Iterator[Batch]:
        """Open inbox and journal, and yield batches of records as they arrive.

        Raises `SettingsError` if the state cannot be used with these settings.
        """
        self._open()
        for account in self.accounts() if self._streams else ():
            self._partitions += self._partitions_of(account)
        self._tables = tables = StreamTables(self._partitions, start=self._settings.start)
        self._check_times()
        self._origin.check_mode(self._all_states())
        for stream in self._streams:
            self._origin.note_in(stream.stream_state)
            follow_settings(stream, tables.bookmarks_of(stream), self._settings.start)
            tables.ensure(stream, self.transport.now())
        for partition in self._partitions:
            partition.bookmark.note_first_attempt(int(self.transport.now()) - OVERLAP)
        if self._inbox:
            self._inbox.open(self._partitions)
        return self._pass()

    def next_pass(self) -> Iterator[Batch]:
        """Yield batches of new changes since the last pass.

        Left out are accounts that Stripe refused, and a stream for the accounts that refused it.
        """
        self._with_lookback = False
        self._partitions = [
            partition for partition in self._partitions if not self.refusals.include(partition)
        ]
        return self._pass()

    def has_news(self) -> bool | None:
        """Whether the inbox received events since the last call; None if no inbox is used."""
        return self._inbox.has_news() if self._inbox else None

    def prune_inbox(self) -> None:
        """Delete events from the inbox that are older than its retention or no longer needed."""
        if self._inbox:
            self._inbox.prune()

    def close(self) -> None:
        """Close inbox and journal."""
        for opened in (self._inbox, self._write_log):
            if opened:
                opened.close()

    def _open(self) -> None:
        """Open inbox and journal if they are configured: database libraries are slow to import."""
        settings = self._settings
        if settings.webhook_inbox:
            from stripe_alloy.webhooks.inbox import Inbox  # noqa: PLC0415
            from tap_stripe_alloy.events.inbox_reader import InboxReader  # noqa: PLC0415

            own_id = self._origin.ask_own_id() if settings.account_ids else self._own_id()
            self._inbox = InboxReader(
                Inbox(settings.webhook_inbox),
                livemode=settings.live,
                own_id=own_id,
                has_event=self._origin.has_event,
                answered_at=lambda: self.transport.answered_at,
            )
        if settings.ignore_own_writes:
            from stripe_alloy.write_log import WriteLog  # noqa: PLC0415

            self._write_log = WriteLog(settings.ignore_own_writes, "ignore_own_writes")

    def _pass(self) -> Iterator[Batch]:
        if self._inbox:
            self._inbox.refresh()
        by_account: dict[str | None, list[StreamPartition]] = {}
        for partition in self._partitions:
            by_account.setdefault(partition.account, []).append(partition)
        self._readers = [
            AccountReader(
                partitions,
                settings=self._settings,
                client=self.transport,
                tables=self._tables,
                refusals=self.refusals,
                self_writes=OwnWrites(self._write_log) if self._write_log else keep_all,
                inbox=self._inbox,
                with_lookback=self._with_lookback,
            )
            for partitions in by_account.values()
        ]
        self._scheduler = Scheduler(
            self.transport,
            max_concurrency=self._settings.max_concurrency,
            stopped=self._stopped,
        )
        return self._scheduler.run([reader.read() for reader in self._readers])

    @property
    def reads_several_accounts(self) -> bool:
        """Whether the run reads more than one account, rejected ones included."""
        return len({reader.account for reader in self._readers} | {*self.refusals.accounts}) > 1

    def left(self) -> Mapping[str, float]:
        """Return stream → estimated pages of its list that are left to read."""
        return self._scheduler.left() if self._scheduler else {}

    # Accounts: None is the account that the key belongs to, which needs no `Stripe-Account` header.

    def accounts(self) -> Sequence[str | None]:
        """Return the ids of the accounts to read; None for the key's account.

        Raises `SettingsError` if all accounts are wanted and none is connected.
        """
        named = self._settings.account_ids
        if not named:
            return [None]
        found = [account for account in named if account != ALL_ACCOUNTS]
        if ALL_ACCOUNTS in named:
            connected = [account["id"] for account in self.transport.paginate("/v1/accounts")]
            if not connected:
                raise SettingsError(
                    "`account_ids` is 'all', but the key's account has no connected accounts: omit "
                    "the setting to read the key's account itself"
                )
            found += connected
        return list(dict.fromkeys(found))

    def _own_id(self) -> str | None:
        return self._origin.own_id([stream.stream_state for stream in self._streams])

    def _check_times(self) -> None:
        """Raise `SettingsError` if a bookmark is ahead of Stripe's clock: it would skip changes."""
        ahead = {out.bookmark.latest: out.stream.name for out in self._partitions}
        latest = max(ahead, default=0)
        self.transport.note_passed(latest)
        if latest <= time.time() + DAY:
            return
        self._origin.ask_own_id()  # a response with Stripe's time: perhaps the local clock is wrong
        if latest > self.transport.now() + DAY:
            raise SettingsError(
                f"The state of stream {ahead[latest]!r} is in the future: changes until then would "
                "be missed. Pass the last state that this tap wrote, or no state to start over"
            )

    def _all_states(self) -> list[dict[str, Any]]:
        """Return the states of all streams of this tap, including those that are not selected."""
        states = self._streams[0].tap_state.get("bookmarks", {}) if self._streams else {}
        return [state for name, state in states.items() if name in BY_NAME]

    def _partitions_of(self, account: str | None) -> list[StreamPartition]:
        account_id = account or self._own_id()
        return [self._partition(stream, account, account_id) for stream in self._streams]

    def _partition(
        self, stream: StripeStream, account: str | None, account_id: str | None
    ) -> StreamPartition:
        if account:
            state = stream.get_context_state({"_account_id": account})
        else:
            state = stream.stream_state
            if account_id:
                state[OWN] = account_id
                state.setdefault(KEY, self._origin.key)
        key = stream.replication_key or "updated"
        bookmark = Bookmark(state, stream=stream.name, replication_key=key)
        bookmark.check()
        if not self._settings.clocks:
            if bookmark.test_clocks_listed:
                stream.logger.warning(
                    "%s: `include_test_clocks` is off, so rows of objects on test clocks are no "
                    "longer updated",
                    stream.name,
                )
            bookmark.note_clocks(listed=False)  # if turned on again, list them again
        return StreamPartition(
            stream,
            account,
            account_id,
            stream.recorder.of(account_id),
            bookmark,
            self._versions[stream.name],
            passes_through=self._direct and stream.passes_through,
        )
