"""MultiBand Diffusion: parts and whole against audiocraft's golden values, and the life of a job.

tests/golden/diffusion.* are written by reference/audiocraft_diffusion.py (`make golden`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from musicgen_core import GenerationCancelled, GenerationInput, MusicGen, UnsupportedByModel
from musicgen_core.audiocraft.diffusion import convert_diffusion
from musicgen_core.checkpoints.hub import checksum
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.checkpoint import load_diffusion
from musicgen_core.diffusion.decoder import MultiBandDiffusion, noise
from reference import diffusion_cases as cases
from reference.native_diffusion import PARTS, small_codec, whole
from reference.table import TOLERANCE
from tests.diffusion_model import STEPS, copy_with_diffusion

GOLDEN = Path(__file__).parents[2] / "golden"
CHECKPOINT = GOLDEN / "diffusion.th"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "diffusion.safetensors")


# Against audiocraft


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_audiocrafts(golden: dict[str, Tensor], part: str) -> None:
    for name, ours in PARTS[part]():
        assert golden[name].std() > 1e-3
        torch.testing.assert_close(
            ours, golden[name], rtol=0, atol=TOLERANCE, msg=lambda what, name=name: f"{name}: {what}"
        )


def test_tokens_become_the_waveform_that_audiocraft_makes(golden: dict[str, Tensor]) -> None:
    ((name, ours),) = whole(CHECKPOINT)
    assert golden[name].std() > 1e-3
    torch.testing.assert_close(ours, golden[name], rtol=0, atol=TOLERANCE)


# With audiocraft's checkpoint


@pytest.fixture(scope="module")
def codec() -> Codec:
    return small_codec()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"audio_encoder": cases.CODEC}))
    return tmp_path


def test_each_channel_of_a_stereo_model_is_decoded_on_its_own(codec: Codec, folder: Path) -> None:
    """Left has the even codebooks, right the odd ones."""
    convert_diffusion(CHECKPOINT, folder)
    stereo = small_codec(channels=2)
    both, alone = load_diffusion(folder, stereo), load_diffusion(folder, codec)
    assert both is not None
    assert alone is not None
    codes = torch.stack([cases.tokens(), cases.tokens().roll(3, 1)], dim=1).flatten(0, 1)
    shape = (2, cases.FRAMES * codec.hop)
    played = both.decode_with(codes, noise(5, shape, CPU))
    assert played.shape == shape
    for channel in (0, 1):
        draw = noise(5, shape, CPU)
        expected = alone.decode_with(codes[channel::2], lambda: draw()[channel : channel + 1])  # noqa: B023
        torch.testing.assert_close(played[channel : channel + 1], expected, rtol=0, atol=1e-4)
    assert (played[0] - played[1]).abs().max() > 0.01


# As part of a model


@pytest.fixture(scope="module", params=["text", "stereo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MusicGen]:
    source = request.getfixturevalue(f"{request.param}_model")
    folder = copy_with_diffusion(source, tmp_path_factory.mktemp("diffusion") / "model")
    assert checksum(folder) != checksum(source)
    with MusicGen.load(folder, device="cpu", max_requests=2) as model:
        yield model


def wanted(seed: int = 1, duration: float = 0.3, diffusion: bool = True) -> GenerationInput:
    return GenerationInput("piano", duration, seed, multi_band_diffusion=diffusion)


def test_the_model_says_that_it_can(model: MusicGen, text_model: Path) -> None:
    assert model.abilities.multi_band_diffusion
    assert model.diffusion is not None
    with MusicGen.load(text_model, device="cpu", max_requests=1) as without:
        assert not without.abilities.multi_band_diffusion
        with pytest.raises(UnsupportedByModel, match="no MultiBand Diffusion"):
            without.submit(wanted())


def test_the_seed_decides_what_is_heard(model: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(model.diffusion, MultiBandDiffusion)
    decode, decoded = model.diffusion.decode, []

    def record(codes: Tensor, *rest: Any) -> Tensor:
        decoded.append(codes)
        return decode(codes, *rest)

    monkeypatch.setattr(model.diffusion, "decode", record)
    first, again, plain = (model.submit(wanted(diffusion=choice)).audio().samples for choice in (True, True, False))
    assert np.array_equal(first, again)
    assert first.shape == plain.shape == (model.abilities.channels, 15 * 640)
    assert not np.allclose(first, plain, atol=1e-3)
    assert not np.array_equal(decode(decoded[0], seed=2).numpy(), first)


def test_progress_counts_both_kinds_of_steps(model: MusicGen) -> None:
    seen: list[tuple[int, int]] = []
    model.generate("piano", duration=0.3, seed=1, multi_band_diffusion=True, on_progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    # The last step of decoding may be seen twice: as it ends, and before the diffusion's first.
    assert [step for step in dict.fromkeys(seen) if step[0] >= 18] == [(18 + n, 18 + STEPS) for n in range(STEPS + 1)]


def test_a_diffusion_can_be_cancelled_between_its_steps(model: MusicGen) -> None:
    job = model.submit(wanted())
    seen = []

    def on_progress(done: int, total: int) -> None:
        seen.append(done)
        if done == 20:
            job.cancel()

    with pytest.raises(GenerationCancelled):
        job.finish(on_progress)
    assert seen[-1] == 20
