"""One run over streams and accounts: which source reads what, and what was refused."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.errors import AccountAccessError, MissingPermissionError, SettingsError
from stripe_alloy.api.events import OVERLAP, RETENTION
from stripe_alloy.api.list_endpoint import NO_UPPER_BOUND
from stripe_alloy.api.object_types import BY_NAME, ObjectType
from stripe_alloy.api.timestamps import DAY, rfc3339
from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.events.event_feeds import keep_all
from tap_stripe_alloy.events.event_reader import EventReader
from tap_stripe_alloy.events.own_writes import OwnWrites
from tap_stripe_alloy.listing.list_backfill import (
    CreatedSinceBookmark,
    ListBackfill,
    LookbackListing,
)
from tap_stripe_alloy.listing.list_variants import VariantListing
from tap_stripe_alloy.listing.payment_methods import PaymentMethodListing
from tap_stripe_alloy.listing.second_listing import SecondListing
from tap_stripe_alloy.listing.test_clocks import BackfillWithTestClocks, TestClockReader
from tap_stripe_alloy.records.partitions import StreamPartition
from tap_stripe_alloy.records.table_versions import TableVersion
from tap_stripe_alloy.row_settings import Shape, key_changed, name_of, reasons
from tap_stripe_alloy.scheduler import AddSource, Batch, Scheduler, Source, Step
from tap_stripe_alloy.settings import ALL_ACCOUNTS
from tap_stripe_alloy.state_owner import KEY, OWN, StateOwner
from tap_stripe_alloy.sync_callbacks import SyncCallbacks

if TYPE_CHECKING:
    from stripe_alloy.write_log import WriteLog
    from tap_stripe_alloy.events.inbox_reader import InboxReader
    from tap_stripe_alloy.settings import Settings
    from tap_stripe_alloy.stream import StripeStream

RETENTION_MARGIN = 86_400
"""Seconds before that end at which a bookmark counts as too old."""


class Sync:
    """Reads the streams of all accounts; iterate over `batches`, then look at `refusals`."""

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
        self.refusals: dict[str, MissingPermissionError] = {}
        """Stream → the error that says what the key lacks."""
        self.rejections: dict[str, AccountAccessError] = {}
        """Account → the error that says that it does not let the key in."""
        self._reading: list[Source] = []
        self._outputs: list[tuple[str | None, StreamPartition]] = []
        self._versions = {stream.name: TableVersion(stream.stream_state) for stream in streams}
        self._origin = StateOwner(settings, transport)
        self._run = SyncCallbacks(self._refused, self._stale, self._relist, self._listed)
        self._relists = settings.relist_days > 0
        self._mailbox: InboxReader | None = None
        self._written: WriteLog | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield what is to be written, as it arrives."""
        self._open()
        for account in self.accounts() if self._streams else ():
            self._outputs += [(account, output) for output in self._outputs_of(account)]
        self._check_times()
        self._origin.check_mode(self._all_states())
        for stream in self._streams:
            self._origin.note_in(stream.stream_state)
            self._follow_settings(stream)
            self._start_over_if_due(stream)
        for _, output in self._outputs:
            output.bookmark.note_begun(int(self.transport.now()) - OVERLAP)
        if self._mailbox:
            self._mailbox.open(self._outputs)
        return self._round()

    def more(self) -> Iterator[Batch]:
        """Yield what is new since the last round; what was refused is not asked for again."""
        self._relists = False
        self._outputs = [
            (account, output)
            for account, output in self._outputs
            if output.stream.name not in self.refusals and account not in self.rejections
        ]
        return self._round()

    def news(self) -> bool | None:
        """Whether the inbox has something new; None if there is none to look into."""
        return self._mailbox.has_news() if self._mailbox else None

    def tidy(self) -> None:
        """See that the inbox drops what it has kept too long."""
        if self._mailbox:
            self._mailbox.tidy()

    def close(self) -> None:
        """Let go of inbox and journal."""
        for held in (self._mailbox, self._written):
            if held:
                held.close()

    def _open(self) -> None:
        """Open inbox and journal, if the settings name them: databases are heavy to import."""
        settings = self._settings
        if settings.webhook_inbox:
            from stripe_alloy.webhooks.inbox import Inbox  # noqa: PLC0415
            from tap_stripe_alloy.events.inbox_reader import InboxReader  # noqa: PLC0415

            own_id = self._origin.ask_own_id() if settings.account_ids else self._own_id()
            self._mailbox = InboxReader(
                Inbox(settings.webhook_inbox),
                livemode=settings.live,
                own_id=own_id,
                has_event=self._origin.has_event,
            )
        if settings.ignore_own_writes:
            from stripe_alloy.write_log import WriteLog  # noqa: PLC0415

            self._written = WriteLog(settings.ignore_own_writes, "ignore_own_writes")

    def _round(self) -> Iterator[Batch]:
        if self._mailbox:
            self._mailbox.look()
        accounts = dict.fromkeys(account for account, _ in self._outputs)
        self._reading = [source for account in accounts for source in self._sources(account)]
        fetcher = Scheduler(
            self.transport,
            max_concurrency=self._settings.max_concurrency,
            stopped=self._stopped,
            rejected=self.rejections.__setitem__,
        )
        return fetcher.run(self._reading)

    @property
    def reads_several_accounts(self) -> bool:
        """Whether others are read where one refuses the key."""
        return len({source.account for source in self._reading} | {*self.rejections}) > 1

    def left(self) -> Mapping[str, float]:
        """Stream → pages of its list that are left, as far as known."""
        found: defaultdict[str, float] = defaultdict(float)
        for source in self._reading:
            for stream, pages in source.left().items():
                found[stream] += pages
        return found

    def _refused(self, outputs: Sequence[StreamPartition], error: MissingPermissionError) -> None:
        for output in outputs:
            self.refusals[output.stream.name] = error

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
        ahead = {out.bookmark.latest: out.stream.name for _, out in self._outputs}
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

    # What is left to do for an account.

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
            stream.recorder.of(account_id),
            bookmark,
            self._versions[stream.name],
            account_id,
            self._direct and stream.as_it_comes,
        )

    def _sources(self, account: str | None) -> Iterator[Source]:
        outputs = [output for of, output in self._outputs if of == account]
        listed = [output for output in outputs if output.bookmark.listed]
        walks = list(
            self._walks(account, [out for out in listed if out.stream.object_type.has_events])
        )
        yield from (walk for walk, _ in walks)
        for output in listed:
            if not output.stream.object_type.has_events:
                walk = walks[0][0] if walks else None
                yield CreatedSinceBookmark(
                    [output], output.stream.listed, account=account, run=self._run, walk=walk
                )
        for walk, output in ((walk, output) for walk, told in walks for output in told):
            if output.stream.object_type.has_silent_updates and self._relists:
                yield LookbackListing(
                    [output],
                    output.stream.listed,
                    account=account,
                    run=self._run,
                    walk=walk,
                    start=self._relist_from,
                )
        for walk, told in walks:
            yield from self._clocks_turned_on(account, walk, told)
            yield from self._listed_again(account, walk, told)
        yield from self._listed_again(
            account, None, [o for o in listed if not o.stream.object_type.has_events]
        )
        yield from self._listings(account, [o for o in outputs if not o.bookmark.listed])

    def _listed_again(
        self, account: str | None, walk: EventReader | None, outputs: Sequence[StreamPartition]
    ) -> Iterator[Source]:
        """What is to be read once more because a setting changed."""
        waiting = [output for output in outputs if output.bookmark.to_list_again]
        for members in _families(waiting, lambda bookmark: bookmark.to_list_again):
            yield SecondListing(
                members,
                account=account,
                walk=walk,
                listing=partial(self._listing, account, without_clocks=True),
            )

    def _clocks_turned_on(
        self, account: str | None, walk: EventReader, told: Sequence[StreamPartition]
    ) -> Iterator[Source]:
        """What is on test clocks, for streams whose list was read without."""
        for members in _families(
            [output for output in told if self._lacks_clocks(output)],
            lambda bookmark: bookmark.missing,
        ):
            listed, start = members[0].stream.root.listed, self._start_of(members)
            yield TestClockReader(
                members, listed, account=account, start=start, run=self._run, walk=walk
            )

    def _lacks_clocks(self, output: StreamPartition) -> bool:
        wanted = self._settings.clocks and bool(output.stream.root.object_type.test_clock_path)
        return wanted and not output.bookmark.clocks

    def _start_of(self, members: Sequence[StreamPartition]) -> int:
        """The earliest `created` to list, for streams that are listed together."""
        return min(output.bookmark.listed_from(self._settings.start) for output in members)

    def _relist_from(self) -> int:
        return int(self.transport.now()) - self._settings.relist_days * DAY

    def _walks(
        self, account: str | None, told: Sequence[StreamPartition]
    ) -> Iterator[tuple[EventReader, Sequence[StreamPartition]]]:
        """One walk for all, or one over the inbox and one for what is no longer in it."""
        mailbox = self._mailbox
        served, rest = list[StreamPartition](), list[StreamPartition]()
        for output in told:
            (served if mailbox and mailbox.serves(output) else rest).append(output)
        for outputs, source in ((served, mailbox), (rest, None)):
            if outputs:
                walk = EventReader(
                    outputs,
                    account=account,
                    api_version=self._settings.api_version,
                    run=self._run,
                    own=OwnWrites(self._written) if self._written else keep_all,
                    mailbox=source,
                )
                yield walk, outputs

    # Listing again, and what a target may drop then.

    def _start_over_if_due(self, stream: StripeStream) -> None:
        """Forget what is to be listed in this run, and see that records carry a version."""
        bookmarks = self._bookmarks_of(stream)
        whole = stream.replication_method == "FULL_TABLE"
        if whole and all(mark.listed for mark in bookmarks):
            for bookmark in bookmarks:
                bookmark.forget()
        if self._activates(stream):
            version, now = self._versions[stream.name], self.transport.now()
            kept_from = now - RETENTION + RETENTION_MARGIN
            version.prepare(bookmarks, now, kept_from=kept_from, whole=whole)
            stream.carry(version.number)

    def _bookmarks_of(self, stream: StripeStream) -> list[Bookmark]:
        return [output.bookmark for _, output in self._outputs if output.stream is stream]

    def _activates(self, stream: StripeStream) -> bool:
        """Whether a listing of the stream brings all that a destination may hold of it."""
        if not stream.emit_activate_version_messages:
            return False
        whole = stream.object_type.is_complete_history and not self._settings.start
        return whole or stream.replication_method == "FULL_TABLE"

    def _stale(
        self, outputs: Sequence[StreamPartition], now: float, needed_from: float
    ) -> list[StreamPartition]:
        """Those of which events can no longer tell, at this time on Stripe's clock."""
        kept_from = now - RETENTION + RETENTION_MARGIN
        if needed_from >= kept_from:
            return []
        return [
            output
            for output in outputs
            if output.stream.object_type.has_events
            and output.stream.replication_method != "FULL_TABLE"
            and output.bookmark.changes_from < kept_from
        ]

    def _relist(self, outputs: Sequence[StreamPartition]) -> Iterator[Step]:
        for output in outputs:
            stream = output.stream
            stream.logger.warning(
                "%s was last read more than 30 days ago, longer than Stripe keeps events: it is "
                "listed again from the beginning. %s",
                stream.name,
                "ACTIVATE_VERSION then lets the target drop what no longer exists."
                if self._activates(stream)
                else "What was deleted meanwhile stays in the destination.",
            )
            if self._activates(stream) and output.version.used_by(output.bookmark):
                output.version.renew(self.transport.now())
                stream.carry(output.version.number)
            output.bookmark.forget()
        account = next(of for of, output in self._outputs if output is outputs[0])
        for listing in self._listings(account, outputs):
            self._reading.append(listing)
            yield AddSource(listing)

    def _listed(self, outputs: Sequence[StreamPartition]) -> None:
        for output in outputs:
            bookmarks = self._bookmarks_of(output.stream)
            if output.version.complete(bookmarks):
                if output.version.left_out(bookmarks):
                    output.stream.logger.warning(
                        "%s: ACTIVATE_VERSION lets the target drop the rows of accounts that are "
                        "no longer read. An account that is read again later is listed again.",
                        output.stream.name,
                    )
                output.stream.activate()
                output.version.activated()

    def _listings(
        self, account: str | None, outputs: Sequence[StreamPartition]
    ) -> Iterator[Source]:
        for members in _families(outputs, lambda bookmark: bookmark.missing):
            yield self._listing(account, members)

    def _listing(
        self,
        account: str | None,
        members: Sequence[StreamPartition],
        *,
        without_clocks: bool = False,
    ) -> Source:
        start, run = self._start_of(members), self._run
        root = members[0].stream.root
        clocks = self._lacks_clocks(members[0]) and not without_clocks
        kind = BackfillWithTestClocks if clocks else _listing_of(root.object_type)
        return kind(members, root.listed, account=account, start=start, run=run)

    # Settings that shape rows.

    def _follow_settings(self, stream: StripeStream) -> None:
        """See that rows which other settings made are listed again, and note these settings."""
        state = stream.stream_state
        shape, known = stream.row_settings, state.get("shapes") or {}
        name, why = name_of(shape), set[str]()
        if name not in known and key_changed(state, shape):
            stream.logger.warning(
                "%s: rows are identified by %s from now on. A table that has another primary key "
                "is to be made anew: drop it and run once without a state.",
                stream.name,
                ", ".join(stream.primary_keys),
            )
        for bookmark in self._bookmarks_of(stream):
            if bookmark.listed or bookmark.backfill:
                old = self._settings_of_rows(stream, bookmark, known)
                why.update(self._outdated(stream, bookmark, list(reasons(old, shape))))
            else:
                bookmark.note_start(self._settings.start)
            bookmark.note_shape(name)
        used = {name} | {part.get("shape") for part in (state, *(state.get("partitions") or ()))}
        state["shapes"] = {of: found for of, found in known.items() if of in used}
        state["shapes"][name] = shape
        for reason in sorted(why):
            stream.logger.warning("%s is listed once more: %s", stream.name, reason)

    def _settings_of_rows(
        self, stream: StripeStream, bookmark: Bookmark, known: Mapping[str, Shape]
    ) -> Shape:
        """What made an account's rows; where that was never noted, the key was `id`."""
        noted = known.get(bookmark.shape or "")
        if noted is not None:
            return noted
        if not bookmark.shape:
            bookmark.note_start(self._settings.start)
        return {name: value for name, value in stream.row_settings.items() if name != "key"}

    def _outdated(
        self, stream: StripeStream, bookmark: Bookmark, why: Sequence[str]
    ) -> Sequence[str]:
        """List again what settings changed of an account, and return the reasons."""
        start, before = self._settings.start, bookmark.start
        if not why and start >= before:
            return ()
        if why:
            _list_all_again(bookmark, start)
        else:
            _list_earlier(
                bookmark, start, before, by_created=stream.root.object_type.filters_by_created
            )
        bookmark.note_clocks(listed=False)
        bookmark.note_start(start)
        return why or [f"`start_date` was {rfc3339(before)} and is earlier"]


def _listing_of(
    object_type: ObjectType,
) -> type[ListBackfill | VariantListing | PaymentMethodListing]:
    """The way to read a type's list, as its declaration says."""
    if object_type.other_paths:
        return PaymentMethodListing
    return VariantListing if object_type.list_variants else ListBackfill


def _list_all_again(bookmark: Bookmark, start: int) -> None:
    windows = [(start, NO_UPPER_BOUND, None)]
    if bookmark.listed:
        bookmark.list_again(windows)
    else:
        bookmark.restart(bookmark.anchor, windows)


def _list_earlier(bookmark: Bookmark, start: int, before: int, *, by_created: bool) -> None:
    """List what was created from `start` up to `before` as well; in windows if Stripe has them."""
    if not bookmark.listed:
        rest = bookmark.missing or ()
        windows = [*rest, (start, before, None)] if by_created else [(start, NO_UPPER_BOUND, None)]
        bookmark.restart(bookmark.anchor, windows)
        return
    left = bookmark.to_list_again
    all_of_it = left and not bookmark.again_before
    limit = 0 if all_of_it else max(before, bookmark.again_before)
    windows = [*left, (start, before, None)] if by_created else [(start, NO_UPPER_BOUND, None)]
    bookmark.list_again(windows, before=limit)


def _families(
    outputs: Iterable[StreamPartition], left_of: Callable[[Bookmark], object]
) -> Iterator[list[StreamPartition]]:
    """A parent and its children, as long as they have the same left to read."""

    def left(output: StreamPartition) -> tuple[str, str, bool]:
        bookmark = output.bookmark
        return output.stream.root.name, repr(left_of(bookmark)), bookmark.clocks

    for _, group in groupby(sorted(outputs, key=left), key=left):
        yield sorted(group, key=lambda output: output.stream.object_type.parent is not None)
