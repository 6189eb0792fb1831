"""From an archive to an adapter's folder, which PEFT and transformers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from finetuning.dataset import DatasetSettings
from finetuning.errors import FineTuningCancelled, FineTuningError
from finetuning.examples import inspect, read_examples
from finetuning.fine_tune import FineTuned, fine_tune, play
from finetuning.language_model import load_model
from finetuning.lora import LoraSettings, LoraTraining, split
from musicgen_core import SamplingParams, Waveform
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.config import read_config
from tests.finetuning.conftest import held_out_loss
from tests.musicgen_core.audio.signals import read

CPU = torch.device("cpu")
DATA = DatasetSettings(min_seconds=1)
QUICK = LoraSettings(steps=8, evaluate_every=4, batch_size=2, learning_rate=5e-3, warm_up=1, rank=4, held_out=0.3)


def tune(archive: Path, base: Path, output: Path, **options: Any) -> FineTuned:
    options = {"data": DATA, "settings": QUICK, "device": "cpu", "sample_seconds": 0.5} | options
    return fine_tune(archive, base, output, **options)


@pytest.fixture(scope="module", params=["text", "melody", "stereo", "stereo-melody"])
def tuned(
    request: pytest.FixtureRequest, archive: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[FineTuned, Path]:
    """A fine-tuning of each kind of model, and its base."""
    base = models[request.param]
    return tune(archive, base, tmp_path_factory.mktemp("adapters") / request.param), base


def test_the_held_out_loss_goes_down(tuned: tuple[FineTuned, Path]) -> None:
    result, _ = tuned
    assert result.best.held_out < result.measurements[0].held_out
    assert [each.step for each in result.measurements] == [0, 4, 8]


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")  # PEFT's, of transformers
def test_peft_reads_the_folder(tuned: tuple[FineTuned, Path], archive: Path) -> None:
    """The base with the adapter that PEFT reads has the held-out loss of the record."""
    result, base = tuned
    _, examples = read_examples(archive, base, DATA, device=CPU)
    _, held_out = split(examples, QUICK.held_out, QUICK.seed)
    model = load_model(base, device=CPU, dtype=torch.float32)
    record = json.loads((result.folder / "training.json").read_text())
    assert held_out_loss(model, held_out) == pytest.approx(record["held_out_loss"]["before"], rel=1e-4)
    adapted = PeftModel.from_pretrained(model, str(result.folder)).base_model.model
    assert held_out_loss(adapted, held_out) == pytest.approx(record["held_out_loss"]["after"], rel=1e-4)


def test_the_record_says_what_was_done(tuned: tuple[FineTuned, Path]) -> None:
    result, base = tuned
    record = json.loads((result.folder / "training.json").read_text())
    assert record["base"] == {"name": str(base), "checksum": hub.checksum(base)}
    assert record["settings"]["rank"] == 4
    assert record["data"]["pieces"] == 6
    assert record["data"]["held_out"] == 2
    assert record["data"]["seconds"] == 12.0
    assert record["held_out_loss"]["before"] > record["held_out_loss"]["after"]
    assert record["versions"].keys() == {"torch", "transformers", "peft"}
    config = json.loads((result.folder / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert config["lora_alpha"] == 8
    assert config["base_model_name_or_path"] == str(base)


def test_samples_are_played_before_and_after(tuned: tuple[FineTuned, Path]) -> None:
    result, base = tuned
    channels = 2 if "stereo" in base.name else 1
    assert [caption.startswith("a plucked tune") for caption, _, _ in result.samples] == [True, True]
    for _, *paths in result.samples:
        before, after = (read(path, channels=channels) for path in paths)
        assert before.samples.shape == after.samples.shape == (channels, 16_000)
        assert not (before.samples == after.samples).all()


def test_without_learning_before_and_after_are_alike(archive: Path, models: dict[str, Path], tmp_path: Path) -> None:
    """The samples' seeds are equal: what differs otherwise is the adapter's doing."""
    settings = LoraSettings(steps=1, learning_rate=1e-7, held_out=0.3)
    ((_, before, after), _) = tune(archive, models["melody"], tmp_path / "a", settings=settings).samples
    assert same_sound(read(before), read(after))


def same_sound(first: Waveform, second: Waveform) -> bool:
    return bool((first.samples == second.samples).mean() > 0.99)


@pytest.mark.parametrize("kind", ["text", "melody"])
def test_in_mixed_precision_it_plays(models: dict[str, Path], archive: Path, kind: str) -> None:
    """As on GPUs: the base in bfloat16, its codec and the adapter in float32."""
    model, config = load_model(models[kind], device=CPU, dtype=torch.bfloat16), read_config(models[kind])
    LoraTraining(model, read_examples(archive, models[kind], DATA, device=CPU)[1], QUICK)
    tokens, sampling = torch.tensor([[5, 6, 1]]), SamplingParams(temperature=0.5, top_p=0.9)
    first, second = (play(model, tokens, config, sampling, seconds=0.5, seed=3) for _ in range(2))
    assert first.samples.shape == (1, 16_000)
    assert np.isfinite(first.samples).all()
    assert np.array_equal(first.samples, second.samples)


def test_the_same_twice_is_the_same(archive: Path, models: dict[str, Path], tmp_path: Path) -> None:
    folders = [tune(archive, models["melody"], tmp_path / name, sample_seconds=0).folder for name in "ab"]
    first, second = ((folder / "adapter_model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_without_samples_there_are_none(archive: Path, models: dict[str, Path], tmp_path: Path) -> None:
    result = tune(archive, models["text"], tmp_path / "a", sample_seconds=0)
    assert result.samples == []
    assert {path.name for path in result.folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
    }


def test_a_folder_that_is_there_stays(archive: Path, models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(FineTuningError, match="choose another folder"):
        tune(archive, models["text"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_is_cancelled_leaves_nothing(archive: Path, models: dict[str, Path], tmp_path: Path) -> None:
    steps: list[int] = []
    with pytest.raises(FineTuningCancelled):
        tune(
            archive,
            models["text"],
            tmp_path / "a",
            progress=lambda step, *_: steps.append(step),
            should_stop=lambda: len(steps) == 3,
        )
    assert not list(tmp_path.iterdir())


def test_samples_can_be_cancelled(archive: Path, models: dict[str, Path], tmp_path: Path) -> None:
    steps: list[int] = []
    asked: list[int] = []

    def should_stop() -> bool:
        asked.extend([1] if len(steps) == QUICK.steps else [])
        return len(asked) > 40  # more than the last measurement asks

    with pytest.raises(FineTuningCancelled):
        tune(
            archive,
            models["text"],
            tmp_path / "a",
            progress=lambda step, *_: steps.append(step),
            should_stop=should_stop,
        )
    assert not list(tmp_path.iterdir())


def test_an_inspection_is_the_same_table(tuned: tuple[FineTuned, Path], archive: Path) -> None:
    result, base = tuned
    assert inspect(archive, base, DATA) == result.table
    assert [piece.name for piece in result.table] == [f"clips/{number}.wav" for number in range(6)]
