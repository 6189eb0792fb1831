"""What generates for a `MusicGen`: this project's own engine, or audiocraft; `loading` chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from musicgen_core.abilities import Abilities
from musicgen_core.adapters.adapter import Adapter
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.engine.engine import EngineStatistics
from musicgen_core.engine.measures import EngineMeasures
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.executor import Executor
from musicgen_core.generation_input import ResolvedInput
from musicgen_core.job import Decoder, Job

BackendName = Literal["native", "audiocraft"]


class Codec(Decoder, Protocol):
    """What turns a waveform into tokens and back."""

    channels: int
    """1: mono, 2: stereo."""
    hop: int
    """Samples per token frame."""

    def encode(self, waveform: Tensor) -> Tensor:
        """The tokens `[codebooks, frames]` of a waveform `[channels, samples]`."""

    def decode(self, codes: Tensor) -> Tensor:
        """The waveform `[channels, samples]` of `[codebooks, frames]` tokens."""


class Backend(Protocol):
    """A loaded model that generates what it is given."""

    name: str
    """The hub id, or the folder's name."""
    trained: bool
    """False for the noise model, whose weights are random."""
    abilities: Abilities
    sampling: SamplingParams
    """How tokens are drawn where an input does not say."""
    max_requests: int
    """How many requests are generated together; more wait their turn."""

    @property
    def executor(self) -> Executor:
        """Has the thread that computes do some work, such as the codec's."""

    @property
    def codec(self) -> Codec:
        """Waveform to tokens and back."""

    @property
    def diffusion(self) -> MultiBandDiffusion | None:
        """The other way from tokens to a waveform; None where there is none."""

    @property
    def statistics(self) -> EngineStatistics:
        """The decoding steps made so far, and how long they took."""

    @property
    def measures(self) -> EngineMeasures:
        """What the engine has done, and does now, for whoever watches it."""

    @property
    def busy_seconds(self) -> float:
        """How long the present step or task has taken; infinite where an error has ended the engine."""

    def checksum(self) -> str:
        """The model's version: SHA-256 over its configuration and weights, in hex. Reads them all."""

    def load_adapter(self, folder: Path, /) -> Adapter:
        """Read an adapter for this model from a folder. Raises CheckpointError, UnsupportedByModel."""

    def submit(self, given: ResolvedInput) -> Job:
        """Put an input in line. Raises UnsupportedByModel where it cannot be done here."""

    def close(self) -> None:
        """Stop; jobs that have not ended fail."""
