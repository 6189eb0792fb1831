"""Lists as Replicate's clients expect them."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page of a list; here always the whole list."""

    previous: str | None = None
    next: str | None = None
    results: list[T]
