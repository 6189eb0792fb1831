"""Trains MultiBand Diffusion for the codec, which decodes tokens with the input `multi_band_diffusion`.

San Roman et al., "From Discrete Tokens to High-Fidelity Audio Using Multi-Band Diffusion" (2023,
https://arxiv.org/abs/2308.02560), at a hundredth of its size. Each band's network learns to estimate noise only at the
levels that sampling visits; in a run this short, it would see each of all thousand levels too seldom. All bands learn
from the same clips.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers.models.encodec.modeling_encodec import EncodecModel

from musicgen_core.checkpoints.hub import DIFFUSION_FOLDER
from musicgen_core.diffusion.bands import Band, BandProcessor
from musicgen_core.diffusion.checkpoint import save_diffusion
from musicgen_core.diffusion.filter_bank import FilterBank
from musicgen_core.diffusion.noise_schedule import NoiseSchedule
from musicgen_core.diffusion.unet import DiffusionUnet, UnetConfig
from training.codec import segments
from training.command import parse_arguments
from training.instruments import SAMPLE_RATE
from training.trainer import Phase, Trainer

BANDS = 3
"""Bands up to 1.3, 5.1 and 16 kHz."""
SCHEDULE = NoiseSchedule(beta_t0=1e-5, beta_t1=2.9e-2, beta_exp=7.5)
SHAPE: dict[str, Any] = {
    "num_steps": SCHEDULE.num_steps, "hidden": 12, "depth": 4, "growth": 2.0, "kernel": 8, "stride": 4, "res_blocks": 2,
    "emb_all_layers": True,
}  # fmt: skip
PROCESSOR_BANDS, PROCESSOR_POWER = 8, 0.7
"""Bands and strength of the correction that brings each band's spectrum to that of white noise."""
SMALLEST_GAIN = 0.01
"""Smallest gain of the correction, so that leakage from other bands does not become loud."""
STATISTICS_CLIPS = 64
SEGMENT_FRAMES = 25
BATCH = 8
LEARNING_RATE = 1e-3
WARM_UP = 50
AVERAGING = 0.99
DIFFUSION_STREAM, STATISTICS_STREAM = 7, 8


class DiffusionTraining:
    """The training of the bands' networks, with their running average and the trained codec."""

    def __init__(self, codec: Any, steps: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self._codec = codec.to(device).eval().requires_grad_(False)
        config = UnetConfig(codec_dim=codec.config.hidden_size, **SHAPE)
        self.model = nn.ModuleList(DiffusionUnet(config) for _ in range(BANDS)).to(device)
        self._average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))  # type: ignore[no-untyped-call]
        self._split = FilterBank(BANDS, SAMPLE_RATE)
        self._processors = processors(self._split, np.random.default_rng([STATISTICS_STREAM, seed]), device)
        self._levels = torch.tensor([transition.level for transition in SCHEDULE.transitions()], device=device)
        self._alpha_bars = SCHEDULE.alpha_bars().to(device)
        self._device = device
        self.trainer = Trainer(
            name="diffusion",
            parts={"model": self.model, "average": self._average},
            optimiser=torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4),
            phases=(Phase(steps, LEARNING_RATE),),
            seed=seed,
            stream=DIFFUSION_STREAM,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of one step: each band's, and their mean; an estimate of zero noise has a loss of 1."""
        samples = segments(random, BATCH, SEGMENT_FRAMES).to(self._device)
        latents = self._latents(samples)
        losses = [
            self._band_loss(unet, processor.project(band), latents)
            for unet, processor, band in zip(
                self.model, self._processors, self._split.split(samples[:, 0]), strict=True
            )
        ]
        return {"loss": torch.stack(losses).mean()} | {f"band {index}": loss for index, loss in enumerate(losses)}

    def _band_loss(self, unet: nn.Module, clean: Tensor, latents: Tensor) -> Tensor:
        levels = self._levels[torch.randint(len(self._levels), (len(clean),), device=self._device)]
        noise = torch.randn_like(clean)
        alpha_bar = self._alpha_bars[levels][:, None]
        noisy = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
        return functional.mse_loss(unet(noisy[:, None], levels, latents)[:, 0], noise)

    @torch.no_grad()
    def _latents(self, samples: Tensor) -> Tensor:
        """The codec's latents `[batch, dim, frames]` of samples `[batch, 1, samples]`."""
        codes = self._codec.encode(samples).audio_codes[0]
        latents: Tensor = self._codec.quantizer.decode(codes.transpose(0, 1))
        return latents

    def finished(self) -> list[Band]:
        """The bands' models with averaged weights, on the CPU."""
        unets: Any = self._average.module.cpu().eval()
        return [
            Band(unet, SCHEDULE, BandProcessor(processor.mean.cpu(), processor.gain.cpu(), SAMPLE_RATE))
            for unet, processor in zip(unets, self._processors, strict=True)
        ]


def processors(split: FilterBank, random: np.random.Generator, device: torch.device) -> list[BandProcessor]:
    """The processor of each band of `split`, computed from the spectra of music and of white noise."""
    music = segments(random, STATISTICS_CLIPS, SEGMENT_FRAMES)[:, 0]
    white = torch.from_numpy(random.standard_normal(music.shape, np.float32))
    fine = FilterBank(PROCESSOR_BANDS, SAMPLE_RATE)
    of_noise = torch.stack([band.std() for band in fine.split(white)])
    made = []
    for band in split.split(music):
        strength = torch.stack([part.std() for part in fine.split(band)])
        gain = ((strength / of_noise) ** PROCESSOR_POWER).clamp_min(SMALLEST_GAIN)
        made.append(BandProcessor(torch.zeros(PROCESSOR_BANDS, device=device), gain.to(device), SAMPLE_RATE))
    return made


def main() -> None:
    """Train, or resume training, into a folder that holds the trained codec."""
    arguments = parse_arguments("diffusion", __doc__, steps=1200)
    codec = EncodecModel.from_pretrained(arguments.folder / "codec")
    training = DiffusionTraining(codec, arguments.steps, arguments.seed, torch.device(arguments.device))
    training.trainer.resume(arguments.folder)
    training.trainer.train(training.learn, arguments.folder)
    shutil.rmtree(arguments.folder / DIFFUSION_FOLDER, ignore_errors=True)
    save_diffusion(training.finished(), arguments.folder, SAMPLE_RATE, torch.float16)


if __name__ == "__main__":
    main()
