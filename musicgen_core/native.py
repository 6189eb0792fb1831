"""This project's own engine as a backend: text, melody and audio are encoded, decoded together, and made sound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from musicgen_core.abilities import WINDOW_SECONDS, Abilities
from musicgen_core.adapters.adapter import Adapter
from musicgen_core.adapters.peft_format import load_adapter
from musicgen_core.audio.clip import loop
from musicgen_core.audio.waveform import Waveform
from musicgen_core.checkpoints import hub
from musicgen_core.codec.encodec import Codec
from musicgen_core.conditioning.encodings import RecentEncodings
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.conditioning.text import TextConditioner
from musicgen_core.continuation import frames_of
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.engine.engine import Engine, EngineStatistics
from musicgen_core.engine.long_form import AnyGeneration, LongFormGeneration, Window, plan_windows
from musicgen_core.engine.measures import EngineMeasures
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.errors import UnsupportedByModel
from musicgen_core.executor import PassingThread, Resumable
from musicgen_core.generation_input import ResolvedInput
from musicgen_core.job import Job
from musicgen_core.own_sampling import read_own_sampling


@dataclass(frozen=True)
class Parts:
    """The loaded parts of a model."""

    engine: Engine
    text: TextConditioner
    melody: MelodyConditioner | None
    """None for models that follow no melody."""
    codec: Codec
    diffusion: MultiBandDiffusion | None
    """None where the folder carries none."""
    max_requests: int
    trained: bool


class NativeBackend:
    """A model of this project's engine, whose thread computes everything, in tasks between two decoding steps."""

    def __init__(self, folder: Path, name: str, parts: Parts, *, max_seconds: int, stride_seconds: float) -> None:
        """Start the engine.

        `max_seconds`: the longest result; beyond 30 s it is made in windows of 30 s, one every `stride_seconds`.
        """
        self.name = name
        self.trained = parts.trained
        self.abilities = Abilities(
            melody=parts.melody is not None,
            channels=parts.codec.channels,
            sample_rate=parts.codec.sample_rate,
            frame_rate=round(parts.codec.frame_rate),
            delay_frames=parts.engine.steps(1) - 1,
            max_seconds=max_seconds,
            multi_band_diffusion=parts.diffusion is not None,
        )
        self.sampling = read_own_sampling(folder)
        self.max_requests = parts.max_requests
        self.executor = parts.engine
        self.codec = parts.codec
        self.diffusion = parts.diffusion
        """The other way from tokens to a waveform; None where the folder carries none."""
        self._folder = folder
        self._engine = parts.engine
        self._text = parts.text
        self._melody = parts.melody
        self._recent = RecentEncodings()
        self._window, self._stride = (
            int(seconds * self.abilities.frame_rate) for seconds in (WINDOW_SECONDS, stride_seconds)
        )
        self._engine.start()

    @property
    def statistics(self) -> EngineStatistics:
        """The decoding steps made so far, and how long they took."""
        return self._engine.statistics

    @property
    def measures(self) -> EngineMeasures:
        """What the engine has done, and does now, for whoever watches it."""
        return self._engine.measures

    @property
    def busy_seconds(self) -> float:
        """How long the present step or task has taken; infinite where an error has ended the engine."""
        return self._engine.busy_seconds

    def checksum(self) -> str:
        """The model's version: SHA-256 over its configuration and weights, in hex. Reads them all."""
        return hub.checksum(self._folder)

    def load_adapter(self, folder: Path, /) -> Adapter:
        """Read an adapter for this model from a folder. Raises CheckpointError."""
        # In a thread whose OpenMP pool ends with it: the engine's thread alone computes.
        return PassingThread().execute(lambda: load_adapter(folder, self._engine.config))

    def submit(self, given: ResolvedInput) -> Job:
        """Put an input in line; the engine's thread encodes it. Raises UnsupportedByModel."""
        if given.multi_band_diffusion and self.diffusion is None:
            raise UnsupportedByModel(
                f"The model {self.name} has no MultiBand Diffusion; put one into its folder with "
                "`musicgen convert --diffusion`, or decode without."
            )
        diffusion = self.diffusion if given.multi_band_diffusion else None
        generation = self._begin(given)
        streaming = self.codec.streaming_decoder() if generation.live and diffusion is None else None
        return Job(given, generation, self.codec, self.executor, diffusion=diffusion, streaming=streaming)

    def close(self) -> None:
        """Stop the engine; jobs that have not ended fail."""
        self._engine.close()

    def _begin(self, given: ResolvedInput) -> AnyGeneration:
        clip_frames = 0 if given.continuation is None else frames_of(given.continuation, hop=self.codec.hop)
        total = clip_frames + given.frames
        if total <= self._window:
            return self._engine.submit_encoding(given.frames, self._encode_all(given), live=given.live)
        windows = plan_windows(clip_frames, total, window=self._window, stride=self._stride)

        def chroma(window: Window) -> Tensor | None:
            # As audiocraft does: the melody's sound goes on from window to window, and begins anew at its end.
            hop = self.codec.hop
            return self._chroma(
                given.melody and loop(given.melody, first=window.start * hop, samples=self._window * hop)
            )

        return LongFormGeneration(self._engine, windows, self._encode(given), chroma)

    def _encode_all(self, given: ResolvedInput) -> Resumable[Request]:
        """The engine's request, with its melody."""
        request = yield from self._encode(given)
        if self._melody is None or given.melody is None:
            return request
        yield
        return replace(request, conditions=replace(request.conditions, chroma=self._chroma(given.melody)))

    def _encode(self, given: ResolvedInput) -> Resumable[Request]:
        """The engine's request: T5's states of the prompt, and the codes of what is continued, but no melody."""
        text = self._recent.text(given.prompt, self._text.encode) if given.prompt else None
        clip, codes = given.continuation, None
        if clip is not None:
            yield
            codes = yield from self._recent.stretches("codes", clip, self._encode_clip)
        return Request(
            frames=given.frames,
            sampling=given.sampling,
            seed=given.seed,
            conditions=Conditions(text),
            prompt_codes=codes,
            adapter=given.adapter,
        )

    def _chroma(self, melody: Waveform | None) -> Tensor | None:
        if self._melody is None or melody is None:
            return None
        return self._recent.sound("chroma", melody, self._melody.encode)

    def _encode_clip(self, clip: Waveform) -> Resumable[Tensor]:
        return self.codec.encoding(torch.from_numpy(clip.samples))
