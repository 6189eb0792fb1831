"""The diffusion model of one frequency band: its noise schedule, its network, and how its audio is projected.

Part of MultiBand Diffusion (https://arxiv.org/abs/2308.02560).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_core.diffusion.filter_bank import FilterBank
from musicgen_core.diffusion.noise_schedule import NoiseSchedule, Transition
from musicgen_core.diffusion.overlap_add import overlap_add
from musicgen_core.diffusion.unet import DiffusionUnet
from musicgen_core.executor import Resumable

Draw = Callable[[], Tensor]
"""Draws standard normal noise of the waveform's shape, `[channels, samples]`."""


class BandProcessor:
    """Brings audio to a spectrum nearer to that of white noise, which diffusion learns more evenly, and back."""

    def __init__(self, mean: Tensor, gain: Tensor, sample_rate: int) -> None:
        """`sample_rate`: of the audio, Hz."""
        self.mean = mean
        """Mean of each band of the audio, `[bands]`."""
        self.gain = gain
        """Factor of each band from the projection back to the audio, `[bands]`."""
        self._bank = FilterBank(len(gain), sample_rate)

    def project(self, audio: Tensor) -> Tensor:
        """Bring audio `[..., samples]` to the spectrum that the diffusion works on."""
        gain = self.gain.clamp_min(1e-12)  # a band may always be silent
        return _sum(
            (band - mean) / scale for band, mean, scale in zip(self._bank.split(audio), self.mean, gain, strict=True)
        )

    def restore(self, projected: Tensor) -> Tensor:
        """Undo `project`, for audio `[..., samples]` that was projected or sampled."""
        return _sum(
            band * gain + mean
            for band, mean, gain in zip(self._bank.split(projected), self.mean, self.gain, strict=True)
        )


@dataclass(frozen=True)
class Band:
    """The diffusion model of one frequency band."""

    unet: DiffusionUnet
    schedule: NoiseSchedule
    processor: BandProcessor | None
    """None: the diffusion works on the audio as it is."""

    def sample(self, latents: Tensor, draw: Draw) -> Resumable[Tensor]:
        """The band's part of the waveform, `[channels, samples]`, guided by the codec's latents.

        `latents`: `[channels, dim, frames]`. `draw`: called at the start and for each step but the last. Pauses before
        each window of each step.
        """
        x = draw() * self.schedule.noise_scale
        for transition in self.schedule.transitions():
            fresh = draw() if transition.fresh_noise else None

            def estimate(part: Tensor, frames: slice, level: int = transition.level) -> Tensor:
                return self._estimate_noise(part, level, latents[..., frames])

            estimated = yield from overlap_add(x, latents.shape[-1], estimate)
            x = self._step(x, transition, estimated, fresh)
        return x if self.processor is None else self.processor.restore(x)

    def _estimate_noise(self, x: Tensor, level: int, latents: Tensor) -> Tensor:
        """The noise in `[channels, samples]`, of the same shape."""
        levels = torch.full((len(x),), level, device=x.device)
        noise: Tensor = self.unet(x[:, None], levels, latents)[:, 0] * self.schedule.noise_scale
        if x.is_cuda:
            torch.cuda.current_stream(x.device).synchronize()  # or its kernels would queue up before the engine's
        return noise

    def _step(self, x: Tensor, transition: Transition, noise: Tensor, fresh: Tensor | None) -> Tensor:
        x = (x - (1 - transition.alpha) / (1 - transition.alpha_bar) ** 0.5 * noise) / transition.alpha**0.5
        if fresh is not None:
            x = x + transition.fresh_noise * fresh
        if self.schedule.clip:
            x = x.clamp(-self.schedule.clip, self.schedule.clip)
        return x


def _sum(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total
