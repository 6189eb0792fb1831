"""Fixtures for all tests: a private Redis-protocol server for the session, emptied for each test that asks for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from predictions.record.store import PredictionStore
from predictions.settings import Settings
from tests.servers import redis_server

SECRET = "a secret that only the tests know"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of tests/faults; pytest reads options from here alone."""
    parser.addoption("--faults", choices=("short", "full"), default="short", help="how often each fault is tried")
    parser.addoption("--seed", type=int, default=1, help="chooses the moments and targets of the faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and say so, the tests that need a CUDA device where there is none, or that take too long."""
    import torch

    left_out = set() if torch.cuda.is_available() else {"gpu"}
    left_out |= set() if config.getoption("--faults") == "full" else {"full"}
    without = [item for item in items if left_out & {marker.name for marker in item.iter_markers()}]
    if without:
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> None:
    """Tests do not depend on the settings of whoever runs them."""
    for name in list(os.environ):
        if name.startswith("MUSICGEN_") or name == "PORT":
            del os.environ[name]


@pytest.fixture(scope="session")
def redis_session() -> Iterator[str]:
    # Not pytest's own folder: its path may be too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, redis_server(Path(folder)) as url:
        yield url


@pytest.fixture
def redis_url(redis_session: str) -> str:
    """An empty Redis-protocol server."""
    with redis.Redis.from_url(redis_session) as client:
        client.flushall()
    return redis_session


@pytest.fixture
def store(redis_url: str) -> Iterator[PredictionStore]:
    store = PredictionStore(redis_url)
    yield store
    store.close()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a service whose parts are all on this machine."""
    return Settings(redis_url=redis_url, data_dir=tmp_path, secret=SECRET, outbound_allow="127.0.0.0/8")
