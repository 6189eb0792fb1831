"""The reference behind the same interface: requests run through audiocraft 1.3.0 instead of our own engine.

For comparisons, and for whoever wants to hear what audiocraft makes of a checkpoint: one request at a time, at
audiocraft's speed, and with its habits where they differ from ours (docs/parity.md). audiocraft is no dependency;
`scripts/audiocraft-env.sh` builds an environment that has it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Self

import torch

from musicgen_core.audio.clip import frames_of
from musicgen_core.audiocraft import hub
from musicgen_core.codec.encodec import Codec, match_channels
from musicgen_core.device import Dtype, choose_device
from musicgen_core.engine.engine import Generation, Request, WorkDone
from musicgen_core.errors import CheckpointError, GenerationCancelled, UnsupportedByModel
from musicgen_core.executor import here
from musicgen_core.job import GenerationInput, Job
from musicgen_core.musicgen import EXTEND_STRIDE, WINDOW_SECONDS, Abilities, MusicGen

logger = logging.getLogger(__name__)

EngineName = Literal["native", "audiocraft"]
LONGEST_DELAY = 3
"""Frames that the last codebook runs behind the first; so many steps more are counted."""


class AudiocraftMusicGen(MusicGen):
    """A model of audiocraft's that takes what `MusicGen` takes; use it in the same way."""

    def __init__(self, folder: Path, name: str, model: Any) -> None:
        self.name = name
        self.trained = True
        self.max_requests = 1
        self._folder = folder
        self._model = model
        self.run = here
        self.codec = AudiocraftCodec(model.compression_model)
        self.diffusion = None
        self.abilities = Abilities(
            melody="self_wav" in model.lm.condition_provider.conditioners,
            channels=model.audio_channels,
            sample_rate=model.sample_rate,
            frame_rate=round(model.frame_rate),
        )
        # One thread: audiocraft keeps the state of a generation in the model, and draws from torch's one random stream.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audiocraft")
        self._closed = False

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        dtype: Dtype = "auto",
        max_requests: int | None = None,
        max_seconds: int = WINDOW_SECONDS,
        extend_stride: float = EXTEND_STRIDE,  # noqa: ARG003 (there is but one window)
    ) -> Self:
        """Load a folder with state_dict.bin and compression_state_dict.bin, or a hub id, by audiocraft's own loaders.

        `dtype`: audiocraft chooses it, float32 on the CPU and float16 elsewhere; another one is refused.
        `max_requests` is always 1, and 30 s are the longest result. audiocraft fetches T5 (and for melodies Demucs)
        from the hub by itself. Raises CheckpointError.
        """
        where = choose_device(device)
        _require_dtype(dtype, where)
        folder = hub.resolve_checkpoint(source)
        if folder.is_file():
            raise CheckpointError(f"audiocraft loads a folder with {' and '.join(hub.FILES)}, not the file {source}.")
        if max_requests not in (None, 1):
            logger.info("audiocraft generates one request at a time, not %d.", max_requests)
        if max_seconds > WINDOW_SECONDS:
            logger.info("With the engine audiocraft a result lasts at most %d s.", WINDOW_SECONDS)
        with _explained(folder):
            from audiocraft.models import MusicGen as Reference

            model = Reference.get_pretrained(str(folder), device=str(where))
        logger.info("Loaded %s into audiocraft on %s", source, where)
        return cls(folder, Path(source).resolve().name if Path(source).exists() else str(source), model)

    @cached_property
    def checksum(self) -> str:
        """The model's version: SHA-256 over its two files, in hex. Reads them, the first time."""
        total = hashlib.sha256()
        for path in sorted(path for name in hub.FILES if (path := self._folder / name).is_file()):
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()

    @property
    def work_done(self) -> WorkDone:
        """Not counted: there are no estimates for this engine."""
        return WorkDone()

    def submit(self, given: GenerationInput) -> Job:
        """Put an input in line. Raises UnsupportedByModel, InvalidRequest."""
        self._check(given)
        frames = round(given.duration * self.abilities.frame_rate)
        self._check_length(
            frames, 0 if given.continuation is None else frames_of(given.continuation, hop=self.codec.hop)
        )
        request = Request(frames=frames, sampling=given.sampling, seed=given.seed)
        generation = Generation(request, frames + LONGEST_DELAY)
        self._thread.submit(self._run, generation, given)
        return Job(generation, self.codec)

    def close(self) -> None:
        """End the running generation and those that wait."""
        self._closed = True
        self._thread.shutdown()

    def _check(self, given: GenerationInput) -> None:
        if given.multi_band_diffusion:
            raise UnsupportedByModel(
                "The engine audiocraft decodes without MultiBand Diffusion; take the engine native."
            )
        super()._check(given)

    def _run(self, generation: Generation, given: GenerationInput) -> None:
        generation.started_at = time.monotonic()
        try:
            generation._finish(self._generate(generation, given))
        except Exception as error:
            generation._fail(error)

    @torch.no_grad()
    def _generate(self, generation: Generation, given: GenerationInput) -> torch.Tensor:
        """The codes [codebooks, frames], the continued audio's first."""

        def on_step(completed: int, total: int) -> None:
            generation.completed_steps, generation.total_steps = completed, total
            if generation.cancelled or self._closed:
                raise GenerationCancelled("the generation was cancelled")

        on_step(0, generation.total_steps)
        sampling, prompt = given.sampling, None
        melody = None if given.melody is None else [torch.from_numpy(given.melody.samples)]
        attributes, _ = self._model._prepare_tokens_and_attributes([given.prompt], None, melody_wavs=melody)
        if given.continuation is not None:
            prompt = self.codec.encode(torch.from_numpy(given.continuation.samples))[None]
        torch.manual_seed(given.seed)
        with self._model.autocast:
            codes = self._model.lm.generate(
                prompt,
                attributes,
                max_gen_len=generation.request.frames + (0 if prompt is None else prompt.shape[-1]),
                use_sampling=sampling.temperature > 0,
                temp=sampling.temperature,
                top_k=min(sampling.top_k, self._model.lm.card),
                top_p=sampling.top_p,
                cfg_coef=sampling.guidance,
                callback=on_step,
            )
        result: torch.Tensor = codes[0].cpu()
        return result


class AudiocraftCodec(Codec):
    """audiocraft's compression model as a `Codec`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.channels: int = model.channels
        self.sample_rate: int = model.sample_rate
        self.hop = round(model.sample_rate / model.frame_rate)
        self.codebooks: int = model.num_codebooks

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self._model.parameters()).device
        return device

    @torch.no_grad()
    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        """Tokens `[codebooks, frames]` of a `[channels, samples]` waveform."""
        codes, scale = self._model.encode(match_channels(waveform.to(self.device), self.channels)[None])
        assert scale is None
        result: torch.Tensor = codes[0]
        return result

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """The waveform `[channels, frames * hop]` of `[codebooks, frames]` tokens."""
        samples: torch.Tensor = self._model.decode(codes.to(self.device)[None])[0]
        return samples


def engine_class(engine: EngineName) -> type[MusicGen]:
    """What loads and runs models: `MusicGen` itself, or audiocraft behind its interface."""
    return AudiocraftMusicGen if engine == "audiocraft" else MusicGen


def _require_dtype(dtype: Dtype, device: torch.device) -> None:
    theirs = "float32" if device.type == "cpu" else "float16"
    if dtype not in ("auto", theirs):
        raise CheckpointError(
            f"audiocraft runs in {theirs} on {device.type}, not in {dtype}; leave MUSICGEN_DTYPE alone."
        )


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What goes wrong in audiocraft's loading, as CheckpointError."""
    try:
        yield
    except ImportError as error:
        raise CheckpointError(
            f"The engine audiocraft is not installed here ({error}). `scripts/audiocraft-env.sh FOLDER` makes an "
            "environment with it: run FOLDER/bin/musicgen, or take the engine native."
        ) from error
    except (OSError, RuntimeError, KeyError, ValueError, AssertionError, UnpicklingError) as error:
        raise CheckpointError(f"audiocraft cannot load {folder}: {type(error).__name__}: {error}") from error
