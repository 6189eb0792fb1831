"""The engines that are compared, each called as its own users call it: text in, waveform out.

Guidance 3, top-k 250, sampling; evaluation mode, no gradients, with a KV cache. The engines are imported where they are
used, because audiocraft has an environment of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

OURS, AUDIOCRAFT, T5 = "transformers", "audiocraft", "t5"
"""Folders of a checkpoint: for transformers and us, for audiocraft, and for the T5 that audiocraft loads separately."""
PROMPT = "warm lo-fi piano with soft drums"
GUIDANCE, TOP_K = 3.0, 250
FRAME_RATE = 50
MOST_REQUESTS = 4


class PeerModel(Protocol):
    """A loaded model."""

    versions: str
    """Of the libraries that it uses."""

    def make(self, frames: int, requests: int, *, greedy: bool) -> tuple[Tensor, float]:
        """Make `requests` pieces of `frames`: [requests, samples] on the CPU, and the decoding steps a second."""

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [codebooks, frames] with the codec alone: [samples] on the CPU."""


class Ours:
    def __init__(self, checkpoint: Path, device: str, dtype: Any) -> None:
        from musicgen_core import MusicGen

        self.versions = f"torch {torch.__version__}"
        self._model = MusicGen.load(checkpoint / OURS, device=device, dtype=dtype, max_requests=MOST_REQUESTS)

    def make(self, frames: int, requests: int, *, greedy: bool) -> tuple[Tensor, float]:
        from musicgen_core import GenerationInput
        from musicgen_core.engine.sampling_params import SamplingParams

        sampling = SamplingParams(temperature=0 if greedy else 1, top_k=TOP_K, guidance=GUIDANCE)
        jobs = [
            self._model.submit(GenerationInput(PROMPT, frames / FRAME_RATE, seed, sampling)) for seed in range(requests)
        ]
        for job in jobs:
            job.wait()
        ended = time.monotonic()
        rate = jobs[0].total_steps / (ended - min(job.started_at or ended for job in jobs))
        return torch.from_numpy(np.stack([job.audio().samples[0] for job in jobs])), rate

    def decode(self, codes: Tensor) -> Tensor:
        return self._model.backend.executor.execute(lambda: self._model.codec.decode(codes)[0].cpu())


class Transformers:
    def __init__(self, checkpoint: Path, device: str, dtype: str) -> None:
        import transformers
        from transformers import AutoTokenizer, MusicgenForConditionalGeneration

        self.versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self._tokenizer = AutoTokenizer.from_pretrained(checkpoint / OURS)
        loader: Any = MusicgenForConditionalGeneration
        self._model = loader.from_pretrained(checkpoint / OURS, dtype=getattr(torch, dtype)).to(device).eval()

    def make(self, frames: int, requests: int, *, greedy: bool) -> tuple[Tensor, float]:
        from transformers import LogitsProcessorList

        clock = Clock()
        inputs = self._tokenizer([PROMPT] * requests, return_tensors="pt", padding=True).to(self._model.device)
        delays = self._model.config.decoder.num_codebooks - 1
        sound = self._model.generate(
            **inputs,
            do_sample=not greedy,
            top_k=TOP_K,
            guidance_scale=GUIDANCE,
            max_new_tokens=frames + delays,
            logits_processor=LogitsProcessorList([clock]),
        )
        return sound[:, 0].float().cpu(), clock.rate

    def decode(self, codes: Tensor) -> Tensor:
        # A leading axis of chunks, then the batch.
        decoded = self._model.audio_encoder.decode(codes[None, None].to(self._model.device), [None])
        sound: Tensor = decoded.audio_values[0, 0].float().cpu()
        return sound


class Audiocraft:
    def __init__(self, checkpoint: Path, device: str, dtype: str) -> None:
        import audiocraft
        from audiocraft.models import MusicGen

        from reference.audiocraft_models import offline

        # audiocraft chooses by itself: float32 on the CPU, float16 on CUDA, where T5 and the codec stay float32.
        assert dtype == ("float32" if device == "cpu" else "float16")
        self.versions = f"audiocraft {audiocraft.__version__}, torch {torch.__version__}"
        with offline(checkpoint / T5):
            self._model = MusicGen.get_pretrained(str(checkpoint / AUDIOCRAFT), device=device)

    def make(self, frames: int, requests: int, *, greedy: bool) -> tuple[Tensor, float]:
        clock = Clock()
        self._model.set_generation_params(
            use_sampling=not greedy, top_k=TOP_K, cfg_coef=GUIDANCE, duration=frames / FRAME_RATE
        )
        self._model.set_custom_progress_callback(clock)
        sound = self._model.generate([PROMPT] * requests, progress=True)
        return sound[:, 0].float().cpu(), clock.rate

    def decode(self, codes: Tensor) -> Tensor:
        sound: Tensor = self._model.compression_model.decode(codes[None].to(self._model.device))[0, 0].float().cpu()
        return sound


class Clock:
    """Counts decoding steps: a progress callback for audiocraft, a logits processor for transformers.

    Either library calls it once a step with two arguments; a logits processor has to return the second.
    """

    def __init__(self) -> None:
        self._times: list[float] = []

    def __call__(self, _: Any, unchanged: Any) -> Any:
        self._times.append(time.perf_counter())
        return unchanged

    @property
    def rate(self) -> float:
        """Steps a second between the first call and the last."""
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])


MODELS: dict[str, Any] = {"ours": Ours, "transformers": Transformers, "audiocraft": Audiocraft}
