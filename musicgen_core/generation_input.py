"""What is asked of a model, and what follows from it: which part of a clip is used, how many frames are generated.

`MusicGen.generate`, `musicgen generate` and the service's workers all describe a piece of music by a GenerationInput;
`resolve` is the one place where its fields get their meaning. docs/api.md describes the same fields for the service.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from musicgen_core.abilities import Abilities
from musicgen_core.adapters.adapter import Adapter, AdapterUse
from musicgen_core.audio.clip import trim
from musicgen_core.audio.waveform import Waveform
from musicgen_core.continuation import frames_of, new_seconds
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import InvalidRequest, UnsupportedByModel
from musicgen_core.options import MAX_SEED, ContinuationMode, NormalizationStrategy


@dataclass(frozen=True)
class GenerationInput:
    """One piece of music to make."""

    prompt: str | None
    """A description; None or "": unconditional."""
    duration: float = 8.0
    """Seconds of new music; of clip and new music together with the continuation mode "total"."""
    seed: int | None = None
    """The same seed gives the same music: 0 to 2**32 - 1. None: a random one, see `Job.seed`."""
    sampling: SamplingParams | None = None
    """How tokens are drawn; None: as the model's folder says, see `MusicGen.sampling`."""
    input_audio: Waveform | None = None
    """A clip at the model's sample rate, whose melody is followed."""
    continuation: bool = False
    """The clip is continued instead."""
    continuation_mode: ContinuationMode = ContinuationMode.EXTEND
    continuation_start: float = 0.0
    """Seconds: the beginning of the part of the clip that is used, also where its melody is followed."""
    continuation_end: float | None = None
    """Seconds: its end; None or -1: the clip's end."""
    normalization: NormalizationStrategy = NormalizationStrategy.LOUDNESS
    multi_band_diffusion: bool = False
    """Its tokens become sound by MultiBand Diffusion instead of the codec's decoder."""
    live: bool = False
    """Its sound is wanted while it is made: `Job.finish` then hands out chunks."""
    adapter: Adapter | None = None
    """What `MusicGen.load_adapter` returned; None: the model as it is."""
    adapter_strength: float = 1.0
    """How much of the adapter: 0 to 2; 0 is the model as it is."""


@dataclass(frozen=True)
class ResolvedInput:
    """A GenerationInput whose every field means one thing; a backend generates it as it stands."""

    prompt: str | None
    frames: int
    """New frames to generate."""
    seed: int
    sampling: SamplingParams
    melody: Waveform | None = None
    """Its melody is followed."""
    continuation: Waveform | None = None
    """It is continued."""
    normalization: NormalizationStrategy = NormalizationStrategy.LOUDNESS
    multi_band_diffusion: bool = False
    live: bool = False
    adapter: AdapterUse | None = None


def resolve(
    given: GenerationInput, name: str, abilities: Abilities, sampling: SamplingParams, *, hop: int
) -> ResolvedInput:
    """Give every field its meaning, for the model `name` with these abilities.

    `sampling`: the model's own; `hop`: samples per token frame.

    Raises UnsupportedByModel where the model cannot follow a melody, InvalidRequest where the input makes no sense.
    """
    seed = secrets.randbelow(MAX_SEED + 1) if given.seed is None else given.seed
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequest(f"The seed must lie between 0 and {MAX_SEED}, got {seed}.")
    if not math.isfinite(given.duration):
        raise InvalidRequest(f"The duration must be a number of seconds, got {given.duration}.")
    clip, duration = _used_part(given, name, abilities), given.duration
    continued = clip if given.continuation else None
    if continued is not None:
        duration = new_seconds(duration, continued, mode=given.continuation_mode, hop=hop)
    frames = round(duration * abilities.frame_rate)
    _check_length(frames, 0 if continued is None else frames_of(continued, hop=hop), abilities)
    return ResolvedInput(
        prompt=given.prompt,
        frames=frames,
        seed=seed,
        sampling=given.sampling or sampling,
        melody=None if given.continuation else clip,
        continuation=continued,
        normalization=given.normalization,
        multi_band_diffusion=given.multi_band_diffusion,
        live=given.live,
        adapter=_adapter_use(given),
    )


def _adapter_use(given: GenerationInput) -> AdapterUse | None:
    if given.adapter is None:
        return None
    use = AdapterUse(given.adapter, given.adapter_strength)
    return use if use.strength else None


def _used_part(given: GenerationInput, name: str, abilities: Abilities) -> Waveform | None:
    clip = given.input_audio
    if clip is None:
        if given.continuation:
            raise InvalidRequest("There is nothing to continue: give an audio file.")
        return None
    if not given.continuation and not abilities.melody:
        raise UnsupportedByModel(f"The model {name} cannot follow a melody; use a melody model, or continue the audio.")
    if clip.sample_rate != abilities.sample_rate:
        raise InvalidRequest(f"The audio is at {clip.sample_rate} Hz, the model at {abilities.sample_rate} Hz.")
    if clip.samples.shape[1] == 0:
        raise InvalidRequest("The audio holds no samples.")
    return trim(clip, start=given.continuation_start, end=given.continuation_end)


def _check_length(frames: int, clip_frames: int, abilities: Abilities) -> None:
    rate, limit = abilities.frame_rate, abilities.max_seconds
    if frames < 1:
        raise InvalidRequest(f"The new music must last at least {1 / rate:g} s.")
    if clip_frames + frames > limit * rate:
        clip = f"The clip of {clip_frames / rate:g} s and " if clip_frames else ""
        remedy = ", or use a shorter part of the clip." if clip_frames else "."
        raise InvalidRequest(
            f"{clip}{frames / rate:g} s of new music are {(clip_frames + frames) / rate:g} s in all, "
            f"but at most {limit} s are allowed. Ask for less{remedy}"
        )
