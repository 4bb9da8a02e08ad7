"""The benchmarks run: their figures are looked at by people, never by a test."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import PARTS, ours


@pytest.mark.parametrize(("part", "objects"), [("unchanged", 400), ("writes", 40)])
def test_the_target_is_measured(
    part: str, objects: int, capsys: pytest.CaptureFixture[str]
) -> None:
    PARTS[part](objects)
    *_, line = capsys.readouterr().out.splitlines()
    assert line.count("|") > 3
    assert line.split("|")[1].strip() == str(objects // (10 if part == "writes" else 1))


def test_the_tap_is_measured() -> None:
    assert ours(2_000) != 0
