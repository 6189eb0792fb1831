"""The input of a training, validated before anything is queued.

Its own names are those of the settings of `finetuning`, whose worker gets them. The names of
sakemin/cog-musicgen-fine-tuner are taken too, where they mean the same or can be said in ours.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator, model_validator

from musicgen_core.options import MAX_SEED
from predictions.errors import FieldError, InvalidInput
from predictions.models.inputs import MAX_URL_LENGTH, Number, is_too_long, without_fraction

MIN_RATE, MAX_RATE = 1e-7, 0.1
MAX_STEPS = 20_000
EPOCHS, UPDATES_PER_EPOCH = 3, 100
"""How often the data is gone through, and in how many steps each time, where a request says only one of both."""


class TrainingInput(BaseModel):
    """What to train on, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="TrainingSettings")

    dataset: Annotated[
        str,
        Field(
            validation_alias=AliasChoices("dataset", "dataset_path"),
            description=(
                "A zip, tar or tar.gz of audio with captions, or one audio file: an http(s) URL, a data URI, or the "
                "URL of a file from POST /files. Also called `dataset_path`."
            ),
            json_schema_extra={"format": "uri"},
            examples=["https://example.com/my-songs.zip"],
        ),
    ]
    description: Annotated[
        str | None,
        Field(
            validation_alias=AliasChoices("description", "one_same_description"),
            max_length=2000,
            description="The caption of files that have none of their own. Also called `one_same_description`.",
        ),
    ] = None
    tempo_and_key: Annotated[
        StrictBool, Field(description="Add tempo and key to each piece's caption, as librosa finds them.")
    ] = False
    remove_vocals: Annotated[
        StrictBool,
        Field(
            validation_alias=AliasChoices("remove_vocals", "drop_vocals"),
            description="Remove the vocals by demucs before training. Also called `drop_vocals`.",
        ),
    ] = False
    inspect: Annotated[
        StrictBool, Field(description="Train nothing: the output is the table of all pieces and their captions.")
    ] = False
    steps: Annotated[
        StrictInt,
        Field(
            ge=1,
            le=MAX_STEPS,
            description="At most: the training ends earlier where the held-out loss no longer improves.",
        ),
    ] = 500
    rank: Annotated[StrictInt, Field(ge=1, le=64, description="Size of the adapter's matrices.")] = 16
    alpha: Annotated[
        StrictInt | None,
        Field(ge=1, le=65_536, description="What is learnt counts alpha / rank times; null: twice."),
    ] = None
    dropout: Annotated[
        Number, Field(ge=0, le=0.9, description="Share of the adapter's inputs that a step leaves out.")
    ] = 0.05
    learning_rate: Annotated[
        Number | None,
        Field(
            ge=MIN_RATE,
            le=MAX_RATE,
            description="The highest one, after the warm-up; null: 0.0002, and more for a base that is narrower than "
            "musicgen-small.",
        ),
    ] = None
    batch_size: Annotated[StrictInt, Field(ge=1, le=64, description="Pieces a step.")] = 4
    warm_up: Annotated[
        StrictInt,
        Field(
            validation_alias=AliasChoices("warm_up", "warmup"),
            ge=0,
            le=MAX_STEPS,
            description="Steps over which the learning rate rises. Also called `warmup`.",
        ),
    ] = 20
    text_dropout: Annotated[
        Number,
        Field(
            validation_alias=AliasChoices("text_dropout", "cfg_p"),
            ge=0,
            le=1,
            description="Share of the examples without text and melody, for guidance. Also called `cfg_p`.",
        ),
    ] = 0.2
    melody_dropout: Annotated[Number, Field(ge=0, le=1, description="Share of the other examples without melody.")] = (
        0.5
    )
    held_out: Annotated[
        Number, Field(ge=0.01, le=0.9, description="Share of the files that is not trained on; one at least.")
    ] = 0.1
    evaluate_every: Annotated[
        StrictInt, Field(ge=1, le=MAX_STEPS, description="Steps between two measurements of the held-out loss.")
    ] = 25
    patience: Annotated[
        StrictInt, Field(ge=1, le=MAX_STEPS, description="Measurements without a better one that end the training.")
    ] = 4
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED, description="Seed of the random numbers.")] = 0
    sample_seconds: Annotated[
        Number, Field(ge=0, le=30, description="Length of the samples from before and after; 0: none.")
    ] = 8.0

    # What only the other trainer knows.
    epochs: Annotated[
        StrictInt | None,
        Field(ge=1, le=MAX_STEPS, description="With `updates_per_epoch` (100), in the place of `steps`."),
    ] = None
    updates_per_epoch: Annotated[
        StrictInt | None, Field(ge=1, le=MAX_STEPS, description="With `epochs` (3), in the place of `steps`.")
    ] = None
    auto_labeling: Annotated[
        StrictBool | None, Field(description="The same as `tempo_and_key`: genre, mood and instruments are not found.")
    ] = None
    lr: Annotated[
        Number | None,
        Field(ge=MIN_RATE, description="`learning_rate`; ignored beyond 0.1, where it is D-Adaptation's factor."),
    ] = None
    optimizer: Annotated[str | None, Field(max_length=100, description="Ignored: it is AdamW.")] = None
    lr_scheduler: Annotated[
        str | None, Field(max_length=100, description="Ignored: a warm-up, then a cosine's fall.")
    ] = None
    model_version: Annotated[
        str | None, Field(max_length=200, description="Ignored: the base is the version that is trained.")
    ] = None

    @field_validator(
        *("steps", "rank", "alpha", "batch_size", "warm_up", "evaluate_every", "patience", "seed"),
        *("epochs", "updates_per_epoch"),
        mode="before",
    )
    @classmethod
    def _without_fraction(cls, value: object) -> object:
        return without_fraction(value)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        errors = []
        if is_too_long(self.dataset):
            errors.append(
                FieldError(
                    "dataset",
                    f"has {len(self.dataset)} characters",
                    f"send a URL of at most {MAX_URL_LENGTH} characters, or upload the file with POST /files",
                )
            )
        for name, others in (("steps", ("epochs", "updates_per_epoch")), ("learning_rate", ("lr",))):
            given = [other for other in others if getattr(self, other) is not None]
            if name in self.model_fields_set and given and not (name == "learning_rate" and self._is_factor):
                errors.append(FieldError(given[0], f"is there beside {name}", "send one of them"))
        if self._all_updates > MAX_STEPS:
            remedy = f"{MAX_STEPS} steps in all is the most"
            errors.append(FieldError("epochs", f"times updates_per_epoch is {self._all_updates}", remedy))
        if self.lr is not None and self.lr > MAX_RATE and not self._is_factor:
            errors.append(FieldError("lr", f"is {self.lr:g}", f"send {MAX_RATE} at most, or leave it out"))
        if errors:
            # Not a ValueError: pydantic passes it on unchanged, with its fields and remedies.
            raise InvalidInput(*errors)
        return self

    @property
    def _is_factor(self) -> bool:
        """Whether `lr` is the factor by which D-Adaptation, the other trainer's default, takes its own rate."""
        return self.lr is not None and self.lr > MAX_RATE and self.optimizer in (None, "dadam")

    @property
    def _all_updates(self) -> int:
        """The steps that `epochs` and `updates_per_epoch` ask for; 0 where neither is there."""
        if self.epochs is None and self.updates_per_epoch is None:
            return 0
        return (self.epochs or EPOCHS) * (self.updates_per_epoch or UPDATES_PER_EPOCH)

    def settled(self) -> Self:
        """The same in the names that count: steps, learning rate, tempo and key."""
        changes: dict[str, object] = {}
        if self._all_updates:
            changes |= {"steps": self._all_updates, "epochs": None, "updates_per_epoch": None}
        if self.lr is not None and not self._is_factor:
            changes |= {"learning_rate": self.lr, "lr": None}
        if self.auto_labeling:
            changes |= {"tempo_and_key": True}
        return self.model_copy(update=changes)

    def ignored(self) -> list[str]:
        """What the request asks for and does not get, a sentence each, for the training's log."""
        said = []
        if self.auto_labeling:
            said.append("auto_labeling adds tempo and key; genre, mood and instruments are not found.")
        if self.optimizer not in (None, "adamw"):
            said.append(f"optimizer {self.optimizer} is ignored: it is adamw.")
        if self._is_factor:
            said.append(f"lr {self.lr:g} is ignored: it is D-Adaptation's; learning_rate counts.")
        if self.lr_scheduler not in (None, "cosine"):
            said.append(f"lr_scheduler {self.lr_scheduler} is ignored: it is cosine.")
        if self.model_version is not None:
            said.append(f"model_version {self.model_version} is ignored: the base is the version that is trained.")
        return said
