"""The input of a prediction, validated before anything is queued.

Knows nothing of HTTP. `with_defaults` and `check_abilities` apply what depends on the model.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator, model_validator

from musicgen_core.options import MAX_ADAPTER_STRENGTH, MAX_SEED, ContinuationMode, NormalizationStrategy, OutputFormat
from predictions.errors import FieldError, InvalidInput
from predictions.models.card import ModelCard

MAX_EXACT = 2**53
"""Beyond it, not every integer is a float."""
MAX_URL_LENGTH = 2000
"""Characters of an `input_audio` that is a URL; a data URI may be as long as the file it holds."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A JSON number: neither a string nor a boolean is one."""


def without_fraction(value: object) -> object:
    """Take 8.0 for 8: JSON has one type of number, and some languages write every number with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT else value


class Input(BaseModel):
    """What to generate. Send a `prompt`, an `input_audio`, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Input")

    prompt: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="A description of the music you want to generate. Empty: unconditional.",
            examples=["warm lo-fi piano with soft drums"],
        ),
    ] = None
    input_audio: Annotated[
        str | None,
        Field(
            description=(
                "An audio file that influences the music: an http(s) URL, a data URI, or the URL of a file from "
                "POST /files. With `continuation` the music continues it, otherwise it follows its melody."
            ),
            json_schema_extra={"format": "uri"},
        ),
    ] = None
    duration: Annotated[
        StrictInt, Field(ge=1, description="Duration of the generated audio in seconds.", examples=[8])
    ] = 8
    continuation: Annotated[
        StrictBool, Field(description="Continue `input_audio` instead of following its melody.")
    ] = False
    continuation_mode: Annotated[
        ContinuationMode,
        Field(
            description=(
                "What `duration` means for a continuation. `extend`: the new music after the clip; `total`: the clip "
                "and the new music together. The result is never longer than the longest duration."
            )
        ),
    ] = ContinuationMode.EXTEND
    continuation_start: Annotated[
        StrictInt, Field(ge=0, description="Start of the part of `input_audio` that is used, in seconds.")
    ] = 0
    continuation_end: Annotated[
        StrictInt | None,
        Field(
            ge=-1,
            description="End of the part of `input_audio` that is used, in seconds; -1 or null: the clip's end.",
        ),
    ] = None
    multi_band_diffusion: Annotated[
        StrictBool, Field(description="Decode the EnCodec tokens with MultiBand Diffusion.")
    ] = False
    normalization_strategy: Annotated[NormalizationStrategy, Field(description="How the output is normalized.")] = (
        NormalizationStrategy.LOUDNESS
    )
    top_k: Annotated[
        StrictInt,
        Field(ge=0, le=2**31 - 1, description="Sample among the k most likely tokens; 0: all of them."),
    ] = 250
    top_p: Annotated[
        Number,
        Field(
            ge=0,
            le=1,
            description="Sample among the most likely tokens with a total probability of p; 0: `top_k` is used.",
        ),
    ] = 0.0
    temperature: Annotated[
        Number,
        Field(
            ge=0,
            le=100,
            description="Higher is more varied, lower more conservative; 0: always the most likely token. A model may "
            "have another default, see `GET /models`.",
        ),
    ] = 1.0
    classifier_free_guidance: Annotated[
        StrictInt,
        Field(
            ge=0,
            le=100,
            description="How closely the inputs are followed; 1: without guidance; 0: the inputs are ignored. A model "
            "may have another default.",
        ),
    ] = 3
    adapter_strength: Annotated[
        Number,
        Field(
            ge=0,
            le=MAX_ADAPTER_STRENGTH,
            description="How much of a fine-tune's adapter is used; 1: as it was trained; 0: the model without it.",
        ),
    ] = 1.0
    output_format: Annotated[
        OutputFormat,
        Field(description="Format of the output file; `flac` is compressed without loss, `wav24` has 24 bits."),
    ] = OutputFormat.WAV
    seed: Annotated[
        StrictInt | None,
        Field(ge=-1, le=MAX_SEED, description="Seed of the random numbers; -1 or null: a random seed."),
    ] = None

    @field_validator(
        *("duration", "continuation_start", "continuation_end", "top_k", "classifier_free_guidance", "seed"),
        mode="before",
    )
    @classmethod
    def _without_fraction(cls, value: object) -> object:
        return without_fraction(value)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if errors := _conflicts(self):
            # Not a ValueError: pydantic passes it on unchanged, with its fields and remedies.
            raise InvalidInput(*errors)
        return self

    def with_seed(self) -> Self:
        """The same input with a seed, drawn where it has none, so that every attempt makes the same music."""
        if self.seed is not None and self.seed >= 0:
            return self
        return self.model_copy(update={"seed": secrets.randbelow(MAX_SEED + 1)})


def _conflicts(value: Input) -> list[FieldError]:
    errors = []
    if value.prompt is None and value.input_audio is None:
        errors.append(
            FieldError("prompt", "is missing, and so is input_audio", "send a prompt, an input_audio, or both")
        )
    if value.input_audio is not None and is_too_long(value.input_audio):
        errors.append(
            FieldError(
                "input_audio",
                f"has {len(value.input_audio)} characters",
                f"send a URL of at most {MAX_URL_LENGTH} characters, a data URI, or upload the file with POST /files",
            )
        )
    if value.continuation and value.input_audio is None:
        errors.append(
            FieldError("continuation", "needs an audio file", "send input_audio, or set continuation to false")
        )
    end = value.continuation_end
    if end is not None and end != -1 and end <= value.continuation_start:
        errors.append(
            FieldError(
                "continuation_end",
                f"is {end}, not after continuation_start ({value.continuation_start})",
                "send an end greater than the start, or -1 for the end of the clip",
            )
        )
    return errors


def is_too_long(uri: str) -> bool:
    """Whether the URI of a file is longer than a URL may be; a data URI is as long as its file."""
    return len(uri) > MAX_URL_LENGTH and uri[:5].lower() != "data:"


def check_duration(value: Input, max_duration: int) -> None:
    """Raise InvalidInput, worded like a schema's maximum, where the duration exceeds the operator's."""
    if value.duration > max_duration:
        remedy = f"it should be less than or equal to {max_duration}"
        raise InvalidInput(FieldError("duration", f"is {value.duration}", remedy))


def check_adapter_strength(value: Input, model: str) -> None:
    """Raise InvalidInput where the input asks for a part of an adapter that a model of the registry does not have."""
    if value.adapter_strength != Input.model_fields["adapter_strength"].default:
        remedy = "leave it out, or send the version of a fine-tune"
        raise InvalidInput(FieldError("adapter_strength", f"the model {model} is no fine-tune", remedy))


def with_defaults(value: Input, defaults: Mapping[str, Any]) -> Input:
    """The input with a model's defaults for the fields that the request left out. Raises InvalidInput."""
    if not defaults:
        return value
    return Input.model_validate({**defaults, **value.model_dump(exclude_unset=True)})


def check_abilities(value: Input, model: ModelCard) -> None:
    """Raise InvalidInput for what the model cannot do."""
    errors = []
    if value.duration > model.max_duration:
        errors.append(
            FieldError("duration", f"is {value.duration} s", f"this server generates at most {model.max_duration} s")
        )
    elif value.continuation and value.continuation_mode == "extend" and value.duration >= model.max_duration:
        errors.append(
            FieldError(
                "duration",
                f"{value.duration} s of new music and the clip exceed {model.max_duration} s in all",
                "shorten duration, or set continuation_mode to total",
            )
        )
    if value.input_audio is not None and not value.continuation and not model.melody:
        errors.append(
            FieldError(
                "input_audio",
                f"the model {model.name} cannot follow a melody",
                "set continuation to true to continue the clip, or leave input_audio out",
            )
        )
    if value.continuation and not model.continuation:
        errors.append(
            FieldError(
                "continuation",
                f"the model {model.name} does not continue audio here",
                "set it to false, or send the version of another model",
            )
        )
    if value.multi_band_diffusion and not model.multi_band_diffusion:
        errors.append(
            FieldError(
                "multi_band_diffusion",
                f"the model {model.name} has no MultiBand Diffusion decoder",
                "set it to false",
            )
        )
    if errors:
        raise InvalidInput(*errors)
