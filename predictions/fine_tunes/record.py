"""A fine-tune, its versions, and the object keys of their adapters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from predictions.errors import ModelNotFound

ADAPTERS_PREFIX = "adapters/"
"""The prefix of all adapters."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The two files of an adapter, as PEFT names them."""


class Visibility(StrEnum):
    """Who may see and use a fine-tune; the names are those of Replicate's clients."""

    PRIVATE = "private"
    """Its tenant alone. For all others it does not exist."""
    PUBLIC = "public"
    """Every tenant. Its own alone may change it."""


@dataclass(frozen=True)
class Version:
    """One adapter (LoRA) in PEFT's form, for one base."""

    id: str
    """What `adapter_checksum` computes: equal ones make the same music."""
    base: str
    """owner/name of the registry's model that it changes."""
    base_version: str
    """The base's version, as its card announced it when the adapter was made."""
    size: int
    """Bytes of its two files."""
    rank: int
    """The largest of its changes."""
    training_id: str | None
    """The training that made it; None where it came from elsewhere."""
    created_at: datetime

    @property
    def prefix(self) -> str:
        """The prefix of its two objects in storage."""
        return adapter_prefix(self.id)


@dataclass(frozen=True)
class FineTune:
    """A model that a tenant made."""

    name: str
    """owner/name"""
    tenant: str
    """The tenant's `owner`, as in its predictions."""
    visibility: Visibility
    description: str | None
    created_at: datetime
    versions: tuple[Version, ...]
    """Newest first."""

    def is_visible_to(self, tenant: str) -> bool:
        """Whether a tenant may see and use it."""
        return self.visibility is Visibility.PUBLIC or self.tenant == tenant

    def version(self, version_id: str) -> Version:
        """The version of that id; raises ModelNotFound."""
        for version in self.versions:
            if version.id == version_id:
                return version
        raise ModelNotFound(f"{self.name}:{version_id}")


def adapter_prefix(version_id: str) -> str:
    """The prefix of an adapter's two objects."""
    return f"{ADAPTERS_PREFIX}{version_id}/"
