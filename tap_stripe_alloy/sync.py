"""One run: opens what it reads from, and hands out the batches of all accounts."""

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
    """Reads the streams of all accounts: iterate over `batches`, then look at `refusals`."""

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
        self._outputs: list[StreamPartition] = []
        self._versions = {stream.name: TableVersion(stream.stream_state) for stream in streams}
        self._tables = StreamTables((), start=settings.start)
        self._origin = StateOwner(settings, transport)
        self._with_lookback = settings.relist_days > 0
        self._inbox: InboxReader | None = None
        self._write_log: WriteLog | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield what is to be written, as it arrives."""
        self._open()
        for account in self.accounts() if self._streams else ():
            self._outputs += self._outputs_of(account)
        self._tables = tables = StreamTables(self._outputs, start=self._settings.start)
        self._check_times()
        self._origin.check_mode(self._all_states())
        for stream in self._streams:
            self._origin.note_in(stream.stream_state)
            follow_settings(stream, tables.bookmarks_of(stream), self._settings.start)
            tables.prepare(stream, self.transport.now())
        for output in self._outputs:
            output.bookmark.note_begun(int(self.transport.now()) - OVERLAP)
        if self._inbox:
            self._inbox.open(self._outputs)
        return self._round()

    def more(self) -> Iterator[Batch]:
        """Yield what is new since the last round; what was refused is not asked for again."""
        self._with_lookback = False
        self._outputs = [
            output
            for output in self._outputs
            if output.stream.name not in self.refusals.streams
            and output.account not in self.refusals.accounts
        ]
        return self._round()

    def news(self) -> bool | None:
        """Whether the inbox has something new; None if there is none to look into."""
        return self._inbox.has_news() if self._inbox else None

    def tidy(self) -> None:
        """See that the inbox drops what it has kept too long."""
        if self._inbox:
            self._inbox.tidy()

    def close(self) -> None:
        """Close inbox and journal."""
        for opened in (self._inbox, self._write_log):
            if opened:
                opened.close()

    def _open(self) -> None:
        """Open inbox and journal, if the settings name them: databases are heavy to import."""
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
            )
        if settings.ignore_own_writes:
            from stripe_alloy.write_log import WriteLog  # noqa: PLC0415

            self._write_log = WriteLog(settings.ignore_own_writes, "ignore_own_writes")

    def _round(self) -> Iterator[Batch]:
        if self._inbox:
            self._inbox.look()
        by_account: dict[str | None, list[StreamPartition]] = {}
        for output in self._outputs:
            by_account.setdefault(output.account, []).append(output)
        self._readers = [
            AccountReader(
                outputs,
                settings=self._settings,
                client=self.transport,
                tables=self._tables,
                refusals=self.refusals,
                own=OwnWrites(self._write_log) if self._write_log else keep_all,
                inbox=self._inbox,
                with_lookback=self._with_lookback,
            )
            for outputs in by_account.values()
        ]
        self._scheduler = Scheduler(
            self.transport,
            max_concurrency=self._settings.max_concurrency,
            stopped=self._stopped,
        )
        return self._scheduler.run([reader.read() for reader in self._readers])

    @property
    def reads_several_accounts(self) -> bool:
        """Whether others are read where one refuses the key."""
        return len({reader.account for reader in self._readers} | {*self.refusals.accounts}) > 1

    def left(self) -> Mapping[str, float]:
        """Stream → pages of its list that are left, as far as known."""
        return self._scheduler.left() if self._scheduler else {}

    # Accounts: None stands for the key's own, which needs no header.

    def accounts(self) -> Sequence[str | None]:
        """Return the accounts to read."""
        named = self._settings.account_ids
        if not named:
            return [None]
        found = [account for account in named if account != ALL_ACCOUNTS]
        if ALL_ACCOUNTS in named:
            connected = [account["id"] for account in self.transport.walk("/v1/accounts")]
            if not connected:
                raise SettingsError(
                    "`account_ids` is 'all', but no account is connected to the key's own: leave "
                    "the setting out to read that"
                )
            found += connected
        return list(dict.fromkeys(found))

    def _own_id(self) -> str | None:
        return self._origin.own_id([stream.stream_state for stream in self._streams])

    def _check_times(self) -> None:
        """Raise `SettingsError` if a bookmark lies ahead of Stripe's clock: it would miss all."""
        ahead = {out.bookmark.latest: out.stream.name for out in self._outputs}
        latest = max(ahead, default=0)
        self.transport.note_passed(latest)
        if latest <= time.time() + DAY:
            return
        self._origin.ask_own_id()  # perhaps it is our clock that is wrong
        if latest > self.transport.now() + DAY:
            raise SettingsError(
                f"The state of stream {ahead[latest]!r} lies in the future: its changes would be "
                "missed until then. Give the state file that this tap wrote last, or none to read "
                "all anew"
            )

    def _all_states(self) -> list[dict[str, Any]]:
        """The states of all streams that there are, whether they are read or not."""
        states = self._streams[0].tap_state.get("bookmarks", {}) if self._streams else {}
        return [state for name, state in states.items() if name in BY_NAME]

    def _outputs_of(self, account: str | None) -> list[StreamPartition]:
        account_id = account or self._own_id()
        return [self._output(stream, account, account_id) for stream in self._streams]

    def _output(
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
            if bookmark.clocks:
                stream.logger.warning(
                    "%s: without `include_test_clocks` rows on test clocks stay as they are",
                    stream.name,
                )
            bookmark.note_clocks(listed=False)  # once turned on again, they are to be listed anew
        return StreamPartition(
            stream,
            account,
            account_id,
            stream.recorder.of(account_id),
            bookmark,
            self._versions[stream.name],
            passes_through=self._direct and stream.as_it_comes,
        )
