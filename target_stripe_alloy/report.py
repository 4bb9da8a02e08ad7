"""What a run tells: a diff for eyes, plan and rejects as JSON lines, counts at the end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from stripe_alloy.errors import AlloyError, StripeError, without_secrets
from target_stripe_alloy import preview
from target_stripe_alloy.decision import (
    BLOCKED,
    CONFLICT,
    READ,
    REJECTED,
    UNCHANGED,
    VERDICTS,
    Change,
    Decision,
)

_logger = logging.getLogger(__name__)

_SIGNS = {"created": "+", "deleted": "-", "archived": "-", "updated": "~", "skipped": "="}
REASON = "reason"
TOLD = 20
"""Records of a stream and verdict that are logged one by one; the files hold all."""


class JsonLines:
    """A file that is appended to, one JSON object a line, on the disk before `add` returns."""

    def __init__(self, path: str, setting: str, *, anew: bool = False) -> None:
        self._setting, self._path = setting, Path(path)
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if anew else os.O_APPEND), 0o600
            )
            self._file: IO[bytes] = os.fdopen(descriptor, "ab")
        except OSError as error:
            raise AlloyError(f"`{setting}`: {path} cannot be written: {error.strerror}") from None

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        text = msgspec.json.encode(line, enc_hook=str) + b"\n"
        try:
            with self._lock:
                self._file.write(text)
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise AlloyError(
                f"`{self._setting}`: {self._path} cannot be written: {error.strerror}"
            ) from None

    def close(self) -> None:
        """Close the file; what could not be written was told before."""
        with contextlib.suppress(OSError):
            self._file.close()


class Report:
    """Counts, plans and rejects of a run. Thread-safe."""

    def __init__(
        self,
        *,
        rejects: str,
        max_rejects: int | None,
        plan: str | None,
        dry_run: bool,
    ) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._lock = threading.Lock()
        self._max = max_rejects
        self._rejected = 0
        self._dry_run = dry_run
        self._told: Counter[tuple[str, str]] = Counter()
        self._rejects_path = rejects
        self._rejects: JsonLines | None = None
        self._plan = JsonLines(plan, "plan", anew=True) if plan else None
        self._totals = preview.Totals()

    @property
    def rejected(self) -> int:
        """Records that were rejected."""
        return self._rejected

    def read(self, stream: str, number: int = 1) -> None:
        """Count records that came."""
        self.counts[stream][READ] += number

    def unchanged(self, stream: str, number: int) -> None:
        """Count records that the journal proves to be unchanged."""
        with self._lock:
            self.counts[stream][UNCHANGED] += number

    def settled(
        self,
        stream: str,
        key: str,
        decision: Decision,
        record: Mapping[str, Any],
        error: StripeError | None = None,
        *,
        names: Sequence[str] = ("id",),
    ) -> None:
        """Count a record, and write it down where somebody must look at it.

        `names` are its stream's key properties.
        """
        verdict = decision.verdict
        with self._lock:
            self.counts[stream][verdict] += 1
            self._rejected += verdict == REJECTED
            self._totals.add(decision.preview, blocked=verdict == BLOCKED)
            self._told[stream, verdict] += 1
            told = self._told[stream, verdict]
        if self._plan and verdict != UNCHANGED:
            self._plan.add(_planned(stream, key, decision))
        if verdict in (REJECTED, BLOCKED, CONFLICT):
            if not self._dry_run:
                self._reject(stream, key, decision, record, error, names)
            self._tell(stream, key, decision, told, logging.WARNING)
        elif verdict != UNCHANGED and self._dry_run:
            self._tell(stream, key, decision, told, logging.INFO)
        if verdict == REJECTED and self._max is not None and self._rejected > self._max:
            raise AlloyError(
                f"{self._rejected} records were rejected, `max_rejects` is {self._max}: the run "
                f"stops. What was rejected is in {self._rejects_path}"
            )

    def _tell(self, stream: str, key: str, decision: Decision, told: int, level: int) -> None:
        if told <= TOLD:
            _logger.log(level, "%s", "\n".join(lines_of(stream, key, decision)))
        elif told == TOLD + 1:
            _logger.log(level, "%s: more %s records are not logged", stream, decision.verdict)

    def _reject(
        self,
        stream: str,
        key: str,
        decision: Decision,
        record: Mapping[str, Any],
        error: StripeError | None,
        names: Sequence[str],
    ) -> None:
        with self._lock:
            if self._rejects is None:
                self._rejects = JsonLines(self._rejects_path, "rejects")
        failure = error.failure if error else None
        self._rejects.add(
            {
                "stream": stream,
                "key": key,
                "key_properties": list(names),
                "verdict": decision.verdict,
                REASON: without_secrets(decision.reason),
                "status": failure.status if failure else None,
                "code": (failure.code or failure.type) if failure else None,
                "param": failure.param if failure else None,
                "request_id": failure.request_id if failure else None,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "record": record,
            }
        )

    def summary(self) -> dict[str, dict[str, int]]:
        """Counts by stream: read, and what became of it."""
        return {
            stream: {name: counts[name] for name in (READ, *VERDICTS)}
            for stream, counts in sorted(self.counts.items())
        }

    def progress(self) -> None:
        """Say how far it is."""
        for stream, of in self.summary().items():
            told = ", ".join(f"{name} {n}" for name, n in of.items() if n)
            _logger.info("%s so far: %s", stream, told)

    def close(self, summary: str | None) -> None:
        """Tell the counts, and close the files."""
        counts = self.summary()
        for stream, of in counts.items():
            told = ", ".join(f"{name} {n}" for name, n in of.items() if n or name == READ)
            _logger.info("%s%s: %s", "plan: " if self._dry_run else "", stream, told)
        for line in self._totals.lines():
            _logger.info("plan: %s", line)
        for file in (self._rejects, self._plan):
            if file:
                file.close()
        if summary:
            _write_json(Path(summary), counts)


def _write_json(path: Path, content: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise AlloyError(f"`summary`: {path} cannot be written: {error.strerror}") from None


def _planned(stream: str, key: str, decision: Decision) -> dict[str, Any]:
    planned: dict[str, Any] = {
        "stream": stream,
        "key": key,
        "verdict": decision.verdict,
        "matched": decision.matched,
        REASON: decision.reason,
        "changes": [
            {"field": change.field, "before": change.before, "after": change.after}
            for change in decision.changes
        ],
        "requests": [
            {"method": request.method, "path": request.path} for request in decision.requests
        ],
    }
    if decision.withheld:
        planned["withheld"] = [
            {"method": request.method, "path": request.path} for request in decision.withheld
        ]
    if decision.preview:
        planned["preview"] = decision.preview
    return planned


def lines_of(stream: str, key: str, decision: Decision) -> Iterable[str]:
    """A decision as a diff: what is there, what comes."""
    sign = _SIGNS.get(decision.verdict, "!")
    reason = f": {without_secrets(decision.reason)}" if decision.reason else ""
    yield f"{sign} {stream} {key}{_matched(decision)} {decision.verdict}{reason}"
    for change in decision.changes:
        yield f"    {_line(change)}"
    for line in preview.lines_of(decision.preview) if decision.preview else ():
        yield f"    {line}"


def _matched(decision: Decision) -> str:
    """How the object was found, unless the key is its id."""
    matched = decision.matched
    if not matched or matched["by"] == "id":
        return ""
    return f" ({matched['object']}, by {matched['by']})"


def _line(change: Change) -> str:
    if change.before is None:
        return f"+ {change.field}: {_shown(change.after)}"
    if change.after is None:
        return f"- {change.field}: {_shown(change.before)}"
    return f"~ {change.field}: {_shown(change.before)} → {_shown(change.after)}"


def _shown(tree: Any) -> str:
    text = json.dumps(tree, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"
