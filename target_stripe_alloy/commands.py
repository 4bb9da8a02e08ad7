"""The commands `stripe-alloy plan` and `stripe-alloy rejects replay`."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from stripe_alloy.configs import merged
from stripe_alloy.singer_main import log_discreetly, run
from target_stripe_alloy.json_lines import encoded, lines_in, rewrite_lines
from target_stripe_alloy.rejects import SortedLines
from target_stripe_alloy.target import TargetStripeAlloy

_logger = logging.getLogger(__name__)

ASIDE = ".replaying"
"""Suffix of the file into which earlier releases moved the lines that they replayed."""
_MAPPING = frozenset({"stream_maps", "stream_map_config", "faker_config"})
"""Settings that a replay ignores: the records in the file are mapped already."""


def plan(configs: Sequence[str], messages: IO[str], output: str | None) -> int:
    """Run the target as a dry run; return the exit code."""

    def work() -> None:
        config = {**merged(configs), "dry_run": True, **({"plan": output} if output else {})}
        TargetStripeAlloy(config=config).listen(messages)

    return _guarded(work)


def replay(configs: Sequence[str], file: str) -> int:
    """Write rejected records again; return the exit code.

    Only lines whose records are written now leave the file. A replay that is stopped changes
    nothing: the next one finds the records that are written already unchanged.
    """
    path, codes = Path(file), [0]

    def work() -> None:
        _take_back(path)
        codes.append(_replay(configs, path))

    return _guarded(work) or codes[-1]


def _replay(configs: Sequence[str], path: Path) -> int:
    config = {k: v for k, v in merged(configs).items() if k not in _MAPPING}
    target = TargetStripeAlloy(config={**config, "rejects": str(path)})
    again: dict[int, Mapping[str, Any]] = {}

    def collect(index: int | None, line: Mapping[str, Any]) -> None:
        if index is not None:
            again[index] = {k: v for k, v in line.items() if k != "record"}

    target.collect = collect
    lines = lines_in(path)
    found = target.replay(lines)
    for why, number in found.refused.items():
        _logger.error("%s: lines that stay, since they are %s: %d", path, why, number)
    if not target.settings.policy.dry_run:
        _settle(path, lines, found, again)
    return 1 if found.refused else TargetStripeAlloy.exit_code


def _settle(
    path: Path, lines: list[bytes], found: SortedLines, again: Mapping[int, Mapping[str, Any]]
) -> None:
    """Remove the lines whose records are written; give the others their new reason.

    Lines that were appended or edited in the meantime stay.
    """
    outcomes: dict[bytes, deque[bytes | None]] = defaultdict(deque)
    for index, entry in found.entries.items():
        line = again.get(index)
        kept = encoded({**line, "record": entry.record}) if line else None
        outcomes[lines[index]].append(kept)

    def changed(now: list[bytes]) -> list[bytes]:
        left = (outcomes[line].popleft() if outcomes.get(line) else line for line in now)
        return [line for line in left if line is not None]

    rewrite_lines(path, changed)


def _take_back(path: Path) -> None:
    """Move the lines that a stopped replay of an earlier release left aside back into the file."""
    aside = path.with_name(path.name + ASIDE)
    if aside.exists():
        older = lines_in(aside)
        path.touch(mode=0o600)
        rewrite_lines(path, lambda now: [*(line for line in older if line not in now), *now])
        aside.unlink()


def _guarded(work: Callable[[], None]) -> int:
    """Call a function; return the exit code of the run, or of its error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("singer_sdk").setLevel(logging.WARNING)
    log_discreetly()
    TargetStripeAlloy.exit_code = 0
    try:
        run(work, TargetStripeAlloy.logger)
    except SystemExit as stopped:
        return int(stopped.code or 0) or 1
    return TargetStripeAlloy.exit_code
