"""Brings records into Stripe: several at a time, those of one object in their order."""

from __future__ import annotations

import heapq
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from stripe_alloy.api.client import StripeClient
from stripe_alloy.api.errors import (
    AlloyError,
    ConcurrentRequestError,
    InvalidRequestError,
    MissingPermissionError,
    StripeError,
)
from stripe_alloy.api.json_types import JSON
from target_stripe_alloy.params_tree import InvalidRecord, Tree, null_metadata, without_nulls
from target_stripe_alloy.plan.base_images import Context, DraftImage, image_of, prices_of
from target_stripe_alloy.plan.copies import why_no_copy
from target_stripe_alloy.plan.effects import marks, traceless, without_reserved
from target_stripe_alloy.plan.form_bodies import tree_from_form
from target_stripe_alloy.plan.merge import inline_price, key_items, parts_fixed, tree_for
from target_stripe_alloy.plan.permissions import ALLOWED, permissions_of
from target_stripe_alloy.plan.plan_types import (
    REPLACES,
    BaseImage,
    Decision,
    DeletePolicy,
    DesiredState,
    IdMode,
    NullPolicy,
    OnConflict,
    OnMissing,
    Outcome,
    PlannedRequest,
    Policy,
)
from target_stripe_alloy.plan.planner import plan
from target_stripe_alloy.plan.record_keys import RecordKey, text_of, value_of
from target_stripe_alloy.plan.recovery import withdrawn
from target_stripe_alloy.plan.requests import asked
from target_stripe_alloy.report import Report
from target_stripe_alloy.resources import ACTION, BY_STREAM, OCCASION, ORDER, Resource
from target_stripe_alloy.write.id_resolver import PLANNED, IdResolver, RecordRef, ResolvedObject
from target_stripe_alloy.write.invoice_preview import Previews
from target_stripe_alloy.write.journal import DIGEST_SIZE, Effect, Intent, Journal, JournalEntry
from target_stripe_alloy.write.journaled_sender import Delivered, JournaledSender, UnknownOutcome
from target_stripe_alloy.write.object_reader import Objects, expansions, seen_as, theirs_of
from target_stripe_alloy.write.overflow_file import Spool
from target_stripe_alloy.write.past_effects import Traces
from target_stripe_alloy.write.price_replacement import PriceReplacement
from target_stripe_alloy.write.queued_records import (
    ADDED_FIELDS,
    SDC,
    IncomingStream,
    QueuedRecord,
    action_of,
    is_deleted,
)
from target_stripe_alloy.write.worker_pool import KeyedWorkerPool, Ticket, Watermark

_logger = logging.getLogger(__name__)

DIGESTS = 1
"""The version of what `fingerprint` makes; the journal of an earlier release has the same ones."""
SUPERSEDED = "a newer record with its key was written since: remove this line"
_TRIES = 3
"""Times that a record is begun again because nobody can tell what became of a write."""

_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode


class ConflictError(AlloyError):
    """`on_conflict` is `fail`, and both sides changed."""


@dataclass
class _Parked:
    """Records that wait for others."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_missing: dict[RecordRef, dict[int, QueuedRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By the numbers of the records that wait."""
    order: list[tuple[int, int, RecordRef]] = field(default_factory=list)
    """A heap of (stream, number, missing): which to give up first. Entries may be out of date."""
    tickets: dict[int, Ticket] = field(default_factory=dict)
    """By the numbers of the records that are not settled yet."""
    arrived: set[RecordRef] = field(default_factory=set)
    stuck: set[RecordRef] = field(default_factory=set)
    """Records that were not written: whoever refers to them cannot be either."""


class Engine:
    """One run's work."""

    def __init__(
        self,
        *,
        transport: StripeClient,
        journal: Journal,
        report: Report,
        policy: Policy,
        account: str | None,
        workers: int,
        dry_run: bool,
        named: bool = True,
        previews: Previews | None = None,
    ) -> None:
        self._previews = previews
        self._transport = transport
        self._journal = journal
        self._report = report
        self._policy = policy
        self._dry_run = dry_run
        self._named = named
        self._objects = Objects(transport, account)
        self._identity = IdResolver(journal, self._objects, transport.now, policy)
        self._delivery = JournaledSender(
            transport,
            journal,
            self._objects,
            account=account,
            id_mode=policy.id_mode,
            listener=self,
        )
        self._succession = PriceReplacement(self._objects, self._delivery)
        self._traces = Traces(transport, account)
        self._spool = Spool(_encode)
        self._lanes = KeyedWorkerPool(workers)
        self._parked = _Parked()
        self._left_out: set[tuple[str, str]] = set()
        self._occurrences: Counter[tuple[str, bytes]] = Counter()
        self._ignores_nulls = policy.null_policy == NullPolicy.IGNORE
        seed = f"{DIGESTS}{policy.delete_policy}"  # clear: the digests of earlier releases
        self._seed = (f"{seed} nulls" if self._ignores_nulls else seed).encode()
        self.watermark = Watermark()

    # ------------------------------------------------------------------ records come in

    def fingerprint(self, record: Mapping[str, Any]) -> tuple[bytes, int]:
        """Return what makes a record the same as last time, and its bytes as JSON.

        What tap and SDK add does not count.
        """
        kept = {k: v for k, v in record.items() if k not in ADDED_FIELDS and not k.startswith(SDC)}
        try:
            if is_deleted(record):
                kept["deleted"] = True
        except InvalidRecord:
            kept["deleted"] = None  # like no record before: it is rejected in its turn
        text = _encode(without_nulls(kept) if self._ignores_nulls else kept)
        return blake2b(text, digest_size=DIGEST_SIZE, key=self._seed).digest(), len(text)

    def declare(self, kind: IncomingStream) -> None:
        """Note a stream that comes in this run: references to it are its key properties' now."""
        stream = kind.resource.stream
        self._identity.declare(stream, kind.keys)
        with self._parked.lock:
            waiting = [entry for entry in self._parked.by_missing if entry[0] == stream]
            woken = [j for entry in waiting for j in self._parked.by_missing.pop(entry).values()]
        self._resume(woken)

    def submit(self, jobs: Sequence[QueuedRecord]) -> None:
        """Take records of one stream: settle what the journal proves, work on the others."""
        stream, source = jobs[0].stream, jobs[0].kind.source
        # Before the journal is read: what ends in between is newer than what it says.
        busy = {job.line for job in jobs if self._lanes.busy(job.line)}
        keys = list({job.key for job in jobs})
        known = self._journal.recall_many(stream, keys, source)
        if self._identity.take_over(stream, [job for job in jobs if job.key not in known]):
            known = self._journal.recall_many(stream, keys, source)
        touched: set[str] = set()
        proven = 0
        for job in jobs:
            row = known.get(job.key)
            idle = job.key not in touched and job.line not in busy
            if idle and row is not None and self._is_proven(job, row):
                proven += 1
                self.watermark.settle(job.number)
                continue
            touched.add(job.key)
            self._hand_in(job)
        if proven:
            self._report.unchanged(stream, proven)
        self._lanes.raise_failure()

    def _is_proven(self, job: QueuedRecord, row: JournalEntry) -> bool:
        """Whether the journal proves a record to be the last one that was written of its key."""
        if not row.is_same(job.digest):
            return False
        if row.doubted:
            if job.position is not None or self._dry_run:
                return False
            self._journal.keep([replace(row, digest=job.digest, position=None, number=job.number)])
        return True

    def _hand_in(self, job: QueuedRecord) -> None:
        if job.record.get(ACTION):
            seen = (job.line, job.digest)
            job.occurrence = self._occurrences[seen]
            self._occurrences[seen] += 1
        act, put_aside = partial(self._work, job), partial(self._spool.put, job)
        ticket = Ticket(job.line, job.locks(), act, put_aside, job.stream, job.size)
        with self._parked.lock:
            self._parked.tickets[job.number] = ticket
        self._lanes.submit(ticket)

    def reject(self, job: QueuedRecord, reason: str) -> None:
        """Set aside a record that cannot even be looked at."""
        decision, origin = Decision(Outcome.REJECTED, reason=reason), job.origin(self._journal.run)
        self._report.settled(job.stream, "", decision, job.record, origin=origin)

    def recover(self) -> None:
        """Find out what became of the writes that were under way when a run ended."""
        if not self._dry_run:
            self._delivery.recover()

    def finish(self) -> None:
        """Work until nothing is left; what still waits is set aside."""
        self._lanes.drain()
        self._resume(self._waiting())  # a stream may have been declared meanwhile
        self._lanes.drain()
        while job := self._first_waiting():
            self._spool.take(job)
            self._give_up(job)
            if self._lanes.release(self._parked.tickets.pop(job.number)):
                self._lanes.drain()  # the next record of its key may be what others wait for
        if not self._dry_run:
            self._journal.end_well()

    def _waiting(self) -> list[QueuedRecord]:
        with self._parked.lock:
            left = [job for jobs in self._parked.by_missing.values() for job in jobs.values()]
            self._parked.by_missing.clear()
        return left

    def _first_waiting(self) -> QueuedRecord | None:
        """Take out the record to give up first: one that others are the most likely to refer to."""
        with self._parked.lock:
            while self._parked.order:
                _, number, entry = heapq.heappop(self._parked.order)
                job = self._parked.by_missing.get(entry, {}).pop(number, None)
                if job is not None:
                    return job
        return None

    def check(self) -> None:
        """Raise what stopped the work, if anything did."""
        self._lanes.raise_failure()

    def close(self) -> None:
        """Begin nothing more, wait for what is under way."""
        self._lanes.close()
        self._spool.close()

    # ------------------------------------------------------------------ what the delivery asks

    def learned(self, stream: str, key: str, object_id: str) -> None:
        """From now on a key means this object; the records that wait for it go on."""
        self._identity.learn(stream, key, object_id)
        with self._parked.lock:
            name = (stream, self._identity.reference(stream, key))
            self._parked.arrived.add(name)
            self._parked.stuck.discard(name)
            woken = self._parked.by_missing.pop(name, {})
        self._resume(woken.values())

    def renamed(self, stream: str, key: str) -> str | None:
        """The id that an item of a record has here."""
        if self._policy.id_mode == IdMode.SAME_ACCOUNT:
            return key
        return self._identity.named(stream, key) or key

    def lacking(self, resource: Resource, intent: Intent, context: Context | None) -> list[str]:
        """The permissions that a write needs and that are not given now."""
        id_mode = intent.scope.rpartition("/")[2]
        return withdrawn(resource, intent.kind, intent.body, context, self._policy, id_mode)

    def is_there(self, resource: Resource, intent: Intent) -> bool:
        """Whether Stripe has an object now that a new one would have been matched with."""
        fields = self._policy.match_by.get(resource.stream, ())
        return self._identity.is_matched(resource, fields, tree_from_form(intent.body))

    # ------------------------------------------------------------------ records that wait

    def _park(self, job: QueuedRecord, missing: Iterable[RecordRef]) -> bool:
        """Let a record wait; returns whether it is to be tried again at once instead."""
        with self._parked.lock:
            entries = list(missing)
            # What came under this name once and is not what is meant does not help a second time.
            came = {entry for entry in entries if entry in self._parked.arrived} - job.retried
            job.retried |= came
            waits = [entry for entry in entries if entry not in came]
            for entry in waits[:1]:  # woken, it looks for the others itself
                self._spool.put(job)
                self._parked.by_missing[entry][job.number] = job
                heapq.heappush(self._parked.order, (ORDER[job.stream], job.number, entry))
        return not waits

    def _resume(self, jobs: Iterable[QueuedRecord]) -> None:
        for job in jobs:
            self._lanes.resume(self._parked.tickets[job.number])

    def _give_up(self, job: QueuedRecord) -> None:
        resource = job.kind.resource
        tree = tree_for(resource, job.own_fields(), self._transport.now())
        resolved = self._identity.resolve(resource, tree)
        missing = list(dict.fromkeys([*resolved.missing, *resolved.later]))
        names = ", ".join(f"{stream} {key}" for stream, key in missing)
        stuck = all(entry in self._parked.stuck for entry in missing) and not job.done
        why = "was not written" if stuck else "is not known and did not come"
        rest = "; the rest of it is written" if job.done else ""
        several = next(iter(resolved.ambiguous.values()), "")
        reason = several or f"it refers to {names}, which {why}{rest}"
        self._settle(job, Decision(Outcome.BLOCKED if stuck else Outcome.REJECTED, reason=reason))

    # ------------------------------------------------------------------ one record

    def _work(self, job: QueuedRecord) -> bool:
        """Work on a record; returns whether it is done with, rather than waits for another."""
        self._spool.take(job)
        try:
            while (done := self._try_often(job)) is None:
                pass  # what it was to wait for has come meanwhile
        except InvalidRecord as error:
            self._settle(job, Decision(Outcome.REJECTED, reason=str(error)))
        except ConcurrentRequestError:
            raise  # another run is at it: what comes of it is open
        except MissingPermissionError as error:
            needed = f"Writing {job.stream} needs {job.kind.resource.permission!r}. "
            message = needed + error.failure.message
            raise MissingPermissionError(replace(error.failure, message=message)) from None
        except InvalidRequestError as error:
            self._settle(job, Decision(Outcome.REJECTED, reason=str(error.failure)), error)
        else:
            if not done:
                return False
        with self._parked.lock:
            self._parked.tickets.pop(job.number, None)
        return True

    def _try_often(self, job: QueuedRecord) -> bool | None:
        """Try a record anew as long as nobody can tell what became of a write; see `_try`."""
        for _ in range(_TRIES):
            try:
                return self._try(job)
            except UnknownOutcome as error:
                self._identity.look_again(job.stream)
                self._traces.look_again()
                reason = f"Stripe keeps failing with it, {_TRIES} times: {error}"
        self._settle(job, Decision(Outcome.REJECTED, reason=reason))
        return True

    def _try(self, job: QueuedRecord) -> bool | None:
        """Returns whether the record is settled; None if it is to be tried again at once."""
        resource, fields = job.kind.resource, job.own_fields()
        tree = without_reserved(tree_for(resource, fields, self._transport.now()))
        ignored: frozenset[str] = frozenset()
        if self._ignores_nulls:
            ignored = frozenset(null_metadata(fields))
            fields, tree = without_nulls(fields), without_nulls(tree)
        if self._policy.id_mode == IdMode.COPY:
            tree = {name: it for name, it in tree.items() if name not in resource.own_to_account}
        resolved = self._identity.resolve(resource, tree)
        deleted = is_deleted(job.record)
        if resolved.refused and not deleted:
            reason = resolved.ambiguous[resolved.refused[0]]
            self._settle(job, Decision(Outcome.REJECTED, reason=reason))
            return True
        if resolved.missing and not deleted:
            over = self._policy.id_mode == IdMode.COPY and why_no_copy(
                resource, fields, resolved.left_out
            )
            if over and self._identity.known(job.stream, job.key) is None:
                self._settle(job, Decision(Outcome.BLOCKED, reason=over))
                return True
            return None if self._park(job, resolved.missing) else False
        stamp = self._stamp(job)
        if isinstance(tree.get("metadata"), dict):  # a record cannot make its object another's
            tree["metadata"] |= {name: stamp[name] for name in stamp if name in tree["metadata"]}
        planned = str(tree.get(resource.within)).startswith(PLANNED)  # nothing is in it yet
        found = ResolvedObject() if planned else self._identity.find(job, tree, fields)
        job.matched = found.matched
        wanted = DesiredState(
            resource,
            fields,
            tree,
            deleted=deleted,
            whole=job.kind.whole,
            stamp=stamp,
            ignored=ignored,
            object_id=job.key if self._policy.id_mode == IdMode.COPY else None,
            action=action_of(job.record),
            occasion=_occasion(job.record.get(OCCASION)),
            digest=job.digest,
            occurrence=job.occurrence,
            named=self._named,
            left_out=tuple(resolved.left_out),
            parent=self._parent(resource, tree),
            creatable=job.kind.keys.by_match(job.record)
            and self._policy.on_missing == OnMissing.CREATE,
        )
        self._say_left_out(job.stream, resolved.left_out)
        later = [] if deleted else resolved.later
        verdict = self._bring(job, wanted, found.object_id, found.current, later=bool(later))
        if not verdict:
            return True
        job.done = job.done or verdict
        return None if self._park(job, later) else False

    def _parent(self, resource: Resource, tree: Mapping[str, Tree]) -> JSON | None:
        """The invoice of a line, where it decides whether a permission is needed."""
        name = tree.get(resource.within) if resource.within == "invoice" else None
        if not name or permissions_of(resource) <= self._policy.allowed:
            return None
        if str(name).startswith(PLANNED):
            advances = "invoices.auto_advance" in self._policy.allowed
            return {"status": "draft", "auto_advance": advances}
        return self._objects.get(BY_STREAM["invoices"].path_of(str(name), {}))

    def _stamp(self, job: QueuedRecord) -> dict[str, str]:
        resource, mode = job.kind.resource, self._policy.id_mode
        if mode == IdMode.SAME_ACCOUNT or (mode == IdMode.COPY and resource.found_by == "id"):
            return {}
        return job.kind.keys.stamp(job.record)

    def _say_left_out(self, stream: str, paths: Iterable[str]) -> None:
        for path in paths:
            if (stream, path) not in self._left_out:
                self._left_out.add((stream, path))
                _logger.warning("%s: %s is left out: what it names is not copied", stream, path)

    def _bring(
        self,
        job: QueuedRecord,
        wanted: DesiredState,
        located: str | None,
        current: JSON | None,
        *,
        later: bool,
    ) -> str | None:
        """Plan and write. Returns the verdict if something is still to come, else settles."""
        known = self._journal.recall(job.stream, [job.key], job.kind.source).get(job.key)
        base = known.image() if known and self._is_of(job, known, located) else None
        if current is None and not wanted.deleted:
            left = self._without_object(job, gone=bool(located and base))
            if left is not None:
                self._leave(job, left)
                return None
            base = None
        wanted = replace(wanted, done=self._done_before(wanted, current))
        theirs = theirs_of(wanted, current)
        unkeyed = wanted.tree.get("items")
        wanted = self._with_keyed_items(wanted, theirs, current)
        decision = plan(wanted, current, theirs, base, self._policy)
        if self._previews:
            everything = replace(self._policy, allowed=frozenset(ALLOWED))
            allowed = partial(plan, wanted, current, theirs, base, everything)
            decision = self._previews.of(job.stream, job.key, decision, current, allowed)
        if decision.replaces:
            decision = self._in_succession(job, decision, wanted, current, theirs, base)
        decision = self._unless_superseded(job, decision, located, current)
        if (
            decision.outcome in (Outcome.CONFLICT, Outcome.REJECTED, Outcome.BLOCKED)
            or self._dry_run
        ):
            self._leave(job, decision)
            return None
        return self._carry_out(job, wanted, decision, current, unkeyed, later=later)

    def _leave(self, job: QueuedRecord, decision: Decision) -> None:
        """Settle a record without writing it; raises `ConflictError` where that stops the run."""
        if (
            decision.outcome == Outcome.CONFLICT
            and self._policy.on_conflict == OnConflict.FAIL
            and not self._dry_run
        ):
            raise ConflictError(
                f"{job.stream} {job.label}: {decision.reason}. Nothing was written to it; "
                "`on_conflict` says what to do about it."
            )
        if decision.outcome == Outcome.CREATED:
            self.learned(job.stream, job.key, f"{PLANNED}{job.stream}:{job.key}")
        self._settle(job, decision)

    def _unless_superseded(
        self, job: QueuedRecord, decision: Decision, located: str | None, current: JSON | None
    ) -> Decision:
        """The decision, unless a newer record was written since the one that is replayed came."""
        if job.position is None or not (decision.requests or decision.outcome == Outcome.CONFLICT):
            return decision
        meant = {str(found) for found in (located, (current or {}).get("id")) if found}
        newest = self._journal.position_of(job.stream, job.key, meant)
        if newest is None or newest <= job.position:
            return decision
        return Decision(Outcome.REJECTED, reason=SUPERSEDED)

    def _done_before(self, wanted: DesiredState, current: JSON | None) -> frozenset[str]:
        """Effects on the object that are not to be repeated, wherever they are noted."""
        resource = wanted.resource
        asks = wanted.action or traceless(resource) & wanted.tree.keys()
        if current is None or not asks:
            return frozenset()
        done = self._journal.effects_of(resource.stream, current["id"]) | marks(resource, current)
        if wanted.action and wanted.action in resource.actions:
            done |= self._traces.of(resource.actions[wanted.action], wanted, current, done)
        return done

    def _in_succession(
        self,
        job: QueuedRecord,
        decision: Decision,
        wanted: DesiredState,
        current: JSON | None,
        theirs: Mapping[str, Tree],
        base: BaseImage | None,
    ) -> Decision:
        """The decision on a price that is to be replaced, unless another one took its place.

        What that one has is done then, and the rest is written to the price that the record names.
        """
        before = str(decision.replaces)
        heir = self._succession.successor(before, current)
        if heir is None:
            return decision
        names = {change.field.partition(".")[0] for change in decision.changes}
        frozen = names & wanted.resource.frozen
        if not self._succession.has_all(wanted.resource, heir, frozen, decision.requests[0]):
            return Decision(
                Outcome.BLOCKED, reason=f"{heir['id']} took its place: write to that one"
            )
        if not self._dry_run:
            self._end_before(job, before, heir)
        rest = {name: tree for name, tree in wanted.tree.items() if name not in frozen}
        fields = {name: value for name, value in wanted.fields.items() if name not in frozen}
        return plan(replace(wanted, tree=rest, fields=fields), current, theirs, base, self._policy)

    def _is_of(self, job: QueuedRecord, known: JournalEntry, located: str | None) -> bool:
        """Whether an image is of the object that was found: a key may have moved to another one."""
        by_id = self._policy.id_mode == IdMode.SAME_ACCOUNT and not job.kind.keys.by_match(
            job.record
        )
        return by_id or located in (None, known.object_id)

    def _without_object(self, job: QueuedRecord, *, gone: bool) -> Decision | None:
        """What becomes of a record without an object; None: `plan` says, it may be created.

        `gone` if it had one.
        """
        in_another = self._policy.id_mode != IdMode.SAME_ACCOUNT
        if gone and in_another and self._policy.on_conflict != OnConflict.OVERWRITE:
            return Decision(Outcome.CONFLICT, reason="it was deleted in Stripe")
        chosen = self._policy.on_missing
        if not chosen and self._policy.id_mode == IdMode.SAME_ACCOUNT and job.kind.keys.match:
            chosen = OnMissing.REJECT
        if chosen in (None, OnMissing.CREATE):
            return None
        carried = " and ".join(job.kind.keys.match)
        missing = f"no object has its {carried}" if carried else "there is no such object"
        verdict = Outcome.SKIPPED if chosen == OnMissing.SKIP else Outcome.REJECTED
        return Decision(verdict, reason=f"{missing}, and `on_missing` is `{chosen}`")

    def _settle(
        self, job: QueuedRecord, decision: Decision, error: StripeError | None = None
    ) -> None:
        decision = replace(decision, matched=job.matched)
        if decision.outcome in (
            Outcome.REJECTED,
            Outcome.BLOCKED,
            Outcome.CONFLICT,
            Outcome.SKIPPED,
        ):
            with self._parked.lock:
                name = self._identity.reference(job.stream, job.key)
                self._parked.stuck.add((job.stream, name))
            if not self._dry_run:
                found = [job.matched["object"]] if job.matched else []
                if self._policy.id_mode == IdMode.SAME_ACCOUNT:
                    found.append(job.key)
                self._journal.doubt(job.stream, job.key, found, sent=job.sent)
        origin = job.origin(self._journal.run)
        self._report.settled(job.stream, job.label, decision, job.record, error, origin=origin)
        self.watermark.settle(job.number)

    def _with_keyed_items(
        self, wanted: DesiredState, theirs: Mapping[str, Tree], current: JSON | None
    ) -> DesiredState:
        stream = wanted.resource.contains
        wanted = replace(wanted, tree=inline_price(wanted.resource, dict(wanted.tree), current))
        if not stream or not isinstance(wanted.tree.get("items"), list):
            return wanted
        held = theirs.get("items") or {}

        def rename(own: str) -> str | None:
            found = self.renamed(stream, own)
            return found if self._policy.id_mode == IdMode.SAME_ACCOUNT or found in held else None

        return replace(wanted, tree=key_items(wanted.tree, held, rename, prices_of(current)))

    # ------------------------------------------------------------------ what is to be

    def _carry_out(
        self,
        job: QueuedRecord,
        wanted: DesiredState,
        decision: Decision,
        current: JSON | None,
        unkeyed: Tree,
        *,
        later: bool,
    ) -> str | None:
        acts = bool(wanted.action) and decision.outcome == Outcome.CREATED
        draft = self._draft(job, wanted, unkeyed, whole=not later and not acts)
        try:
            sent = self._send_all(job, wanted, decision, current, draft)
        except ConcurrentRequestError:
            raise
        except InvalidRequestError as error:
            if decision.outcome == Outcome.DELETED and wanted.resource.archive:
                # What cannot be deleted, such as a product with prices, is archived.
                archive = replace(self._policy, delete_policy=DeletePolicy.ARCHIVE)
                instead = plan(wanted, current, {}, None, archive)
                return self._carry_out(job, wanted, instead, current, None, later=False)
            self._settle(job, Decision(Outcome.REJECTED, reason=str(error.failure)), error)
            return None
        result = sent.result
        if not sent.remembered:
            self._remember(job, wanted, result, draft)
        self._notice(job, result)
        if decision.outcome == Outcome.DELETED:
            self._identity.note_deletion(job)
        if acts:  # now that it is there
            job.done = Outcome.CREATED
            again = replace(wanted, tree={**wanted.tree, "items": unkeyed}) if unkeyed else wanted
            return self._bring(job, again, str((result or {}).get("id")), result, later=later)
        if later:
            return decision.outcome
        verdict = job.done if job.done and decision.outcome != Outcome.DELETED else decision.outcome
        self._settle(job, replace(decision, outcome=verdict))
        return None

    def _notice(self, job: QueuedRecord, result: JSON | None) -> None:
        """Note the object of a record for the records to come."""
        if result is None:
            return
        self._identity.observe(job.stream, result)
        if self._policy.id_mode != IdMode.SAME_ACCOUNT or result["id"] != job.key:
            self.learned(job.stream, job.key, str(result["id"]))

    def _send_all(
        self,
        job: QueuedRecord,
        wanted: DesiredState,
        decision: Decision,
        current: JSON | None,
        draft: DraftImage,
    ) -> Delivered:
        sent = Delivered(current, remembered=False)
        for number, planned in enumerate(decision.requests):
            request = planned
            if request.kind == "create":
                request = self._with_stamped_items(job, request)
            if request.kind == "archive" and wanted.resource.succeeded and current:
                self._succession.release(job.key, current, request)
            job.sent = True
            answer = self._delivery.send(
                job.stream,
                job.key,
                request,
                object_id=current["id"] if current else None,
                draft=_so_far(draft, wanted, decision.requests[number:]),
                expand=self._expand(wanted, request),
                seen=seen_as(wanted.resource, sent.result, wanted.fields, wanted.parent),
            )
            sent = Delivered(answer.result or sent.result, answer.remembered)
        result, before = sent.result, decision.replaces
        if wanted.resource.succeeded and result and not wanted.deleted and self._may_replace(job):
            before = before or (result.get("metadata") or {}).get(REPLACES)
            if before and before != result["id"]:
                self._end_before(job, str(before), result)
        return sent

    def _end_before(self, job: QueuedRecord, before: str, heir: JSON) -> None:
        """End the price that has a successor, once: who makes it active again means it."""
        effect = Effect(job.stream, heir["id"], f"ended:{before}", lasting=True)
        if effect.name not in self._journal.effects_of(job.stream, heir["id"]):
            self._succession.end(job.key, before, heir)
            self._journal.note([effect])

    @staticmethod
    def _expand(wanted: DesiredState, request: PlannedRequest) -> list[tuple[str, str]]:
        """What is expanded in the answer, so that it shows what reading the object shows."""
        of_another = request.path.endswith("/add_lines") or request.kind.startswith("add ")
        if request.method != "POST" or of_another:
            return []
        return expansions(wanted.resource, wanted.fields)

    def _may_replace(self, job: QueuedRecord) -> bool:
        """Whether what metadata says of a predecessor may end it: anybody can write metadata."""
        return f"{job.stream}.replace" in self._policy.allowed

    def _with_stamped_items(self, job: QueuedRecord, request: PlannedRequest) -> PlannedRequest:
        items, source = request.params.get("items"), job.record.get("items")
        entries = source.get("data") if isinstance(source, dict) else source
        if self._policy.id_mode != IdMode.COPY or not items or not entries:
            return request
        keys = RecordKey(IdMode.COPY, ())
        stamped = [
            {**item, "metadata": {**item.get("metadata", {}), **keys.stamp(entry)}}
            if entry.get("id")
            else item
            for item, entry in zip(items, entries, strict=True)
        ]
        return replace(request, params={**request.params, "items": stamped})

    # ------------------------------------------------------------------ what was done

    def _draft(
        self, job: QueuedRecord, wanted: DesiredState, unkeyed: Tree, *, whole: bool
    ) -> DraftImage:
        """The image of a record, once it is written; `whole` if nothing is still to come."""
        ours: dict[str, Tree] | None = None if wanted.deleted else dict(wanted.tree)
        if ours is not None and isinstance(unkeyed, list):
            ours["items"] = unkeyed
        if ours is not None and wanted.action and whole:
            ours[ACTION] = asked(wanted)
        fixed = {}
        if self._policy.id_mode != IdMode.COPY:
            fixed = {".".join(path): value for path, value in parts_fixed(wanted)}
        return DraftImage(
            source=job.kind.source,
            number=job.number,
            position=job.position or (self._journal.run, job.number),
            names=sorted({*wanted.fields, *wanted.tree}),
            ours=ours,
            fixed=fixed,
            digest=job.digest if whole else None,
        )

    def _remember(
        self, job: QueuedRecord, wanted: DesiredState, result: JSON | None, draft: DraftImage
    ) -> None:
        """Keep what record and object hold now that they agree."""
        by_id = self._policy.id_mode == IdMode.SAME_ACCOUNT and not job.kind.keys.by_match(
            job.record
        )
        if result is not None and not wanted.deleted:
            result = self._objects.whole(wanted.resource, result)
            if by_id and result["id"] != job.key:
                result = None  # another one took its place, with the values that the record has
        known = image_of(
            draft,
            wanted.resource,
            job.key,
            None if wanted.deleted else result,
            lambda own: self.renamed(wanted.resource.contains, own),
        )
        if wanted.deleted and result:
            known = replace(known, object_id=result["id"])
        elif result is None and by_id:
            known = replace(known, object_id=job.key)
        self._journal.keep([known])


def _occasion(value: Any) -> str:
    """What tells an action from the same one before, as text: equal numbers are one."""
    return "" if value is None or value == "" else text_of(value_of(OCCASION, value))


def _so_far(
    draft: DraftImage, wanted: DesiredState, requests: Sequence[PlannedRequest]
) -> DraftImage | None:
    """The image once the first of the requests is done; None if it says too little of the record.

    The image of a price that another one replaces follows when its place is taken.
    """
    first, *rest = requests
    if first.kind == "replace":
        return None
    if not rest:
        return draft
    if first.kind != "update" or draft.ours is None:
        return None
    still = {wanted.resource.attached_to, ACTION}
    ours = {name: tree for name, tree in draft.ours.items() if name not in still}
    return msgspec.structs.replace(draft, ours=ours, digest=None)
