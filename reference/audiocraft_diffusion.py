"""Results of audiocraft's MultiBand Diffusion for the cases; imports audiocraft.

diffusion.safetensors holds the results. diffusion.th is a checkpoint in the form of mbd_musicgen_32khz.th, as
`audiocraft.models.loaders.load_diffusion_models` reads it.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import julius
import torch
from audiocraft.models.builders import get_diffusion_model, get_processor
from audiocraft.models.encodec import HFEncodecCompressionModel
from audiocraft.models.loaders import load_diffusion_models
from audiocraft.models.multibanddiffusion import DiffusionProcess, MultiBandDiffusion
from audiocraft.models.unet import DiffusionUnet
from audiocraft.modules.diffusion_schedule import MultiBandProcessor, NoiseSchedule
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from reference import diffusion_cases as cases


def half(noisy: Tensor, *_: object, **__: object) -> Any:
    """A network that takes half of its input for noise, so that the results depend on the schedule alone."""
    return SimpleNamespace(sample=noisy / 2)


def schedules() -> dict[str, Tensor]:
    """Shares of signal, and denoised samples."""
    found = {}
    for name, options in cases.SCHEDULES.items():
        schedule = NoiseSchedule(device="cpu", num_steps=cases.NUM_STEPS, **options)
        found[f"schedule.{name}.signal_shares"] = schedule.get_alpha_bar()
        start = cases.numbers("start", 1, 1, cases.SAMPLED)
        with noise_of(name):
            found[f"schedule.{name}.sampled"] = schedule.generate_subsampled(half, start)[0]
    return found


def unets() -> dict[str, Tensor]:
    """The estimate of each kind of network."""
    found = {}
    for name, options in cases.UNETS.items():
        unet = DiffusionUnet(chin=1, num_steps=cases.NUM_STEPS, **cases.UNET, **options).eval()
        unet.load_state_dict(cases.weights(unet.state_dict()))
        noisy = cases.numbers("noisy", len(cases.UNET_STEPS), 1, cases.UNET_SAMPLES)
        latents = cases.numbers("latents", len(cases.UNET_STEPS), cases.CODEC_DIM, cases.UNET_FRAMES)
        with torch.no_grad():
            found[f"unet.{name}"] = unet(noisy, torch.tensor(cases.UNET_STEPS), condition=latents).sample
    return found


def bands() -> dict[str, Tensor]:
    """Signals split, projected and restored by the band processor, and equalised."""
    found = {}
    for count, samples in cases.BANDS:
        split = julius.SplitBands(sample_rate=cases.SAMPLE_RATE, n_bands=count)
        found[f"bands.{count}"] = split(cases.numbers("signal", samples))
    audio = cases.numbers("audio", 2, 1, 1200)
    processor = MultiBandProcessor(n_bands=8, sample_rate=cases.SAMPLE_RATE, num_samples=10, power_std=0.4)
    processor.load_state_dict(cases.processor_state(8), strict=False)
    found["processor.projected"] = processor.project_sample(audio)[:, 0]
    found["processor.restored"] = processor.return_sample(audio)[:, 0]
    codec = mock.Mock(sample_rate=cases.SAMPLE_RATE)
    codec.parameters.return_value = iter([torch.zeros(1)])
    equalised = MultiBandDiffusion([], codec).re_eq(audio[:1], cases.numbers("reference", 1, 1, 1200) / 7)
    found["equalizer"] = equalised[0]
    return found


def checkpoint() -> dict[str | int, Any]:
    """A checkpoint of two bands."""
    content: dict[str | int, Any] = {"sample_rate": cases.SAMPLE_RATE, "n_bands": len(cases.CHECKPOINT)}
    for index, options in enumerate(cases.CHECKPOINT):
        cfg = OmegaConf.create(options)
        processor = get_processor(cfg.processor, sample_rate=cases.SAMPLE_RATE)
        state = processor.state_dict()
        if cfg.processor.use:
            state |= cases.processor_state(cfg.processor.n_bands)
        weights = {f"{index}.{name}": tensor for name, tensor in get_diffusion_model(cfg).state_dict().items()}
        drawn = cases.weights(weights)
        content[index] = {
            "cfg": cfg,
            "model_state": {name.removeprefix(f"{index}."): tensor for name, tensor in drawn.items()},
            "processor_state": state,
        }
    return content


def whole(path: Path) -> dict[str, Tensor]:
    """Tokens to waveform with the checkpoint's two bands and a small EnCodec."""
    encodec: Any = EncodecModel(EncodecConfig(**cases.CODEC)).eval()  # type: ignore[no-untyped-call]
    encodec.load_state_dict(cases.weights(encodec.state_dict()))
    # audiocraft loads pickled objects, which torch now refuses by default; this file is our own.
    with mock.patch.dict("os.environ", TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"):
        models, processors, configs = load_diffusion_models(path, device="cpu")
    processes = [
        DiffusionProcess(model.eval(), NoiseSchedule(**config.schedule, sample_processor=processor, device="cpu"))
        for model, processor, config in zip(models, processors, configs, strict=True)
    ]
    diffusion = MultiBandDiffusion(processes, HFEncodecCompressionModel(encodec))
    codes = cases.tokens()[None]
    with torch.no_grad(), noise_of("whole"):
        sampled = diffusion.generate(diffusion.get_emb(codes))
    with torch.no_grad(), noise_of("whole"):
        played = diffusion.tokens_to_wav(codes)
    return {"whole.sampled": sampled[0], "whole.waveform": played[0]}


def noise_of(name: str) -> Any:
    """Have audiocraft draw its noise from the comparison's stream, within a `with` block."""
    draw = cases.noise_source(name)
    return mock.patch("torch.randn_like", lambda like: draw(tuple(like.shape)))


def write(folder: Path) -> None:
    """Write both files."""
    torch.save(checkpoint(), folder / "diffusion.th")
    results = schedules() | unets() | bands() | whole(folder / "diffusion.th")
    save_file({name: tensor.contiguous() for name, tensor in results.items()}, folder / "diffusion.safetensors")
    print(f"diffusion: {len(results)} tensors", flush=True)
