"""The queue of a run's records: ready to be written, waiting for other records, settled."""

from __future__ import annotations

import heapq
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from stripe_alloy.api.errors import StripeError
from target_stripe_alloy.params_tree import InvalidRecord, without_nulls
from target_stripe_alloy.plan.plan_types import Decision, IdMode, NullPolicy, Outcome, Policy
from target_stripe_alloy.plan.record_keys import UnusableKey
from target_stripe_alloy.report import Report
from target_stripe_alloy.resources import ACTION, ORDER
from target_stripe_alloy.write.id_resolver import RecordRef
from target_stripe_alloy.write.journal import DIGEST_SIZE, Journal, JournalEntry, RecordPosition
from target_stripe_alloy.write.overflow_file import OverflowFile
from target_stripe_alloy.write.queued_records import (
    ADDED_FIELDS,
    SDC,
    IncomingStream,
    QueuedRecord,
    is_deleted,
)
from target_stripe_alloy.write.record_writer import RecordWriter, Settled
from target_stripe_alloy.write.worker_pool import KeyedWorkerPool, Ticket, Watermark

FINGERPRINT_VERSION = 1
"""The version of what `fingerprint` makes; the journal of an earlier release has the same ones."""
NOT_WRITTEN = (Outcome.REJECTED, Outcome.BLOCKED, Outcome.CONFLICT, Outcome.SKIPPED)

_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode


class RecordQueue:
    """Has the records of a run written in the order of their keys, and settles them.

    A record that refers to an object that is not known yet waits. It is woken when a record with
    that key is written, and given up at the end of the run.
    """

    def __init__(
        self,
        writer: RecordWriter,
        journal: Journal,
        report: Report,
        policy: Policy,
        workers: int,
    ) -> None:
        self._writer = writer
        self._ids = writer.ids
        self._journal = journal
        self._report = report
        self._policy = policy
        self._dry_run = policy.dry_run
        self._pool = KeyedWorkerPool(workers)
        self._overflow = OverflowFile(_encode)
        self._occurrences: Counter[tuple[str, bytes]] = Counter()
        self._ignores_nulls = policy.null_policy == NullPolicy.IGNORE
        # Without a word for `clear`: so the digests of earlier releases stay valid.
        seed = f"{FINGERPRINT_VERSION}{policy.delete_policy}"
        self._seed = (f"{seed} nulls" if self._ignores_nulls else seed).encode()
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        """By the numbers of the records that are not settled yet."""
        self._waiting: dict[RecordRef, dict[int, QueuedRecord]] = defaultdict(dict)
        """Reference → the records that wait for it, by their numbers."""
        self._give_up_order: list[tuple[int, int, RecordRef]] = []
        """A heap of (stream, number, reference). Entries may be out of date."""
        self._written: set[RecordRef] = set()
        self._failed: set[RecordRef] = set()
        """Records that were not written: those that refer to them cannot be written either."""
        self.watermark = Watermark()
        self._ids.on_object = self._wake

    # ------------------------------------------------------------------ incoming records

    def declare(self, incoming: IncomingStream) -> None:
        """Note a stream of this run: from now on references to it are its key properties."""
        stream = incoming.resource.stream
        self._ids.declare(stream, incoming.keys)
        self._resume_waiting(stream)

    def admit(
        self,
        incoming: IncomingStream,
        record: Mapping[str, Any],
        reject_index: int | None = None,
        position: RecordPosition | None = None,
    ) -> QueuedRecord | None:
        """Number a record that has a key; reject one that has none, and return None.

        A record that is replayed has a line in the rejects file, and the position it had before.
        """
        self._report.count_read(incoming.resource.stream)
        keys = incoming.keys
        try:
            key = keys.of(record)
            keys.match_values(record, present=True)
            if key is None:
                names = ", ".join(keys.properties) or "the stream has no key properties"
                raise UnusableKey(f"it has no key: {names}")
        except UnusableKey as error:
            key, number = "", self.watermark.last
            queued = QueuedRecord(incoming, key, record, number, b"", "", 0, reject_index, position)
            self._report.record_outcome(queued, Decision(Outcome.REJECTED, reason=str(error)))
            return None
        digest, size = self._fingerprint(record)
        number, label = self.watermark.issue(), keys.label(record)
        return QueuedRecord(
            incoming, key, record, number, digest, label, size, reject_index, position
        )

    def _fingerprint(self, record: Mapping[str, Any]) -> tuple[bytes, int]:
        """Return a digest by which a record is known to be unchanged, and its size as JSON.

        What tap and SDK add does not count.
        """
        kept = {k: v for k, v in record.items() if k not in ADDED_FIELDS and not k.startswith(SDC)}
        try:
            if is_deleted(record):
                kept["deleted"] = True
        except InvalidRecord:
            kept["deleted"] = None  # like no record before: it is rejected when it is written
        text = _encode(without_nulls(kept) if self._ignores_nulls else kept)
        return blake2b(text, digest_size=DIGEST_SIZE, key=self._seed).digest(), len(text)

    def submit(self, records: Sequence[QueuedRecord]) -> None:
        """Settle those records of one stream that the journal proves unchanged; queue the others.

        Raises the error that stopped the workers, if any did.
        """
        stream, source = records[0].stream, records[0].incoming.source
        # Before the journal is read: a record that is settled in between is newer than its rows.
        busy = {queued.order_key for queued in records if self._pool.busy(queued.order_key)}
        keys = list({queued.key for queued in records})
        known = self._journal.load(stream, keys, source)
        if self._ids.adopt_older_rows(stream, [q for q in records if q.key not in known]):
            known = self._journal.load(stream, keys, source)
        queued_keys: set[str] = set()
        unchanged = 0
        for queued in records:
            row = known.get(queued.key)
            idle = queued.key not in queued_keys and queued.order_key not in busy
            if idle and row is not None and self._is_unchanged(queued, row):
                unchanged += 1
                self.watermark.settle(queued.number)
                continue
            queued_keys.add(queued.key)
            self._enqueue(queued)
        if unchanged:
            self._report.count_unchanged(stream, unchanged)
        self._pool.raise_failure()

    def _is_unchanged(self, queued: QueuedRecord, row: JournalEntry) -> bool:
        """Whether the journal proves that a record is the last one that was written of its key."""
        if not row.is_same(queued.digest):
            return False
        if row.has_newer_unwritten:
            if queued.position is not None or self._dry_run:
                return False
            row = replace(row, digest=queued.digest, position=None, number=queued.number)
            self._journal.save([row])
        return True

    def _enqueue(self, queued: QueuedRecord) -> None:
        if queued.record.get(ACTION):
            seen = (queued.order_key, queued.digest)
            queued.occurrence = self._occurrences[seen]
            self._occurrences[seen] += 1
        work, spill = partial(self._process, queued), partial(self._overflow.put, queued)
        key, stream, size = queued.order_key, queued.stream, queued.size
        ticket = Ticket(key, queued.locks(), work, spill, stream, size)
        with self._lock:
            self._tickets[queued.number] = ticket
        self._pool.submit(ticket)

    # ------------------------------------------------------------------ a worker writes one

    def _process(self, queued: QueuedRecord) -> bool:
        """Write a record; return whether it is settled. One that is not waits for another."""
        self._overflow.take(queued)
        while True:
            result = self._writer.write(queued)
            if isinstance(result, Settled):
                self._settle(queued, result.decision, result.error)
                with self._lock:
                    self._tickets.pop(queued.number, None)
                return True
            if self._wait_for(queued, result.references):
                return False

    def _settle(
        self, queued: QueuedRecord, decision: Decision, error: StripeError | None = None
    ) -> None:
        if decision.outcome in NOT_WRITTEN:
            with self._lock:
                self._failed.add(self._ids.reference_to(queued.stream, queued.key))
            if not self._dry_run:
                object_ids = [queued.matched["object"]] if queued.matched else []
                if self._policy.id_mode == IdMode.SAME_ACCOUNT:
                    object_ids.append(queued.key)
                stream, key, sent = queued.stream, queued.key, queued.sent
                self._journal.note_unwritten(stream, key, object_ids, sent=sent)
        decision = replace(decision, matched=queued.matched)
        self._report.record_outcome(queued, decision, error)
        self.watermark.settle(queued.number)

    # ------------------------------------------------------------------ records that wait

    def _wait_for(self, queued: QueuedRecord, references: Iterable[RecordRef]) -> bool:
        """Let a record wait for its first reference; the others are checked when it is resumed.

        Returns False if all were written in the meantime: then it is to be tried again at once.
        """
        with self._lock:
            missing = list(references)
            # A reference that was written and still misses does not help a second time.
            written = {each for each in missing if each in self._written} - queued.retried
            queued.retried |= written
            reference = next((each for each in missing if each not in written), None)
            if reference is None:
                return False
            self._overflow.put(queued)
            self._waiting[reference][queued.number] = queued
            entry = (ORDER[queued.stream], queued.number, reference)
            heapq.heappush(self._give_up_order, entry)
            return True

    def _wake(self, reference: RecordRef) -> None:
        """Resume the records that wait for a key that has its object now."""
        with self._lock:
            self._written.add(reference)
            self._failed.discard(reference)
            woken = self._waiting.pop(reference, {})
        self._resume(woken.values())

    def _resume_waiting(self, stream: str = "") -> None:
        """Resume the records that wait for records of a stream, or of any stream."""
        with self._lock:
            references = [each for each in self._waiting if stream in ("", each[0])]
            woken = [q for each in references for q in self._waiting.pop(each).values()]
        self._resume(woken)

    def _resume(self, records: Iterable[QueuedRecord]) -> None:
        for queued in records:
            self._pool.resume(self._tickets[queued.number])

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Write all records that can be written; give up those that still wait then."""
        self._pool.drain()
        self._resume_waiting()  # a stream may have been declared in the meantime
        self._pool.drain()
        while queued := self._next_to_give_up():
            self._overflow.take(queued)
            self._settle(queued, self._writer.give_up(queued, self._failed))
            if self._pool.release(self._tickets.pop(queued.number)):
                self._pool.drain()  # the next record of its key may be what others wait for
        if not self._dry_run:
            self._journal.forget_passing_effects()

    def _next_to_give_up(self) -> QueuedRecord | None:
        """Take out the waiting record that others are the most likely to refer to."""
        with self._lock:
            while self._give_up_order:
                _, number, reference = heapq.heappop(self._give_up_order)
                queued = self._waiting.get(reference, {}).pop(number, None)
                if queued is not None:
                    return queued
        return None

    def raise_failure(self) -> None:
        """Raise the error that stopped the workers, if any did."""
        self._pool.raise_failure()

    def close(self) -> None:
        """Begin nothing more, and wait for the requests in flight."""
        self._pool.close()
        self._overflow.close()
