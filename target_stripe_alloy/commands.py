"""What `stripe-alloy plan` and `stripe-alloy rejects replay` do: the target, run in other ways."""

from __future__ import annotations

import io
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from stripe_alloy.errors import AlloyError
from stripe_alloy.program import run
from target_stripe_alloy.target import TargetStripeAlloy

ASIDE = ".replaying"
"""Ends the name of the file whose records are being written once more."""


def plan(configs: Sequence[str], messages: IO[str], output: str | None) -> int:
    """Run the target dry; returns the exit code."""
    more: dict[str, Any] = {"dry_run": True}
    if output:
        more["plan"] = output
    return _run(configs, more, messages)


def replay(configs: Sequence[str], file: str) -> int:
    """Write rejected records again; returns the exit code.

    Stopped on its way, it goes on with the same records: what is written already is unchanged.
    """
    source = Path(file)
    aside = source.with_name(source.name + ASIDE)
    try:
        held = aside if aside.exists() else source
        text = "".join(json.dumps(message) + "\n" for message in _messages(held))
    except AlloyError as error:
        TargetStripeAlloy.logger.critical("%s", error)
        return 1
    if held == source:
        source.rename(aside)
    code = _run(configs, {"rejects": file}, io.StringIO(text))
    if code in (0, TargetStripeAlloy.exit_code):
        aside.unlink()
        source.touch()
    return code


def _messages(file: Path) -> Iterator[dict[str, Any]]:
    """Rejected records as Singer messages."""
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        entries = [(line["stream"], tuple(line["key_properties"]), line) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise AlloyError(f"{file} is no file of rejected records: {error!r}") from None
    for (stream, names), group in itertools.groupby(entries, key=lambda entry: entry[:2]):
        schema = {"type": "object", "properties": {}}
        yield {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": list(names)}
        for _, _, line in group:
            yield {"type": "RECORD", "stream": stream, "record": line["record"]}


def _run(configs: Sequence[str], more: dict[str, Any], messages: IO[str]) -> int:
    def work() -> None:
        config: dict[str, Any] = {}
        for file in configs:
            config.update(json.loads(Path(file).read_text(encoding="utf-8")))
        TargetStripeAlloy(config={**config, **more}).listen(messages)

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("singer_sdk").setLevel(logging.WARNING)
    TargetStripeAlloy.exit_code = 0
    try:
        run(work, TargetStripeAlloy.logger)
    except SystemExit as stopped:
        return int(stopped.code or 0) or 1
    return TargetStripeAlloy.exit_code
