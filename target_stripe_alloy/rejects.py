"""Lines of the rejects file: records that were not written, with what a replay needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from stripe_alloy.api.errors import StripeError, without_secrets
from stripe_alloy.api.timestamps import rfc3339
from target_stripe_alloy.plan.plan_types import Decision
from target_stripe_alloy.resources import BY_STREAM
from target_stripe_alloy.write.journal import RecordPosition
from target_stripe_alloy.write.queued_records import QueuedRecord

OF_ANOTHER_JOURNAL = (
    "of a run that this journal does not know, so newer records may have been "
    "written since: replay them with that run's journal, or let the tap send their records again"
)

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_NAMES = frozenset({"stream", "key_properties", "verdict", "reason", "record"})
"""The keys of a line in any release."""


class RejectContext(msgspec.Struct, frozen=True):
    """The account, mode and id mode of a record."""

    account: str
    mode: str
    id_mode: str


class RejectedRecord(msgspec.Struct, frozen=True):
    """A line of a rejects file, as far as a replay needs it; `record` is as mapped."""

    stream: str
    source: str
    key_properties: list[str]
    account: str
    mode: str
    id_mode: str
    metadata_complete: bool = msgspec.field(name="whole")
    position: RecordPosition
    record: dict[str, Any]

    @property
    def context(self) -> RejectContext:
        """The account, mode and id mode of the record."""
        return RejectContext(self.account, self.mode, self.id_mode)


@dataclass
class SortedLines:
    """The lines of a file: those that can be replayed, and why the others cannot."""

    entries: dict[int, RejectedRecord] = field(default_factory=dict)
    """By the number of their line, from 0."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → number of lines."""


def reject_line(
    queued: QueuedRecord,
    decision: Decision,
    error: StripeError | None,
    run: int,
    context: RejectContext,
) -> dict[str, Any]:
    """Return the line for a record that was not written; `run` is the number of this run."""
    failure = error.failure if error else None
    return {
        "stream": queued.stream,
        "key": queued.label,
        "key_properties": list(queued.keys.properties),
        "verdict": decision.outcome,
        "reason": without_secrets(decision.reason),
        "status": failure.status if failure else None,
        "code": (failure.code or failure.type) if failure else None,
        "param": failure.param if failure else None,
        "request_id": failure.request_id if failure else None,
        "time": rfc3339(int(time.time())),
        "account": context.account,
        "mode": context.mode,
        "id_mode": context.id_mode,
        "source": queued.incoming.source,
        "whole": queued.incoming.metadata_complete,
        "position": list(queued.position_in(run)),
        "record": queued.record,
    }


def sort_lines(
    lines: list[bytes], context: RejectContext, knows_run: Callable[[int], bool]
) -> SortedLines:
    """Find the lines whose records can be written in a context, with a journal that knows a run."""
    found = SortedLines()
    for index, line in enumerate(lines):
        entry = _entry_of(line)
        why = entry if isinstance(entry, str) else _misfit(entry.context, context)
        if isinstance(entry, RejectedRecord) and not why and not knows_run(entry.position[0]):
            why = OF_ANOTHER_JOURNAL
        if why:
            found.refused[why] = found.refused.get(why, 0) + 1
        elif isinstance(entry, RejectedRecord):
            found.entries[index] = entry
    return found


def _entry_of(line: bytes) -> RejectedRecord | str:
    try:
        older = _decode(line)
        entry = msgspec.convert(older, RejectedRecord)
    except msgspec.ValidationError:
        if isinstance(older, dict) and older.keys() >= _NAMES and "account" not in older:
            return (
                "of an earlier release, which did not note what they were meant for: let the tap "
                "send their records again"
            )
        return "not lines of a rejects file, or damaged"
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "torn, or not JSON"
    return entry if entry.stream in BY_STREAM else f"of an unknown stream, {entry.stream!r}"


def _misfit(theirs: RejectContext, ours: RejectContext) -> str:
    names = {"account": "`api_key` or `account_id`", "mode": "`mode`", "id_mode": "`id_mode`"}
    for name, setting in names.items():
        there, here = getattr(theirs, name), getattr(ours, name)
        if there != here:
            return f"meant for {name} {there}, and this is {here}: change {setting} to replay them"
    return ""
