"""An uploaded file: its record, and the object keys of its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class File:
    """An audio file that a client sent ahead of its predictions."""

    id: str
    owner: str
    name: str
    content_type: str
    size: int
    """Bytes."""
    sha256: str
    created_at: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    """What the client sent along; the service does not read it."""


FILES_PREFIX = "files/"
"""The prefix of all uploaded files."""


def file_prefix(file_id: str) -> str:
    """The prefix of a file's one object."""
    return f"{FILES_PREFIX}{file_id}/"


def file_key(file_id: str) -> str:
    """The object key of a file's bytes."""
    return f"{file_prefix(file_id)}content"
