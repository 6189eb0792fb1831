"""MusicGen as one object: load a model, submit inputs, get waveforms.

Ties the parts together and knows nothing of how they work: the engine decodes all submitted requests together in a
thread of its own, which also encodes texts and melodies and turns tokens into sound, between two steps.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from musicgen_core.audio.clip import ContinuationMode, frames_of, loop, new_seconds, trim
from musicgen_core.audio.ffmpeg import decode
from musicgen_core.audio.loudness import NormalizationStrategy, normalize
from musicgen_core.audio.waveform import Waveform
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.config import read_config
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.codec.encodec import Codec, load_codec
from musicgen_core.conditioning.melody import MelodyConditioner, load_melody_conditioner
from musicgen_core.conditioning.text import MAX_TOKENS, TextConditioner, load_text_conditioner
from musicgen_core.device import (
    Dtype,
    choose_device,
    choose_dtype,
    choose_max_requests,
    describe,
    estimate_slot_bytes,
)
from musicgen_core.diffusion.checkpoint import load_diffusion
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.engine.engine import Conditions, Engine, Request, WorkDone
from musicgen_core.engine.long_form import AnyGeneration, LongGeneration, Window, plan_windows
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import InvalidRequest, UnsupportedByModel
from musicgen_core.executor import Run, apart
from musicgen_core.job import GenerationInput, Job

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 30
"""What MusicGen was trained on, and the longest it hears at once; longer music is made window by window."""
EXTEND_STRIDE = 18.0
"""Seconds between the beginnings of two windows: each hears 12 s of what was made before."""
MAX_SEED = 2**32 - 1
MAX_INPUT_SECONDS = 600.0
"""The longest audio file that `generate` reads."""


@dataclass(frozen=True)
class Abilities:
    """What a loaded model can do."""

    melody: bool
    channels: int
    sample_rate: int
    frame_rate: int
    """Token frames a second."""
    max_seconds: int = WINDOW_SECONDS
    """The longest result, an audio prompt included."""
    multi_band_diffusion: bool = False


class MusicGen:
    """A loaded model that serves any number of threads. Use as a context manager, or `close` it."""

    def __init__(self, folder: Path, name: str, parts: _Parts, *, max_seconds: int, extend_stride: float) -> None:
        self.name = name
        """The hub id, or the folder's name."""
        self.trained = not parts.random_weights
        """False for the noise model."""
        self.abilities = Abilities(
            melody=parts.melody is not None,
            channels=parts.codec.channels,
            sample_rate=parts.codec.sample_rate,
            frame_rate=round(parts.codec.frame_rate),
            max_seconds=max_seconds,
            multi_band_diffusion=parts.diffusion is not None,
        )
        self.max_requests = parts.requests
        """How many requests are generated together; more wait their turn."""
        self._window, self._stride = (
            int(seconds * self.abilities.frame_rate) for seconds in (WINDOW_SECONDS, extend_stride)
        )
        self._folder = folder
        self._engine = parts.engine
        self._text = parts.text
        self._melody = parts.melody
        self.run: Run = parts.engine.run
        """Has the thread that computes do some work, such as the codec's, between two steps (see `errands`)."""
        self.codec = parts.codec
        """Waveform to tokens and back."""
        self.diffusion = parts.diffusion
        """The other way from tokens to a waveform; None where the folder carries none."""

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_requests: int | None = None,
        max_seconds: int = WINDOW_SECONDS,
        extend_stride: float = EXTEND_STRIDE,
    ) -> Self:
        """Load a model from a folder, or by its hub id (facebook/musicgen-small), and start its engine.

        `device` "auto": CUDA where there is one. `dtype` is the language model's alone; "auto": bfloat16 on
        CUDA, float32 on the CPU; "int8" (CPU) is faster and a little less exact. `max_requests`: how many are
        generated together; None: what the memory suggests. `max_seconds`: the longest result; beyond 30 s it is
        made in windows of 30 s, one every `extend_stride` seconds. Raises CheckpointError.
        """
        if not 1 <= extend_stride < WINDOW_SECONDS:
            raise InvalidRequest(f"The stride must be 1 s or more and below {WINDOW_SECONDS} s, got {extend_stride:g}.")
        folder = hub.resolve(source)
        name = Path(source).resolve().name if Path(source).is_dir() else str(source)
        where = choose_device(device)
        numbers = choose_dtype(dtype, where)
        parts = apart(lambda: _load_parts(folder, where, numbers, max_requests, int8=dtype == "int8"))
        logger.info("Loaded %s: %s", name, parts.summary)
        parts.engine.start()
        return cls(folder, name, parts, max_seconds=max_seconds, extend_stride=extend_stride)

    @cached_property
    def checksum(self) -> str:
        """The model's version: SHA-256 over its config and weights, in hex. Reads them all, the first time."""
        return hub.checksum(self._folder)

    @property
    def work_done(self) -> WorkDone:
        """The decoding steps made so far, and what they took."""
        return self._engine.work_done

    def submit(self, given: GenerationInput) -> Job:
        """Encode an input and put it in the engine's queue.

        Raises UnsupportedByModel where the model cannot follow a melody or has no MultiBand Diffusion,
        InvalidRequest where the input makes no sense.
        """
        self._check(given)
        frames = round(given.duration * self.abilities.frame_rate)
        prompt_frames = 0 if given.continuation is None else frames_of(given.continuation, hop=self.codec.hop)
        self._check_length(frames, prompt_frames)
        text, codes = self.run(lambda: self._encode(given))
        request = Request(
            frames=frames, sampling=given.sampling, seed=given.seed, conditions=Conditions(text), prompt_codes=codes
        )
        diffusion = self.diffusion if given.multi_band_diffusion else None
        generation = self._begin(request, given.melody, live=given.live)
        return Job(generation, self.codec, diffusion, given.seed, self.run)

    def new_seconds(self, duration: float, clip: Waveform, mode: ContinuationMode) -> float:
        """A continuation's GenerationInput.duration, from what the user's `duration` means (see `input_audio`)."""
        return new_seconds(duration, clip, mode=mode, hop=self.codec.hop)

    def generate(
        self,
        prompt: str | None = None,
        *,
        duration: float = 8.0,
        input_audio: str | Path | None = None,
        continuation: bool = False,
        continuation_mode: ContinuationMode = "extend",
        continuation_start: float = 0.0,
        continuation_end: float | None = None,
        temperature: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        guidance: float = 3.0,
        seed: int | None = None,
        normalization: str = "loudness",
        multi_band_diffusion: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Waveform:
        """Make one piece of music and wait for it.

        Give a prompt, an audio file, or both; the file's tune is followed, or, with `continuation`, it is
        continued. `duration`, in seconds, is of the new music, or of clip and new music with the mode
        "total". The part of the file from `continuation_start` to `continuation_end` (seconds; None or -1:
        its end) is used either way. `seed` None or -1: a random one, which is logged. `normalization`:
        loudness, clip, peak or rms. `multi_band_diffusion`: see GenerationInput. `on_progress` is called with
        the steps done and the steps in all. Raises InvalidRequest, AudioDecodeError.
        """
        sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance)
        strategy = _strategy(normalization)
        if prompt is None and input_audio is None:
            raise InvalidRequest("Give a prompt, an audio file, or both.")
        if continuation and input_audio is None:
            raise InvalidRequest("There is nothing to continue: give an audio file.")
        clip = None
        if input_audio is not None:
            clip = trim(self.read_audio(Path(input_audio)), start=continuation_start, end=continuation_end)
        if clip is not None and continuation:
            duration = self.new_seconds(duration, clip, continuation_mode)
        given = GenerationInput(
            prompt=prompt,
            duration=duration,
            seed=_draw_seed() if seed is None or seed == -1 else seed,
            sampling=sampling,
            melody=None if continuation else clip,
            continuation=clip if continuation else None,
            multi_band_diffusion=multi_band_diffusion,
        )
        logger.info("Using seed %d", given.seed)
        return normalize(self.submit(given).finish(on_progress), strategy)

    def read_audio(self, path: Path, *, max_seconds: float = MAX_INPUT_SECONDS) -> Waveform:
        """An audio file at the model's sample rate and channels. Raises AudioDecodeError."""
        return decode(
            path,
            sample_rate=self.abilities.sample_rate,
            channels=self.abilities.channels,
            max_seconds=max_seconds,
        )

    def close(self) -> None:
        """Stop the engine; jobs that have not ended fail."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, request: Request, melody: Waveform | None, *, live: bool) -> AnyGeneration:
        if request.total_frames <= self._window:
            conditions = replace(request.conditions, chroma=self._chroma(melody))
            return self._engine.submit(replace(request, conditions=conditions), live=live)

        def chroma(window: Window) -> torch.Tensor | None:
            # As audiocraft does: the melody's sound goes on from window to window, and begins anew at its end.
            hop = self.codec.hop
            return self._chroma(melody and loop(melody, first=window.start * hop, samples=self._window * hop))

        windows = plan_windows(request.prompt_frames, request.total_frames, window=self._window, stride=self._stride)
        return LongGeneration(self._engine, request, windows, chroma)

    def _encode(self, given: GenerationInput) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """T5's states of the prompt, and the codes of what is continued."""
        text = self._text.encode(given.prompt) if given.prompt else None
        if given.continuation is None:
            return text, None
        return text, self.codec.encode(torch.from_numpy(given.continuation.samples))

    def _chroma(self, melody: Waveform | None) -> torch.Tensor | None:
        conditioner = self._melody
        if conditioner is None or melody is None:
            return None
        return self.run(lambda: conditioner.encode(melody))

    def _check(self, given: GenerationInput) -> None:
        if given.melody is not None and not self.abilities.melody:
            raise UnsupportedByModel(
                f"The model {self.name} cannot follow a melody; use a melody model, or continue the audio."
            )
        if given.multi_band_diffusion and self.diffusion is None:
            raise UnsupportedByModel(
                f"The model {self.name} has no MultiBand Diffusion; put one into its folder with "
                "`musicgen convert --diffusion`, or decode without."
            )
        if not 0 <= given.seed <= MAX_SEED:
            raise InvalidRequest(f"The seed must lie between 0 and {MAX_SEED}, got {given.seed}.")
        if not math.isfinite(given.duration):
            raise InvalidRequest(f"The duration must be a number of seconds, got {given.duration}.")
        for audio in (given.melody, given.continuation):
            if audio is not None and audio.sample_rate != self.abilities.sample_rate:
                raise InvalidRequest(
                    f"The audio is at {audio.sample_rate} Hz, the model at {self.abilities.sample_rate} Hz."
                )
            if audio is not None and audio.samples.shape[1] == 0:
                raise InvalidRequest("The audio holds no samples.")

    def _check_length(self, frames: int, prompt_frames: int) -> None:
        rate, limit = self.abilities.frame_rate, self.abilities.max_seconds
        if frames < 1:
            raise InvalidRequest(f"The new music must last at least {1 / rate:g} s.")
        if prompt_frames + frames > limit * rate:
            clip = f"The clip of {prompt_frames / rate:g} s and " if prompt_frames else ""
            remedy = ", or use a shorter part of the clip." if prompt_frames else "."
            raise InvalidRequest(
                f"{clip}{frames / rate:g} s of new music are {(prompt_frames + frames) / rate:g} s in all, "
                f"but at most {limit} s are allowed. Ask for less{remedy}"
            )


@dataclass(frozen=True)
class _Parts:
    """What `MusicGen.load` puts together."""

    engine: Engine
    text: TextConditioner
    melody: MelodyConditioner | None
    codec: Codec
    diffusion: MultiBandDiffusion | None
    requests: int
    random_weights: bool
    summary: str


def _load_parts(
    folder: Path, device: torch.device, dtype: torch.dtype, max_requests: int | None, *, int8: bool
) -> _Parts:
    raw, config = json.loads((folder / "config.json").read_text()), read_config(folder)
    language_model = load_language_model(folder, device=device, dtype=dtype, int8=int8)
    codec = load_codec(folder, raw, channels=config.audio_channels, device=device)
    text = load_text_conditioner(folder, raw, device=device)
    melody = None
    if config.chroma_bins is not None and config.chroma_frames is not None:
        melody = load_melody_conditioner(
            sample_rate=codec.sample_rate, bins=config.chroma_bins, frames=config.chroma_frames, device=device
        )
    frames = round(WINDOW_SECONDS * codec.frame_rate)
    requests = max_requests or choose_max_requests(estimate_slot_bytes(config, frames, dtype), device)
    engine = Engine(
        language_model,
        max_requests=requests,
        max_frames=frames,
        max_text_tokens=MAX_TOKENS,
    )
    diffusion = load_diffusion(folder, codec, engine.run)
    precision = "int8" if int8 else str(dtype).removeprefix("torch.")
    summary = (
        f"{language_model.size / 1e6:,.1f} M parameters, {precision} on {describe(device)}; {codec.sample_rate} Hz, "
        f"{'stereo' if codec.channels == 2 else 'mono'}, {'follows melodies' if melody else 'text only'}"
        f"{', MultiBand Diffusion' if diffusion else ''}; "
        f"requests at once: {requests}, {engine.slot_bytes / 2**20:,.1f} MiB each"
    )
    random_weights = bool(raw.get("random_weights", False))
    return _Parts(engine, text, melody, codec, diffusion, requests, random_weights, summary)


def _strategy(name: str) -> NormalizationStrategy:
    try:
        return NormalizationStrategy(name)
    except ValueError:
        known = ", ".join(NormalizationStrategy)
        raise InvalidRequest(f"There is no normalization {name!r}; use one of {known}.") from None


def _draw_seed() -> int:
    return secrets.randbelow(MAX_SEED + 1)
