"""Commands on an uploaded file's record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from predictions.errors import FileNotFound
from predictions.files.record import File
from predictions.record.command import UNLIMITED, Arguments, Command, flat, pairs, read_time
from predictions.record.schema import FileHash


def put_file(
    file_id: str,
    *,
    owner: str,
    name: str,
    content_type: str,
    size: int,
    sha256: str,
    metadata: Mapping[str, Any] | None = None,
    max_stored_bytes: int = UNLIMITED,
) -> Command[File | None]:
    """Create the record of an uploaded file; None where more than `max_stored_bytes` would be kept for its owner."""
    fields: FileHash = {
        "name": name,
        "content_type": content_type,
        "sha256": sha256,
        "metadata": json.dumps(metadata or {}),
    }
    arguments: Arguments = {
        "id": file_id,
        "owner": owner,
        "size": size,
        "max_stored_bytes": max_stored_bytes,
        "fields": flat(fields),
    }
    return Command("files/put", arguments, lambda answer: _read_file(answer) if answer else None)


def get_file(file_id: str) -> Command[File]:
    """An uploaded file's record; raises FileNotFound."""

    def read(answer: Any) -> File:
        if not answer:
            raise FileNotFound(file_id)
        return _read_file(answer)

    return Command("files/get", {"id": file_id}, read)


def list_files(owner: str, limit: int) -> Command[list[File]]:
    """An owner's uploaded files, newest first."""
    return Command("files/list", {"owner": owner, "limit": limit}, lambda answer: [_read_file(flat) for flat in answer])


def known(file_ids: Sequence[str]) -> Command[list[bool]]:
    """For each file, whether it has a record."""
    return Command("files/known", {"ids": file_ids}, lambda answer: [bool(exists) for exists in answer])


def delete_file(file_id: str) -> Command[bool]:
    """Delete an uploaded file's record; false where there is none."""
    return Command("files/delete", {"id": file_id}, bool)


def _read_file(flat: list[str]) -> File:
    record = cast(FileHash, dict(pairs(flat)))
    return File(
        id=record["id"],
        owner=record["owner"],
        name=record["name"],
        content_type=record["content_type"],
        size=int(record["size"]),
        sha256=record["sha256"],
        created_at=read_time(record["created_at"]),
        metadata=json.loads(record.get("metadata", "{}")),
    )
