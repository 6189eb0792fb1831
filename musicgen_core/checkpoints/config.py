"""The config.json of a model folder, as transformers writes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicgen_core.checkpoints.hub import STYLE_REASON
from musicgen_core.errors import CheckpointError
from musicgen_core.lm.transformer import ACTIVATIONS, LanguageModelConfig


def read_config(folder: Path) -> LanguageModelConfig:
    """Read the language model's configuration of a folder.

    Absent fields get the defaults of transformers' configuration classes, which do not write them. Raises
    CheckpointError where config.json is missing, broken or not of a supported kind.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in ("musicgen", "musicgen_melody"):
        reason = f". {STYLE_REASON}" if "style" in str(kind) else ""
        raise CheckpointError(f"{path}: model_type is {kind!r}; supported are 'musicgen' and 'musicgen_melody'{reason}")
    try:
        config = _config(raw, melody=kind == "musicgen_melody")
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_config(config, path)
    return config


def _config(raw: Mapping[str, Any], *, melody: bool) -> LanguageModelConfig:
    """Map the fields, with transformers' defaults."""
    decoder, text, audio = (raw.get(part) or {} for part in ("decoder", "text_encoder", "audio_encoder"))
    sample_rate = int(audio.get("sampling_rate", 24_000))
    samples_per_frame = math.prod(audio.get("upsampling_ratios", (8, 5, 4, 2)))
    return LanguageModelConfig(
        layers=int(decoder.get("num_hidden_layers", 24)),
        dim=int(decoder.get("hidden_size", 1024)),
        heads=int(decoder.get("num_attention_heads", 16)),
        ffn_dim=int(decoder.get("ffn_dim", 4096)),
        activation=str(decoder.get("activation_function", "gelu")),
        codebooks=int(decoder.get("num_codebooks", 4)),
        vocabulary=int(decoder.get("vocab_size", 2048)),
        audio_channels=int(decoder.get("audio_channels", 1)),
        text_dim=int(text.get("d_model", text.get("hidden_size", 512))),
        chroma_bins=int(raw.get("num_chroma", 12)) if melody else None,
        chroma_frames=int(raw.get("chroma_length", 235)) if melody else None,
        frame_rate=math.ceil(sample_rate / samples_per_frame),
        sample_rate=sample_rate,
    )


def _check_config(config: LanguageModelConfig, path: Path) -> None:
    """Raise CheckpointError for shapes that `LanguageModel` does not support."""
    if config.activation not in ACTIVATIONS:
        raise CheckpointError(f"{path}: unknown activation_function {config.activation!r}")
    if config.audio_channels not in (1, 2) or config.codebooks % config.audio_channels:
        raise CheckpointError(
            f"{path}: {config.codebooks} codebooks do not make {config.audio_channels} audio channels"
        )
    sizes = (config.layers, config.dim, config.heads, config.ffn_dim, config.codebooks, config.vocabulary)
    if min(sizes) < 1 or config.dim % config.heads:
        raise CheckpointError(f"{path}: sizes must be positive and hidden_size a multiple of num_attention_heads")
