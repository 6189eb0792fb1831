"""The watched API, with tokens; one process for all tests of a module."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.api.server import server
from predictions.models import announcements
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from tests.app.conftest import CARD
from tests.app.guard.exchange import WatchedApi
from tests.conftest import SECRET
from tests.servers import free_port, redis_server

TOKEN, OTHER_TOKEN = "a-token-of-ann", "a-token-of-bob"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedApi]:
    # Not pytest's own folder for Redis: its path may be too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, redis_server(Path(folder)) as url:
        store = PredictionStore(url)
        store.run(announcements.announce("worker", CARD, 3600.0, queue=Queue.GENERATION))
        store.close()
        port = free_port()
        environment = {
            **os.environ,
            "MUSICGEN_REDIS_URL": url,
            "MUSICGEN_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "MUSICGEN_SECRET": SECRET,
            "MUSICGEN_API_TOKENS": f"{TOKEN},{OTHER_TOKEN}",
        }
        with server([sys.executable, "-m", "tests.app.guard.watched_api", str(port)], environment, port):
            watched = WatchedApi(port)
            # What is loaded at the start is no request's doing.
            watched.watched()
            yield watched
