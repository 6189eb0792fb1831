"""The metrics of this process and of the queues, for whoever has a token with the scope `admin`."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from app.application import InjectedServices
from app.auth import Credentials, admit
from predictions.observability.metrics import Exposition
from predictions.tenants import Scope


def metrics_router(exposition: Exposition) -> APIRouter:
    """Return the route /metrics."""
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def get_metrics(request: Request, services: InjectedServices, credentials: Credentials) -> Response:
        """Show the metrics as Prometheus reads them."""
        await admit(request, services, credentials, Scope.ADMIN)
        accept = request.headers.get("accept", "")
        body, media_type = await to_thread.run_sync(exposition.render, accept)
        return Response(body, headers={"content-type": media_type})

    return router
