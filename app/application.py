"""The FastAPI application, and what its routes get from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.types import Receive, Scope, Send

from app.openapi import TAGS, complete
from app.problems.limits import explaining
from app.services import Services


class Application(FastAPI):
    """A FastAPI application with the services that its routes work with."""

    def __init__(self, services: Services, **options: Any) -> None:
        super().__init__(openapi_url=None, **options)
        self.services = services
        self._documents: dict[str, bytes] = {}

    async def document(self, path: str, build: Callable[[], dict[str, Any]]) -> Response:
        """Answer with an OpenAPI document, which is built once, and in another thread: that takes a while."""
        if path not in self._documents:
            self._documents[path] = json.dumps(await to_thread.run_sync(build)).encode()
        return Response(self._documents[path], media_type="application/json")

    def prepare_routes(self) -> None:
        """Have FastAPI put the routes together now; it would otherwise do so while the first request waits."""
        for route in self.routes:
            route.matches({"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            send = explaining(scope, send, self.max_body_size)
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, with what FastAPI cannot derive from the routes."""
        if self.openapi_schema is None:
            schema = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes, tags=TAGS
            )
            self.openapi_schema = complete(schema, self.services.settings)
        return self.openapi_schema


def services_of(request: Request) -> Services:
    """Return the services of the application that handles the request."""
    application = request.app
    assert isinstance(application, Application)
    return application.services


async def _services(request: Request) -> Services:
    return services_of(request)


InjectedServices = Annotated[Services, Depends(_services)]
"""The services of the application that handles the request."""


async def _base_url(request: Request, services: InjectedServices) -> str:
    return services.settings.public_url or str(request.base_url).rstrip("/")


BaseUrl = Annotated[str, Depends(_base_url)]
"""The service's address as this client knows it, without a slash at its end."""
