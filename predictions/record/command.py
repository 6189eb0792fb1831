"""An operation on the store, described but not performed.

A Command names a Lua script, its arguments, and how to read its answer. `predictions.record.store` runs commands, with
a blocking client for the workers and an asyncio client for the API, so that every operation is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

T = TypeVar("T")

UNLIMITED = -1
"""In the place of a limit, for there being none."""

Arguments = Mapping[str, str | int | float | bool | Sequence[str]]


@dataclass(frozen=True)
class Command(Generic[T]):
    """One Lua script, its arguments, and the reader of its answer."""

    script: str
    """Folder and name: `record/create` is `predictions/record/lua/create.lua`."""
    arguments: Arguments
    """What the script finds under the same names in `given`."""
    read: Callable[[Any], T]


def flat(fields: Mapping[str, object]) -> list[str]:
    """Fields and values in turn, in the order in which they are written; a field that is None is left out."""
    return [part for name, value in fields.items() if value is not None for part in (name, str(value))]


def pairs(flat: Sequence[str]) -> list[tuple[str, str]]:
    """The fields and values of a hash, from the flat list that Redis answers with."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def read_time(seconds: str) -> datetime:
    """A moment, from the seconds since 1970 that the scripts write."""
    return datetime.fromtimestamp(float(seconds), UTC)
