"""MusicGen inference as a library: text, melodies and audio in, waveforms out.

    from musicgen_core import MusicGen, write_audio

    with MusicGen.load("facebook/musicgen-small") as model:
        write_audio("piano.wav", model.generate("warm lo-fi piano", duration=8))

Several pieces at once, decoded together:

    jobs = [model.submit(GenerationInput("warm lo-fi piano", seed=seed)) for seed in range(4)]
    takes = [job.finish() for job in jobs]

What is exported here is the public surface; everything else may move. Knows nothing of HTTP, Redis or Celery.
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
    StepFailed,
    UnsupportedByModel,
)
from musicgen_core.options import MAX_SEED, ContinuationMode, NormalizationStrategy, OutputFormat

if TYPE_CHECKING:
    from musicgen_core.abilities import Abilities
    from musicgen_core.adapters.adapter import Adapter
    from musicgen_core.audio.ffmpeg import encode_flac, encode_mp3, read_audio
    from musicgen_core.audio.files import decode_wav, encode_audio, encode_wav, encode_wav24, write_audio
    from musicgen_core.audio.loudness import integrated_loudness, normalize, true_peak
    from musicgen_core.audio.marks import Marks
    from musicgen_core.audio.waveform import Waveform
    from musicgen_core.checkpoints.noise_model import write_noise_model
    from musicgen_core.engine.engine import EngineStatistics
    from musicgen_core.engine.measures import Distribution, EngineMeasures
    from musicgen_core.engine.sampling_params import SamplingParams
    from musicgen_core.generation_input import GenerationInput
    from musicgen_core.job import Job
    from musicgen_core.musicgen import MusicGen

__all__ = [
    "MAX_SEED",
    "Abilities",
    "Adapter",
    "AudioDecodeError",
    "AudioEncodeError",
    "CheckpointError",
    "ContinuationMode",
    "Distribution",
    "EngineMeasures",
    "EngineStatistics",
    "GenerationCancelled",
    "GenerationInput",
    "InvalidRequest",
    "Job",
    "Marks",
    "MusicGen",
    "MusicGenError",
    "NormalizationStrategy",
    "OutputFormat",
    "SamplingParams",
    "StepFailed",
    "UnsupportedByModel",
    "Waveform",
    "decode_wav",
    "encode_audio",
    "encode_flac",
    "encode_mp3",
    "encode_wav",
    "encode_wav24",
    "integrated_loudness",
    "normalize",
    "read_audio",
    "true_peak",
    "write_audio",
    "write_noise_model",
]

_HOMES = {
    "Abilities": "abilities",
    "Adapter": "adapters.adapter",
    "GenerationInput": "generation_input",
    "Job": "job",
    "Marks": "audio.marks",
    "MusicGen": "musicgen",
    "SamplingParams": "engine.sampling_params",
    "Waveform": "audio.waveform",
    "EngineStatistics": "engine.engine",
    "EngineMeasures": "engine.measures",
    "Distribution": "engine.measures",
    "decode_wav": "audio.files",
    "encode_audio": "audio.files",
    "encode_flac": "audio.ffmpeg",
    "encode_mp3": "audio.ffmpeg",
    "encode_wav": "audio.files",
    "encode_wav24": "audio.files",
    "integrated_loudness": "audio.loudness",
    "normalize": "audio.loudness",
    "read_audio": "audio.ffmpeg",
    "true_peak": "audio.loudness",
    "write_audio": "audio.files",
    "write_noise_model": "checkpoints.noise_model",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch or numpy when it is first asked for: options and errors cost nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
