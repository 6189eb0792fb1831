"""A model folder with a small MultiBand Diffusion of random weights in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from musicgen_core.checkpoints.noise_model import CODEC_DIM
from musicgen_core.diffusion.bands import Band, BandProcessor
from musicgen_core.diffusion.checkpoint import save_diffusion
from musicgen_core.diffusion.noise_schedule import NoiseSchedule
from musicgen_core.diffusion.unet import DiffusionUnet, UnetConfig
from reference.diffusion_cases import SAMPLE_RATE, weights

LEVELS = 100
STEPS = 2 * 2
"""Of both bands: sampling visits two of a hundred noise levels."""


def copy_with_diffusion(source: Path, folder: Path) -> Path:
    """Copy a noise model's folder and put two bands into it; returns the copy."""
    shutil.copytree(source, folder)
    bands = [
        Band(_unet(), NoiseSchedule(num_steps=LEVELS, beta_exp=2.0), None),
        Band(
            _unet(), NoiseSchedule(num_steps=LEVELS), BandProcessor(torch.zeros(4), torch.full((4,), 0.5), SAMPLE_RATE)
        ),
    ]
    save_diffusion(bands, folder, SAMPLE_RATE, torch.float16)
    return folder


def _unet() -> DiffusionUnet:
    unet = DiffusionUnet(UnetConfig(num_steps=LEVELS, hidden=4, depth=3, kernel=8, stride=4, codec_dim=CODEC_DIM))
    unet.load_state_dict(weights(unet.state_dict()))
    return unet
