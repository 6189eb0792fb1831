"""Model folders with random weights, and a folder of short clips with captions."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetuning.examples import Example
from finetuning.language_model import loss, make_batch
from musicgen_core import Waveform, write_audio
from musicgen_core.checkpoints.noise_model import Kind, write_noise_model

RATE = 32_000


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The models are so small that handing work to a second core takes longer than the work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds: tuple[Kind, ...] = ("melody", "text", "stereo", "stereo-melody")
    return {kind: write_noise_model(folder / kind, kind=kind) for kind in kinds}


def tune(number: int, seconds: float = 2.0) -> np.ndarray:
    """A melody of its own for each number: eighth notes, drawn by the number."""
    random = np.random.default_rng(number)
    time = np.arange(RATE // 4) / RATE
    notes = [
        np.sin(2 * np.pi * 220 * 2 ** (random.integers(24) / 12) * time) * np.exp(-6 * time)
        for _ in range(round(seconds * 4))
    ]
    return (0.4 * np.concatenate(notes)).astype(np.float32)


def write_clip(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Waveform(np.atleast_2d(samples).astype(np.float32), RATE))
    return path


@torch.no_grad()
def held_out_loss(model: Any, examples: list[Example]) -> float:
    """The loss of examples of equal length, with text and without melody."""
    everywhere = np.ones(len(examples), bool)
    return loss(model, make_batch(examples, model.config, has_text=everywhere, has_melody=~everywhere)).item()


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of two seconds, each with a caption beside it."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        write_clip(folder / "clips" / f"{number}.wav", tune(number))
        (folder / "clips" / f"{number}.txt").write_text(f"a plucked tune, number {number}\n")
    with tarfile.open(folder / "clips.tar.gz", "w:gz") as tar:
        tar.add(folder / "clips", "clips")
    return folder / "clips.tar.gz"
