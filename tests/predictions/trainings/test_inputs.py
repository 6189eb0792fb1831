"""The input of a training: its own names, those of the other trainer, and what does not fit together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from predictions.errors import InvalidInput
from predictions.trainings.inputs import TrainingInput

URL = "https://example.com/songs.zip"


def settled(**given: Any) -> TrainingInput:
    return TrainingInput.model_validate({"dataset": URL} | given).settled()


def test_the_other_trainers_names_mean_the_same() -> None:
    theirs = TrainingInput.model_validate(
        {
            "dataset_path": URL,
            "one_same_description": "a kalimba",
            "auto_labeling": True,
            "drop_vocals": True,
            "epochs": 4,
            "updates_per_epoch": 50,
            "batch_size": 16,
            "optimizer": "adamw",
            "lr": 0.001,
            "lr_scheduler": "cosine",
            "warmup": 8,
            "cfg_p": 0.3,
        }
    ).settled()
    ours = settled(
        description="a kalimba",
        tempo_and_key=True,
        remove_vocals=True,
        steps=200,
        batch_size=16,
        learning_rate=0.001,
        warm_up=8,
        text_dropout=0.3,
    )
    names = set(TrainingInput.model_fields) - {"auto_labeling", "optimizer", "lr_scheduler"}
    assert theirs.model_dump(include=names) == ours.model_dump(include=names)
    assert theirs.ignored() == ["auto_labeling adds tempo and key; genre, mood and instruments are not found."]


def test_what_is_settled_is_read_again_as_it_stands() -> None:
    first = settled(epochs=2, lr=1, auto_labeling=True)
    assert first.steps == 200
    assert TrainingInput.model_validate(first.model_dump(mode="json", exclude_none=True)).settled() == first


def test_the_factor_of_another_optimizer_is_no_learning_rate() -> None:
    """The other trainer's defaults, sent as they are."""
    given = settled(optimizer="dadam", lr=1, lr_scheduler="exponential", model_version="stereo-melody")
    assert given.learning_rate is None
    assert [sentence.partition(" is ignored")[0] for sentence in given.ignored()] == [
        "optimizer dadam",
        "lr 1",
        "lr_scheduler exponential",
        "model_version stereo-melody",
    ]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"steps": 10, "epochs": 2}, "epochs"),
        ({"steps": 10, "updates_per_epoch": 2}, "updates_per_epoch"),
        ({"steps": 10, "epochs": 2, "lr": 1}, "epochs"),
        ({"epochs": 201, "updates_per_epoch": 100}, "epochs"),
        ({"learning_rate": 0.001, "lr": 0.001}, "lr"),
        ({"optimizer": "adamw", "lr": 1}, "lr"),
        ({"dataset": "https://example.com/" + "a" * 2000}, "dataset"),
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        settled(**given)
    assert [error.field for error in refused.value.errors] == [field]


@pytest.mark.parametrize(
    "given", [{"steps": 0}, {"rank": 65}, {"steps": "10"}, {"ranks": 8}, {"text_dropout": 1.1}, {"dataset": None}]
)
def test_what_is_wrong_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settled(**given)
