"""The MultiBand Diffusion of a model folder: a configuration in JSON and the networks' weights in safetensors."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from musicgen_core.checkpoints.atomic_directory import atomic_directory
from musicgen_core.checkpoints.hub import DIFFUSION_CONFIG, DIFFUSION_FOLDER, DIFFUSION_WEIGHTS
from musicgen_core.checkpoints.tensors import allocate
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.bands import Band, BandProcessor
from musicgen_core.diffusion.decoder import MultiBandDiffusion
from musicgen_core.diffusion.noise_schedule import NoiseSchedule
from musicgen_core.diffusion.unet import DiffusionUnet, UnetConfig
from musicgen_core.errors import CheckpointError
from musicgen_core.executor import Executor

Config = TypeVar("Config", UnetConfig, NoiseSchedule)


def load_diffusion(folder: Path, codec: Codec, executor: Executor | None = None) -> MultiBandDiffusion | None:
    """Load the MultiBand Diffusion of a model folder onto the codec's device; None where the folder has none.

    `executor`: see `MultiBandDiffusion`. Raises CheckpointError where files are missing, broken, or for another codec.
    """
    home = folder / DIFFUSION_FOLDER
    if not home.is_dir():
        return None
    try:
        described = json.loads((folder / DIFFUSION_CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / DIFFUSION_WEIGHTS)
        if described["sample_rate"] != codec.sample_rate:
            raise ValueError(f"it is for {described['sample_rate']} Hz, the model makes {codec.sample_rate} Hz")
        bands = [_load_band(band, _named(weights, f"{index}."), codec) for index, band in enumerate(described["bands"])]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The MultiBand Diffusion in {home} cannot be used: {error}") from error
    return MultiBandDiffusion(bands, codec, executor)


def save_diffusion(bands: list[Band], folder: Path, sample_rate: int, dtype: torch.dtype = torch.float32) -> None:
    """Write the bands' models into a model folder, completely or not at all.

    `sample_rate`: of the codec, Hz. `dtype`: of the networks' weights. Raises CheckpointError where the folder has a
    MultiBand Diffusion already.
    """
    home = folder / DIFFUSION_FOLDER
    if home.exists():
        raise CheckpointError(f"{home} exists already; remove it first.")
    described: list[dict[str, Any]] = []
    weights: dict[str, Tensor] = {}
    for index, band in enumerate(bands):
        described.append({"unet": asdict(band.unet.config), "schedule": asdict(band.schedule)})
        for name, tensor in band.unet.state_dict().items():
            weights[f"{index}.unet.{name}"] = tensor.to(dtype).contiguous()
        if band.processor is not None:
            weights |= {f"{index}.processor.mean": band.processor.mean, f"{index}.processor.gain": band.processor.gain}
    config = json.dumps({"sample_rate": sample_rate, "bands": described}, indent=2) + "\n"
    with atomic_directory(home) as unfinished:
        save_file(weights, unfinished / Path(DIFFUSION_WEIGHTS).name)
        (unfinished / Path(DIFFUSION_CONFIG).name).write_text(config)


def _load_band(described: dict[str, Any], weights: dict[str, Tensor], codec: Codec) -> Band:
    config = _from_json(UnetConfig, described["unet"])
    if config.codec_dim not in (None, codec.dim):
        raise ValueError(f"it reads latents of {config.codec_dim} numbers, the codec's have {codec.dim}")
    if config.stride**config.depth > 2 * codec.hop:
        raise ValueError(f"its lowest layer is coarser than the codec's frames of {codec.hop} samples")
    with torch.device("meta"):
        unet = DiffusionUnet(config)
    allocate(unet, device=codec.device, dtype=torch.float32)
    unet.load_state_dict(_named(weights, "unet."))
    unet.eval().requires_grad_(False)
    processor = None
    if found := _named(weights, "processor."):
        mean, gain = (found[name].to(codec.device) for name in ("mean", "gain"))
        processor = BandProcessor(mean, gain, codec.sample_rate)
    return Band(unet, _from_json(NoiseSchedule, described["schedule"]), processor)


def _from_json(kind: type[Config], values: dict[str, Any]) -> Config:
    unknown = values.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} are unknown settings")
    return kind(**values)


def _named(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
