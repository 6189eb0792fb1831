"""The FastAPI application, and what its routes get from it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.types import Receive, Scope, Send

from app.openapi import TAGS, complete
from app.problems.limits import explaining
from app.services import Services


class Application(FastAPI):
    """A FastAPI application with the services that its routes work with."""

    def __init__(self, services: Services, **options: Any) -> None:
        super().__init__(**options)
        self.services = services

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


async def _services(request: Request) -> Services:
    application = request.app
    assert isinstance(application, Application)
    return application.services


InjectedServices = Annotated[Services, Depends(_services)]
"""The services of the application that handles the request."""


async def _base_url(request: Request, services: InjectedServices) -> str:
    return services.settings.public_url or str(request.base_url).rstrip("/")


BaseUrl = Annotated[str, Depends(_base_url)]
"""The service's address as this client knows it, without a slash at its end."""
