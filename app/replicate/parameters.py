"""The address and the path parameters of the routes below /v1."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from app import application
from app.files import V1


async def _base_url(base_url: application.BaseUrl) -> str:
    return base_url + V1


BaseUrl = Annotated[str, Depends(_base_url)]
"""The address of this part of the API, as its client knows it."""

ModelOwner = Annotated[str, Path(max_length=200, description="The part before the slash in a model's name.")]
ModelName = Annotated[str, Path(max_length=200, description="The part after the slash in a model's name.")]
