"""The API process: the one place where its parts are put together.

Imports no torch, so that the API stays small and starts at once; `tests/app/test_main.py` checks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

import uvicorn
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Response
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from app import replicate
from app.access import QUIET
from app.application import Application
from app.guard.browser import BrowserGuard
from app.guard.connections import connections_for
from app.guard.protocol import protocol_factory
from app.head import HeadByGet
from app.live.followers import Followers
from app.live.forecasts import Forecasts
from app.live.waiting import EndedListener
from app.page import page_router
from app.problems import add_problem_handlers
from app.rate_headers import RateLimitHeaders
from app.rates import Rates
from app.readiness import Readiness
from app.retries.lost_answers import LostAnswers
from app.routes import files, health, models, predictions, reruns, streams, trainings, webhooks
from app.routes.metrics import metrics_router
from app.routes.objects import objects_router
from app.services import ServedModels, Services
from app.tokens import Tokens
from predictions.models.registry import load_registry
from predictions.observability import life
from predictions.observability.logs import configure_logging
from predictions.observability.metrics import Exposition, name_build, observe_redis
from predictions.observability.metrics import streams as streams_open
from predictions.observability.queues import QueueCollector
from predictions.observability.server import Checks, MetricsServer
from predictions.observability.storage import ObservedStorage
from predictions.record.store import AsyncPredictionStore, PredictionStore
from predictions.record.trial import require_redis
from predictions.settings import Settings, load_settings
from predictions.storage import open_storage
from predictions.storage.local import LocalStorage
from predictions.storage.protocol import AudioStorage
from predictions.storage.trial import require_storage
from predictions.version import package_version
from predictions.webhooks.signing import SigningKeys

DESCRIPTION = """A prompt goes in, music comes out at a URL.

POST a prediction to `/predictions`, then poll `urls.get` until `status` is `succeeded`; `output` is then the URL of the
audio. Or send `Prefer: wait`, or name a `webhook`."""

DOCUMENT = "/openapi.json"

# A data URI is a third larger than the file it holds; the rest of a body is small.
BODY_OVERHEAD = 1.4
BODY_ALLOWANCE_BYTES = 64 * 1024


def create_app(settings: Settings, exposition: Exposition | None = None) -> Application:
    """Return the application with everything it needs; `exposition`: the metrics that it shows to an admin's token."""
    local = open_storage(settings)
    services = _build_services(settings, ObservedStorage(local))
    app = Application(
        services,
        title="MusicGen Server",
        version=package_version(),
        description=DESCRIPTION,
        # /docs is ours: FastAPI's would load its scripts from another host.
        docs_url=None,
        redoc_url=None,
        lifespan=_running,
        generate_unique_id_function=_operation_id,
        telemetry=_telemetry(settings),
        max_body_size=_max_body_size(settings),
    )
    app.add_middleware(HeadByGet)
    if settings.tokens_file is not None:
        app.add_middleware(RateLimitHeaders)
    _guard_browsers(app, settings)
    app.include_router(predictions.router)
    app.include_router(reruns.router)
    app.include_router(models.router)
    app.include_router(trainings.router)
    app.include_router(webhooks.router)
    app.include_router(streams.router)
    app.include_router(files.router)
    app.include_router(health.router)
    app.include_router(replicate.router, include_in_schema=False)
    app.include_router(page_router(services.storage))
    app.include_router(_document_router(app))
    if isinstance(local, LocalStorage):
        app.include_router(objects_router(local))
    if exposition is not None and settings.asks_for_tokens:
        # Nobody gets them from the public address without a token.
        app.include_router(metrics_router(exposition))
    add_problem_handlers(app)
    return app


def _max_body_size(settings: Settings) -> int:
    longest = max(settings.max_input_audio_bytes * BODY_OVERHEAD, settings.max_upload_bytes)
    return int(longest) + BODY_ALLOWANCE_BYTES


def _telemetry(settings: Settings) -> TelemetryConfig:
    """Spans of requests by FastAPI, where traces are on, and nothing else of its telemetry."""
    return {
        "tracing": settings.traces,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
        "exclude": lambda scope: scope["path"].startswith(QUIET),
    }


def _guard_browsers(app: Application, settings: Settings) -> None:
    """Let pages of other sites use the API where the operator says so, and nowhere else."""
    if not settings.asks_for_tokens:
        app.add_middleware(BrowserGuard, settings=settings)
    if settings.cors_origins:
        # Added last, so that it is outermost, and pages can read refusals too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )


def _document_router(app: Application) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route(DOCUMENT, methods=["GET", "HEAD"])
    async def get_openapi_document() -> Response:
        """Describe the service's own API."""
        return await app.document(DOCUMENT, app.openapi)

    return router


def _build_services(settings: Settings, storage: AudioStorage) -> Services:
    store = AsyncPredictionStore(settings.redis_url, observe_redis)
    return Services(
        settings=settings,
        tokens=Tokens(settings.api_tokens, settings.tokens_file),
        rates=Rates(store),
        signing_keys=SigningKeys(settings),
        store=store,
        storage=storage,
        models=ServedModels(store, load_registry(settings)),
        ended=EndedListener(store),
        followers=Followers(store),
        forecasts=Forecasts(store),
        lost_answers=LostAnswers(store),
        readiness=Readiness(store),
    )


@contextlib.asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    """Keep the parts that listen to Redis running while the application serves."""
    assert isinstance(app, Application)
    app.prepare_routes()
    # What the first use of a thread loads, no request should wait for.
    await to_thread.run_sync(lambda: None)
    services = app.services
    listening = [asyncio.create_task(part.listen()) for part in (services.ended, services.followers)]
    try:
        yield
    finally:
        pending = set(listening)
        while pending:
            # Again and again: Python 3.11's `wait_for`, in which redis-py sends, can lose a cancellation.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.5)
        await services.store.close()
        app.access_log.tell()
        # Here, for the signal that ends the server then ends the process.
        await to_thread.run_sync(life.end_traces)


def _queue_collector(settings: Settings, services: Services) -> QueueCollector:
    """Return what reads the queues, by a connection of its own: the metrics are shown by another thread."""
    entries = load_registry(settings).entries
    models = {entry.queue: entry.name for entry in entries}
    trainings = {entry.training_queue: entry.name for entry in entries}
    tenants = services.tokens.tenants if settings.metrics_tenants else tuple
    return QueueCollector(
        PredictionStore(settings.redis_url, observe_redis), models, tenants, settings.data_dir, trainings
    )


def _operation_id(route: APIRoute) -> str:
    """Return the name that generated clients give to the route's method."""
    return route.name


def calm_garbage_collector() -> None:
    """Collect less often, and never what lives as long as the process, which halves the slowest answers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def run() -> None:
    """Serve until SIGINT or SIGTERM. Raises WrongSetting."""
    settings = load_settings()
    settings.require_safe_binding()
    settings.require_secret()
    configure_logging(settings, "api")
    life.begin_traces(settings, "api")
    name_build()
    for kind in ("events", "audio"):
        streams_open.labels(kind)
    require_redis(settings.redis_url)
    require_storage(settings)
    exposition = Exposition()
    app = create_app(settings, exposition)
    queues = _queue_collector(settings, app.services)
    exposition.add(queues)
    # Clients and Kubernetes ask the API itself, whose event loop then answers.
    MetricsServer(settings, exposition, Checks(ready=queues.wrong, startup=queues.wrong)).start()
    calm_garbage_collector()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol_factory(connections_for(settings)),
        ws="none",
        forwarded_allow_ips=[str(network) for network in settings.proxies],
        log_level=settings.log_level.lower(),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
