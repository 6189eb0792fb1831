"""Model folders of shapes that nobody has tuned anything to: equal to transformers, or refused by name when loaded."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, MusicgenConfig, MusicgenForConditionalGeneration

from musicgen_core import CheckpointError, GenerationInput, MusicGen, SamplingParams, Waveform

PROMPT = "warm lo-fi piano"
GREEDY = SamplingParams(temperature=0)
RATIOS = ([8, 5, 4, 4], [4, 4], [8, 5, 2])
FRAMES = 12

shapes = st.fixed_dictionaries(
    {
        "codebooks": st.integers(1, 6),
        "bits": st.integers(4, 7),
        "channels": st.sampled_from([1, 2]),
        "ratios": st.sampled_from(RATIOS),
        "heads": st.sampled_from([1, 2, 4]),
        "head_width": st.sampled_from([8, 16, 24]),
        "layers": st.integers(1, 3),
        "ffn": st.sampled_from([16, 48, 100]),
        "activation": st.sampled_from(["gelu", "relu", "silu"]),
        "codec_width": st.sampled_from([8, 12]),
        "lstm_layers": st.integers(1, 2),
        "seed": st.integers(0, 1000),
    }
)


@contextmanager
def folder_of(text_model: Path, shape: dict[str, Any], **changes: Any) -> Iterator[Path]:
    """A folder as transformers writes it, with random weights; `changes`: of the codec's configuration."""
    base = json.loads((text_model / "config.json").read_text())
    vocabulary, frame_rate = 2 ** shape["bits"], 32_000 / float(np.prod(shape["ratios"]))
    codec = base["audio_encoder"] | {
        "codebook_size": vocabulary,
        "target_bandwidths": [shape["codebooks"] * shape["bits"] * frame_rate / 1000],
        "upsampling_ratios": shape["ratios"],
        "hidden_size": shape["codec_width"],
        "num_filters": 4,
        "num_lstm_layers": shape["lstm_layers"],
    }
    codec |= {"codebook_dim": shape["codec_width"]} | changes
    decoder = base["decoder"] | {
        "vocab_size": vocabulary,
        **dict.fromkeys(("pad_token_id", "bos_token_id"), vocabulary),
        "hidden_size": shape["heads"] * shape["head_width"],
        "num_attention_heads": shape["heads"],
        "num_hidden_layers": shape["layers"],
        "ffn_dim": shape["ffn"],
        "activation_function": shape["activation"],
        "num_codebooks": shape["codebooks"] * shape["channels"],
        "audio_channels": shape["channels"],
    }
    torch.manual_seed(shape["seed"])
    config: Any = MusicgenConfig(text_encoder=base["text_encoder"], audio_encoder=codec, decoder=decoder)
    model: Any = MusicgenForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("audio_encoder"):
                parameter.normal_(1.0 if "norm.weight" in name else 0.0, 1.0 if "embed" in name else 0.3)
    start = dict.fromkeys(("bos_token_id", "pad_token_id", "decoder_start_token_id"), vocabulary)
    model.generation_config.update(**start, max_length=1500)
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        for path in text_model.glob("tokenizer*"):
            shutil.copy(path, name)
        yield Path(name)


def theirs(folder: Path, delay: int, **inputs: Any) -> np.ndarray:
    model: Any = MusicgenForConditionalGeneration.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")
    audio = model.generate(**tokens, **inputs, do_sample=False, guidance_scale=3.0, max_new_tokens=FRAMES + delay)
    samples: np.ndarray = audio[0].numpy()
    return samples


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=shapes)
def test_a_folder_of_any_shape_plays_what_transformers_plays(text_model: Path, shape: dict[str, Any]) -> None:
    hop = int(np.prod(shape["ratios"]))
    noise = np.random.default_rng(shape["seed"]).normal(0, 0.2, (shape["channels"], 5 * hop)).astype(np.float32)
    seconds, delay = FRAMES * hop / 32_000, shape["codebooks"] - 1
    with folder_of(text_model, shape) as folder, MusicGen.load(folder, device="cpu", max_requests=2) as model:
        played = model.submit(GenerationInput(PROMPT, seconds, 0, GREEDY)).audio().samples
        clip = Waveform(noise, 32_000)
        continued = model.submit(GenerationInput(PROMPT, seconds, 0, GREEDY, clip, continuation=True)).audio().samples
        expected = theirs(folder, delay)
        more = theirs(folder, delay, input_values=torch.from_numpy(noise)[None])
    assert played.shape == expected.shape
    assert np.abs(played - expected).max() < 1e-4
    assert continued.shape == more.shape
    assert np.abs(continued - more).max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target_bandwidths": [2.2]},
            r"language model has 4 codebooks, its codec 6 \(from audio_encoder's target_bandw",
        ),
        (
            {"codebook_size": 64, "target_bandwidths": [1.2]},
            "language model has 128 codes in each codebook, its codec 64",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_when_they_are_loaded(
    text_model: Path, changes: dict[str, Any], message: str
) -> None:
    shape = {
        "codebooks": 4,
        "bits": 7,
        "channels": 1,
        "ratios": [8, 5, 4, 4],
        "heads": 2,
        "head_width": 16,
        "layers": 1,
    }
    shape |= {"ffn": 32, "activation": "gelu", "codec_width": 8, "lstm_layers": 1, "seed": 0}
    with folder_of(text_model, shape, **changes) as folder, pytest.raises(CheckpointError, match=message):
        MusicGen.load(folder, device="cpu")
