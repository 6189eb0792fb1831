"""Converts audiocraft's MultiBand Diffusion (mbd_musicgen_32khz.th) for a model folder.

The file holds {"sample_rate": Hz, "n_bands": count, 0: {"cfg": configuration, "model_state": tensors,
"processor_state": sums over its first clips}, 1: ...}. No code in it is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_core.audiocraft.checkpoint import TrainingConfig, load_pickle, read_config
from musicgen_core.diffusion.bands import Band, BandProcessor
from musicgen_core.diffusion.checkpoint import save_diffusion
from musicgen_core.diffusion.noise_schedule import NoiseSchedule
from musicgen_core.diffusion.unet import DiffusionUnet, UnetConfig
from musicgen_core.errors import CheckpointError

SUMS = ("counts", "sum_x", "sum_x2", "sum_target_x2")


def convert_diffusion(source: Path, folder: Path) -> None:
    """Write a checkpoint's MultiBand Diffusion into a model folder, in float32.

    Raises CheckpointError where the file is something else, holds code, or was trained for another codec, and where the
    folder has a MultiBand Diffusion already.
    """
    content: dict[Any, Any] = load_pickle(source)
    count, sample_rate = content.get("n_bands"), content.get("sample_rate")
    if not isinstance(count, int) or not isinstance(sample_rate, int) or not set(range(count)) <= content.keys():
        raise CheckpointError(
            f"{source} is not a MultiBand Diffusion of audiocraft: bands are missing. "
            "Give a file such as mbd_musicgen_32khz.th of facebook/multiband-diffusion."
        )
    bands = [_read_band(source, content[index], sample_rate) for index in range(count)]
    _require_codec(source, folder, sample_rate, bands)
    save_diffusion(bands, folder, sample_rate)


def band_processor(sums: Mapping[str, Tensor], power: float | list[float], sample_rate: int) -> BandProcessor:
    """The processor that corresponds to the sums in audiocraft's checkpoint.

    `power`: strength of the spectrum's correction, for each band or for all. `sample_rate`: of the audio, Hz.
    """
    count, total, squares, target = (sums[name].float() for name in SUMS)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    # The target is a variance, but the deviation is divided by it, as in the models' training.
    return BandProcessor(mean, (deviation / (target / count)) ** torch.tensor(power), sample_rate)


def _read_band(source: Path, stored: Any, sample_rate: int) -> Band:
    try:
        config = read_config(source, stored["cfg"])
        config.require({"channels": 1, "schedule.repartition": "power", "schedule.n_bands": None})
        steps = config.number("schedule.num_steps")
        unet_config = UnetConfig(num_steps=steps, **_section(config, "diffusion_unet", UnetConfig))
        schedule = NoiseSchedule(num_steps=steps, **_section(config, "schedule", NoiseSchedule))
        with torch.device("meta"):
            unet = DiffusionUnet(unet_config)
        # audiocraft's attention wraps torch's. The tensors are assigned, so they stay in the file until they are used.
        tensors = {name.replace(".mha.", "."): tensor for name, tensor in stored["model_state"].items()}
        unet.load_state_dict(tensors, assign=True)
        return Band(unet, schedule, _processor(config, stored["processor_state"], sample_rate))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"A band in {source} cannot be used: {error}") from error


def _section(config: TrainingConfig, section: str, kind: type[UnetConfig] | type[NoiseSchedule]) -> dict[str, Any]:
    """The fields of `kind` in a section of the configuration, but for num_steps, which is given separately."""
    names = {field.name for field in fields(kind)} - {"num_steps"}
    found = {name: config.get(f"{section}.{name}") for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _processor(config: TrainingConfig, state: Mapping[str, Tensor], sample_rate: int) -> BandProcessor | None:
    if not config.get("processor.use", False):
        return None
    config.require({"processor.name": "multi_band_processor"})
    return band_processor(state, config.get("processor.power_std", 1.0), sample_rate)


def _require_codec(source: Path, folder: Path, sample_rate: int, bands: list[Band]) -> None:
    """Raise CheckpointError where the bands were not trained for the folder's codec."""
    try:
        codec = json.loads((folder / "config.json").read_text(encoding="utf-8"))["audio_encoder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a model folder: its config.json names no codec ({error}).") from error
    has = (codec.get("sampling_rate", 24_000), codec.get("hidden_size", 128))
    for band in bands:
        needs = (sample_rate, band.unet.config.codec_dim or has[1])
        if needs != has:
            raise CheckpointError(
                f"{source} was trained for a codec with {needs[0]} Hz and {needs[1]} numbers per frame; the codec of "
                f"{folder} has {has[0]} Hz and {has[1]}. Give the MultiBand Diffusion of the same codec."
            )
