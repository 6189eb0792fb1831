"""The models of a deployment: the one of MUSICGEN_MODEL, or those of the file that MUSICGEN_MODELS names.

Each is served by workers of its own queue. What a model can do is announced by its workers, as a `ModelCard`; what
stands here is what an operator says of it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from predictions.errors import InvalidInput, PredictionError
from predictions.inputs import Input
from predictions.queue import GENERATION_QUEUE
from predictions.settings import MAX_DURATION, Settings

NAME_PATTERN = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"
VERSION_PATTERN = r"^[\w.-]{1,64}$"
OF_ONE_REQUEST = {"prompt", "input_audio", "continuation", "continuation_start", "continuation_end", "seed"}
"""Input fields that have no default of a model."""


class RegistryError(PredictionError):
    """The file of models cannot be used."""


class AllowedAbilities(BaseModel):
    """What a model is to do: true demands it of the weights, false forbids it, none leaves it to the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    melody: StrictBool | None = None
    multi_band_diffusion: StrictBool | None = None
    max_duration: StrictInt | None = Field(None, ge=1, le=MAX_DURATION)
    """Seconds; at most MUSICGEN_MAX_DURATION counts."""


class Model(BaseModel):
    """One model that is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """owner/name."""
    source: Annotated[str, Field(min_length=1)]
    """A folder, from the file's own on, musicgen-pocket, or a hub id, with @revision if one is meant."""
    version: Annotated[str, Field(pattern=VERSION_PATTERN)] | None = None
    """None: the checksum of its weights."""
    checksum: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 over configuration and weights; other weights are not served."""
    default: StrictBool = False
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Of input fields that a request leaves out."""
    abilities: AllowedAbilities = AllowedAbilities()

    @property
    def queue(self) -> str:
        """The queue of its predictions, and what it is known by in the store."""
        return f"{GENERATION_QUEUE}:{self.name}"

    @model_validator(mode="after")
    def _defaults_are_inputs(self) -> Self:
        if wrong := OF_ONE_REQUEST & self.defaults.keys():
            raise ValueError(f"defaults: {', '.join(sorted(wrong))} can only be given by a request")
        try:
            Input.model_validate({"prompt": "", **self.defaults})
        except (ValidationError, InvalidInput) as error:
            raise ValueError(f"defaults: {error}") from error
        return self

    def with_defaults(self, value: Input) -> Input:
        """The input with this model's defaults for what was left out."""
        if not self.defaults:
            return value
        return Input.model_validate(self.defaults | value.model_dump(exclude_unset=True))


class OnlyModel(Model):
    """The model of MUSICGEN_MODEL, where there is no file."""

    name: str

    @property
    def queue(self) -> str:
        """The queue of a deployment with one model."""
        return GENERATION_QUEUE


class Registry:
    """All models of a deployment; one of them is the default."""

    def __init__(self, models: tuple[Model, ...]) -> None:
        """Raises RegistryError where names repeat, or no default or several are named."""
        if not models:
            raise RegistryError("there is no [[models]] in it")
        names = [model.name for model in models]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise RegistryError(f"{', '.join(repeated)}: a name stands for one model")
        defaults = [model for model in models if model.default]
        if len(models) > 1 and len(defaults) != 1:
            raise RegistryError("one of the models must have default = true, and no other")
        self.models = models
        self.default = defaults[0] if defaults else models[0]

    def by_name(self, name: str) -> Model | None:
        """The model that is called so."""
        return next((model for model in self.models if model.name == name), None)

    def choose(self, name: str | None) -> Model:
        """The model that a worker is to serve: the named one, or the only one. Raises RegistryError."""
        known = ", ".join(model.name for model in self.models)
        if name is None:
            if len(self.models) > 1:
                raise RegistryError(f"say which model this worker serves: --model with one of {known}")
            return self.default
        model = self.by_name(name)
        if model is None:
            raise RegistryError(f"there is no model {name}, only {known}")
        return model


def load_registry(settings: Settings) -> Registry:
    """The models by the settings. Raises SystemExit with the file and what is wrong in it."""
    if settings.models is None:
        return Registry((OnlyModel(name=settings.model, source=settings.model),))
    path = settings.models
    try:
        return _read(path)
    except (OSError, tomllib.TOMLDecodeError, RegistryError) as error:
        raise SystemExit(f"MUSICGEN_MODELS={path}: {error}") from error
    except ValidationError as error:
        raise SystemExit(f"MUSICGEN_MODELS={path}: {_explain(error)}") from error


def _read(path: Path) -> Registry:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    if unknown := content.keys() - {"models"}:
        raise RegistryError(f"unknown: {', '.join(sorted(unknown))}; it holds a list of [[models]]")
    models = []
    for entry in content.get("models", []):
        model = Model.model_validate(entry)
        folder = path.parent / Path(model.source).expanduser()
        models.append(model.model_copy(update={"source": str(folder.resolve())}) if folder.is_dir() else model)
    return Registry(tuple(models))


def _explain(error: ValidationError) -> str:
    given = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in given["loc"])
    return f"{place}: {given['msg']}" if place else given["msg"]
