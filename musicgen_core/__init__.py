"""MusicGen inference as a library: text, melodies and audio in, waveforms out.

    from musicgen_core import MusicGen, write_audio

    with MusicGen.load("facebook/musicgen-small") as model:
        write_audio("piano.wav", model.generate("warm lo-fi piano", duration=8))

Knows nothing of HTTP, Redis or Celery.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from musicgen_core.errors import (
    AudioDecodeError,
    AudioEncodeError,
    CheckpointError,
    GenerationCancelled,
    InvalidRequest,
    MusicGenError,
    UnsupportedByModel,
)

if TYPE_CHECKING:
    from musicgen_core.audio.files import write_audio
    from musicgen_core.audio.loudness import NormalizationStrategy
    from musicgen_core.audio.waveform import Waveform
    from musicgen_core.checkpoints.noise_model import write_noise_model
    from musicgen_core.engine.sampling_params import SamplingParams
    from musicgen_core.job import GenerationInput, Job
    from musicgen_core.musicgen import Abilities, MusicGen

__all__ = [
    "Abilities",
    "AudioDecodeError",
    "AudioEncodeError",
    "CheckpointError",
    "GenerationCancelled",
    "GenerationInput",
    "InvalidRequest",
    "Job",
    "MusicGen",
    "MusicGenError",
    "NormalizationStrategy",
    "SamplingParams",
    "UnsupportedByModel",
    "Waveform",
    "write_audio",
    "write_noise_model",
]

_HOMES = {
    "Abilities": "musicgen.Abilities",
    "GenerationInput": "job.GenerationInput",
    "Job": "job.Job",
    "MusicGen": "musicgen.MusicGen",
    "NormalizationStrategy": "audio.loudness.NormalizationStrategy",
    "SamplingParams": "engine.sampling_params.SamplingParams",
    "Waveform": "audio.waveform.Waveform",
    "write_audio": "audio.files.write_audio",
    "write_noise_model": "checkpoints.noise_model.write_noise_model",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for, so that `musicgen_core.errors` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
