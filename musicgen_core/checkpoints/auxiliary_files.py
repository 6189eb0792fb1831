"""The small files of a model folder that only transformers reads, not our engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SAMPLE_RATE = 32_000
CHROMA_BINS = 12
SECONDS = 30
"""Length of the audio that a melody is read from."""
MAX_LENGTH = 1500
"""Frames of the longest generation: 30 s."""


def generation_fields(vocabulary: int, **own: float) -> dict[str, Any]:
    """The fields of generation_config.json; the token after the vocabulary stands for start and padding.

    `own`: how this model's tokens are drawn, where it is not as the official models'.
    """
    tokens = dict.fromkeys(("bos_token_id", "pad_token_id", "decoder_start_token_id"), vocabulary)
    return {**tokens, "do_sample": True, "guidance_scale": 3.0, "max_length": MAX_LENGTH, **own}


def write_preprocessor(
    folder: Path, *, melody: bool, channels: int, sample_rate: int = SAMPLE_RATE, chroma_bins: int = CHROMA_BINS
) -> None:
    """Write preprocessor_config.json, which `AutoProcessor` reads beside the tokenizer."""
    fields: dict[str, Any]
    if melody:
        fields = {
            "feature_extractor_type": "MusicgenMelodyFeatureExtractor",
            "processor_class": "MusicgenMelodyProcessor",
            "feature_size": chroma_bins, "num_chroma": chroma_bins, "sampling_rate": sample_rate, "n_fft": 16_384,
            "hop_length": 4096, "chunk_length": SECONDS, "n_samples": SECONDS * sample_rate, "padding_side": "right",
            "padding_value": 0.0, "return_attention_mask": False, "stem_indices": [3, 2],
        }  # fmt: skip
    else:
        fields = {
            "feature_extractor_type": "EncodecFeatureExtractor", "processor_class": "MusicgenProcessor",
            "feature_size": channels, "sampling_rate": sample_rate, "padding_side": "left",
            "padding_value": 0.0, "return_attention_mask": True, "chunk_length_s": None, "overlap": None,
        }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(fields, indent=2) + "\n")
