"""The worker process: its entry point, and the one place where its parts are put together.

A worker that generates owns one model and takes from that model's queue. It is one process with one engine; the Celery
tasks are threads that wait for the engine. A worker of the queue `webhooks` has no model and needs no torch.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from celery import Celery
from celery.exceptions import SecurityWarning

from predictions.errors import StoreUnavailable
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.models.registry import ModelEntry, worker_entry
from predictions.record.command import Command
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings, load_settings
from predictions.storage import open_storage
from predictions.storage.protocol import AudioStorage
from worker.celery_app import create_celery
from worker.code_version import code_version
from worker.housekeeping import Housekeeper
from worker.tasks import register_generation, register_webhooks

if TYPE_CHECKING:
    from musicgen_core import MusicGen

WEBHOOK_THREADS = 32
"""Deliveries at once: most of the time each waits for its receiver."""


def run(*, model: str | None = None, webhooks: bool = False) -> None:
    """Generate, or deliver webhooks, until SIGINT or SIGTERM; tasks that have begun are finished first.

    `model`: the registry's model to serve, instead of the one that MUSICGEN_MODEL names. Raises SystemExit where the
    settings are wrong.
    """
    settings = load_settings() if model is None else load_settings(model=model)
    entry = None if webhooks else worker_entry(settings)
    queue = entry.queue if entry else Queue.WEBHOOKS
    _configure_logging(settings)
    worker = _worker_name(queue, str(os.getpid()))
    celery = create_celery(settings)
    with ExitStack() as cleanup:
        store = PredictionStore(settings.redis_url)
        cleanup.callback(store.close)
        storage = open_storage(settings)
        card, measure, threads = None, None, WEBHOOK_THREADS
        if entry is not None:
            card, measure = _prepare_generation(celery, store, storage, settings, entry, cleanup)
            threads = card.threads
        else:
            _prepare_webhooks(celery, store, storage, settings)
        housekeeper = Housekeeper(store, storage, settings, worker=worker, queue=queue, card=card, measure=measure)
        housekeeper.start()
        cleanup.callback(housekeeper.close)
        _consume(celery, queue, worker, threads, settings)


def is_alive(settings: Settings) -> bool:
    """Whether a worker of this host has announced a model within the last seconds."""
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


def _configure_logging(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level, format="%(asctime)s worker %(levelname)s %(name)s: %(message)s")
    # They write a line for each poll of a connection and each task.
    for chatty in ("celery.app.trace", "celery.worker.strategy", "httpcore", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Celery warns about running as root because of messages that carry code; it accepts nothing but JSON here.
    warnings.filterwarnings("ignore", category=SecurityWarning)


def _worker_name(queue: str, process: str) -> str:
    return f"{queue}@{socket.gethostname()}:{process}"


def _prepare_generation(
    celery: Celery,
    store: PredictionStore,
    storage: AudioStorage,
    settings: Settings,
    entry: ModelEntry,
    cleanup: ExitStack,
) -> tuple[Announcement, Callable[[], Command[bool] | None]]:
    from musicgen_core import MusicGen
    from worker.generation.attempt import Generator
    from worker.generation.leases import LeaseKeeper
    from worker.generation.metrics import StepMeter

    model = MusicGen.load(
        entry.source,
        backend=settings.engine,
        device=settings.device,
        dtype=settings.dtype,
        max_requests=settings.max_requests or None,
        max_seconds=settings.max_duration,
        extend_stride=settings.extend_stride,
    )
    cleanup.callback(model.close)
    card = entry.settle(_announcement(model, settings.revision))
    leases = LeaseKeeper(store, settings.lease_seconds)
    leases.start()
    cleanup.callback(leases.close)
    register_generation(celery, Generator(model, store, storage, leases, settings, card))
    return card, StepMeter(model, entry.queue, card.version).read


def _prepare_webhooks(celery: Celery, store: PredictionStore, storage: AudioStorage, settings: Settings) -> None:
    from worker.webhooks import WebhookSender

    register_webhooks(celery, WebhookSender(store, storage, settings))


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
        trained=model.trained,
        concurrency=model.max_requests,
        frame_rate=abilities.frame_rate,
        delay_frames=abilities.delay_frames,
    )


def _consume(celery: Celery, queue: str, worker: str, threads: int, settings: Settings) -> None:
    """Carry out the queue's tasks until SIGINT or SIGTERM."""
    celery.Worker(
        hostname=worker,
        pool="threads",
        concurrency=threads,
        queues=[queue],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    ).start()
