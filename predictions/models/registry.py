"""The registry: the models of a deployment, as the file that MUSICGEN_MODELS names lists them.

    default = "facebook/musicgen-small"

    [[models]]
    name = "facebook/musicgen-small"
    source = "facebook/musicgen-small@main"

    [[models]]
    name = "fofr/musicgen-kenji-kawai"
    source = "kenji-kawai"                    # a folder, relative to this file
    checksum = "…"                            # a worker that computes another one does not start
    defaults = { duration = 12 }
    abilities = { continuation = false }

Without a file the registry holds the one model that MUSICGEN_MODEL names. Each model has a queue of its own, from which
its workers take. What the API knows about a model beyond the file is what they announced (`predictions.models.card`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from predictions.errors import InvalidInput, WrongSetting
from predictions.models.card import Announcement, ModelCard
from predictions.models.inputs import Input, check_abilities
from predictions.record.schema import Queue
from predictions.settings import Settings

NAME_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
NAME = f"{NAME_PART}/{NAME_PART}"
"""owner/name, without a colon, so that owner/name:version is unambiguous."""
VERSION = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

NO_DEFAULT = {
    *("prompt", "input_audio", "seed", "continuation", "continuation_start", "continuation_end"),
    "adapter_strength",
}
"""Inputs that belong to one piece of music or to fine-tunes; the registry can set defaults for all others."""


class DeclaredAbilities(BaseModel):
    """Abilities as the operator declares them: they restrict a model, or state what it must have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    melody: StrictBool | None = None
    continuation: StrictBool | None = None
    multi_band_diffusion: StrictBool | None = None
    channels: Literal[1, 2] | None = None
    max_duration: Annotated[StrictInt, Field(ge=1)] | None = None
    """Seconds."""


class ModelEntry(BaseModel):
    """One model of the registry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    source: Annotated[str, Field(min_length=1)]
    """What to load, as in MUSICGEN_MODEL: a folder, a hub id with or without @revision, or musicgen-pocket."""
    version: Annotated[str, Field(pattern=f"^{VERSION}$")] | None = None
    """The version to announce; None for the checksum."""
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 that configuration and weights must have, in hex."""
    defaults: dict[str, Any] = {}
    """The inputs of a prediction that leaves them out."""
    abilities: DeclaredAbilities = DeclaredAbilities()

    @property
    def queue(self) -> str:
        """The queue from which the model's workers take."""
        return f"{Queue.GENERATION}:{self.name}"

    @property
    def training_queue(self) -> str:
        """The queue of its trainings."""
        return f"{Queue.TRAININGS}:{self.name}"

    @field_validator("defaults")
    @classmethod
    def _are_inputs(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = sorted(set(Input.model_fields) - NO_DEFAULT)
        if wrong := sorted(set(value) - set(known)):
            raise ValueError(f"there is no default for {', '.join(wrong)}; there are defaults for {', '.join(known)}")
        try:
            Input.model_validate({"prompt": "", **value})
        except ValidationError as error:
            found = (f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False))
            raise ValueError("; ".join(found)) from error
        return value

    def settle(self, found: Announcement) -> Announcement:
        """What to announce, from what a worker found; `found.version` is the checksum of the loaded model.

        Declared abilities restrict the model's own. Raises WrongSetting where the registry contradicts the model.
        """
        if self.checksum not in (None, found.version):
            raise WrongSetting(
                f"The checksum of {self.name} is wrong: {self.source} has {found.version}, but the registry says "
                f"{self.checksum}. Fetch or convert the model again, or correct the checksum if the change is meant."
            )
        declared = self.abilities.model_dump(exclude_none=True)
        for ability, value in declared.items():
            has = getattr(found, ability)
            # Channels must be equal; everything else must not exceed what the model has (true exceeds false).
            if value != has if ability == "channels" else value > has:
                raise WrongSetting(
                    f"The registry says {ability} = {_toml(value)} of {self.name}, but the loaded model has "
                    f"{_toml(has)}. Correct abilities.{ability}, or leave it out."
                )
        card = found.model_copy(update={**declared, "name": self.name, "version": self.version or found.version})
        if self.defaults or card.defaults or declared:
            self._check_defaults(card)
        return card

    def _check_defaults(self, card: ModelCard) -> None:
        try:
            check_abilities(Input(prompt="", **(card.defaults | self.defaults)), card)
        except InvalidInput as error:
            raise WrongSetting(
                f"The registry's defaults of {self.name} ask for more than it can do: {error}."
            ) from error
        except ValidationError as error:
            raise WrongSetting(
                f"generation_config.json of {self.name} has what no prediction may ask for: {_explain(error, {})}."
            ) from error


class OnlyModel(ModelEntry):
    """The one model of a deployment without a registry's file.

    Its queue is not named after it, so that MUSICGEN_MODEL can change, and need not be the same for API and workers.
    """

    @property
    def queue(self) -> str:
        """The queue from which the model's workers take."""
        return Queue.GENERATION

    @property
    def training_queue(self) -> str:
        """The queue of its trainings."""
        return Queue.TRAININGS


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    default: str | None = None
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        names = [entry.name for entry in self.models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is there twice; each model needs a name of its own")
        if self.default is None and len(names) > 1:
            raise ValueError(f'there are several models and no default; add default = "{names[0]}" at the top')
        if self.default is not None and self.default not in names:
            raise ValueError(f"default: there is no model {self.default}; there are {', '.join(names)}")
        return self


@dataclass(frozen=True)
class Registry:
    """The models of a deployment."""

    entries: tuple[ModelEntry, ...]
    default: ModelEntry

    def entry(self, name: str) -> ModelEntry:
        """The model of that name; raises WrongSetting with the names that exist."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        raise WrongSetting(f"There is no model {name} in the registry (MUSICGEN_MODELS); there are: {known}.")


def load_registry(settings: Settings) -> Registry:
    """The registry of this deployment; raises WrongSetting with the place in the file and what is wrong there."""
    if settings.models is None:
        only = OnlyModel(name=_name_of(settings.model), source=settings.model)
        return Registry((only,), only)
    content = _read(settings.models)
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise WrongSetting(f"Wrong registry {settings.models}: {_explain(error, content)}") from error
    folder = settings.models.resolve().parent
    entries = tuple(_located(entry, folder) for entry in file.models)
    registry = Registry(entries, entries[0])
    return registry if file.default is None else Registry(entries, registry.entry(file.default))


def worker_entry(settings: Settings) -> ModelEntry:
    """The model that a worker serves: that of MUSICGEN_MODEL, else the default. Raises WrongSetting."""
    registry = load_registry(settings)
    if settings.models is None or "model" not in settings.model_fields_set:
        return registry.default
    return registry.entry(settings.model)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSetting(f"MUSICGEN_MODELS: cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise WrongSetting(f"Wrong registry {path}: it is not valid TOML: {error}") from error


def _located(entry: ModelEntry, folder: Path) -> ModelEntry:
    """The entry with an absolute source, where the source is a folder relative to the file."""
    path = folder / Path(entry.source).expanduser()
    return entry.model_copy(update={"source": str(path)}) if path.is_dir() else entry


def _name_of(source: str) -> str:
    """The name of the model in MUSICGEN_MODEL: its hub id without the revision, else local/ and the folder's name."""
    hub_id = source.partition("@")[0]
    if re.fullmatch(NAME, hub_id) and not Path(source).is_dir():
        return hub_id
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(source).expanduser().resolve().name).lstrip(".-")
    return f"local/{name or 'model'}"


def _explain(error: ValidationError, content: Mapping[str, Any]) -> str:
    """Pydantic's errors with the model's name and the key: "model owner/name, defaults: ..."."""
    return "; ".join(
        f"{place}: {item['msg']}" if (place := _place(item["loc"], content)) else item["msg"]
        for item in error.errors(include_url=False, include_input=False)
    )


def _place(location: tuple[int | str, ...], content: Mapping[str, Any]) -> str:
    match location:
        case ("models", int(number), *keys):
            model = content["models"][number]
            name = model.get("name", number + 1) if isinstance(model, dict) else number + 1
            return ", ".join([f"model {name}", *([".".join(map(str, keys))] if keys else [])])
        case _:
            return ".".join(map(str, location))


def _toml(value: object) -> str:
    return str(value).lower()
