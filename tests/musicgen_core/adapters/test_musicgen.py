"""Adapters through `MusicGen`, on models with all their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

from musicgen_core import CheckpointError, GenerationInput, InvalidRequest, MusicGen, SamplingParams, Waveform
from tests.musicgen_core.adapters.peft_adapters import TARGETS, write_adapter

PROMPT = "warm lo-fi piano with soft drums"
GREEDY = SamplingParams(temperature=0)
SECONDS = 0.6


def given(**changes: Any) -> GenerationInput:
    return GenerationInput(**({"prompt": PROMPT, "duration": SECONDS, "seed": 0, "sampling": GREEDY} | changes))


def clip() -> Waveform:
    noise = np.random.default_rng(3).normal(0, 0.2, (1, 9600))
    return Waveform(samples=noise.astype(np.float32), sample_rate=32_000)


def write(model: Path, folder: Path, seed: int = 0) -> Any:
    kind: Any = MusicgenMelodyForConditionalGeneration if "melody" in model.name else MusicgenForConditionalGeneration
    targets = [target for target in TARGETS if not target.startswith("embed")]
    return write_adapter(folder, kind.from_pretrained(model), seed, target_modules=targets).merge_and_unload()


def theirs(model: Path, merged: Any, **inputs: Any) -> np.ndarray:
    """What transformers plays with the merged weights, greedy: [channels, samples]."""
    tokens = AutoTokenizer.from_pretrained(model)(PROMPT, return_tensors="pt")
    frames = round(SECONDS * 50)
    audio = merged.generate(**tokens, **inputs, do_sample=False, guidance_scale=3.0, max_new_tokens=frames + 3)
    samples: np.ndarray = audio[0].numpy()
    return samples


@pytest.mark.parametrize("model_folder", ["text_model", "melody_model", "stereo_model"])
def test_plays_what_transformers_plays_with_merged_weights(
    model_folder: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(model_folder)
    merged = write(folder, tmp_path / "jazz")
    with MusicGen.load(folder, device="cpu", max_requests=2) as model:
        adapter = model.load_adapter(tmp_path / "jazz")
        jobs = [model.submit(given(adapter=adapter)), model.submit(given())]
        played, plain = (job.audio().samples for job in jobs)
        half = model.submit(given(adapter=adapter, adapter_strength=0.5)).audio().samples
        none = model.submit(given(adapter=adapter, adapter_strength=0.0)).audio().samples
    expected = theirs(folder, merged)
    assert played.shape == expected.shape
    assert np.abs(played - expected).max() < 1e-4
    assert np.array_equal(none, plain)
    assert len({samples.tobytes() for samples in (played, plain, half)}) == 3


def test_continues_a_clip_with_an_adapter(text_model: Path, tmp_path: Path) -> None:
    merged = write(text_model, tmp_path / "jazz")
    with MusicGen.load(text_model, device="cpu", max_requests=1) as model:
        adapter = model.load_adapter(tmp_path / "jazz")
        played = model.submit(given(adapter=adapter, input_audio=clip(), continuation=True)).audio().samples
    expected = theirs(text_model, merged, input_values=torch.from_numpy(clip().samples)[None])
    assert np.abs(played - expected).max() < 1e-4


def test_every_window_of_a_long_piece_has_the_adapter(text_model: Path, tmp_path: Path) -> None:
    write(text_model, tmp_path / "jazz")
    with MusicGen.load(text_model, device="cpu", max_requests=1, max_seconds=40, extend_stride=29) as model:
        adapter = model.load_adapter(tmp_path / "jazz")
        long = model.submit(given(duration=30.5, adapter=adapter)).codes()
        # The second window: one and a half seconds of what the first made, continued.
        window = model.codec.decode(long[:, 1450:1500])
        assert window.isfinite().all()
        first = model.submit(given(duration=30.0, adapter=adapter)).codes()
        plain = model.submit(given(duration=30.5)).codes()
    assert torch.equal(long[:, :1500], first)
    assert not torch.equal(long[:, 1500:], plain[:, 1500:])


def test_more_adapters_than_places_take_turns(text_model: Path, tmp_path: Path) -> None:
    for seed in range(3):
        write(text_model, tmp_path / f"adapter-{seed}", seed)
    with MusicGen.load(text_model, device="cpu", max_requests=3, max_adapters=1) as model:
        adapters = [model.load_adapter(tmp_path / f"adapter-{seed}") for seed in range(3)]
        together = [model.submit(given(adapter=adapter)) for adapter in (*adapters, *adapters)]
        codes = [job.codes() for job in together]
        alone = [model.submit(given(adapter=adapter)).codes() for adapter in adapters]
    for index, one in enumerate(codes):
        assert torch.equal(one, alone[index % 3])


def test_says_what_is_wrong(text_model: Path, stereo_model: Path, tmp_path: Path) -> None:
    write(text_model, tmp_path / "jazz")
    with (
        MusicGen.load(text_model, device="cpu", max_requests=1, max_adapters=0) as off,
        MusicGen.load(stereo_model, device="cpu", max_requests=1) as stereo,
    ):
        adapter = off.load_adapter(tmp_path / "jazz")
        with pytest.raises(InvalidRequest, match="adapters are off"):
            off.submit(given(adapter=adapter)).codes()
        with pytest.raises(InvalidRequest, match="jazz was loaded for another model"):
            stereo.submit(given(adapter=adapter)).codes()
        with pytest.raises(InvalidRequest, match="between 0 and 2"):
            off.submit(given(adapter=adapter, adapter_strength=3.0))
        with pytest.raises(CheckpointError, match=r"cannot read the adapter in .*nowhere"):
            off.load_adapter(tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match="0 or more, got -1"):
        MusicGen.load(text_model, device="cpu", max_adapters=-1)
