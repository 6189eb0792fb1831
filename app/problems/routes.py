"""What the application's routes take: paths, methods and bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute, Match

from app import head
from app.problems.fields import model_of
from app.problems.paths import Operation

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def operations(app: FastAPI) -> Iterator[Operation]:
    """Yield what can be asked for, but for the files of the page and of the storage."""
    for route in iter_route_contexts(app.routes):
        if route.path and not route.path.endswith(":path}"):
            yield from (Operation(method, route.path) for method in sorted((route.methods or set()) - {"HEAD"}))


def allowed(request: Request) -> list[str]:
    """Return the methods of all routes at the request's path; Starlette names only those of the first."""
    routes: Sequence[BaseRoute] = request.app.routes

    def takes(method: str) -> bool:
        if method == "HEAD" and not head.is_excluded(request.scope["path"]):
            method = "GET"
        return any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)

    return [method for method in METHODS if takes(method)]


def body_model(request: Request) -> type[BaseModel] | None:
    """Return the model of the JSON body that the request's route takes."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return model_of(field.field_info.annotation) if field else None
