"""The ten official models: their sizes, and a miniature of each from both layouts that their repositories hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from musicgen_core import GenerationInput, MusicGen
from musicgen_core.audio.waveform import Waveform
from musicgen_core.audiocraft.convert import convert
from musicgen_core.audiocraft.hub import resolve_checkpoint
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.config import read_config
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.lm.transformer import LanguageModel
from tests.musicgen_core.audiocraft import audiocraft_format as audiocraft
from tests.musicgen_core.reference import GREEDY

NOWHERE = "http://127.0.0.1:9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RATE, HOP = 32_000, 640
FRAMES = 10

SIZES = {"small": (24, 1024, 16), "medium": (48, 1536, 24), "large": (48, 2048, 32)}
"""Layers, width, heads: audiocraft's config/model/lm/model_scale."""


@dataclass(frozen=True)
class Official:
    """millions: parameters of the language model, as its published shape gives them."""

    size: str
    millions: int
    melody: bool = False
    stereo: bool = False

    @property
    def noise(self) -> str:
        """The fixture of a model of this kind."""
        kind = {(False, False): "text", (True, False): "melody", (False, True): "stereo"}
        return kind.get((self.melody, self.stereo), "stereo_melody") + "_model"


OFFICIAL = {
    "musicgen-small": Official("small", 420),
    "musicgen-medium": Official("medium", 1839),
    "musicgen-large": Official("large", 3257),
    "musicgen-melody": Official("medium", 1386, melody=True),
    "musicgen-melody-large": Official("large", 2451, melody=True),
    "musicgen-stereo-small": Official("small", 437, stereo=True),
    "musicgen-stereo-medium": Official("medium", 1864, stereo=True),
    "musicgen-stereo-large": Official("large", 3291, stereo=True),
    "musicgen-stereo-melody": Official("medium", 1411, melody=True, stereo=True),
    "musicgen-stereo-melody-large": Official("large", 2485, melody=True, stereo=True),
}

every_model = pytest.mark.parametrize("name", OFFICIAL)


def official_config(model: Official) -> dict[str, Any]:
    """The fields of the model's own config.json that concern us."""
    layers, dim, heads = SIZES[model.size]
    codec = {
        "model_type": "encodec", "audio_channels": 1, "chunk_length_s": None, "codebook_dim": 128,
        "codebook_size": 2048, "hidden_size": 128, "normalize": False, "num_filters": 64, "num_lstm_layers": 2,
        "num_residual_layers": 1, "sampling_rate": 32_000, "target_bandwidths": [2.2],
        "upsampling_ratios": [8, 5, 4, 4], "use_causal_conv": False, "use_conv_shortcut": False,
    }  # fmt: skip
    decoder = {
        "activation_function": "gelu", "bos_token_id": 2048, "ffn_dim": 4 * dim, "hidden_size": dim,
        "max_position_embeddings": 2048, "num_attention_heads": heads, "num_codebooks": 8 if model.stereo else 4,
        "num_hidden_layers": layers, "pad_token_id": 2048, "scale_embedding": False, "vocab_size": 2048,
    }  # fmt: skip
    if model.stereo:
        decoder["audio_channels"] = 2  # left out by the mono ones
    text = {"model_type": "t5", "_name_or_path": "t5-base", "d_model": 768, "num_layers": 12}
    whole = {"model_type": "musicgen_melody" if model.melody else "musicgen", "text_encoder": text}
    return (
        whole
        | {"audio_encoder": codec, "decoder": decoder}
        | ({"num_chroma": 12, "chroma_length": 235} if model.melody else {})
    )


@every_model
def test_the_official_config_gives_the_official_size(name: str, tmp_path: Path) -> None:
    model = OFFICIAL[name]
    (tmp_path / "config.json").write_text(json.dumps(official_config(model)))
    config = read_config(tmp_path)
    assert (config.layers, config.dim, config.heads) == SIZES[model.size]
    assert (config.frame_rate, config.sample_rate, config.text_dim) == (50, RATE, 768)
    assert (config.codebooks, config.audio_channels) == ((8, 2) if model.stereo else (4, 1))
    assert (config.chroma_bins, config.chroma_frames) == ((12, 235) if model.melody else (None, None))
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in LanguageModel(config).parameters())
    assert round(parameters / 1e6) == model.millions


def miniature(model: Official, noise: Path) -> Any:
    """Its structure at a sixteenth of the width and of the depth, with the small codec and T5 of a noise model."""
    layers, dim, heads = SIZES[model.size]
    model_class: Any = MusicgenMelodyForConditionalGeneration if model.melody else MusicgenForConditionalGeneration
    parts = model_class.from_pretrained(noise)
    config = parts.config
    for field, value in {"hidden_size": dim // 16, "ffn_dim": dim // 4, "num_attention_heads": heads // 8}.items():
        setattr(config.decoder, field, value)
    config.decoder.num_hidden_layers = layers // 24
    theirs = model_class(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter_name, parameter in theirs.named_parameters():
            spread = 1.0 if "embed" in parameter_name else 0.3
            parameter.normal_(float("norm.weight" in parameter_name), spread, generator=generator)
    theirs.text_encoder, theirs.audio_encoder = parts.text_encoder, parts.audio_encoder
    theirs.generation_config = parts.generation_config
    return theirs.eval()


def write_both_layouts(theirs: Any, noise: Path, folder: Path, *, own_codec: bool) -> None:
    """As the official repositories have them side by side."""
    theirs.save_pretrained(folder)
    for path in noise.glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    state, config = audiocraft.language_model_state(theirs), audiocraft.language_model_config(theirs)
    torch.save(audiocraft.exported(state, config), folder / "state_dict.bin")
    codec: dict[str, Any] = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    if own_codec:
        codec = audiocraft.exported(
            audiocraft.codec_state(theirs.audio_encoder), audiocraft.codec_config(theirs.audio_encoder)
        )
    torch.save(codec, folder / "compression_state_dict.bin")


def sounds(folder: Path, melody: Waveform | None) -> tuple[np.ndarray, np.ndarray]:
    """Greedily with a text alone, and by chance with all that the model follows."""
    with MusicGen.load(folder, device="cpu", max_requests=2) as model:
        assert (model.abilities.melody, model.abilities.sample_rate) == (melody is not None, RATE)
        seconds = FRAMES * HOP / RATE
        greedy = model.submit(GenerationInput("warm piano", seconds, 0, GREEDY))
        drawn = model.submit(GenerationInput("warm piano", seconds, 3, SamplingParams(top_k=20), input_audio=melody))
        return greedy.audio().samples, drawn.audio().samples


@every_model
def test_a_miniature_loads_from_both_layouts_by_its_hub_id(
    name: str, tmp_path: Path, text_model: Path, request: pytest.FixtureRequest
) -> None:
    model, repository = OFFICIAL[name], f"facebook/{name}"
    noise = request.getfixturevalue(model.noise)
    theirs = miniature(model, noise)
    cached = tmp_path / "cache" / f"models--facebook--{name}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    # The first models came with their codec; the later ones name it.
    write_both_layouts(theirs, noise, cached / "snapshots" / COMMIT, own_codec=not model.stereo)
    where: Any = {"endpoint": NOWHERE, "cache_folder": tmp_path / "cache"}
    convert(resolve_checkpoint(repository, **where), text_model, tmp_path / "converted")

    tune = Waveform(0.3 * np.sin(np.arange(RATE, dtype=np.float32) / 20)[None], RATE) if model.melody else None
    greedy, drawn = sounds(hub.resolve(repository, **where), tune)
    for ours, converted in zip((greedy, drawn), sounds(tmp_path / "converted", tune), strict=True):
        assert ours.shape == (2 if model.stereo else 1, FRAMES * HOP)
        assert np.array_equal(ours, converted)
    tokens = AutoTokenizer.from_pretrained(noise)("warm piano", return_tensors="pt")
    expected = theirs.generate(**tokens, max_new_tokens=FRAMES + 3, do_sample=False, guidance_scale=3.0)
    np.testing.assert_allclose(greedy, expected[0].detach().numpy(), atol=1e-4)
    assert not np.allclose(greedy, drawn, atol=1e-2)
