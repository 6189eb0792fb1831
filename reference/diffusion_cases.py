"""The cases of MultiBand Diffusion, for both sides: shapes, weights, inputs, noise.

Numbers come from NumPy's legacy generator, whose streams never change, so that golden files hold only results.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 32_000
NUM_STEPS = 1000
CODEC_DIM = 8

UNETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all_layers": {"emb_all_layers": True, "res_blocks": 2},
    "bilstm": {"bilstm": True},
    "transformer": {"transformer": True},
    "cross_attention": {"transformer": True, "cross_attention": True},
}
"""Options of the U-Nets, which have different parts."""
UNET: dict[str, Any] = {
    "hidden": 4,
    "depth": 3,
    "growth": 2,
    "kernel": 8,
    "stride": 4,
    "norm_groups": 4,
    "codec_dim": CODEC_DIM,
}
UNET_STEPS = (3, 700)
UNET_SAMPLES, UNET_FRAMES = 1333, 3

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "power": {"beta_t0": 1e-5, "beta_t1": 2.9e-2, "beta_exp": 7.5},
    "scaled": {"beta_t0": 1e-5, "beta_t1": 2.9e-2, "beta_exp": 7.5, "noise_scale": 0.8, "clip": 1.0},
}
SAMPLED = 640
"""Samples that each schedule denoises, with an estimate that needs no network."""

BANDS = ((4, 641), (8, 1200), (32, 1200))
"""Numbers of bands, each with the samples to split."""

CHECKPOINT: tuple[dict[str, Any], ...] = (
    {"channels": 1, "schedule": SCHEDULES["power"] | {"num_steps": NUM_STEPS, "repartition": "power"},
     "diffusion_unet": UNET | {"dropout": 0.0, "max_channels": 10_000}, "processor": {"use": False, "name": "none"}},
    {"channels": 1, "schedule": SCHEDULES["scaled"] | {"num_steps": NUM_STEPS, "n_bands": None, "variance": "beta"},
     "diffusion_unet": UNET | {"emb_all_layers": True, "bilstm": True},
     "processor": {"use": True, "name": "multi_band_processor", "n_bands": 8, "num_samples": 10, "power_std": 0.4}},
)  # fmt: skip
"""The configurations of a checkpoint's two bands, as audiocraft's training writes them."""
CODEC: dict[str, Any] = {
    "target_bandwidths": [2.2], "sampling_rate": SAMPLE_RATE, "audio_channels": 1, "num_filters": 4,
    "hidden_size": CODEC_DIM, "upsampling_ratios": [8, 5, 4, 4], "codebook_size": 2048, "use_causal_conv": False,
    "num_lstm_layers": 1, "norm_type": "weight_norm", "use_conv_shortcut": False,
}  # fmt: skip
"""EnCodec's configuration, by transformers' names."""
CODEBOOKS, FRAMES = 4, 7


def numbers(name: str, *shape: int) -> Tensor:
    """Standard normal numbers that depend on the name."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def tokens() -> Tensor:
    """Tokens, int64 `[codebooks, frames]`."""
    return torch.from_numpy(np.random.RandomState(0).randint(2048, size=(CODEBOOKS, FRAMES)))


def noise_source(name: str) -> Callable[[tuple[int, ...]], Tensor]:
    """Standard normal noise of any shape, one stream through all calls."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return lambda shape: torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def processor_state(bands: int) -> dict[str, Tensor]:
    """The sums that a band processor gathered from ten clips of a signal whose bands become weaker with frequency."""
    strength = 0.1 * 0.5 ** torch.arange(bands)
    return {
        "counts": torch.tensor([10.0]),
        "sum_x": 10 * 0.01 * strength,
        "sum_x2": 10 * strength.square(),
        "sum_target_x2": torch.linspace(0.2, 2.0, bands),
    }


def weights(shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with these names and shapes, scaled so that signals keep about their size in each layer."""
    return {name: _weight(name, tensor) for name, tensor in shapes.items()}


def _weight(name: str, like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return like
    # One parameter has two names, by the version of torch.
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    drawn = numbers(name, *like.shape)
    if name.endswith("weight_g") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.1 * drawn
    if like.dim() < 2:
        return 0.1 * drawn
    return drawn if "embed" in name else drawn * float(like[0].numel()) ** -0.5
