"""Commands on fine-tunes' records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from predictions.errors import FineTuneExists, FineTuneHasVersions, ModelNotFound, TooManyFineTunes
from predictions.fine_tunes.record import FineTune, Version, Visibility
from predictions.record.command import Arguments, Command, flat, pairs, read_time
from predictions.record.schema import FineTuneHash

MAX_FINE_TUNES = 1000
"""How many fine-tunes a tenant may have."""


def create(name: str, tenant: str, visibility: Visibility, description: str | None) -> Command[FineTune]:
    """Create a fine-tune without versions. The caller makes sure that the registry has no model of the name.

    Raises TooManyFineTunes, and FineTuneExists where the name is taken; by an equal one of the same tenant it is not.
    """
    fields: FineTuneHash = {"visibility": visibility, "description": description}
    arguments: Arguments = {
        "name": name,
        "owner": tenant,
        "is_public": visibility is Visibility.PUBLIC,
        "most": MAX_FINE_TUNES,
        "fields": flat(fields),
    }

    def read(answer: Any) -> FineTune:
        if not answer:
            raise TooManyFineTunes(str(MAX_FINE_TUNES))
        found = _read(answer)
        if (found.tenant, found.visibility, found.description) != (tenant, visibility, description):
            raise FineTuneExists(name)
        return found

    return Command("fine_tunes/create", arguments, read)


def get(name: str) -> Command[FineTune]:
    """A fine-tune, whoever may see it; raises ModelNotFound."""
    return Command("fine_tunes/get", {"name": name}, lambda answer: _read_known(answer, name))


def visible_to(tenant: str) -> Command[list[FineTune]]:
    """The fine-tunes that a tenant may use, its own and public ones, newest first."""

    def read(answer: Any) -> list[FineTune]:
        found = [_read(item) for item in answer]
        return sorted(found, key=lambda fine_tune: (fine_tune.created_at, fine_tune.name), reverse=True)

    return Command("fine_tunes/visible_to", {"owner": tenant}, read)


def having(version_id: str) -> Command[list[FineTune]]:
    """The fine-tunes with a version of this id, whoever may see them."""
    return Command("fine_tunes/having", {"id": version_id}, lambda answer: [_read(item) for item in answer])


def change(name: str, tenant: str, visibility: Visibility, description: str | None) -> Command[FineTune]:
    """Give a fine-tune another visibility and description; raises ModelNotFound where it is gone or another's."""
    arguments: Arguments = {
        "name": name,
        "owner": tenant,
        "is_public": visibility is Visibility.PUBLIC,
        "visibility": visibility,
        "description": description or "",
    }
    return Command("fine_tunes/change", arguments, lambda answer: _read_known(answer, name))


def add_version(name: str, tenant: str, version: Version) -> Command[FineTune]:
    """Add a version, or write down anew what is known of one that is there already.

    Raises ModelNotFound where the fine-tune is gone or another's.
    """
    arguments: Arguments = {
        "name": name,
        "owner": tenant,
        "id": version.id,
        "size": version.size,
        "version": json.dumps(asdict(version) | {"created_at": version.created_at.isoformat()}),
    }
    return Command("fine_tunes/add_version", arguments, lambda answer: _read_known(answer, name))


def delete_version(name: str, tenant: str, version_id: str) -> Command[bool]:
    """Delete a version's record where it is there and the tenant's; whether no fine-tune needs the adapter any more."""
    arguments: Arguments = {"name": name, "owner": tenant, "id": version_id}
    return Command("fine_tunes/delete_version", arguments, bool)


def delete(name: str, tenant: str) -> Command[bool]:
    """Delete a fine-tune's record where it is there and the tenant's. Raises FineTuneHasVersions."""

    def read(answer: Any) -> bool:
        if answer < 0:
            raise FineTuneHasVersions(name)
        return bool(answer)

    return Command("fine_tunes/delete", {"name": name, "owner": tenant}, read)


def known(version_ids: Sequence[str]) -> Command[list[bool]]:
    """For each adapter, whether some fine-tune has it as a version."""
    return Command("fine_tunes/known", {"ids": version_ids}, lambda answer: [bool(exists) for exists in answer])


def _read_known(answer: Any, name: str) -> FineTune:
    if not answer:
        raise ModelNotFound(name)
    return _read(answer)


def _read(answer: Any) -> FineTune:
    record, versions = cast(FineTuneHash, dict(pairs(answer[0]))), pairs(answer[1])
    found = [_read_version(json.loads(version)) for _, version in versions]
    return FineTune(
        name=record["name"],
        tenant=record["owner"],
        visibility=Visibility(record["visibility"]),
        description=record.get("description") or None,
        created_at=read_time(record["created_at"]),
        versions=tuple(sorted(found, key=lambda version: (version.created_at, version.id), reverse=True)),
    )


def _read_version(fields: dict[str, Any]) -> Version:
    return Version(**fields | {"created_at": datetime.fromisoformat(fields["created_at"])})
