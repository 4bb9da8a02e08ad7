"""Reports a run: a readable diff, plan and rejects as JSON lines, counts at the end."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stripe_alloy.api.errors import AlloyError, StripeError, without_secrets
from target_stripe_alloy.json_lines import JsonLines, check_writable, replace_file
from target_stripe_alloy.plan.plan_types import Decision, FieldChange, Outcome, PlannedRequest
from target_stripe_alloy.rejects import RejectContext, reject_line
from target_stripe_alloy.settings import TargetSettings
from target_stripe_alloy.write import invoice_preview as preview
from target_stripe_alloy.write.queued_records import QueuedRecord

_logger = logging.getLogger(__name__)

READ = "read"
"""Counted of each stream beside the outcomes of its records."""

_SIGNS = {"created": "+", "deleted": "-", "archived": "-", "updated": "~", "skipped": "="}
MAX_LOGGED = 20
"""Records of a stream and outcome that are logged one by one; the files have all."""


class Report:
    """Counts, plans and rejects of a run. Thread-safe."""

    def __init__(
        self,
        settings: TargetSettings,
        rejects: str,
        context: RejectContext,
        run: int,
        collect: Callable[[int | None, Mapping[str, Any]], None] | None,
    ) -> None:
        """`collect` takes the lines of a replay, whose records are in the file already."""
        plan, self._summary = settings.plan, settings.summary
        for path, setting in ((rejects, "rejects"), (plan, "plan"), (self._summary, "summary")):
            if path:
                check_writable(path, setting)
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.Lock()
        self._max = settings.max_rejects
        self.rejected = 0
        """Records that were rejected."""
        self._dry_run = settings.policy.dry_run
        self._logged: Counter[tuple[str, str]] = Counter()
        self._rejects_path = rejects
        self._rejects: JsonLines | None = None
        self._context = context
        self._run = run
        self._collect = collect
        self._plan = JsonLines(plan, "plan", truncate=True) if plan else None
        self._totals = preview.Totals()

    def count_read(self, stream: str) -> None:
        """Count a record of the input."""
        self.counts[stream][READ] += 1

    def count_unchanged(self, stream: str, number: int) -> None:
        """Count records that the journal proves to be unchanged."""
        with self._lock:
            self.counts[stream][Outcome.UNCHANGED] += number

    def record_outcome(
        self, queued: QueuedRecord, decision: Decision, error: StripeError | None = None
    ) -> None:
        """Count a record; log it, and append it to the plan and to the rejects file."""
        stream, key, outcome = queued.stream, queued.label, decision.outcome
        with self._lock:
            self.counts[stream][outcome] += 1
            self.rejected += outcome == Outcome.REJECTED
            name = f"{stream} {key}"
            self._totals.add(decision.preview, blocked=outcome == Outcome.BLOCKED, record=name)
            self._logged[stream, outcome] += 1
            logged = self._logged[stream, outcome]
        if self._plan and outcome != Outcome.UNCHANGED:
            self._plan.add(_planned(stream, key, decision))
        if outcome in (Outcome.REJECTED, Outcome.BLOCKED, Outcome.CONFLICT):
            if not self._dry_run:
                self._reject(queued, decision, error)
            self._log(stream, key, decision, logged, logging.WARNING)
        elif outcome != Outcome.UNCHANGED and self._dry_run:
            self._log(stream, key, decision, logged, logging.INFO)
        if outcome == Outcome.REJECTED and self._max is not None and self.rejected > self._max:
            raise AlloyError(
                f"{self.rejected} records were rejected, `max_rejects` is {self._max}: the run "
                f"stops. What was rejected is in {self._rejects_path}"
            )

    def _log(self, stream: str, key: str, decision: Decision, logged: int, level: int) -> None:
        if logged <= MAX_LOGGED:
            with self._lock:  # the lines of a record stay together
                for line in lines_of(stream, key, decision):
                    _logger.log(level, "%s", line)
        elif logged == MAX_LOGGED + 1:
            _logger.log(level, "%s: more %s records are not logged", stream, decision.outcome)

    def _reject(self, queued: QueuedRecord, decision: Decision, error: StripeError | None) -> None:
        line = reject_line(queued, decision, error, self._run, self._context)
        if self._collect:
            self._collect(queued.reject_index, line)
            return
        with self._lock:
            if self._rejects is None:
                self._rejects = JsonLines(self._rejects_path, "rejects")
        self._rejects.add(line)

    def summary(self) -> dict[str, dict[str, int]]:
        """Return the counts of each stream: records read, and their outcomes."""
        return {
            stream: {name: counts[name] for name in (READ, *map(str, Outcome))}
            for stream, counts in sorted(self.counts.items())
        }

    def progress(self) -> None:
        """Log the counts so far."""
        for stream, counts in self.summary().items():
            _logger.info("%s so far: %s", stream, _counted(counts))

    def close(self) -> None:
        """Log the counts, write them to the summary, and close the files."""
        counts = self.summary()
        for stream, of in counts.items():
            _logger.info("%s%s: %s", "plan: " if self._dry_run else "", stream, _counted(of))
        for line in self._totals.lines():
            _logger.info("plan: %s", line)
        for file in (self._rejects, self._plan):
            if file:
                file.close()
        if self._summary:
            _write_json(Path(self._summary), counts)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items() if number)


def _write_json(path: Path, content: Any) -> None:
    text = (json.dumps(content, indent=2) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # such as /dev/stdout
            path.write_bytes(text)
        else:
            replace_file(path.resolve(), text, mode=0o666 & ~_umask())
    except OSError as error:
        raise AlloyError(f"`summary`: {path} cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _planned(stream: str, key: str, decision: Decision) -> dict[str, Any]:
    planned: dict[str, Any] = {
        "stream": stream,
        "key": key,
        "verdict": decision.outcome,
        "matched": decision.matched,
        "reason": decision.reason,
        "changes": [
            {"field": change.field, "before": change.before, "after": change.after}
            for change in decision.changes
        ],
        "requests": [_target_of(request) for request in decision.requests],
    }
    if decision.withheld:
        planned["withheld"] = [_target_of(request) for request in decision.withheld]
    if decision.preview:
        planned["preview"] = decision.preview
    return planned


def _target_of(request: PlannedRequest) -> dict[str, str]:
    return {"method": request.method, "path": request.path}


def lines_of(stream: str, key: str, decision: Decision) -> Iterable[str]:
    """Return a decision as a readable diff."""
    sign = _SIGNS.get(decision.outcome, "!")
    reason = f": {without_secrets(decision.reason)}" if decision.reason else ""
    yield f"{sign} {stream} {key}{_matched(decision)} {decision.outcome}{reason}"
    for change in decision.changes:
        yield f"    {_line(change)}"
    for line in preview.lines_of(decision.preview) if decision.preview else ():
        yield f"    {line}"


def _matched(decision: Decision) -> str:
    """Return how the object was found, unless the key is its id."""
    matched = decision.matched
    if not matched or matched["by"] == "id":
        return ""
    return f" ({matched['object']}, by {matched['by']})"


def _line(change: FieldChange) -> str:
    if change.before is None:
        return f"+ {change.field}: {_shown(change.after)}"
    if change.after is None:
        return f"- {change.field}: {_shown(change.before)}"
    return f"~ {change.field}: {_shown(change.before)} → {_shown(change.after)}"


def _shown(tree: Any) -> str:
    text = json.dumps(tree, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"
