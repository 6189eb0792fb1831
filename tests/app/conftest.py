"""A real API server on a free port, without workers: what it accepts stays in the queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from app.guard.connections import Connections
from app.guard.protocol import protocol_factory
from app.main import create_app
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from tests.servers import wait_until

CARD = Announcement(
    name="tests/melody",
    version="v" * 64,
    melody=True,
    channels=1,
    sample_rate=32000,
    max_duration=30,
    concurrency=4,
)

REGISTRY = """
default = "ann/tune"

[[models]]
name = "ann/tune"
source = "tune"
defaults = { duration = 12, normalization_strategy = "peak" }

[[models]]
name = "bob/words"
source = "words"

[[models]]
name = "bob/late"
source = "late"
"""
TUNE = CARD.model_copy(update={"name": "ann/tune", "version": "1.0", "multi_band_diffusion": True})
WORDS = CARD.model_copy(
    update={"name": "bob/words", "version": "w" * 64, "melody": False, "continuation": False, "max_duration": 10}
)


@contextmanager
def api_server(settings: Settings, registry: Connections | None = None) -> Iterator[str]:
    """Serve the application in a thread; yields its address. `registry`: limits its connections."""
    app = create_app(settings)
    protocol = protocol_factory(registry or Connections(1000, 1000))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, http=protocol, ws="none", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def announce(store: PredictionStore) -> Callable[[Announcement], None]:
    """Announce a model as a worker does. Somebody delivers webhooks too."""
    store.run(announcements.announce("webhooks", None, 60.0, queue=Queue.WEBHOOKS))

    def announce(card: Announcement, queue: str = Queue.GENERATION) -> None:
        store.run(announcements.announce("worker", card, 60.0, queue=queue))

    return announce


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    """A client of an open API whose workers have announced a melody model."""
    announce(CARD)
    with api_server(settings) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


@pytest.fixture
def several(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a service with three models."""
    path = tmp_path / "models.toml"
    path.write_text(REGISTRY)
    return settings.model_copy(update={"models": path})


@pytest.fixture
def client_of_several(several: Settings, announce: Callable[[Announcement, str], None]) -> Iterator[httpx.Client]:
    """A client of an API with three models, of which two have been announced."""
    announce(TUNE, "generation:ann/tune")
    announce(WORDS, "generation:bob/words")
    with api_server(several) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client
