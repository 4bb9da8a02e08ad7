"""What several end-to-end tests of one worker share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.environments import environment


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the locked target-duckdb."""
    return environment(tmp_path_factory.mktemp("target-duckdb"), "target-duckdb.txt")
