"""audiocraft as a backend: requests run through the reference implementation 1.3.0 instead of this project's engine.

For comparisons, and for whoever wants to hear what audiocraft makes of a checkpoint: one request at a time, at
audiocraft's speed, and with its behaviour where that differs (docs/parity.md). audiocraft is no dependency;
`scripts/audiocraft-env.sh` builds an environment that has it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from musicgen_core.abilities import WINDOW_SECONDS, Abilities
from musicgen_core.adapters.adapter import Adapter
from musicgen_core.audiocraft import hub
from musicgen_core.codec.encodec import match_channels
from musicgen_core.device import Dtype, choose_device
from musicgen_core.engine.engine import EngineStatistics
from musicgen_core.engine.generation import Generation
from musicgen_core.engine.measures import EngineMeasures
from musicgen_core.errors import CheckpointError, GenerationCancelled, UnsupportedByModel
from musicgen_core.executor import CallerThread, Resumable, in_one_stretch
from musicgen_core.generation_input import ResolvedInput
from musicgen_core.job import Job
from musicgen_core.own_sampling import read_own_sampling

logger = logging.getLogger(__name__)

LONGEST_DELAY = 3
"""Frames that the last codebook runs behind the first; they take as many further steps."""
NO_ADAPTERS = "The engine audiocraft computes no adapters; take the engine native."


class AudiocraftBackend:
    """A model of audiocraft's."""

    def __init__(self, folder: Path, name: str, model: Any) -> None:
        self.name = name
        self.trained = True
        self.sampling = read_own_sampling(folder)
        self.max_requests = 1
        self.executor = CallerThread()
        self.codec = AudiocraftCodec(model.compression_model)
        self.diffusion = None
        self.abilities = Abilities(
            melody="self_wav" in model.lm.condition_provider.conditioners,
            channels=model.audio_channels,
            sample_rate=model.sample_rate,
            frame_rate=round(model.frame_rate),
        )
        self._folder = folder
        self._model = model
        # One thread: audiocraft keeps the state of a generation in the model, and draws from torch's one random stream.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audiocraft")
        self._closed = False

    @property
    def statistics(self) -> EngineStatistics:
        """Nothing: the steps are not counted, and there are no estimates for this backend."""
        return EngineStatistics()

    @property
    def measures(self) -> EngineMeasures:
        """Nothing but the one place: the steps are not counted."""
        return EngineMeasures(slots=1)

    @property
    def busy_seconds(self) -> float:
        """0: audiocraft makes a whole request in one go, and nobody can tell from outside how far it is."""
        return 0.0

    def checksum(self) -> str:
        """The model's version: SHA-256 over its two files, in hex. Reads them."""
        return checksum(self._folder)

    def load_adapter(self, _: Path, /) -> Adapter:
        """Raise UnsupportedByModel: this backend has no adapters."""
        raise UnsupportedByModel(NO_ADAPTERS)

    def submit(self, given: ResolvedInput) -> Job:
        """Put an input in line. Raises UnsupportedByModel for MultiBand Diffusion and adapters."""
        refuse_unsupported(given)
        generation = Generation(given.frames + LONGEST_DELAY)
        self._thread.submit(self._carry_out, generation, given)
        return Job(given, generation, self.codec, self.executor)

    def close(self) -> None:
        """End the running generation and those that wait."""
        self._closed = True
        self._thread.shutdown()

    def _carry_out(self, generation: Generation, given: ResolvedInput) -> None:
        generation.started_at = time.monotonic()
        try:
            generation.complete(self._generate(generation, given))
        except Exception as error:
            generation.fail(error)

    @torch.no_grad()
    def _generate(self, generation: Generation, given: ResolvedInput) -> torch.Tensor:
        """The codes `[codebooks, frames]`, the continued audio's first."""

        def on_step(completed: int, total: int) -> None:
            generation.completed_steps, generation.total_steps = completed, total
            if generation.cancelled or self._closed:
                raise GenerationCancelled("the generation was cancelled")

        on_step(0, generation.total_steps)
        sampling, prompt = given.sampling, None
        melody = None if given.melody is None else [torch.from_numpy(given.melody.samples)]
        # audiocraft has no public way from texts and melodies to its conditions.
        attributes, _ = self._model._prepare_tokens_and_attributes([given.prompt], None, melody_wavs=melody)  # noqa: SLF001
        if given.continuation is not None:
            prompt = self.codec.encode(torch.from_numpy(given.continuation.samples))[None]
        torch.manual_seed(given.seed)
        with self._model.autocast:
            codes = self._model.lm.generate(
                prompt,
                attributes,
                max_gen_len=given.frames + (0 if prompt is None else prompt.shape[-1]),
                use_sampling=sampling.temperature > 0,
                temp=sampling.temperature,
                top_k=min(sampling.top_k, self._model.lm.card),
                top_p=sampling.top_p,
                cfg_coef=sampling.guidance,
                callback=on_step,
            )
        result: torch.Tensor = codes[0].cpu()
        return result


class AudiocraftCodec:
    """audiocraft's compression model, used like `musicgen_core.codec.encodec.Codec`."""

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

    def decoding(self, codes: torch.Tensor) -> Resumable[torch.Tensor]:
        """What `decode` does, at one stretch."""
        return in_one_stretch(lambda: self.decode(codes))


def load_audiocraft(
    source: str | Path, *, device: str, dtype: Dtype, max_requests: int | None, max_seconds: int
) -> AudiocraftBackend:
    """Load a folder with state_dict.bin and compression_state_dict.bin, or a hub id, by audiocraft's own loaders.

    `dtype`: audiocraft chooses it, float32 on the CPU and float16 elsewhere; another one is refused. `max_requests` is
    always 1, and 30 s are the longest result. audiocraft fetches T5 (and for melodies Demucs) from the hub by itself.
    Raises CheckpointError.
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
    return AudiocraftBackend(folder, Path(source).resolve().name if Path(source).exists() else str(source), model)


def checksum(folder: Path) -> str:
    """SHA-256, in hex, over the names and contents of audiocraft's files in a folder."""
    total = hashlib.sha256()
    for path in sorted(path for name in hub.FILES if (path := folder / name).is_file()):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def refuse_unsupported(given: ResolvedInput) -> None:
    """Raise UnsupportedByModel for what audiocraft's MusicGen does not do by itself."""
    if given.multi_band_diffusion:
        raise UnsupportedByModel("The engine audiocraft decodes without MultiBand Diffusion; take the engine native.")
    if given.adapter is not None:
        raise UnsupportedByModel(NO_ADAPTERS)


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
