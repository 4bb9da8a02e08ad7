"""Readers under the scheduler do what they would do one after the other."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stripe_alloy.api.requests import Gather
from stripe_alloy.connection import Connection
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.scheduler import LocalRead, Scheduler, TapReader, Write

Tree = Any
"""An integer to look up, ("write", integer), ("fail", integer), or a list of trees."""

TREES: st.SearchStrategy[Tree] = st.recursive(
    st.integers(0, 99)
    | st.tuples(st.just("write"), st.integers(0, 99))
    | st.tuples(st.just("fail"), st.integers(0, 99)),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(st.just("in order"), st.lists(inner)),
    max_leaves=12,
)


class Failure(Exception):
    """What a reader raises."""


def reader(tree: Tree) -> TapReader[Any]:
    """Read a tree: lists side by side, what is "in order" one after the other."""
    match tree:
        case int():
            found = yield LocalRead(lambda: tree + 1)
            assert found == tree + 1
            return found
        case ("write", number):
            yield Write([(number, [number])])
            return number
        case ("fail", number):
            yield LocalRead(lambda: None)
            raise Failure(number)
        case ("in order", parts):
            results = []
            for part in parts:
                result = yield from reader(part)
                results.append(result)
            return results
        case _:
            return (yield Gather([reader(part) for part in tree]))


def result_of(tree: Tree) -> Any:
    match tree:
        case int():
            return tree + 1
        case ("write", number):
            return number
        case ("fail", _):
            return None
        case ("in order", parts):
            return [result_of(part) for part in parts]
        case _:
            return [result_of(part) for part in tree]


def leaves(tree: Tree, kind: str) -> list[int]:
    match tree:
        case int():
            return []
        case (str(name), int(number)):
            return [number] if name == kind else []
        case ("in order", parts):
            return [leaf for part in parts for leaf in leaves(part, kind)]
        case _:
            return [leaf for part in tree for leaf in leaves(part, kind)]


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with Emulator(customers=0) as emulator:
        made = Connection(
            api_key=emulator.api_key,
            api_url=emulator.url,
            api_version=emulator.service.version,
            max_requests_per_second=None,
            max_concurrency=4,
        )
        yield made
        made.close()


def run(connection: Connection, root: TapReader[None]) -> list[Any]:
    """What was written, in this order; raises what a reader raises."""
    scheduler = Scheduler(connection.transport, max_concurrency=4, stopped=lambda: False)
    written = []
    for batch in scheduler.run([root]):
        written += [number for _, numbers in batch.parts for number in numbers]
        batch.written()
    return written


@given(tree=TREES)
def test_results_and_writes_are_those_of_the_readers(connection: Connection, tree: Tree) -> None:
    results = []

    def root() -> Generator[Any, Any, None]:
        results.append((yield from reader(tree)))

    if leaves(tree, "fail"):
        with pytest.raises(Failure) as caught:
            run(connection, root())
        assert caught.value.args[0] in leaves(tree, "fail")
        assert results == []
    else:
        assert sorted(run(connection, root())) == sorted(leaves(tree, "write"))
        assert results == [result_of(tree)]


@given(tree=TREES)
def test_a_failure_that_is_caught_ends_only_what_it_was_gathered_with(
    connection: Connection, tree: Tree
) -> None:
    results = []

    def guarded(part: Tree) -> Generator[Any, Any, Any]:
        try:
            return (yield from reader(part))
        except Failure as failure:
            return failure.args[0]

    def root() -> Generator[Any, Any, None]:
        results.extend((yield Gather([guarded(tree), reader(7), reader(("write", 100))])))

    written = run(connection, root())
    assert 100 in written
    assert results[1:] == [8, 100]
    failed = leaves(tree, "fail")
    assert results[0] in failed if failed else results[0] == result_of(tree)


def test_a_reader_goes_on_once_its_records_are_written(connection: Connection) -> None:
    order = []

    def root() -> Generator[Any, Any, None]:
        yield Write([("one", [1])])
        order.append("resumed")

    scheduler = Scheduler(connection.transport, max_concurrency=4, stopped=lambda: False)
    for batch in scheduler.run([root()]):
        order.append("yielded")
        batch.written()
        order.append("written")
    assert order == ["yielded", "resumed", "written"]


def test_what_failed_side_by_side_is_not_resumed(connection: Connection) -> None:
    resumed = []

    def slow() -> Generator[Any, Any, None]:
        yield LocalRead(lambda: time.sleep(0.2))
        resumed.append("slow")

    def root() -> Generator[Any, Any, None]:
        try:
            yield Gather([reader(("fail", 1)), slow()])
        except Failure:
            yield LocalRead(lambda: time.sleep(0.4))

    run(connection, root())
    assert resumed == []
