"""Brings records into Stripe: several at a time, those of one object in their order."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from stripe_alloy.errors import (
    AlloyError,
    Conflict,
    PermissionMissing,
    RequestRefused,
    StripeError,
)
from stripe_alloy.transport import Transport
from target_stripe_alloy import journal as journals
from target_stripe_alloy.compare import key_items, parts_fixed, tree_for
from target_stripe_alloy.decision import (
    ARCHIVE,
    BLOCKED,
    CONFLICT,
    COPY,
    CREATED,
    DELETED,
    FAIL,
    OVERWRITE,
    PLANNED,
    REJECTED,
    REPLACES,
    SAME_ACCOUNT,
    Base,
    Decision,
    Policy,
    Request,
    Wanted,
)
from target_stripe_alloy.delivery import Delivery, Unclear
from target_stripe_alloy.identity import Identity, Keys, Missing
from target_stripe_alloy.jobs import ADDED_FIELDS, SDC, Job, StreamKind, is_deleted
from target_stripe_alloy.journal import Journal, Known
from target_stripe_alloy.lanes import Lanes, Watermark
from target_stripe_alloy.objects import Objects, theirs_of
from target_stripe_alloy.plan import ended, plan
from target_stripe_alloy.preview import Previews
from target_stripe_alloy.report import Report
from target_stripe_alloy.reshape import Tree, Unwritable
from target_stripe_alloy.resources import ACTION, ORDER, Object
from target_stripe_alloy.settings import ALLOWED
from target_stripe_alloy.succession import Succession

_logger = logging.getLogger(__name__)

_TRIES = 3
"""Times that a record is begun again because nobody can tell what became of a write."""

_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode


class ConflictStop(AlloyError):
    """`on_conflict` is `fail`, and both sides changed."""


@dataclass
class _Parked:
    """Records that wait for others."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_missing: dict[Missing, list[Job]] = field(default_factory=lambda: defaultdict(list))
    arrived: set[Missing] = field(default_factory=set)
    stuck: set[Missing] = field(default_factory=set)
    """Records that were not written: whoever refers to them cannot be either."""


class Engine:
    """One run's work."""

    def __init__(
        self,
        *,
        transport: Transport,
        journal: Journal,
        report: Report,
        policy: Policy,
        account: str | None,
        workers: int,
        dry_run: bool,
        previews: Previews | None = None,
    ) -> None:
        self._previews = previews
        self._transport = transport
        self._journal = journal
        self._report = report
        self._policy = policy
        self._dry_run = dry_run
        self._objects = Objects(transport, account)
        self._identity = Identity(journal, self._objects, transport.now, policy.id_mode)
        self._delivery = Delivery(
            transport,
            journal,
            self._objects,
            account=account,
            id_mode=policy.id_mode,
            learned=lambda known: self._learn(known.stream, known.key, str(known.object_id)),
        )
        self._succession = Succession(self._objects, self._delivery)
        self._lanes = Lanes(workers)
        self._parked = _Parked()
        self._left_out: set[tuple[str, str]] = set()
        self._seed = f"{journals.VERSION}{policy.delete_policy}".encode()
        self.watermark = Watermark()

    # ------------------------------------------------------------------ records come in

    def digest(self, record: Mapping[str, Any]) -> bytes:
        """What makes a record the same as last time: all but what tap and SDK add."""
        kept = {k: v for k, v in record.items() if k not in ADDED_FIELDS and not k.startswith(SDC)}
        if is_deleted(record):
            kept["deleted"] = True
        return blake2b(_encode(kept), digest_size=16, key=self._seed).digest()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take records of one stream: settle what the journal proves, work on the others."""
        stream = jobs[0].stream
        known = self._journal.recall_many(stream, list({job.key for job in jobs}))
        touched: set[str] = set()
        proven = 0
        for job in jobs:
            row = known.get(job.key)
            idle = job.key not in touched and not self._lanes.busy(job.lane)
            if idle and row is not None and row.digest == job.digest:
                proven += 1
                self.watermark.settle(job.number)
                continue
            touched.add(job.key)
            self._lanes.submit(job.lane, partial(self._work, job), group=job.stream)
        if proven:
            self._report.unchanged(stream, proven)
        self._lanes.raise_failure()

    def reject(self, kind: StreamKind, reason: str, record: Mapping[str, Any]) -> None:
        """Set aside a record that cannot even be looked at."""
        decision = Decision(REJECTED, reason=reason)
        stream, names = kind.resource.stream, kind.keys.properties
        self._report.settled(stream, "", decision, record, names=names)

    def recover(self) -> None:
        """Find out what became of the writes that were under way when a run ended."""
        if not self._dry_run:
            self._delivery.recover()

    def finish(self) -> None:
        """Work until nothing is left; what still waits is set aside."""
        self._lanes.drain()
        left = {job.number: job for jobs in self._parked.by_missing.values() for job in jobs}
        self._parked.by_missing.clear()
        for job in sorted(left.values(), key=lambda job: (ORDER[job.stream], job.number)):
            self._give_up(job)

    def check(self) -> None:
        """Raise what stopped the work, if anything did."""
        self._lanes.raise_failure()

    def close(self) -> None:
        """Begin nothing more, wait for what is under way."""
        self._lanes.close()

    # ------------------------------------------------------------------ records that wait

    def _park(self, job: Job, missing: Iterable[Missing]) -> None:
        with self._parked.lock:
            waits = [entry for entry in missing if entry not in self._parked.arrived]
            for entry in waits[:1]:  # woken, it looks for the others itself
                self._parked.by_missing[entry].append(job)
        if not waits:
            self._lanes.submit(job.lane, partial(self._work, job), group=job.stream, patient=False)

    def _learn(self, stream: str, key: str, object_id: str) -> None:
        self._identity.learn(stream, key, object_id)
        with self._parked.lock:
            self._parked.arrived.add((stream, key))
            woken = self._parked.by_missing.pop((stream, key), [])
        for job in woken:
            self._lanes.submit(job.lane, partial(self._work, job), group=job.stream, patient=False)

    def _give_up(self, job: Job) -> None:
        resource = job.kind.resource
        tree = tree_for(resource, job.own_fields(), self._transport.now())
        resolved = self._identity.resolve(resource, tree)
        missing = list(dict.fromkeys([*resolved.missing, *resolved.later]))
        names = ", ".join(f"{stream} {key}" for stream, key in missing)
        stuck = all(entry in self._parked.stuck for entry in missing) and not job.done
        why = "was not written" if stuck else "is not known and did not come"
        rest = "; the rest of it is written" if job.done else ""
        reason = f"it refers to {names}, which {why}{rest}"
        self._settle(job, Decision(BLOCKED if stuck else REJECTED, reason=reason))

    # ------------------------------------------------------------------ one record

    def _work(self, job: Job) -> None:
        try:
            for _ in range(_TRIES):
                try:
                    self._try(job)
                except Unclear as error:
                    self._identity.look_again(job.stream)
                    reason = f"Stripe keeps failing with it, {_TRIES} times: {error}"
                else:
                    return
            self._settle(job, Decision(REJECTED, reason=reason))
        except Unwritable as error:
            self._settle(job, Decision(REJECTED, reason=str(error)))
        except Conflict:
            raise  # another run is at it: what comes of it is open
        except PermissionMissing as error:
            needed = f"Writing {job.stream} needs {job.kind.resource.permission!r}. "
            message = needed + error.failure.message
            raise PermissionMissing(replace(error.failure, message=message)) from None
        except RequestRefused as error:
            self._settle(job, Decision(REJECTED, reason=str(error.failure)), error)

    def _try(self, job: Job) -> None:
        resource, fields = job.kind.resource, job.own_fields()
        tree = tree_for(resource, fields, self._transport.now())
        if self._policy.id_mode == COPY:
            tree = {name: it for name, it in tree.items() if name not in resource.own_to_account}
        resolved = self._identity.resolve(resource, tree)
        deleted = is_deleted(job.record)
        if resolved.missing and not deleted:
            over = self._policy.id_mode == COPY and ended(resource, fields)
            if over and self._identity.known(job.stream, job.key) is None:
                self._settle(job, Decision(BLOCKED, reason=over))
            else:
                self._park(job, resolved.missing)
            return
        located = self._identity.locate(resource, job.key, tree, job.kind.keys)
        current = None
        if located and not located.startswith(PLANNED):
            current = self._objects.current(resource, located, tree, fields)
        wanted = Wanted(
            resource,
            fields,
            tree,
            deleted=deleted,
            whole=job.kind.whole,
            stamp=self._stamp(job),
            object_id=job.key if self._policy.id_mode == COPY else None,
            action=job.record.get(ACTION),
        )
        self._say_left_out(job.stream, resolved.left_out)
        later = [] if deleted else resolved.later
        verdict = self._bring(job, wanted, located, current, later=bool(later))
        if verdict:
            job.done = job.done or verdict
            self._park(job, later)

    def _stamp(self, job: Job) -> dict[str, str]:
        resource, mode = job.kind.resource, self._policy.id_mode
        if mode == SAME_ACCOUNT or (mode == COPY and resource.found_by == "id"):
            return {}
        return job.kind.keys.stamp(job.record)

    def _say_left_out(self, stream: str, paths: Iterable[str]) -> None:
        for path in paths:
            if (stream, path) not in self._left_out:
                self._left_out.add((stream, path))
                _logger.warning("%s: %s is left out: what it names is not copied", stream, path)

    def _bring(
        self,
        job: Job,
        wanted: Wanted,
        located: str | None,
        current: Object | None,
        *,
        later: bool,
    ) -> str | None:
        """Plan and write. Returns the verdict if something is still to come, else settles."""
        known = self._journal.recall(job.stream, [job.key]).get(job.key)
        base = known.image() if known else None
        gone = located and current is None and base and not wanted.deleted
        if gone and self._policy.id_mode != SAME_ACCOUNT:
            if self._policy.on_conflict != OVERWRITE:
                self._conflict(job, Decision(CONFLICT, reason="it was deleted in Stripe"))
                return None
            base = None
        theirs = theirs_of(wanted, current)
        unkeyed = wanted.tree.get("items")
        wanted = self._with_keyed_items(wanted, theirs)
        decision = plan(wanted, current, theirs, base, self._policy)
        if self._previews:
            everything = replace(self._policy, allowed=frozenset(ALLOWED))
            allowed = partial(plan, wanted, current, theirs, base, everything)
            decision = self._previews.of(job.stream, job.key, decision, current, allowed)
        if decision.verdict == CONFLICT:
            self._conflict(job, decision)
        elif decision.verdict in (REJECTED, BLOCKED):
            self._settle(job, decision)
        elif self._dry_run:
            if decision.verdict == CREATED:
                self._learn(job.stream, job.key, f"{PLANNED}{job.stream}:{job.key}")
            self._settle(job, decision)
        else:
            return self._carry_out(job, wanted, decision, current, unkeyed, later=later)
        return None

    def _conflict(self, job: Job, decision: Decision) -> None:
        if self._policy.on_conflict == FAIL and not self._dry_run:
            raise ConflictStop(
                f"{job.stream} {job.key}: {decision.reason}. Nothing was written to it; "
                "`on_conflict` says what to do about it."
            )
        self._settle(job, decision)

    def _settle(self, job: Job, decision: Decision, error: StripeError | None = None) -> None:
        if decision.verdict in (REJECTED, BLOCKED, CONFLICT):
            with self._parked.lock:
                self._parked.stuck.add((job.stream, job.key))
        names = job.kind.keys.properties
        self._report.settled(job.stream, job.key, decision, job.record, error, names=names)
        self.watermark.settle(job.number)

    def _with_keyed_items(self, wanted: Wanted, theirs: Mapping[str, Tree]) -> Wanted:
        stream = wanted.resource.contains
        if not stream or not isinstance(wanted.tree.get("items"), list):
            return wanted
        held = theirs.get("items") or {}

        def rename(own: str) -> str | None:
            if self._policy.id_mode == SAME_ACCOUNT:
                return own
            found = self._identity.known(stream, own) or own
            return found if found in held else None

        return replace(wanted, tree=key_items(wanted.tree, held, rename))

    # ------------------------------------------------------------------ what is to be

    def _carry_out(
        self,
        job: Job,
        wanted: Wanted,
        decision: Decision,
        current: Object | None,
        unkeyed: Tree,
        *,
        later: bool,
    ) -> str | None:
        try:
            result = self._send_all(job, wanted, decision, current)
        except Conflict:
            raise
        except RequestRefused as error:
            if decision.verdict == DELETED and wanted.resource.archive:
                # What cannot be deleted, such as a product with prices, is archived.
                archive = replace(self._policy, delete_policy=ARCHIVE)
                instead = plan(wanted, current, {}, None, archive)
                return self._carry_out(job, wanted, instead, current, None, later=False)
            self._settle(job, Decision(REJECTED, reason=str(error.failure)), error)
            return None
        acts = bool(wanted.action) and decision.verdict == CREATED
        self._remember(job, wanted, result, unkeyed, whole=not later and not acts)
        if result and (self._policy.id_mode != SAME_ACCOUNT or result["id"] != job.key):
            self._learn(job.stream, job.key, str(result["id"]))
        if acts:  # now that it is there
            job.done = CREATED
            again = replace(wanted, tree={**wanted.tree, "items": unkeyed}) if unkeyed else wanted
            return self._bring(job, again, str((result or {}).get("id")), result, later=later)
        if later:
            return decision.verdict
        verdict = job.done if job.done and decision.verdict != DELETED else decision.verdict
        self._settle(job, replace(decision, verdict=verdict))
        return None

    def _send_all(
        self, job: Job, wanted: Wanted, decision: Decision, current: Object | None
    ) -> Object | None:
        result = current
        for planned in decision.requests:
            request = planned
            if request.kind == "create":
                request = self._with_stamped_items(job, request)
            if request.kind == "archive" and wanted.resource.succeeded and current:
                self._succession.release(job.key, current)
            if decision.replaces:
                result = self._succession.successor(decision.replaces, current)
                if result is not None:
                    continue
            result = self._delivery.send(job.stream, job.key, request) or result
        before = decision.replaces
        if wanted.resource.succeeded and result and not wanted.deleted:
            before = before or (result.get("metadata") or {}).get(REPLACES)
            if before and before != result["id"]:
                self._succession.end(job.key, before, result)
        return result

    def _with_stamped_items(self, job: Job, request: Request) -> Request:
        items, source = request.params.get("items"), job.record.get("items")
        entries = source.get("data") if isinstance(source, dict) else source
        if self._policy.id_mode != COPY or not items or not entries:
            return request
        keys = Keys(COPY, ())
        stamped = [
            {**item, "metadata": {**item.get("metadata", {}), **keys.stamp(entry)}}
            for item, entry in zip(items, entries, strict=True)
        ]
        return replace(request, params={**request.params, "items": stamped})

    # ------------------------------------------------------------------ what was done

    def _remember(
        self, job: Job, wanted: Wanted, result: Object | None, unkeyed: Tree, *, whole: bool
    ) -> None:
        """Keep what record and object hold now that they agree."""
        digest = job.digest if whole else None
        if result is None or wanted.deleted:
            object_id = result["id"] if result else None
            self._journal.keep([Known(job.stream, job.key, object_id, digest)])
            return
        result = self._objects.whole(wanted.resource, result)
        theirs = theirs_of(wanted, result)
        if isinstance(unkeyed, list):
            again = replace(wanted, tree={**wanted.tree, "items": unkeyed})
            wanted = self._with_keyed_items(again, theirs)
        ours = dict(wanted.tree)
        if wanted.action and whole:
            ours[ACTION] = wanted.action
        fixed = {}
        if self._policy.id_mode != COPY:
            fixed = {".".join(path): value for path, value in parts_fixed(wanted)}
        base = Base(ours, {k: v for k, v in theirs.items() if k in ours}, fixed)
        known = Known(job.stream, job.key, result["id"], digest, journals.encode(base))
        self._journal.keep([known])
