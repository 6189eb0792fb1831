"""MultiBand Diffusion: tokens to waveform, with one diffusion model per frequency band.

San Roman et al., "From Discrete Tokens to High-Fidelity Audio Using Multi-Band Diffusion" (2023,
https://arxiv.org/abs/2308.02560). Each band starts from noise, which is removed in a few steps guided by the codec's
latents. The bands are added up, and the sum gets the spectrum of the codec's own decoding. Always float32.

A waveform longer than 30 s goes through the networks in windows at every step (Bar-Tal et al., "MultiDiffusion", 2023,
https://arxiv.org/abs/2302.08113): the windows share one signal, so that they agree where they overlap.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.bands import Band, Draw
from musicgen_core.diffusion.filter_bank import FilterBank, match_bands
from musicgen_core.diffusion.overlap_add import window_starts
from musicgen_core.executor import CallerThread, Executor, Resumable, run_to_end

MATCHED_BANDS = 32
"""Bands in which the result gets the spectrum of the codec's decoding."""
NOISE_STREAM = 1
"""Separates the diffusion's random numbers from the language model's, which come from the same seed."""


class MultiBandDiffusion:
    """The bands' diffusion models and the codec whose tokens they decode. Safe to use from several threads."""

    def __init__(self, bands: list[Band], codec: Codec, executor: Executor | None = None) -> None:
        """`executor`: computes one window of one step at a time; None: the caller's thread does."""
        self.bands = bands
        self._codec = codec
        self.executor = executor or CallerThread()
        self._matching = FilterBank(MATCHED_BANDS, codec.sample_rate)

    @property
    def steps(self) -> int:
        """Steps to decode a waveform of any length."""
        return sum(len(band.schedule.transitions()) for band in self.bands)

    def decode(self, codes: Tensor, seed: int, before_step: Callable[[int], None] = lambda _: None) -> Tensor:
        """The waveform `[channels, frames * hop]` (float32, on the codec's device) of `[codebooks, frames]` tokens.

        The same seed, 0 or more, gives the same waveform. `before_step` is called before each window of each step, with
        the number of completed steps; an exception that it raises ends the decoding.
        """
        shape = (self._codec.channels, codes.shape[1] * self._codec.hop)
        return self.decode_with(codes, noise(seed, shape, self._codec.device), before_step)

    def decode_with(self, codes: Tensor, draw: Draw, before_step: Callable[[int], None] = lambda _: None) -> Tensor:
        """Decode as `decode` does, with the caller's noise.

        `draw`: called for each band at its start and for each of its steps but the last; `[channels, samples]`.
        """
        windows, begun = len(window_starts(codes.shape[1])), 0

        def before_window() -> None:
            nonlocal begun
            before_step(begun // windows)
            begun += 1

        played = run_to_end(self._codec.decoding(codes), self.executor, lambda: before_step(0))
        return run_to_end(self._sample(codes, played, draw), self.executor, before_window)

    @torch.inference_mode()
    def _sample(self, codes: Tensor, played: Tensor, draw: Draw) -> Resumable[Tensor]:
        latents = self._codec.latents(codes)
        sampled = torch.zeros_like(played)
        for band in self.bands:
            # The channels of a stereo model are independent sounds, and go through the networks as a batch.
            sampled = sampled + (yield from band.sample(latents, draw))
        return match_bands(sampled, played, self._matching)


def noise(seed: int, shape: tuple[int, ...], device: torch.device) -> Draw:
    """Standard normal noise from the seed's random stream, drawn on the CPU so that every device gets the same."""
    random = np.random.default_rng([NOISE_STREAM, seed])
    return lambda: torch.from_numpy(random.standard_normal(shape, np.float32)).to(device)
