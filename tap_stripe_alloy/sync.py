"""One run over streams and accounts: which source reads what, and what was refused."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from stripe_alloy.errors import NotFound, PermissionMissing, SettingsError
from stripe_alloy.transport import Transport
from tap_stripe_alloy.bookmarks import Bookmark
from tap_stripe_alloy.changes import OVERLAP, RETENTION
from tap_stripe_alloy.clocks import OnClocks, OnClocksFirst
from tap_stripe_alloy.direct import Direct
from tap_stripe_alloy.feeds import nothing_own
from tap_stripe_alloy.fetch import Batch, Begin, Fetcher, Source, Step
from tap_stripe_alloy.listing import Listing, Relisting, Run, Tail
from tap_stripe_alloy.methods import PaymentMethodListing
from tap_stripe_alloy.outputs import Output
from tap_stripe_alloy.own_writes import OwnWrites
from tap_stripe_alloy.records import DAY, Recorder
from tap_stripe_alloy.settings import ALL_ACCOUNTS
from tap_stripe_alloy.streams import PaymentMethods
from tap_stripe_alloy.variants import VariantListing
from tap_stripe_alloy.versions import Version
from tap_stripe_alloy.walk import Changes

if TYPE_CHECKING:
    from stripe_alloy.written import Written
    from tap_stripe_alloy.mailbox import Mailbox
    from tap_stripe_alloy.settings import Settings
    from tap_stripe_alloy.stream import StripeStream

RETENTION_MARGIN = 86_400
"""Seconds before that end at which a bookmark counts as too old."""
LISTINGS = {PaymentMethods.name: PaymentMethodListing}
"""Streams whose list needs more than one way to be read."""
OWN = "account_id"
"""Where the state keeps the id of the key's own account."""
KEY = "key"
"""Where it keeps a digest of the key, so that a known one need not be asked whose it is."""
_ACCOUNT = re.compile(r"\bacct_\w+")


class Sync:
    """Reads the streams of all accounts; iterate over `batches`, then look at `refusals`."""

    def __init__(
        self,
        streams: Sequence[StripeStream],
        *,
        settings: Settings,
        transport: Transport,
        stopped: Callable[[], bool],
        direct: bool = False,
    ) -> None:
        self._streams = streams
        self._settings = settings
        self.transport = transport
        self._stopped = stopped
        self._direct = direct
        self.refusals: dict[str, PermissionMissing] = {}
        """Stream → the error that says what the key lacks."""
        self._reading: list[Source] = []
        self._outputs: list[tuple[str | None, Output]] = []
        self._versions = {stream.name: Version(stream.stream_state) for stream in streams}
        whose = f"{settings.api_url} {settings.api_key}"
        self._key = hashlib.sha256(whose.encode()).hexdigest()[:12]
        self._run = Run(self._refused, self._stale, self._relist, self._listed)
        self._relists = settings.relist_days > 0
        self._asked_own_id: list[str | None] = []
        self._mailbox: Mailbox | None = None
        self._written: Written | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield what is to be written, as it arrives."""
        self._open()
        for account in self.accounts() if self._streams else ():
            self._outputs += [(account, output) for output in self._outputs_of(account)]
        for stream in self._streams:
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
            if output.stream.name not in self.refusals
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
            from tap_stripe_alloy.mailbox import Mailbox  # noqa: PLC0415

            own_id = self._ask_own_id() if settings.account_ids else self._own_id()
            self._mailbox = Mailbox(
                Inbox(settings.webhook_inbox),
                livemode=settings.live,
                own_id=own_id,
                has_event=self._has_event,
            )
        if settings.ignore_own_writes:
            from stripe_alloy.written import Written  # noqa: PLC0415

            self._written = Written(settings.ignore_own_writes, "ignore_own_writes")

    def _round(self) -> Iterator[Batch]:
        if self._mailbox:
            self._mailbox.look()
        accounts = dict.fromkeys(account for account, _ in self._outputs)
        self._reading = [source for account in accounts for source in self._sources(account)]
        fetcher = Fetcher(
            self.transport,
            max_concurrency=self._settings.max_concurrency,
            stopped=self._stopped,
        )
        return fetcher.run(self._reading)

    def left(self) -> Mapping[str, float]:
        """Stream → pages of its list that are left, as far as known."""
        found: defaultdict[str, float] = defaultdict(float)
        for source in self._reading:
            for stream, pages in source.left().items():
                found[stream] += pages
        return found

    def _refused(self, outputs: Sequence[Output], error: PermissionMissing) -> None:
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
        """The id of the key's own account, kept in the state; asked unless the key began it.

        Raises `SettingsError` where the state is another account's.
        """
        states = [stream.stream_state for stream in self._streams if OWN in stream.stream_state]
        known = sorted({state[OWN] for state in states})
        if len(known) == 1 and all(state.get(KEY) == self._key for state in states):
            return str(known[0])
        found = self._ask_own_id()
        if found and known and known != [found]:
            raise SettingsError(
                f"The state is that of account {', '.join(known)}, but the key belongs to {found}: "
                "give the state of this account, or none to read it from the beginning"
            )
        return found or (str(known[0]) if known else None)

    def _has_event(self, event_id: str, account: str | None) -> bool:
        try:
            self.transport.get(f"/v1/events/{event_id}", account=account)
        except NotFound:
            return False
        return True

    def _ask_own_id(self) -> str | None:
        """A key that may not read the account gets it from the refusal, which names it."""
        if not self._asked_own_id:
            self._asked_own_id = [self._own_id_at_stripe()]
        return self._asked_own_id[0]

    def _own_id_at_stripe(self) -> str | None:
        try:
            found: str | None = self.transport.get("/v1/account").body["id"]
        except PermissionMissing as error:
            named = _ACCOUNT.search(error.failure.message)
            found = named.group() if named else None
        except NotFound:
            found = None
        return found

    # What is left to do for an account.

    def _outputs_of(self, account: str | None) -> list[Output]:
        account_id = account or self._own_id()
        return [self._output(stream, account, account_id) for stream in self._streams]

    def _output(self, stream: StripeStream, account: str | None, account_id: str | None) -> Output:
        if account:
            state = stream.get_context_state({"_account_id": account})
        else:
            state = stream.stream_state
            if account_id:
                state[OWN] = account_id
                state.setdefault(KEY, self._key)
        unix = self._settings.unix_times
        recorder = Recorder(
            stream.schema, account_id=account_id, unix=unix, misfit=stream.does_not_fit
        )
        key = stream.replication_key or "updated"
        bookmark = Bookmark(state, stream=stream.name, replication_key=key)
        bookmark.check()
        if not self._settings.clocks:
            bookmark.note_clocks(listed=False)  # once turned on again, they are to be listed anew
        direct = self._direct and stream.as_it_comes
        pages = Direct(stream.schema, account_id=account_id, unix=unix) if direct else None
        return Output(stream, recorder, bookmark, self._versions[stream.name], pages)

    def _sources(self, account: str | None) -> Iterator[Source]:
        outputs = [output for of, output in self._outputs if of == account]
        listed = [output for output in outputs if output.bookmark.listed]
        walks = list(self._walks(account, [out for out in listed if out.stream.told_by_events]))
        yield from (walk for walk, _ in walks)
        for output in listed:
            if not output.stream.told_by_events:
                walk = walks[0][0] if walks else None
                yield Tail(
                    [output], output.stream.listed, account=account, run=self._run, walk=walk
                )
        for walk, output in ((walk, output) for walk, told in walks for output in told):
            if output.stream.edited_in_silence and self._relists:
                yield Relisting(
                    [output],
                    output.stream.listed,
                    account=account,
                    run=self._run,
                    walk=walk,
                    start=self._relist_from,
                )
        for walk, told in walks:
            yield from self._clocks_turned_on(account, walk, told)
        yield from self._listings(account, [o for o in outputs if not o.bookmark.listed])

    def _clocks_turned_on(
        self, account: str | None, walk: Changes, told: Sequence[Output]
    ) -> Iterator[Source]:
        """What is on test clocks, for streams whose list was read without."""
        start, run = self._settings.start, self._run
        for members in _families([output for output in told if self._lacks_clocks(output)]):
            listed = members[0].stream.root.listed
            yield OnClocks(members, listed, account=account, start=start, run=run, walk=walk)

    def _lacks_clocks(self, output: Output) -> bool:
        wanted = self._settings.clocks and bool(output.stream.root.on_clocks)
        return wanted and not output.bookmark.clocks

    def _relist_from(self) -> int:
        return int(self.transport.now()) - self._settings.relist_days * DAY

    def _walks(
        self, account: str | None, told: Sequence[Output]
    ) -> Iterator[tuple[Changes, Sequence[Output]]]:
        """One walk for all, or one over the inbox and one for what is no longer in it."""
        mailbox = self._mailbox
        served, rest = list[Output](), list[Output]()
        for output in told:
            (served if mailbox and mailbox.serves(output) else rest).append(output)
        for outputs, source in ((served, mailbox), (rest, None)):
            if outputs:
                walk = Changes(
                    outputs,
                    account=account,
                    api_version=self._settings.api_version,
                    run=self._run,
                    own=OwnWrites(self._written) if self._written else nothing_own,
                    mailbox=source,
                )
                yield walk, outputs

    # Listing again, and what a target may drop then.

    def _start_over_if_due(self, stream: StripeStream) -> None:
        """Forget what is to be listed in this run, and see that records carry a version."""
        bookmarks = self._bookmarks_of(stream)
        if stream.replication_method == "FULL_TABLE" and all(mark.listed for mark in bookmarks):
            for bookmark in bookmarks:
                bookmark.forget()
        if self._activates(stream):
            version = self._versions[stream.name]
            version.prepare(bookmarks, self.transport.now())
            stream.carry(version.number)

    def _bookmarks_of(self, stream: StripeStream) -> list[Bookmark]:
        return [output.bookmark for _, output in self._outputs if output.stream is stream]

    def _activates(self, stream: StripeStream) -> bool:
        """Whether a listing of the stream brings all that a destination may hold of it."""
        if not stream.emit_activate_version_messages:
            return False
        whole = stream.whole and not self._settings.start
        return whole or stream.replication_method == "FULL_TABLE"

    def _stale(self, outputs: Sequence[Output], now: float, needed_from: float) -> list[Output]:
        """Those of which events can no longer tell, at this time on Stripe's clock."""
        kept_from = now - RETENTION + RETENTION_MARGIN
        if needed_from >= kept_from:
            return []
        return [
            output
            for output in outputs
            if output.stream.told_by_events
            and output.stream.replication_method != "FULL_TABLE"
            and output.bookmark.changes_from < kept_from
        ]

    def _relist(self, outputs: Sequence[Output]) -> Iterator[Step]:
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
            yield Begin(listing)

    def _listed(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if output.version.complete(self._bookmarks_of(output.stream)):
                output.stream.activate()
                output.version.activated()

    def _listings(self, account: str | None, outputs: Sequence[Output]) -> Iterator[Source]:
        start, run = self._settings.start, self._run
        for members in _families(outputs):
            root = members[0].stream.root
            several = VariantListing if root.list_variants else Listing
            usual = LISTINGS.get(root.name, several)
            kind = OnClocksFirst if self._lacks_clocks(members[0]) else usual
            yield kind(members, root.listed, account=account, start=start, run=run)


def _families(outputs: Iterable[Output]) -> Iterator[list[Output]]:
    """A parent and its children, as long as they have the same left to read."""

    def left(output: Output) -> tuple[str, str, bool]:
        bookmark = output.bookmark
        return output.stream.root.name, repr(bookmark.missing), bookmark.clocks

    for _, group in groupby(sorted(outputs, key=left), key=left):
        yield sorted(group, key=lambda output: output.stream.parent is not None)
