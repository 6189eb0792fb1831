"""The training of MultiBand Diffusion on a few steps: it learns, goes on where it stopped, and is what is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecModel

from musicgen_core.diffusion.checkpoint import load_diffusion, save_diffusion
from musicgen_core.diffusion.filter_bank import FilterBank
from tests.musicgen_core.reference import our_codec
from training import diffusion
from training.codec import codec_config, segments
from training.instruments import SAMPLE_RATE

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion, "STATISTICS_CLIPS", 8)
        patch.setattr(diffusion, "SEGMENT_FRAMES", 10)
        patch.setattr(diffusion, "BATCH", 4)
        yield


@pytest.fixture(scope="module")
def codec() -> Any:
    """Untrained, its codebooks filled: what its latents mean is the networks' to find out."""
    torch.manual_seed(0)
    model: Any = EncodecModel(codec_config()).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    return model


def train(codec: Any, folder: Path, steps: int, until: int | None = None) -> diffusion.DiffusionTraining:
    training = diffusion.DiffusionTraining(codec, steps, 1, CPU)
    training.trainer.resume(folder)
    training.trainer.train(training.learn, folder, until)
    return training


def test_it_goes_on_where_it_was_stopped(codec: Any, tmp_path: Path) -> None:
    (tmp_path / "through").mkdir()
    through = train(codec, tmp_path / "through", 4)
    train(codec, tmp_path, 4, until=2)
    torch.manual_seed(99)
    second = train(codec, tmp_path, 4)
    for band, expected in zip(second.finished(), through.finished(), strict=True):
        for name, tensor in band.unet.state_dict().items():
            torch.testing.assert_close(tensor, expected.unet.state_dict()[name], msg=name)


def test_it_learns_and_is_served(codec: Any, tmp_path: Path) -> None:
    first = train(codec, tmp_path, 1000, until=1).trainer.last_loss
    training = train(codec, tmp_path, 1000, until=25)
    assert training.trainer.last_loss < 0.8 * first
    save_diffusion(training.finished(), tmp_path, SAMPLE_RATE, torch.float16)
    assert sum(file.stat().st_size for file in (tmp_path / "diffusion").iterdir()) < 5e6
    served = load_diffusion(tmp_path, our_codec(codec))
    assert served is not None
    assert served.steps == 60
    played = served.decode(torch.randint(1024, (4, 5)), seed=0)
    assert played.shape == (1, 6400)
    assert played.isfinite().all()
    assert played.std() > 0


def test_a_band_is_evened_and_comes_back() -> None:
    split = FilterBank(diffusion.BANDS, SAMPLE_RATE)
    music = segments(np.random.default_rng(3), 4, 25)[:, 0]
    evened = diffusion.processors(split, np.random.default_rng(4), CPU)
    for band, processor in zip(split.split(music), evened, strict=True):
        projected = processor.project(band)
        assert projected.std() > band.std()
        error = processor.restore(projected) - band
        assert error.std() < 0.3 * band.std()
