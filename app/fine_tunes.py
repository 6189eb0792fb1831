"""What clients do with fine-tunes, without HTTP, and which model the `version` of a prediction means.

A fine-tune that a tenant may not see does not exist for it: ModelNotFound, or the answer to an unknown version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from anyio import to_thread

from app.services import Services
from predictions.errors import FieldError, FineTuneExists, InvalidInput, ModelNotFound
from predictions.fine_tunes import commands
from predictions.fine_tunes.record import FineTune, Version, Visibility, adapter_prefix
from predictions.models.registry import NAME
from predictions.models.served import ServedModel
from predictions.tenants import Scope, Tenant

_REFERENCE = re.compile(rf"(?:(?P<name>{NAME})(?::(?P<version>[0-9a-f]{{64}}))?|(?P<alone>[0-9a-f]{{64}}))")


@dataclass(frozen=True)
class Chosen:
    """What a prediction is made with: a model that is served, or a version of a fine-tune of it."""

    served: ServedModel
    """The model whose workers make it."""
    name: str
    """owner/name, the fine-tune's where it is one's."""
    version: str
    is_fine_tune: bool


async def create(
    services: Services, tenant: Tenant, name: str, visibility: Visibility, description: str | None
) -> FineTune:
    """Create a fine-tune without versions. Raises FineTuneExists, TooManyFineTunes."""
    models = await services.models.all()
    if any(name in (model.name, model.entry.name) for model in models):
        raise FineTuneExists(name)
    return await services.store.run(commands.create(name, tenant.owner, visibility, description))


async def visible(services: Services, tenant: Tenant) -> list[FineTune]:
    """Return the fine-tunes that a tenant may see, newest first."""
    found = await services.store.run(commands.visible_to(tenant.owner))
    return [fine_tune for fine_tune in found if _sees(tenant, fine_tune)]


async def read(services: Services, tenant: Tenant, name: str) -> FineTune:
    """Return a fine-tune that a tenant may see; raises ModelNotFound."""
    fine_tune = await _named(services, name)
    if fine_tune is None or not _sees(tenant, fine_tune):
        raise ModelNotFound(name)
    return fine_tune


async def named(services: Services, tenant: Tenant, name: str) -> ServedModel | FineTune:
    """Return the registry's model of that name, or the fine-tune that a tenant may see; raises ModelNotFound."""
    for model in await services.models.all():
        if model.name == name:
            return model
    return await read(services, tenant, name)


async def change(
    services: Services, tenant: Tenant, name: str, visibility: Visibility | None, description: str | None
) -> FineTune:
    """Change what is given of the tenant's fine-tune; raises ModelNotFound."""
    found = await _own(services, tenant, name)
    description = found.description if description is None else description
    return await services.store.run(commands.change(name, tenant.owner, visibility or found.visibility, description))


async def delete(services: Services, tenant: Tenant, name: str) -> None:
    """Delete the tenant's fine-tune; raises ModelNotFound, FineTuneHasVersions."""
    await _own(services, tenant, name)
    await services.store.run(commands.delete(name, tenant.owner))


async def delete_version(services: Services, tenant: Tenant, name: str, version_id: str) -> None:
    """Delete a version of the tenant's fine-tune, and its files; raises ModelNotFound."""
    version = (await _own(services, tenant, name)).version(version_id)
    # The record first: a prediction that waits for it then says so. Files that stay behind are left over.
    if await services.store.run(commands.delete_version(name, tenant.owner, version.id)):
        await to_thread.run_sync(services.storage.delete_prefix, adapter_prefix(version.id))


async def require(services: Services, owner: str, name: str) -> None:
    """Raise ModelNotFound unless predictions of this owner can name the model, as far as names go."""
    if any(model.name == name for model in await services.models.all()):
        return
    fine_tune = await _named(services, name)
    if fine_tune is None or not fine_tune.is_visible_to(owner):
        raise ModelNotFound(name)


async def for_version(services: Services, owner: str, reference: str | None) -> Chosen:
    """Return what an owner's prediction is made with: a `version`, or the default model.

    The registry's models come first, and no Redis is asked where they are meant. Raises InvalidInput, NoModel.
    """
    models = await services.models.all()
    if reference is not None and not any(model.is_meant_by(reference) for model in models):
        found = await _find(services, owner, reference)
        if found is not None:
            return _chosen(models, *found)
    model = await services.models.for_version(reference)
    return Chosen(model, model.name, model.card.version, is_fine_tune=False)


def base_of(models: tuple[ServedModel, ...], version: Version) -> ServedModel | None:
    """Return the model that a version changes; None where it is served no more."""
    return next((model for model in models if model.name == version.base), None)


async def _find(services: Services, owner: str, reference: str) -> tuple[FineTune, Version] | None:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    if match["alone"]:
        having = await services.store.run(commands.having(reference))
        # All of them make the same music; the owner's own first.
        candidates = sorted(having, key=lambda fine_tune: (fine_tune.tenant != owner, fine_tune.created_at))
    else:
        named = await _named(services, match["name"])
        candidates = [named] if named else []
    wanted = match["version"] or match["alone"]
    for fine_tune in candidates:
        if fine_tune.is_visible_to(owner):
            if not fine_tune.versions:
                remedy = "train one, or add an adapter by `musicgen models add`"
                raise InvalidInput(FieldError("version", f"{fine_tune.name} has no versions yet", remedy))
            for version in fine_tune.versions:
                if wanted in (None, version.id):
                    return fine_tune, version
    return None


def _chosen(models: tuple[ServedModel, ...], fine_tune: FineTune, version: Version) -> Chosen:
    base = base_of(models, version)
    if base is None:
        raise InvalidInput(
            FieldError(
                "version",
                f"{fine_tune.name}:{version.id} changes {version.base}, which is not served here",
                f"have {version.base} served again, or send another version",
            )
        )
    card = base.card
    if version.base_version not in (card.version, card.checksum):
        raise InvalidInput(
            FieldError(
                "version",
                f"{fine_tune.name}:{version.id} was made for version {version.base_version} of {version.base}, which "
                f"now has version {card.version}",
                "have that version served again; or add the adapter again for the present one (`musicgen models add`)",
            )
        )
    return Chosen(base, fine_tune.name, version.id, is_fine_tune=True)


async def _named(services: Services, name: str) -> FineTune | None:
    # No other text was ever a name, and not every text can be sent to Redis.
    if not re.fullmatch(NAME, name):
        return None
    try:
        return await services.store.run(commands.get(name))
    except ModelNotFound:
        return None


async def _own(services: Services, tenant: Tenant, name: str) -> FineTune:
    fine_tune = await _named(services, name)
    if fine_tune is None or fine_tune.tenant != tenant.owner:
        raise ModelNotFound(name)
    return fine_tune


def _sees(tenant: Tenant, fine_tune: FineTune) -> bool:
    """Whether a token's tenant sees a fine-tune; its own private ones only where the token may read."""
    return fine_tune.visibility is Visibility.PUBLIC or (
        fine_tune.tenant == tenant.owner and Scope.READ in tenant.scopes
    )
