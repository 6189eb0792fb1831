"""MultiBand Diffusion: tokens to waveform, by one diffusion model a frequency band.

San Roman et al., "From Discrete Tokens to High-Fidelity Audio Using Multi-Band Diffusion" (2023,
https://arxiv.org/abs/2308.02560). Each band starts from noise and is freed of it in a few steps, guided by the codec's
latents; the bands add up, and the sum is given the codec's own spectrum. Always float32.

What is longer than 30 s goes through the networks in windows, at every step anew (Bar-Tal et al., "MultiDiffusion",
2023, https://arxiv.org/abs/2302.08113): the windows share one signal, so that they agree where they meet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from musicgen_core.checkpoints.atomic_directory import atomic_directory
from musicgen_core.codec.encodec import Codec
from musicgen_core.diffusion.filter_bank import FilterBank, match_bands
from musicgen_core.diffusion.overlap_add import in_windows, window_starts
from musicgen_core.diffusion.unet import DiffusionUnet, UnetConfig
from musicgen_core.errors import CheckpointError
from musicgen_core.executor import Pausing, Run, here, work_off

FOLDER, CONFIG, WEIGHTS = "diffusion", "config.json", "model.safetensors"
"""Where a model folder carries it."""
STEP_SPACING = 50
"""Every how many of the training's noise levels sampling visits."""
MATCHED_BANDS = 32
"""In how many bands the result is given the codec's spectrum."""
NOISE_STREAM = 1
"""Keeps the diffusion's random numbers apart from the language model's, which come from the same seed."""

Config = TypeVar("Config", UnetConfig, "NoiseSchedule")
Draw = Callable[[], Tensor]
"""Fresh standard normal noise of the waveform's shape."""


@dataclass(frozen=True)
class Transition:
    """One step of sampling: from a noise level to a lower one.

    kept: share of the variance that the way between the two levels leaves to the signal (alpha). signal: share of the
    variance that is signal at the first level (alpha bar). fresh_noise: standard deviation of what is drawn anew.
    """

    step: int
    kept: float
    signal: float
    fresh_noise: float


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise there is at each of the training's levels: variances on a power curve.

    beta_t0, beta_t1: variance added by the first and by the last level. beta_exp: the curve's exponent. clip: samples
    are kept within it, 0 is no limit. noise_scale: of all noise. Raises ValueError where sampling has no way through
    num_steps.
    """

    beta_t0: float = 1e-4
    beta_t1: float = 0.02
    beta_exp: float = 1.0
    num_steps: int = 1000
    clip: float = 5.0
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.num_steps % STEP_SPACING:
            raise ValueError(f"the noise levels must be a multiple of {STEP_SPACING}, got {self.num_steps}")

    def signal_shares(self) -> Tensor:
        """Share of the variance that is signal at each level (alpha bar): [num_steps]."""
        # float32, as the models were trained: the first shares are so near 1 that it shows.
        first, last = self.beta_t0 ** (1 / self.beta_exp), self.beta_t1 ** (1 / self.beta_exp)
        betas = torch.linspace(first, last, self.num_steps) ** self.beta_exp
        shares: Tensor = (1 - betas).cumprod(0)
        return shares

    def transitions(self) -> list[Transition]:
        """The steps of sampling, from pure noise to none."""
        levels = [*range(self.num_steps)[::-STEP_SPACING], 0]
        shares = self.signal_shares()
        found = []
        for level, following in pairwise(levels):
            kept = shares[level] / shares[following]
            variance = (1 - shares[following]) / (1 - shares[level]) * (1 - kept)
            fresh = 0.0 if level == levels[-2] else float(variance.sqrt()) * self.noise_scale
            found.append(Transition(level, float(kept), float(shares[level]), fresh))
        return found


class BandProcessor:
    """Brings audio to a spectrum nearer to that of white noise, and back: diffusion learns it more evenly so.

    mean, gain: of each band of the audio, [bands]; the gain leads from there back to the audio.
    """

    def __init__(self, mean: Tensor, gain: Tensor, sample_rate: int) -> None:
        self.mean, self.gain = mean, gain
        self._bank = FilterBank(len(gain), sample_rate)

    def project(self, audio: Tensor) -> Tensor:
        """Audio `[..., samples]` to where the diffusion happens."""
        gain = self.gain.clamp_min(1e-12)  # a band that is always silent
        return _sum(
            (band - mean) / scale for band, mean, scale in zip(self._bank.split(audio), self.mean, gain, strict=True)
        )

    def restore(self, projected: Tensor) -> Tensor:
        """The audio of what `project` gave, or of what was sampled like it."""
        return _sum(
            band * gain + mean
            for band, mean, gain in zip(self._bank.split(projected), self.mean, self.gain, strict=True)
        )


@dataclass(frozen=True)
class Band:
    """The diffusion model of one band. processor None: audio as it is."""

    unet: DiffusionUnet
    schedule: NoiseSchedule
    processor: BandProcessor | None

    def sample(self, latents: Tensor, draw: Draw) -> Pausing[Tensor]:
        """The band's part of the waveform [channels, samples], by the codec's latents [channels, dim, frames].

        Pauses before each window of each step.
        """
        x = draw() * self.schedule.noise_scale
        for transition in self.schedule.transitions():
            fresh = draw() if transition.fresh_noise else None

            def estimate(part: Tensor, frames: slice, step: int = transition.step) -> Tensor:
                return self._estimate(part, step, latents[..., frames])

            estimated = yield from in_windows(x, latents.shape[-1], estimate)
            x = self._step(x, transition, estimated, fresh)
        return x if self.processor is None else self.processor.restore(x)

    def _estimate(self, x: Tensor, step: int, latents: Tensor) -> Tensor:
        """The noise in `[channels, samples]`."""
        level = torch.full((len(x),), step, device=x.device)
        noise: Tensor = self.unet(x[:, None], level, latents)[:, 0] * self.schedule.noise_scale
        if x.is_cuda:
            torch.cuda.current_stream(x.device).synchronize()  # else its kernels would queue up before the engine's
        return noise

    def _step(self, x: Tensor, transition: Transition, noise: Tensor, fresh: Tensor | None) -> Tensor:
        x = (x - (1 - transition.kept) / (1 - transition.signal) ** 0.5 * noise) / transition.kept**0.5
        if fresh is not None:
            x = x + transition.fresh_noise * fresh
        if self.schedule.clip:
            x = x.clamp(-self.schedule.clip, self.schedule.clip)
        return x


class MultiBandDiffusion:
    """The bands' models and the codec whose tokens they decode. Safe to use from several threads."""

    def __init__(
        self,
        bands: list[Band],
        codec: Codec,
        run: Run = here,
    ) -> None:
        """`run`: does the work between two pauses, a window of a step each."""
        self.bands = bands
        self._codec = codec
        self._run = run
        self._matching = FilterBank(MATCHED_BANDS, codec.sample_rate)

    @property
    def steps(self) -> int:
        """Steps that a waveform of any length takes."""
        return sum(len(band.schedule.transitions()) for band in self.bands)

    def decode(self, codes: Tensor, seed: int, before_step: Callable[[int], None] = lambda _: None) -> Tensor:
        """The waveform `[channels, frames * hop]` (float32, on the codec's device) of `[codebooks, frames]` tokens.

        The same seed, 0 or more, gives the same waveform. `before_step` is called with the steps done before each, and
        before each window of a step; what it raises ends the work.
        """
        shape = (self._codec.channels, codes.shape[1] * self._codec.hop)
        return self.decode_with(codes, noise(seed, shape, self._codec.device), before_step)

    def decode_with(self, codes: Tensor, draw: Draw, before_step: Callable[[int], None] = lambda _: None) -> Tensor:
        """`decode` with noise `[channels, samples]` from elsewhere: drawn for each band as it starts, and for each of
        its steps but the last."""
        windows, begun = len(window_starts(codes.shape[1])), 0

        def before_window() -> None:
            nonlocal begun
            before_step(begun // windows)
            begun += 1

        return work_off(self._sample(codes, draw), self._run, before_window)

    @torch.inference_mode()
    def _sample(self, codes: Tensor, draw: Draw) -> Pausing[Tensor]:
        played, latents = self._codec.decode(codes), self._codec.latents(codes)
        sampled = torch.zeros_like(played)
        for band in self.bands:
            # A stereo model's channels are sounds of their own, and go through the networks as a batch.
            sampled = sampled + (yield from band.sample(latents, draw))
        return match_bands(sampled, played, self._matching)


def noise(seed: int, shape: tuple[int, ...], device: torch.device) -> Draw:
    """Standard normal noise from a stream of the seed's own; drawn on the CPU, the same for every device."""
    random = np.random.default_rng([NOISE_STREAM, seed])
    return lambda: torch.from_numpy(random.standard_normal(shape, np.float32)).to(device)


def load_diffusion(
    folder: Path,
    codec: Codec,
    run: Run = here,
) -> MultiBandDiffusion | None:
    """What a model folder carries of it, on the codec's device; None where it carries none.

    `run`: does the work between two pauses. Raises CheckpointError where files are missing, broken, or of another
    codec.
    """
    home = folder / FOLDER
    if not home.is_dir():
        return None
    try:
        described = json.loads((home / CONFIG).read_text(encoding="utf-8"))
        weights = load_file(home / WEIGHTS)
        if described["sample_rate"] != codec.sample_rate:
            raise ValueError(f"it is for {described['sample_rate']} Hz, the model makes {codec.sample_rate} Hz")
        bands = [_load_band(band, _named(weights, f"{index}."), codec) for index, band in enumerate(described["bands"])]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The MultiBand Diffusion in {home} cannot be used: {error}") from error
    return MultiBandDiffusion(bands, codec, run)


def save_diffusion(bands: list[Band], folder: Path, sample_rate: int, dtype: torch.dtype = torch.float32) -> None:
    """Write bands into a model folder, whole or not at all; `load_diffusion` reads them.

    Raises CheckpointError where the folder carries some already.
    """
    home = folder / FOLDER
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
    with atomic_directory(home) as unfinished:
        save_file(weights, unfinished / WEIGHTS)
        (unfinished / CONFIG).write_text(json.dumps({"sample_rate": sample_rate, "bands": described}, indent=2) + "\n")


def _load_band(described: dict[str, Any], weights: dict[str, Tensor], codec: Codec) -> Band:
    config = _from_json(UnetConfig, described["unet"])
    if config.codec_dim not in (None, codec.dim):
        raise ValueError(f"it reads latents of {config.codec_dim} numbers, the codec's have {codec.dim}")
    if config.stride**config.depth > 2 * codec.hop:
        raise ValueError(f"its lowest layer is coarser than the codec's frames of {codec.hop} samples")
    with torch.device("meta"):
        unet = DiffusionUnet(config)
    unet = unet.to_empty(device=codec.device).eval().requires_grad_(False)
    unet.load_state_dict(_named(weights, "unet."))
    processor = None
    if found := _named(weights, "processor."):
        mean, gain = (found[name].to(codec.device) for name in ("mean", "gain"))
        processor = BandProcessor(mean, gain, codec.sample_rate)
    return Band(unet, _from_json(NoiseSchedule, described["schedule"]), processor)


def _from_json(kind: type[Config], values: dict[str, Any]) -> Config:
    unknown = values.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} mean nothing to it")
    return kind(**values)


def _named(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _sum(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total
