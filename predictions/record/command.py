"""An operation on the store, described but not performed.

A Command names a Lua script, its arguments, and how to read its answer. `predictions.record.store` runs commands, with
a blocking client for the workers and an asyncio client for the API, so that every operation is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Command(Generic[T]):
    """One Lua script, its arguments, and the reader of its answer."""

    script: str
    """Its room and name, such as "record/claim"."""
    arguments: Mapping[str, Any]
    """By name, as the script reads them; sent as JSON, so there is no None among them."""
    read: Callable[[Any], T]


def pairs(flat: list[str]) -> list[tuple[str, str]]:
    """The fields and values of a hash, from the flat list that Redis answers with."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def read_time(seconds: str) -> datetime:
    """A moment, from the seconds since 1970 that the scripts write."""
    return datetime.fromtimestamp(float(seconds), UTC)
