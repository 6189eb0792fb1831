"""The models as they are served: the registry's entries with the state of their queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predictions.errors import FieldError, InvalidInput, ModelNotFound, NoModel, NoTrainer
from predictions.models.announcements import QueueState
from predictions.models.card import ModelCard
from predictions.models.registry import ModelEntry, Registry


@dataclass(frozen=True)
class ServedModel:
    """One model of the registry, with the state of its queue."""

    entry: ModelEntry
    state: QueueState
    is_default: bool
    trainers: QueueState
    """The state of the queue of its trainings."""

    @property
    def name(self) -> str:
        """owner/name; without a registry's file, the name that its workers announced."""
        return self.state.card.name if self.state.card else self.entry.name

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that are served; empty before a worker has announced one."""
        return (self.state.card.version,) if self.state.card else ()

    @property
    def card(self) -> ModelCard:
        """The card that its workers announced; raises NoModel where none ever has."""
        if self.state.card is None:
            raise NoModel(f"the model {self.name}")
        return self.state.card

    @property
    def defaults(self) -> dict[str, Any]:
        """The inputs of a prediction that leaves them out: the registry's, else the model's own."""
        own = self.state.card.defaults if self.state.card else {}
        return own | self.entry.defaults

    @property
    def trainable(self) -> ModelCard:
        """The card that the workers announced that train it; raises NoTrainer where none ever has."""
        if self.trainers.card is None:
            raise NoTrainer(self.name)
        return self.trainers.card

    def is_meant_by(self, reference: str) -> bool:
        """Whether a reference (owner/name, owner/name:version, or a version alone) means this model."""
        name, _, version = reference.partition(":")
        if "/" not in name:
            return reference in self.versions
        return name == self.name and (version in self.versions or reference == name)


def served_models(registry: Registry, deployment: Mapping[str, QueueState]) -> tuple[ServedModel, ...]:
    """The models of the registry, in its order."""
    idle = QueueState()
    return tuple(
        ServedModel(
            entry,
            deployment.get(entry.queue, idle),
            entry is registry.default,
            deployment.get(entry.training_queue, idle),
        )
        for entry in registry.entries
    )


def model_for(models: Sequence[ServedModel], reference: str | None) -> ServedModel:
    """The model that a prediction's `version` means, or the default. Raises InvalidInput or NoModel."""
    if reference is None:
        return next(model for model in models if model.is_default)
    meant = [model for model in models if model.is_meant_by(reference)]
    if len(meant) > 1:
        names = " and ".join(model.name for model in meant)
        raise InvalidInput(FieldError("version", f"{reference} is one of {names}", "send owner/name:version"))
    if meant:
        return meant[0]
    for model in models:
        # Its version is not known yet, and may be the requested one.
        if not model.versions and ("/" not in reference or reference.partition(":")[0] == model.name):
            raise NoModel(f"the model {model.name}")
    known = ", ".join(f"{model.name}:{version}" for model in models for version in model.versions)
    raise InvalidInput(FieldError("version", f"{reference} is not served", f"leave it out, or send one of {known}"))


def model_named(models: Sequence[ServedModel], name: str) -> ServedModel:
    """The model of that name; raises ModelNotFound."""
    for model in models:
        if model.name == name:
            return model
    raise ModelNotFound(name)
