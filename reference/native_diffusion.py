"""Results of our MultiBand Diffusion for the cases, part by part."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from musicgen_core.audiocraft.diffusion import band_processor, convert_diffusion
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.bands import Band
from musicgen_core.diffusion.checkpoint import load_diffusion
from musicgen_core.diffusion.filter_bank import FilterBank, match_bands
from musicgen_core.diffusion.noise_schedule import NoiseSchedule
from musicgen_core.diffusion.unet import DiffusionUnet, UnetConfig
from musicgen_core.executor import run_to_end
from reference import diffusion_cases as cases

CHECKPOINT, RESULTS = "diffusion.th", "diffusion.safetensors"
Results = Iterator[tuple[str, Tensor]]
"""Names in the file of audiocraft's results, each with our result."""


def band_splits() -> Results:
    """Signals split into bands."""
    for count, samples in cases.BANDS:
        split = FilterBank(count, cases.SAMPLE_RATE).split(cases.numbers("signal", samples))
        yield f"bands.{count}", torch.stack(list(split))


def noise_schedules() -> Results:
    """Shares of signal, and denoised samples."""

    def half(noisy: Tensor, *_: Tensor) -> Tensor:
        return noisy / 2

    network: Any = half
    for name, options in cases.SCHEDULES.items():
        schedule = NoiseSchedule(num_steps=cases.NUM_STEPS, **options)
        source = cases.noise_source(name)
        draws = [cases.numbers("start", 1, cases.SAMPLED), *(source((1, cases.SAMPLED)) for _ in range(19))]
        yield f"schedule.{name}.signal_shares", schedule.alpha_bars()
        sampled = run_to_end(Band(network, schedule, None).sample(torch.empty(0), iter(draws).__next__))
        yield f"schedule.{name}.sampled", sampled


@torch.inference_mode()
def networks() -> Results:
    """Estimates of U-Nets of every kind."""
    noisy = cases.numbers("noisy", len(cases.UNET_STEPS), 1, cases.UNET_SAMPLES)
    latents = cases.numbers("latents", len(cases.UNET_STEPS), cases.CODEC_DIM, cases.UNET_FRAMES)
    for name, options in cases.UNETS.items():
        unet = DiffusionUnet(UnetConfig(num_steps=cases.NUM_STEPS, **cases.UNET, **options)).eval()
        drawn = cases.weights({_audiocraft_name(key): tensor for key, tensor in unet.state_dict().items()})
        unet.load_state_dict({key: drawn[_audiocraft_name(key)] for key in unet.state_dict()})
        yield f"unet.{name}", unet(noisy, torch.tensor(cases.UNET_STEPS), latents)


def _audiocraft_name(key: str) -> str:
    """The name of a parameter in audiocraft, whose attention wraps torch's."""
    return key.replace("self_attn.", "self_attn.mha.").replace("cross_attention.", "cross_attention.mha.")


def band_processors() -> Results:
    """Audio projected to the spectrum of noise, and restored."""
    processor = band_processor(cases.processor_state(8), 0.4, cases.SAMPLE_RATE)
    audio = cases.numbers("audio", 2, 1200)
    yield "processor.projected", processor.project(audio)
    yield "processor.restored", processor.restore(audio)


def equalizers() -> Results:
    """Audio with the spectrum of other audio."""
    audio, reference = cases.numbers("audio", 2, 1200)[:1], cases.numbers("reference", 1, 1200) / 7
    yield "equalizer", match_bands(audio, reference, FilterBank(32, cases.SAMPLE_RATE))


def small_codec(channels: int = 1) -> Codec:
    """The EnCodec of the comparison."""
    model: Any = EncodecModel(EncodecConfig(**cases.CODEC)).eval()  # type: ignore[no-untyped-call]
    model.load_state_dict(cases.weights(model.state_dict()))
    return Codec(cases.CODEC, model.state_dict(), channels=channels, device=torch.device("cpu"))


def whole(checkpoint: Path) -> Results:
    """Tokens to waveform, with audiocraft's converted checkpoint."""
    codec = small_codec()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({"audio_encoder": cases.CODEC}))
        convert_diffusion(checkpoint, Path(folder))
        diffusion = load_diffusion(Path(folder), codec)
    assert diffusion is not None
    source, shape = cases.noise_source("whole"), (1, cases.FRAMES * codec.hop)
    yield "whole.waveform", diffusion.decode_with(cases.tokens(), lambda: source(shape))


PARTS: dict[str, Callable[[], Results]] = {
    "bands of a signal": band_splits,
    "noise schedule": noise_schedules,
    "U-Net": networks,
    "band processor": band_processors,
    "equalizer": equalizers,
}
