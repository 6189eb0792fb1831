"""MusicGen as one object: load a model, submit inputs, get waveforms.

What a request means is in `generation_input`, how it is generated in the backend: the native one decodes all submitted
requests together in a thread of its own, which also encodes texts and melodies and turns tokens into sound.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from musicgen_core.abilities import WINDOW_SECONDS, Abilities
from musicgen_core.adapters.adapter import Adapter
from musicgen_core.audio.ffmpeg import Stoppable, read_audio
from musicgen_core.audio.loudness import import_filters
from musicgen_core.audio.waveform import Waveform
from musicgen_core.backend import Backend, BackendName, Codec
from musicgen_core.device import Dtype
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.engine.engine import EngineStatistics
from musicgen_core.engine.measures import EngineMeasures
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import InvalidRequest
from musicgen_core.generation_input import GenerationInput, resolve
from musicgen_core.job import Job
from musicgen_core.loading import load_backend
from musicgen_core.options import ContinuationMode, NormalizationStrategy

logger = logging.getLogger(__name__)

Option = TypeVar("Option", ContinuationMode, NormalizationStrategy)

EXTEND_STRIDE = 18.0
"""Seconds between the beginnings of two windows: each hears 12 s of what was made before."""
MAX_ADAPTERS = 8
MAX_INPUT_SECONDS = 600.0
"""The longest audio file that `generate` reads."""


class MusicGen:
    """A loaded model that serves any number of threads. Use as a context manager, or `close` it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        """What generates."""

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        backend: BackendName = "native",
        device: str = "auto",
        dtype: Dtype = "auto",
        max_requests: int | None = None,
        max_seconds: int = WINDOW_SECONDS,
        extend_stride: float = EXTEND_STRIDE,
        max_adapters: int = MAX_ADAPTERS,
    ) -> Self:
        """Load a model from a folder, or by its hub id (facebook/musicgen-small), and start its engine.

        `backend` "audiocraft": the reference implementation generates, where it is installed. `device` "auto": CUDA
        where there is one. `dtype` is the language model's alone; "auto": bfloat16 on CUDA, float32 on the CPU; "int8"
        (CPU) is faster and a little less exact. `max_requests`: how many are generated together; None: as many as the
        memory suggests. `max_seconds`: the longest result; beyond 30 s it is made in windows of 30 s, one every
        `extend_stride` seconds. `max_adapters`: how many adapters are in the device's memory together; the memory is
        taken when the first one is used, and those used least lately leave it. Raises CheckpointError, InvalidRequest.
        """
        loaded = load_backend(
            source,
            backend=backend,
            device=device,
            dtype=dtype,
            max_requests=max_requests,
            max_seconds=max_seconds,
            stride_seconds=extend_stride,
            max_adapters=max_adapters,
        )
        # Needed when the first music is made, and not before.
        threading.Thread(target=import_filters, name="imports").start()
        return cls(loaded)

    @property
    def name(self) -> str:
        """The hub id, or the folder's name."""
        return self.backend.name

    @property
    def trained(self) -> bool:
        """False for the noise model, whose weights are random."""
        return self.backend.trained

    @property
    def abilities(self) -> Abilities:
        """What the model can do."""
        return self.backend.abilities

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are drawn where an input does not say: the official models' defaults, or what its folder names."""
        return self.backend.sampling

    @property
    def codec(self) -> Codec:
        """Waveform to tokens and back."""
        return self.backend.codec

    @property
    def diffusion(self) -> MultiBandDiffusion | None:
        """The other way from tokens to a waveform; None where the model has none."""
        return self.backend.diffusion

    @property
    def max_requests(self) -> int:
        """How many requests are generated together; more wait their turn."""
        return self.backend.max_requests

    @cached_property
    def checksum(self) -> str:
        """The model's version: SHA-256 over its configuration and weights, in hex. Reads them all, the first time."""
        return self.backend.checksum()

    @property
    def statistics(self) -> EngineStatistics:
        """The decoding steps made so far, and how long they took."""
        return self.backend.statistics

    @property
    def measures(self) -> EngineMeasures:
        """What the engine has done, and does now, for whoever watches it."""
        return self.backend.measures

    @property
    def busy_seconds(self) -> float:
        """How long the present step or task has taken; infinite where an error has ended the engine."""
        return self.backend.busy_seconds

    def load_adapter(self, folder: str | Path) -> Adapter:
        """Read an adapter from a folder that peft has written, for inputs to name.

        It is kept in ordinary memory as long as somebody holds it. Raises CheckpointError where it does not fit this
        model, is broken, or is of a kind that is not supported; UnsupportedByModel with the backend "audiocraft".
        """
        return self.backend.load_adapter(Path(folder))

    def submit(self, given: GenerationInput) -> Job:
        """Put an input in line and return at once.

        Raises UnsupportedByModel where the model cannot follow a melody or has no MultiBand Diffusion, InvalidRequest
        where the input makes no sense.
        """
        return self.backend.submit(resolve(given, self.name, self.abilities, self.sampling, hop=self.backend.codec.hop))

    def generate(
        self,
        prompt: str | None = None,
        *,
        duration: float = 8.0,
        input_audio: str | Path | None = None,
        continuation: bool = False,
        continuation_mode: ContinuationMode | str = ContinuationMode.EXTEND,
        continuation_start: float = 0.0,
        continuation_end: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float | None = None,
        seed: int | None = None,
        normalization: NormalizationStrategy | str = NormalizationStrategy.LOUDNESS,
        multi_band_diffusion: bool = False,
        adapter: Adapter | None = None,
        adapter_strength: float = 1.0,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Waveform:
        """Make one piece of music and wait for it.

        Give a prompt, an audio file, or both; the file's melody is followed, or, with `continuation`, the file is
        continued. The other parameters are those of GenerationInput and SamplingParams; of the latter, None is the
        model's own (`sampling`). A `seed` of None or -1 is a random one, which is logged. `on_progress` gets the steps
        done and the steps in all. Raises InvalidRequest, UnsupportedByModel, AudioDecodeError.
        """
        if prompt is None and input_audio is None:
            raise InvalidRequest("Give a prompt, an audio file, or both.")
        own = self.sampling
        given = GenerationInput(
            prompt=prompt,
            duration=duration,
            seed=None if seed == -1 else seed,
            sampling=SamplingParams(
                temperature=own.temperature if temperature is None else temperature,
                top_k=own.top_k if top_k is None else top_k,
                top_p=own.top_p if top_p is None else top_p,
                guidance=own.guidance if guidance is None else guidance,
            ),
            input_audio=None if input_audio is None else self.read_audio(Path(input_audio)),
            continuation=continuation,
            continuation_mode=_option(ContinuationMode, continuation_mode, "continuation mode"),
            continuation_start=continuation_start,
            continuation_end=continuation_end,
            normalization=_option(NormalizationStrategy, normalization, "normalization"),
            multi_band_diffusion=multi_band_diffusion,
            adapter=adapter,
            adapter_strength=adapter_strength,
        )
        job = self.submit(given)
        logger.info("Using seed %d", job.seed)
        return job.finish(on_progress)

    def read_audio(
        self, path: Path, *, max_seconds: float = MAX_INPUT_SECONDS, stoppable: Stoppable = nullcontext
    ) -> Waveform:
        """Read an audio file at the model's sample rate and channels. Raises AudioDecodeError.

        `stoppable`: makes a block stoppable by another thread, given what ends its waiting.
        """
        return read_audio(
            path,
            sample_rate=self.abilities.sample_rate,
            channels=self.abilities.channels,
            max_seconds=max_seconds,
            stoppable=stoppable,
        )

    def close(self) -> None:
        """Stop the engine; jobs that have not ended fail."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _option(kind: type[Option], value: str, what: str) -> Option:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(f"There is no {what} {value!r}; use one of {', '.join(kind)}.") from None
