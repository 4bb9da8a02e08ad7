"""A state machine that looks for histories after which something was done twice, or wrongly.

    ./run python -m tests.target.simulation --histories 10000 --seed 1 --processes 2

runs many and prints their counts; `--seed N --histories 1` runs one batch again, and `--shrink`
looks for the smallest history that fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import stripe
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from target_stripe_alloy.settings import ALLOWED
from target_stripe_alloy.target import TargetStripeAlloy
from tests.target import simulation_model as model
from tests.target.simulation_model import (
    COPY,
    EXTERNAL,
    KINDS,
    SAME,
    Entry,
    Judge,
    Run,
    Source,
    Thing,
    Violation,
)
from tests.target.simulation_world import EXECUTED, KEYS, Outcome, Sent, World, quick

HOUR = 3600.0
BATCH = 25
"""Histories of one seed."""
UNIT = 10 * BATCH
"""Histories of one process."""
STEPS = 10
"""Rules of a history at most."""
CRASH = 50
"""The last step at which a run may be made to crash."""
ALL = frozenset(ALLOWED)
HAS_PIPELINE = "pipeline" in TargetStripeAlloy.config_jsonschema["properties"]
FAULTS = ("cut_before", "cut_after", "executed", "failed", "locked", "conflict")


@dataclass
class Counts:
    """What was tried and found."""

    histories: int = 0
    steps: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Add another's counts."""
        self.histories += other.histories
        self.steps += other.steps
        self.runs += other.runs
        self.writes += other.writes
        self.verdicts += other.verdicts
        self.found += other.found


COUNTS = Counts()
LIMITS = {"alone": False}
IGNORED: set[str] = set()
"""Parts of messages of violations after which a history just ends."""

BETWEEN = (
    "grant",
    "withdraw",
    "rotate",
    "lose_journal",
    "save_journal",
    "restore_journal",
    "advance",
    "others",
)
_number = st.integers(0, 999)
_record = st.tuples(_number, st.lists(_number, max_size=2))
_fault = st.tuples(st.sampled_from(FAULTS), st.integers(0, 4), st.integers(1, 9))


class Simulation(RuleBasedStateMachine):
    """Sources, runs, crashes, and what others do meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []
        self.over = False
        self.world = World()
        self.mode = SAME
        self.allowed: frozenset[str] = ALL
        self.key = KEYS[0]
        self.policy = "ignore"
        self.sources: list[Source] = []
        self.saved: tuple[Path, list[list[Entry]]] | None = None
        COUNTS.histories += 1

    # -------------------------------------------------------------- the beginning

    @initialize(
        mode=st.sampled_from((SAME, EXTERNAL, COPY)),
        whole=st.booleans(),
        two=st.booleans(),
        policy=st.sampled_from(("ignore", "delete", "archive")),
        allowed=st.booleans(),
        at_first=st.integers(0, 10),
    )
    def begin(
        self, mode: str, whole: bool, two: bool, policy: str, allowed: bool, at_first: int
    ) -> None:
        """Choose what stays the same in a history, and what its first source has at first."""
        chosen = {"mode": mode, "whole": whole, "two": two, "policy": policy}
        self._tell("begin", **chosen, allowed=allowed, at_first=at_first)
        self.mode, self.policy = mode, policy
        self.allowed = ALL if allowed else frozenset()
        made = self.world.made
        model.charge_fees_for(made["mug"])
        for name in ("first", "second")[: 1 + (two and not LIMITS["alone"])]:
            self.sources.append(Source(name, whole, model.things(mode, made)))
        self.judge = Judge(self.world.emulator, mode, self.sources)
        for thing in self.sources[0].things[:at_first] if at_first > 1 else ():
            self.sources[0].produce(thing)

    def _tell(self, _name: str, **given: Any) -> None:
        COUNTS.steps += 1
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        self.story.append(f"{_name}({arguments})")

    # -------------------------------------------------------------- the source

    @rule(source=_number, records=st.lists(_record, min_size=1, max_size=4))
    def produce(self, source: int, records: list[tuple[int, list[int]]]) -> None:
        """Records are new, or change."""
        self._tell("produce", source=source, records=records)
        chosen = self.sources[source % len(self.sources)]
        for thing, edits in records:
            held = chosen.things[thing % len(chosen.things)]
            options = KINDS[held.stream].choices
            for number in edits:
                name, value = options[number % len(options)]
                held.edit(name, _value(name, value), f"of_{chosen.name}")
            entry = chosen.produce(held)
            self.story[-1] += f"\n    # {chosen.name}: {entry.stream} {dict(entry.record)}"

    # -------------------------------------------------------------- runs

    @rule(
        source=_number,
        latest=st.booleans(),
        crash_at=st.none() | st.integers(1, 12) | st.integers(1, CRASH),
        end_at=st.none() | st.integers(1, CRASH),
        faults=st.lists(_fault, max_size=2),
        workers=st.sampled_from((1, 1, 2, 4)),
        on_conflict=st.sampled_from(("overwrite", "merge", "skip", "fail")),
        each=st.integers(1, 4),
    )
    def run(self, source: int, **how: Any) -> None:
        """A run of the target, as far as it gets."""
        if self.over:
            return
        self._tell("run", source=source, **how)
        chosen = self.sources[source % len(self.sources)]
        entries = chosen.latest() if how["latest"] else chosen.tail()
        for name, after, times in how["faults"]:
            self.add_fault(name, after, times)
        self._go(
            chosen,
            entries,
            {"max_concurrency": how["workers"], "on_conflict": how["on_conflict"]},
            each=how["each"],
            crash_at=how["crash_at"],
            end_at=how["end_at"] if how["crash_at"] is None else None,
        )

    def add_fault(self, name: str, after: int, times: int) -> None:
        """Let POSTs of the next run meet trouble."""
        status = {"executed": 500, "failed": 500, "locked": 429, "conflict": 409}.get(name)
        options: dict[str, Any] = {}
        if status:
            options["status"] = status
        if name == "executed":
            options |= {"executed": True, "message": EXECUTED}
        if name == "locked":
            options["code"] = "lock_timeout"
        kind = "status" if status else name
        self.world.emulator.faults.add(kind, method="POST", after=after, times=times, **options)

    def _go(
        self,
        source: Source,
        entries: list[Entry],
        options: dict[str, Any],
        *,
        each: int = 2,
        crash_at: int | str | None = None,
        end_at: int | None = None,
    ) -> Outcome:
        given = Run(source, entries, self.allowed, self.policy)
        ahead: list[str] = []

        def came(state: dict[str, Any], read: int) -> None:
            before, newer = entries[: state["sent"]], entries[state["sent"] : read]
            ahead.extend(self._unsettled_by(given, before, newer))

        config = {
            "api_key": self.key,
            "id_mode": self.mode,
            "delete_policy": self.policy,
            "allow_actions": sorted(self.allowed),
            **({"pipeline": source.name} if HAS_PIPELINE else {}),
            **options,
        }
        messages = source.messages(entries, each)
        outcome = self.world.run(messages, config, crash_at=crash_at, end_at=end_at, came=came)
        self._count(outcome)
        self._settle(source, outcome)
        with self._judging():
            self.judge.look(given, outcome)
            if ahead:
                raise Violation("STATE ahead", "; ".join(ahead))
            if outcome.ended == "done":
                for lack in self._unsettled_by(given, entries):
                    raise Violation("effect that is missing", lack)
            source.pending = [] if outcome.ended == "done" else [*source.pending, *entries]
            for bug in self.world.wire.bugs:
                raise Violation("emulator bug", bug)
        return outcome

    # -------------------------------------------------------------- histories written by hand

    def note(self, stream: str, place: int = 0, source: int = 0, **edits: Any) -> None:
        """A record of the stream's first, second … thing; `metadata__a` is `metadata.a`."""
        chosen = self.sources[source]
        held = [thing for thing in chosen.things if thing.stream == stream][place]
        for name, value in edits.items():
            held.edit(name.replace("__", "."), _value(name, value), f"of_{chosen.name}")
        chosen.produce(held)

    def go(
        self, source: int = 0, *, crash_at: int | str | None = None, workers: int = 1
    ) -> Outcome:
        """A run on what came after the last STATE."""
        self._tell("go", source=source, crash_at=crash_at)
        chosen = self.sources[source]
        options = {"max_concurrency": workers, "on_conflict": "overwrite"}
        return self._go(chosen, chosen.tail(), options, crash_at=crash_at)

    def _unsettled_by(
        self, given: Run, entries: Sequence[Entry], newer: Sequence[Entry] = ()
    ) -> list[str]:
        rejects = self.world.rejected()
        with self.world.wire.lock:
            sent = self.world.wire.sent[self.judge.weighed :]
            return list(self.judge.unsettled(given, entries, rejects, sent, newer))

    def _count(self, outcome: Outcome) -> None:
        COUNTS.runs[outcome.ended] += 1
        COUNTS.writes += len(outcome.sent)
        for counts in outcome.summary.values():
            COUNTS.verdicts.update({k: n for k, n in counts.items() if k != "read"})
        self.story[-1] += f"\n    # {outcome.ended} {outcome.where} {outcome.error or ''}"
        self.story[-1] += "".join(f"\n    #   {sent}" for sent in outcome.sent)
        for line in outcome.rejects:
            said = {name: line[name] for name in ("stream", "key", "verdict", "reason")}
            self.story[-1] += f"\n    #   {said}"

    def _settle(self, source: Source, outcome: Outcome) -> None:
        if outcome.states:
            source.bookmark = max(source.bookmark, outcome.states[-1]["upto"])

    def _judging(self) -> _Judging:
        return _Judging(self)

    # -------------------------------------------------------------- between runs

    @rule(what=st.sampled_from(BETWEEN), number=_number, other=_number)
    def between(self, what: str, number: int, other: int) -> None:
        """Something happens between two runs."""
        self._tell("between", what=what, number=number, other=other)
        getattr(self, f"_{what}")(number, other)

    def _grant(self, number: int, _: int) -> None:
        self.allowed |= _some(number)

    def _withdraw(self, number: int, _: int) -> None:
        self.allowed -= _some(number)

    def _rotate(self, number: int, _: int) -> None:
        self.key = KEYS[number % len(KEYS)]

    def _lose_journal(self, _: int, __: int) -> None:
        self.world.lose_journal()

    def _save_journal(self, _: int, __: int) -> None:
        pending = [list(source.pending) for source in self.sources]
        self.saved = self.world.copy_disk(), pending

    def _restore_journal(self, _: int, __: int) -> None:
        if self.saved is None:
            return
        folder, pending = self.saved
        self.world.restore_journal(folder)
        for source, entries in zip(self.sources, pending, strict=True):
            source.pending = [*source.pending, *entries]

    def _advance(self, number: int, _: int) -> None:
        self.world.now += (0.1, 5, 22, 25)[number % 4] * HOUR

    def _others(self, thing: int, change: int) -> None:
        """Somebody else changes an object."""
        held = self.sources[0].things[thing % len(self.sources[0].things)]
        found = self.judge.reader.held((held.stream, held.key))
        if not found:
            return
        edits: list[tuple[str, dict[str, Any] | None]] = [
            ("metadata.theirs", {"metadata": {"theirs": "1"}}),
            ("metadata.a", {"metadata": {"a": "9"}}),
            ("metadata.a", {"metadata": {"a": ""}}),
            ("description", {"description": "theirs"}),
        ]
        if held.stream == "customers":
            edits.append(("deleted", None))
        self._change(held, str(found[-1]["id"]), *edits[change % len(edits)])

    def _change(
        self, held: Thing, object_id: str, name: str, params: dict[str, Any] | None
    ) -> None:
        api = getattr(self.world.api, held.stream, None)
        if api is None or not hasattr(api, "update"):
            return
        named = (held.stream, held.key)
        if params and held.stream == "disputes":
            params = {**params, "submit": False}
        with suppress(stripe.StripeError):
            if params is None:
                api.delete(object_id)
                self.judge.others_removed(named)
            elif name != "description" or held.stream in ("customers", "products", "invoices"):
                api.update(object_id, params)
                self.judge.others_wrote(named, name)
        self.story[-1] += f"  # {held.stream} {held.key} {name} {params}"

    # -------------------------------------------------------------- the end

    def teardown(self) -> None:
        """In the end all is well: a clean run, and another one has nothing to do."""
        try:
            if self.sources and not self.over:
                self._rest()
        finally:
            self.world.close()

    def _rest(self) -> None:
        self.allowed = ALL
        unsettled: set[str] = set()
        # What one source brings, another one's records may have waited for.
        for clean in (*["a clean run"] * len(self.sources), "the same again"):
            for source in self.sources:
                if self.over or not source.log:
                    continue
                self._tell(f"# {clean}: {source.name}")
                options = {"max_concurrency": 1, "on_conflict": "overwrite"}
                outcome = self._go(source, source.latest(), options)
                with self._judging():
                    if outcome.ended != "done":
                        text = f"{outcome.ended} {outcome.error}"
                        raise Violation("no clean run", text)
                    unsettled |= {f"{line['stream']}:{line['key']}" for line in outcome.rejects}
                    restless = [sent for sent in outcome.sent if not self._quarrel(sent, unsettled)]
                    if clean == "the same again" and restless:
                        raise Violation("not at rest", "; ".join(map(str, restless)))

    def _quarrel(self, sent: Sent, unsettled: Collection[str]) -> bool:
        """Whether one source deletes an object, and another one's record of it is never settled.

        It is made anew then, as `overwrite` says, and what it also asks for is refused.
        """
        about = {**sent.made, **(sent.before or {})}.get("metadata", {}).get("sim")
        if about not in unsettled:
            return False
        ends = {
            entry.deleted
            for source in self.sources
            for entry in source.latest()
            if ":".join(entry.named) == about
        }
        return len(ends) > 1


class _Judging:
    """Notes a violation with its history; one that is ignored just ends it."""

    def __init__(self, machine: Simulation) -> None:
        self._machine = machine

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Violation):
            return False
        machine = self._machine
        if machine.over:
            return True
        machine.over = True
        if any(part in str(error) for part in IGNORED):
            return True
        note = {"kind": error.kind, "text": str(error), "story": list(machine.story)}
        COUNTS.found.append(note)
        return False


def _some(number: int) -> frozenset[str]:
    """One name of `allow_actions`, or all."""
    return ALL if number % 3 == 0 else frozenset({ALLOWED[number % len(ALLOWED)]})


def _value(name: str, value: Any) -> Any:
    return model.fee(value) if name == "add_invoice_items" and isinstance(value, int) else value


# ---------------------------------------------------------------------- many histories


def histories(
    number: int,
    first: int,
    *,
    shrink: bool = False,
    ignored: Sequence[str] = (),
    alone: bool = False,
) -> Counts:
    """Run a number of histories from a seed on, in this process."""
    COUNTS.__init__()  # type: ignore[misc]
    LIMITS["alone"] = alone
    IGNORED.clear()
    IGNORED.update(ignored)
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    for start in range(0, number, BATCH):
        of = first + start // BATCH
        chosen = settings(
            max_examples=min(BATCH, number - start),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=phases,
            verbosity=Verbosity.quiet,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        found = len(COUNTS.found)
        with quick():
            try:
                run_state_machine_as_test(seed(of)(Simulation), settings=chosen)
            except Exception as error:  # noqa: BLE001 - what is found is noted; else it is a fault here
                if len(COUNTS.found) == found:
                    COUNTS.found.append(
                        {"kind": type(error).__name__, "text": str(error), "story": []}
                    )
        for note in COUNTS.found[found:]:
            note["seed"] = of
        if len(COUNTS.found) > found:  # the last is the smallest
            COUNTS.found[found:] = COUNTS.found[-1:]
    return COUNTS


def main() -> int:
    """Run histories, print counts and what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--alone", action="store_true", help="one pipeline only")
    parser.add_argument("--show", type=int, default=1, help="stories of each kind to print")
    asked = parser.parse_args()
    began, counts = time.monotonic(), Counts()
    units = [
        (min(UNIT, asked.histories - start), asked.seed + start // BATCH)
        for start in range(0, asked.histories, UNIT)
    ]
    options = (asked.shrink, tuple(asked.ignore), asked.alone)
    # A new process each: what killed runs left behind goes with it.
    with multiprocessing.Pool(asked.processes, maxtasksperchild=1) as pool:
        for part in pool.imap_unordered(partial(_unit, options), units):
            counts.add(part)
            for note in part.found:
                _say(told(note))
            _say(f"{counts.histories} histories, {len(counts.found)} found")
    _print(counts, time.monotonic() - began, asked.show)
    return 1 if counts.found else 0


def _unit(options: tuple[bool, Sequence[str], bool], unit: tuple[int, int]) -> Counts:
    shrink, ignored, alone = options
    return histories(*unit, shrink=shrink, ignored=ignored, alone=alone)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def told(note: Mapping[str, Any]) -> str:
    """What was found, and the history that leads to it."""
    return "\n".join([f"\n== seed {note.get('seed')}: {note['text']}", *note["story"]])


def _print(counts: Counts, seconds: float, show: int) -> None:
    shown: Counter[str] = Counter()
    for note in counts.found:
        shown[note["kind"]] += 1
        if shown[note["kind"]] <= show:
            _say(told(note))
    _say(
        f"{counts.histories} histories, {counts.steps} steps, {sum(counts.runs.values())} runs "
        f"({json.dumps(counts.runs)}), {counts.runs['killed']} crashes, {counts.writes} writes, "
        f"verdicts {json.dumps(counts.verdicts)}, {seconds:.0f} s"
    )
    for kind, number in shown.most_common():
        seeds = [note.get("seed") for note in counts.found if note["kind"] == kind]
        _say(f"found: {kind}: {number}, seeds {seeds[:10]}")
    if not counts.found:
        _say("found: nothing")


if __name__ == "__main__":
    sys.exit(main())
