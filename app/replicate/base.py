"""What the routes below /v1 share."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from app.services import V1, InjectedServices

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page of a list; here the whole list."""

    previous: str | None = None
    next: str | None = None
    results: list[T]


async def _base_url(request: Request, services: InjectedServices) -> str:
    return services.base_url(request) + V1


BaseUrl = Annotated[str, Depends(_base_url)]
"""The address of this part of the API, as its client knows it."""

Json = dict[str, Any]
