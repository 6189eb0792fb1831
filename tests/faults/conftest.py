"""How often each fault is tried: seldom in the test suite, often in `make faults`, which also writes the table."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.report import FOLDER, Report


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`tries(3, 50)`: how often to try, in the test suite and in full."""
    return lambda short, full: full if request.config.getoption("--faults") == "full" else short


@pytest.fixture
def choice(request: pytest.FixtureRequest) -> random.Random:
    """The choices of one test, the same for the same seed."""
    return random.Random(f"{request.config.getoption('--seed')} {request.node.name}")


@pytest.fixture
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Report:
    """Where a test's row goes: into the table of `make faults`, or nowhere."""
    return Report(FOLDER if request.config.getoption("--faults") == "full" else tmp_path)
