"""The worker process: its entry point, and the one place where its parts are put together.

A worker that generates owns one model and takes from that model's queue. It is one process with one engine; threads
prepare what the engine generates and store it. A worker that trains takes from the queue of a model's trainings, one at
a time. A worker of the queue `webhooks` has no model and needs no torch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from celery.exceptions import SecurityWarning

from predictions.errors import StoreUnavailable, WrongSetting
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.models.inputs import Input
from predictions.models.registry import DeclaredAbilities, ModelEntry, worker_entry
from predictions.observability import life
from predictions.observability.logs import configure_logging
from predictions.observability.metrics import Exposition, name_build, observe_redis
from predictions.observability.server import Checks, MetricsServer
from predictions.observability.storage import ObservedStorage
from predictions.record.command import Command
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from predictions.record.trial import require_redis
from predictions.settings import Settings, load_settings
from predictions.storage.protocol import AudioStorage
from predictions.storage.trial import require_storage
from worker.code_version import code_version
from worker.consumer import HintConsumer
from worker.dispatcher import Dispatcher, Work
from worker.health import WorkerHealth
from worker.housekeeping import Housekeeper
from worker.watchdog import Watchdog

if TYPE_CHECKING:
    from musicgen_core import MusicGen, SamplingParams

ENGINE_STUCK_SECONDS = 180.0
"""No decoding step and no stretch of other work takes this long, not even the first on a slow machine."""


class Purpose(StrEnum):
    """What a worker is for."""

    GENERATION = "generation"
    TRAININGS = "trainings"
    WEBHOOKS = "webhooks"


def run(purpose: Purpose = Purpose.GENERATION, *, model: str | None = None) -> None:
    """Generate, train, or deliver webhooks, until SIGINT or SIGTERM.

    Work that has begun is finished first; a training is given back, and goes on from its checkpoint. `model`: the
    registry's model, instead of the one that MUSICGEN_MODEL names. Raises WrongSetting.
    """
    settings = load_settings() if model is None else load_settings(model=model)
    entry, queue = _entry_and_queue(settings, purpose)
    _configure_logging(settings)
    life.begin_traces(settings, "worker" if purpose is Purpose.GENERATION else purpose)
    name = _worker_name(queue, str(os.getpid()))
    name_build()
    require_redis(settings.redis_url)
    with ExitStack() as cleanup:
        cleanup.callback(life.end_traces)
        exposition, health = Exposition(), WorkerHealth()
        server = MetricsServer(settings, exposition, Checks(health.live, health.ready, health.startup))
        server.start()
        cleanup.callback(server.close)
        store = PredictionStore(settings.redis_url, observe_redis)
        cleanup.callback(store.close)
        storage = ObservedStorage(require_storage(settings))
        watchdog = Watchdog()
        if entry is None:
            job = _prepare_webhooks(store, storage, settings)
        elif purpose is Purpose.TRAININGS:
            job = _prepare_trainings(store, storage, settings, entry, watchdog, cleanup)
        else:
            job = _prepare_generation(store, storage, settings, entry, watchdog, exposition, cleanup)
        dispatcher = Dispatcher(job.take, job.threads)
        consumer = HintConsumer(settings, queue, name, hear=dispatcher.tell)
        housekeeper = Housekeeper(
            store,
            storage,
            settings,
            worker=name,
            queue=queue,
            card=job.card,
            measure=job.measure,
            hear_of_hints=consumer.stall.watch,
        )
        job.when_changed(dispatcher.tell)

        def drain() -> None:
            job.stop_taking()
            dispatcher.close()

        watchdog.watch("dispatcher", lambda: dispatcher.is_stuck)
        watchdog.watch("housekeeping", lambda: housekeeper.is_stuck)
        watchdog.watch("message consumer", lambda: consumer.stall.is_stuck, before_exit=drain)
        for part in (housekeeper, dispatcher, watchdog):
            part.start()
        health.watch(
            stuck=watchdog.stuck,
            announced_at=lambda: housekeeper.announced_at,
            dispatcher_silent=lambda: dispatcher.silent_seconds,
            consumer_stalled=lambda: consumer.stall.is_stalled,
            engine_busy=job.engine_busy,
        )
        # Closed in reverse: what runs is finished while the worker is still announced.
        cleanup.callback(housekeeper.close)
        cleanup.callback(drain)
        cleanup.callback(job.stop_waiting)
        cleanup.callback(watchdog.close)
        consumer.run()
        # A second signal ends the process at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@dataclass(frozen=True)
class _Job:
    """What a worker does."""

    take: Callable[[], Work | None]
    threads: int
    card: Announcement | None = None
    measure: Callable[[], Command[bool] | None] | None = None
    when_changed: Callable[[Callable[[], None]], None] = lambda _: None
    """Is given what to call when `take` may give something though nothing was put into the queue."""
    engine_busy: Callable[[], float] = lambda: 0.0
    """How long the engine has worked on the present step or task, in seconds."""
    stop_taking: Callable[[], None] = lambda: None
    stop_waiting: Callable[[], None] = lambda: None


def is_alive(settings: Settings) -> bool:
    """Whether a worker of this host has announced itself within the last seconds."""
    store = PredictionStore(settings.redis_url)
    try:
        deployment = store.run(announcements.deployment())
        return any(
            name.startswith(_worker_name(queue, "")) for queue, state in deployment.items() for name in state.workers
        )
    except StoreUnavailable:
        return False
    finally:
        store.close()


def _entry_and_queue(settings: Settings, purpose: Purpose) -> tuple[ModelEntry | None, str]:
    """The model that the worker is for, and what it takes from; one that delivers webhooks has no model."""
    if purpose is Purpose.WEBHOOKS:
        return None, Queue.WEBHOOKS
    entry = worker_entry(settings)
    return entry, entry.training_queue if purpose is Purpose.TRAININGS else entry.queue


def _configure_logging(settings: Settings) -> None:
    configure_logging(settings, "worker")
    # They write a line for each poll of a connection and each task.
    for chatty in ("celery.app.trace", "celery.worker.strategy", "httpcore", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Celery warns about running as root because of messages that carry code; it accepts nothing but JSON here.
    warnings.filterwarnings("ignore", category=SecurityWarning)


def _worker_name(queue: str, process: str) -> str:
    return f"{queue}@{socket.gethostname()}:{process}"


def _prepare_generation(
    store: PredictionStore,
    storage: AudioStorage,
    settings: Settings,
    entry: ModelEntry,
    watchdog: Watchdog,
    exposition: Exposition,
    cleanup: ExitStack,
) -> _Job:
    from worker.generation.attempt import Generator
    from worker.generation.engine_metrics import EngineCollector
    from worker.generation.leases import LeaseKeeper
    from worker.generation.metrics import StepMeter

    model = _load(settings, entry)
    cleanup.callback(model.close)
    card = entry.settle(_announcement(model, settings.revision))
    leases = LeaseKeeper(store, entry.queue, settings.lease_seconds)
    leases.start()
    cleanup.callback(leases.close)
    watchdog.watch("engine", lambda: model.busy_seconds > ENGINE_STUCK_SECONDS)
    watchdog.watch("keeper of leases", lambda: leases.is_stuck)
    generator = Generator(model, store, storage, leases, settings, card)
    exposition.add(EngineCollector(model, card.name))
    meter = StepMeter(model, entry.queue, card.version)
    return _Job(
        generator.take,
        card.threads,
        card,
        meter.read,
        generator.when_changed,
        lambda: model.busy_seconds,
        generator.stop_taking,
        generator.stop_waiting,
    )


def _load(settings: Settings, entry: ModelEntry) -> MusicGen:
    """The model of the settings; raises WrongSetting where there is none, or where this machine cannot carry it."""
    from musicgen_core import MusicGen, MusicGenError

    try:
        return MusicGen.load(
            entry.source,
            backend=settings.engine,
            device=settings.device,
            dtype=settings.dtype,
            max_requests=settings.max_requests or None,
            max_seconds=settings.max_duration,
            extend_stride=settings.extend_stride,
        )
    except MusicGenError as error:
        where = f"MUSICGEN_MODEL={entry.source}" if settings.models is None else f"The registry's model {entry.name}"
        raise WrongSetting(f"{where} cannot be served: {error}") from error


def _prepare_trainings(
    store: PredictionStore,
    storage: AudioStorage,
    settings: Settings,
    entry: ModelEntry,
    watchdog: Watchdog,
    cleanup: ExitStack,
) -> _Job:
    try:
        from worker.trainings.attempt import Trainer
    except ModuleNotFoundError as error:
        raise WrongSetting(
            f"A worker that trains needs the extra `finetuning` ({error}): pip install 'musicgen-server[finetuning]'."
        ) from error
    from worker.generation.leases import LeaseKeeper

    folder, found = _find_base(settings, entry)
    # A training asks for nothing that the registry restricts.
    card = entry.model_copy(update={"abilities": DeclaredAbilities(), "defaults": {}}).settle(found)
    leases = LeaseKeeper(store, entry.training_queue, settings.lease_seconds)
    leases.start()
    cleanup.callback(leases.close)
    watchdog.watch("keeper of leases", lambda: leases.is_stuck)
    trainer = Trainer(folder, store, storage, leases, settings, card)
    return _Job(trainer.take, 1, card, stop_taking=trainer.stop_taking, stop_waiting=trainer.stop_waiting)


def _find_base(settings: Settings, entry: ModelEntry) -> tuple[Path, Announcement]:
    """The folder of the model that is trained, and what is known of it. Raises WrongSetting."""
    from musicgen_core import MusicGenError
    from musicgen_core.checkpoints import hub
    from musicgen_core.checkpoints.config import read_config
    from musicgen_core.device import choose_device

    try:
        choose_device(settings.device)
        folder = hub.resolve(entry.source)
        config = read_config(folder)
    except MusicGenError as error:
        raise WrongSetting(f"The model {entry.name} cannot be trained: {error}") from error
    checksum = hub.checksum(folder)
    return folder, Announcement(
        name=entry.name,
        version=checksum,
        checksum=checksum,
        code_version=code_version(settings.revision),
        melody=config.is_melody,
        channels=config.audio_channels,
        sample_rate=config.sample_rate,
        max_duration=settings.max_duration,
        concurrency=1,
    )


def _prepare_webhooks(store: PredictionStore, storage: AudioStorage, settings: Settings) -> _Job:
    from worker.webhooks import PLACES, WebhookSender

    return _Job(WebhookSender(store, storage, settings).take, PLACES.total)


def _announcement(model: MusicGen, revision: str) -> Announcement:
    """What the worker announces of the loaded model."""
    abilities = model.abilities
    return Announcement(
        name=model.name,
        version=model.checksum,
        checksum=model.checksum,
        code_version=code_version(revision),
        melody=abilities.melody,
        multi_band_diffusion=abilities.multi_band_diffusion,
        channels=abilities.channels,
        sample_rate=abilities.sample_rate,
        max_duration=abilities.max_seconds,
        defaults=_own_defaults(model.sampling),
        trained=model.trained,
        concurrency=model.max_requests,
        frame_rate=abilities.frame_rate,
        delay_frames=abilities.delay_frames,
    )


def _own_defaults(sampling: SamplingParams) -> dict[str, int | float]:
    """The inputs for which a model has defaults of its own."""
    guidance = sampling.guidance
    own = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "classifier_free_guidance": int(guidance) if guidance.is_integer() else guidance,
    }
    return {name: value for name, value in own.items() if value != Input.model_fields[name].default}
