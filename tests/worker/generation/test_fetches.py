"""Input audio is fetched apart from generating: nobody waits for another's download, and a lost lease ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, cast

import pytest

from musicgen_core import GenerationInput, InvalidRequest, MusicGen, Waveform
from musicgen_core.audio.ffmpeg import Stoppable, read_audio
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Prediction
from predictions.record.schema import Status
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from tests.app.conftest import CARD
from tests.dripping_server import DrippingServer, dripping_server
from tests.servers import wait_until
from worker.dispatcher import Dispatcher
from worker.generation import fetches
from worker.generation.attempt import Generator
from worker.generation.leases import LeaseKeeper

QUEUE = "generation:ann/one"
THREADS = 2
GENERATED = "got 0 s"


class Model:
    """Reads audio, and refuses every request with a word on the audio that it came with."""

    busy_seconds = 0.0

    def read_audio(self, path: Path, *, max_seconds: float, stoppable: Stoppable) -> Waveform:
        return read_audio(path, sample_rate=32_000, channels=1, max_seconds=max_seconds, stoppable=stoppable)

    def submit(self, given: GenerationInput) -> NoReturn:
        raise InvalidRequest(f"got {given.input_audio.duration if given.input_audio else 0:g} s")


@pytest.fixture
def server() -> Iterator[DrippingServer]:
    with dripping_server() as server:
        yield server


@pytest.fixture
def slow_settings(settings: Settings) -> Settings:
    """A download may take ten minutes: what ends in a test does not end because of that."""
    return settings.model_copy(update={"download_timeout_seconds": 600.0})


@contextmanager
def generator(store: PredictionStore, settings: Settings, model: Model | None = None) -> Iterator[Generator]:
    leases = LeaseKeeper(store, QUEUE, settings.lease_seconds)
    leases.start()
    made = Generator(cast(MusicGen, model or Model()), store, open_storage(settings), leases, settings, CARD)
    try:
        yield made
    finally:
        made.stop_taking()
        leases.close()


@contextmanager
def worker(store: PredictionStore, settings: Settings) -> Iterator[None]:
    """All of a worker that takes and carries out, put together as `worker.main` does."""
    with generator(store, settings) as made:
        dispatcher = Dispatcher(made.take, THREADS)
        made.when_changed(dispatcher.tell)
        dispatcher.start()
        try:
            yield
        finally:
            made.stop_taking()
            dispatcher.close()


def create(store: PredictionStore, name: str, audio: str | None = None, *, owner: str = "ann") -> None:
    value = {"prompt": "piano", "seed": 1, "input_audio": audio, "continuation": bool(audio)}
    new = NewPrediction(
        id=name,
        owner=owner,
        digest="d",
        input=value,
        model="ann/one",
        version=CARD.version,
        queue=QUEUE,
        base_url="http://host",
    )
    store.run(commands.create(new, remember_seconds=60, max_queued=1000))


def get(store: PredictionStore, name: str) -> Prediction:
    return store.run(commands.get(name))


def wait_for_end(store: PredictionStore, name: str) -> Prediction:
    wait_until(lambda: get(store, name).status.is_terminal)
    return get(store, name)


def test_many_downloads_that_drip_keep_nobody_waiting(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer
) -> None:
    for number in range(40):
        create(store, f"drips-{number:02}", f"{server.url}/drip/{number:02}")
    create(store, "anns")
    create(store, "bobs", f"{server.url}/whole.wav", owner="bob")
    with worker(store, slow_settings):
        assert wait_for_end(store, "anns").error == GENERATED
        assert wait_for_end(store, "bobs").error == "got 1 s"
        wait_until(lambda: len(server.read) == fetches.PLACES_OF_AN_OWNER)
        statuses = [get(store, f"drips-{number:02}").status for number in range(40)]
        assert statuses == [Status.PROCESSING] * 4 + [Status.STARTING] * 36


def test_a_canceled_download_is_closed_at_once_and_the_next_begins(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer
) -> None:
    for number in range(5):
        create(store, f"drips-{number}", f"{server.url}/drip/{number}")
    with worker(store, slow_settings):
        wait_until(lambda: len(server.read) == 4)
        store.run(commands.cancel("drips-1"))
        wait_until(lambda: server.left == {"/drip/1"})
        wait_until(lambda: "/drip/4" in server.read)
        store.run(commands.cancel("drips-2"))
        store.run(commands.delete("drips-2"))
        wait_until(lambda: server.left == {"/drip/1", "/drip/2"})
    assert get(store, "drips-1").status is Status.CANCELED


def test_a_lease_that_another_worker_took_closes_its_download(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer
) -> None:
    create(store, "drips", f"{server.url}/drip/0")
    with worker(store, slow_settings.model_copy(update={"lease_seconds": 1.0})):
        wait_until(lambda: server.read)
        store.redis.hset("musicgen:prediction:drips", "lease_token", "another's")
        wait_until(lambda: server.left)
    assert get(store, "drips").status is Status.PROCESSING


def test_a_host_that_drips_keeps_its_share_and_those_who_wait_for_it_can_be_canceled(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "FETCHES_FROM_A_HOST", 2)
    for number in range(4):
        create(store, f"drips-{number}", f"{server.url}/drip/{number}", owner=f"owner-{number}")
    with dripping_server() as other, worker(store, slow_settings):
        create(store, "elsewhere", f"{other.url}/whole.wav", owner="cat")
        assert wait_for_end(store, "elsewhere").error == "got 1 s"
        wait_until(lambda: get(store, "drips-3").status is Status.PROCESSING)
        assert server.read == {"/drip/0", "/drip/1"}
        store.run(commands.cancel("drips-2"))
        store.run(commands.cancel("drips-0"))
        wait_until(lambda: server.read == {"/drip/1", "/drip/3"})


def test_when_all_places_are_taken_what_has_no_audio_goes_on(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "PLACES", 3)
    for number in range(5):
        create(store, f"drips-{number}", f"{server.url}/drip/{number}", owner=f"owner-{number}")
    create(store, "plain")
    with worker(store, slow_settings):
        assert wait_for_end(store, "plain").error == GENERATED
        wait_until(lambda: len(server.read) == 3)
        assert get(store, "drips-3").status is Status.STARTING


def test_what_has_been_fetched_is_generated_before_anything_else_is_taken(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer
) -> None:
    create(store, "audio", f"{server.url}/whole.wav")
    changed = threading.Event()
    with generator(store, slow_settings) as made:
        made.when_changed(changed.set)
        assert made.take() is None
        assert changed.wait(60)
        create(store, "plain")
        for name in ("audio", "plain"):
            assert get(store, name).status is not Status.FAILED
            work = made.take()
            assert work is not None
            work()
            assert get(store, name).status is Status.FAILED
    assert get(store, "audio").logs == "Using seed 1\nFetching input_audio\n"
    assert get(store, "plain").logs == "Using seed 1\n"


def test_audio_that_cannot_be_fetched_fails_and_its_place_is_free(
    store: PredictionStore, settings: Settings, server: DrippingServer
) -> None:
    ends = {"http://[": "is not a valid URL", f"{server.url}/drip/0": "did not answer in time"}
    for number in range(10):
        create(store, f"broken-{number}", [*ends][number % 2])
    with worker(store, settings.model_copy(update={"download_timeout_seconds": 0.5})):
        for number in range(10):
            assert [*ends.values()][number % 2] in (wait_for_end(store, f"broken-{number}").error or "")


def test_a_worker_that_ends_gives_back_what_it_fetches(
    store: PredictionStore, slow_settings: Settings, server: DrippingServer
) -> None:
    create(store, "drips", f"{server.url}/drip/0")
    create(store, "fetched", f"{server.url}/whole.wav")
    changed = threading.Event()
    with generator(store, slow_settings) as made:
        made.when_changed(changed.set)
        assert made.take() is None
        assert changed.wait(60)
        wait_until(lambda: server.read)
        made.stop_taking()
        wait_until(lambda: server.left)
        assert made.take() is None
    for name in ("drips", "fetched"):
        assert get(store, name).status is Status.STARTING
        assert store.redis.hget(f"musicgen:prediction:{name}", "suspicions") == "0"
        taken = store.run(commands.take(QUEUE, f"token of {name}", 60.0, {"t": "beside"}))
        assert taken is not None
        assert taken.id == name


class Endless(Model):
    """Decodes until it is stopped."""

    def __init__(self) -> None:
        self.decodes, self.stopped = threading.Event(), threading.Event()

    def read_audio(self, path: Path, *, max_seconds: float, stoppable: Stoppable) -> Waveform:
        with stoppable(self.stopped.set):
            self.decodes.set()
            self.stopped.wait(120)
        raise InvalidRequest("not reached where the lease is lost")


def test_a_lost_lease_stops_decoding(store: PredictionStore, slow_settings: Settings, server: DrippingServer) -> None:
    create(store, "audio", f"{server.url}/whole.wav")
    changed, model = threading.Event(), Endless()
    with generator(store, slow_settings, model) as made:
        made.when_changed(changed.set)
        assert made.take() is None
        assert model.decodes.wait(60)
        store.run(commands.cancel("audio"))
        assert model.stopped.wait(60)
        assert changed.wait(60)
    assert get(store, "audio").status is Status.CANCELED
