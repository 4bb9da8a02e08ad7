"""Which integers are times: a reviewed list, and the check that it is complete."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from scripts.schemagen.source import Field

SUSPICIOUS_NAME = re.compile(
    r"created|updated|deadline|timestamp|expir|anchor|arrival|date|time|due|period"
    r"|(^|_)(at|on|by|start|end|until|after|before|from|since)($|_)"
)
SUSPICIOUS_DOC = re.compile(
    r"\b(timestamps?|unix|epoch|seconds|dates?|time|when|deadline)\b", re.IGNORECASE
)


class ReviewNeeded(Exception):
    """The list of times must be changed after a review."""


@dataclass(frozen=True)
class ReviewedTimes:
    """The reviewed list: labels of integers that are Unix seconds, and of those that are not."""

    times: frozenset[str]
    not_times: frozenset[str]

    @classmethod
    def load(cls, path: Path) -> ReviewedTimes:
        """Read `{"times": [...], "not_times": [...]}`."""
        lists = json.loads(path.read_text(encoding="utf-8"))
        return cls(frozenset(lists["times"]), frozenset(lists["not_times"]))

    def check(self, integers: Mapping[str, Field]) -> None:
        """Raise ReviewNeeded unless the list covers exactly `integers` (label → field)."""
        problems = [*self._unanswered(integers), *self._stale(integers), *self._contradictions()]
        if problems:
            raise ReviewNeeded("\n".join(problems))

    def _unanswered(self, integers: Mapping[str, Field]) -> Iterator[str]:
        for label, entry in sorted(integers.items()):
            if is_suspicious(entry) and label not in self.times | self.not_times:
                yield (
                    f"{label}: an integer that may be a time; add it to `times` if it is Unix "
                    f"seconds, else to `not_times`. Stripe says: {entry.doc or '(nothing)'}"
                )

    def _stale(self, integers: Mapping[str, Field]) -> Iterator[str]:
        for label in sorted((self.times | self.not_times) - integers.keys()):
            yield f"{label}: listed, but the stripe package has no such integer; remove it"

    def _contradictions(self) -> Iterator[str]:
        for label in sorted(self.times & self.not_times):
            yield f"{label}: in both lists; keep one"


def is_suspicious(entry: Field) -> bool:
    """Whether an integer's name or docstring suggests that it could be a time."""
    return bool(SUSPICIOUS_NAME.search(entry.wire) or SUSPICIOUS_DOC.search(entry.doc))
