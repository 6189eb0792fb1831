"""MultiBand Diffusion: parts and whole against audiocraft's golden values, the conversion, and the life of a job.

tests/golden/diffusion.* are written by reference/diffusion.py (`make golden`).
"""

import json
import shutil
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
from musicgen_core.checkpoints.hub import DIFFUSION_FOLDER, checksum
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.checkpoint import load_diffusion
from musicgen_core.diffusion.decoder import MultiBandDiffusion, noise
from musicgen_core.diffusion.filter_bank import FilterBank, match_bands
from musicgen_core.errors import CheckpointError
from reference import diffusion_cases as cases
from reference.diffusion_ours import PARTS, small_codec, whole
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


def test_the_bands_of_a_signal_add_up_to_it() -> None:
    signal = cases.numbers("signal", 2, 1200)
    for bands in (1, 4, 32):
        torch.testing.assert_close(sum(FilterBank(bands, cases.SAMPLE_RATE).split(signal)), signal)


def test_silence_is_matched_to_silence() -> None:
    silence, sound = torch.zeros(1, 1000), cases.numbers("sound", 1, 1000)
    bank = FilterBank(32, cases.SAMPLE_RATE)
    for signal, reference in ((silence, silence), (silence, sound), (sound, silence)):
        assert match_bands(signal, reference, bank).abs().max() < 1e-4


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
    stereo = Codec(codec.model, channels=2)
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


def altered(tmp_path: Path, change: Any) -> Path:
    """A copy of the checkpoint with its configurations as plain values, changed."""
    from musicgen_core.audiocraft.checkpoint import load_pickle, read_config

    content = load_pickle(CHECKPOINT)
    for index in (0, 1):
        config = read_config(CHECKPOINT, content[index]["cfg"])
        content[index]["cfg"] = dict(config.values)
    change(content)
    torch.save(content, tmp_path / "altered.th")
    return tmp_path / "altered.th"


def test_a_checkpoint_with_plain_configurations_is_the_same(tmp_path: Path, folder: Path) -> None:
    convert_diffusion(altered(tmp_path, lambda content: None), folder)
    plain = load_file(folder / DIFFUSION_FOLDER / "model.safetensors")
    shutil.rmtree(folder / DIFFUSION_FOLDER)
    convert_diffusion(CHECKPOINT, folder)
    pickled = load_file(folder / DIFFUSION_FOLDER / "model.safetensors")
    assert plain.keys() == pickled.keys()
    assert all(torch.equal(plain[name], pickled[name]) for name in plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("n_bands"), "not a MultiBand Diffusion"),
        (lambda content: content.pop(1), "not a MultiBand Diffusion"),
        (lambda content: content[0]["model_state"].pop("embedding.weight"), "embedding.weight"),
        (lambda content: content[0]["cfg"]["diffusion_unet"].update(hidden=8), "size mismatch"),
        (lambda content: content[0]["cfg"]["diffusion_unet"].update(hidden=6), "groups do not divide"),
        (lambda content: content[0]["cfg"]["schedule"].update(repartition="cosine"), "repartition"),
        (lambda content: content[0]["cfg"]["schedule"].update(num_steps=1001), "multiple of 50"),
        (lambda content: content[1]["processor_state"].pop("sum_x"), "sum_x"),
        (lambda content: content.update(sample_rate=24_000), "24000 Hz"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, folder: Path, change: Any, message: str) -> None:
    source = altered(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        convert_diffusion(source, folder)
    assert not (folder / DIFFUSION_FOLDER).exists()


def test_a_checkpoint_with_code_is_refused(tmp_path: Path, folder: Path) -> None:
    trace = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> Any:
            return (Path.touch, (trace,))

    torch.save({"sample_rate": 32_000, "n_bands": 0, "more": Code()}, tmp_path / "code.th")
    with pytest.raises(CheckpointError, match="refused"):
        convert_diffusion(tmp_path / "code.th", folder)
    assert not trace.exists()


def test_what_is_there_is_not_overwritten(folder: Path) -> None:
    convert_diffusion(CHECKPOINT, folder)
    with pytest.raises(CheckpointError, match="exists already"):
        convert_diffusion(CHECKPOINT, folder)


def test_what_cannot_be_loaded_is_named(codec: Codec, folder: Path) -> None:
    assert load_diffusion(folder, codec) is None
    convert_diffusion(CHECKPOINT, folder)
    config = folder / DIFFUSION_FOLDER / "config.json"
    whole = json.loads(config.read_text())
    for changed, message in (
        (whole | {"sample_rate": 24_000}, "24000 Hz"),
        ({"sample_rate": 32_000, "bands": [{"unet": {"num_steps": 1000}, "schedule": {}}]}, "loading state_dict"),
        ({"sample_rate": 32_000, "bands": [{"unet": {"num_steps": 1000, "girth": 3}}]}, "girth"),
        ({"sample_rate": 32_000, "bands": [{"unet": whole["bands"][0]["unet"] | {"codec_dim": 9}}]}, "9 numbers"),
        ({"sample_rate": 32_000, "bands": [{"unet": whole["bands"][0]["unet"] | {"depth": 6}}]}, "coarser"),
        ({}, "sample_rate"),
    ):
        config.write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match=message):
            load_diffusion(folder, codec)


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
