"""Trains the codec: a small EnCodec for 32 kHz mono, with 25 frames per second and a codebook for each part of a song.

After Défossez et al., "High Fidelity Neural Audio Compression" (2022, https://arxiv.org/abs/2210.13438). The model is
transformers'. Its latents have a group of dimensions for each of drums, bass, chords and lead; each codebook's vectors
lie in its own group, so that residual quantization, codebook after codebook, is the product quantization of the groups.
The decoder must play the parts whose groups it is given, and leave out those whose groups are zero: this makes the
encoder separate them. The tokens of a part are then few, and those of one part say nothing of another.

Songs consist of few different frames (`training.instruments`), and so do their latents. So the model first learns
without quantization, with noise on its latents that keeps different frames apart. Then k-means finds the codebooks, the
encoder stays as it is, and the decoder learns to play from codes. The losses are distances of samples, and of log-mel
and linear spectrograms at four resolutions. There is no adversary, which would cost too much time on a CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecModel

from training.command import parse_arguments
from training.instruments import HOP, SAMPLE_RATE
from training.music import PARTS, compose, random_style, render
from training.trainer import Trainer

CODEBOOKS = len(PARTS)
CODES = 1024
USED_CODES = (128, 384, 1024, 1024)
"""Codes of each codebook that differ; the others repeat these. Too many would tell one sound from itself."""
GROUP = 32
"""Dimensions of the latents for each codebook."""
SEGMENT_FRAMES = 25
BATCH = 8
LEARNING_RATE = 1e-3
WARM_UP = 200
UNQUANTIZED = 0.65
"""Share of the steps before the latents are quantized and the encoder stays as it is."""
NOISE = 0.3
"""Standard deviation of the noise on the latents until then."""
LATENT_WEIGHT = 1e-3
"""Weight of the latents' energy in the loss, without which they would outgrow the noise."""
SPECTRAL_FROM, SPECTRAL_TO = 0.15, 0.45
"""Shares of the steps between which the spectral loss is faded in. From samples alone, the encoder learns phases within
a few hundred steps; with spectra from the start it never did."""
SPECTRAL_WEIGHT = 0.4
LOUDEST_FLOOR, QUIETEST_FLOOR = 1e-3, 1e-5
"""The energy below which a target counts as silent, at first and at last: with it falls the sound that the decoder may
make where there should be none."""
FLOOR_FROM, FLOOR_TO = 0.4, 0.8
"""Shares of the steps between which that energy falls."""
RESOLUTIONS = (256, 512, 1024, 2048)
KMEANS_BATCHES = 200
CODEC_STREAM = 1


def codec_config() -> EncodecConfig:
    """The architecture: EnCodec's without residual blocks, which are costly at the waveform's rate."""
    return EncodecConfig(
        target_bandwidths=[1.0], sampling_rate=SAMPLE_RATE, audio_channels=1, num_filters=16,
        hidden_size=CODEBOOKS * GROUP, upsampling_ratios=[8, 5, 8, 4], codebook_size=CODES, use_causal_conv=False,
        num_lstm_layers=2, num_residual_layers=0, norm_type="weight_norm", use_conv_shortcut=False,
    )  # fmt: skip


class SpectralDistance(nn.Module):
    """Mean distance of two waveforms over several spectral resolutions."""

    def __init__(self) -> None:
        super().__init__()
        for size in RESOLUTIONS:
            bins = min(80, size // 8)
            filters = mel_filter_bank(
                size // 2 + 1, bins, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
            )
            self.register_buffer(f"mel_{size}", torch.from_numpy(filters.T.copy()).float(), persistent=False)
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """The distance, a scalar, of two waveforms `[batch, samples]`."""
        total = estimate.new_zeros(())
        for size in RESOLUTIONS:
            a, b = self._magnitude(estimate, size), self._magnitude(target, size)
            mel = getattr(self, f"mel_{size}")
            total = total + functional.l1_loss(_log(mel @ a), _log(mel @ b))
            total = total + (a - b).square().sum().sqrt() / b.square().sum().sqrt()
        return total / len(RESOLUTIONS)

    def _magnitude(self, samples: Tensor, size: int) -> Tensor:
        window = getattr(self, f"window_{size}")
        spectrum = torch.stft(samples, size, size // 4, window=window, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()


def _log(mel: Tensor) -> Tensor:
    return mel.clamp_min(1e-4).log()


def stems(random: np.random.Generator, count: int, frames: int) -> Tensor:
    """Excerpts `[count, parts, frames * 1280]` of the parts of `count` songs, from anywhere on the frame grid."""
    excerpts = np.zeros((count, len(PARTS), frames * HOP), np.float32)
    for song in excerpts:
        style = random_style(random)
        events, start = compose(style, random), int(random.integers(style.loop_frames))
        for row, voices in zip(song, PARTS, strict=True):
            row[:] = render(style, events, frames, start=start, voices=voices)
    return torch.from_numpy(excerpts)


def segments(random: np.random.Generator, count: int, frames: int) -> Tensor:
    """Excerpts `[count, 1, frames * 1280]` of `count` songs."""
    return stems(random, count, frames).sum(1, keepdim=True)


def subsets(random: np.random.Generator, count: int) -> Tensor:
    """Which parts to play, 1 or 0 `[count, parts]`: all of them in half of the rows, any in the others."""
    kept = (random.random((count, 1)) < 0.5) | (random.random((count, CODEBOOKS)) < 0.5)
    return torch.from_numpy(kept.astype(np.float32))


class Codebooks(nn.Module):
    """The vectors of each group's codes."""

    found: Tensor
    """Whether they have been found."""

    def __init__(self) -> None:
        super().__init__()
        for index, codes in enumerate(USED_CODES):
            self.register_buffer(f"vectors_{index}", torch.zeros(codes, GROUP))
        self.register_buffer("found", torch.tensor(False))

    def vectors(self) -> list[Tensor]:
        """The codebooks, each `[codes, GROUP]`."""
        return [getattr(self, f"vectors_{index}") for index in range(CODEBOOKS)]

    def find(self, latents: Tensor, seed: int) -> None:
        """Find the vectors in latents `[frames, dim]` by k-means."""
        for vectors, group in zip(self.vectors(), torch.split(latents, GROUP, dim=-1), strict=True):
            clusters = KMeans(len(vectors), n_init=1, max_iter=100, random_state=seed).fit(group.cpu().numpy())
            vectors.copy_(torch.from_numpy(clusters.cluster_centers_))
        self.found.fill_(True)

    def forward(self, latents: Tensor) -> Tensor:
        """The nearest vectors to latents `[batch, frames, dim]`."""
        groups = zip(self.vectors(), torch.split(latents, GROUP, dim=-1), strict=True)
        nearest = [vectors[torch.cdist(group, vectors).argmin(-1)] for vectors, group in groups]
        return torch.cat(nearest, dim=-1)


class CodecTraining:
    """The codec, its codebooks and their losses."""

    def __init__(self, steps: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.model: Any = EncodecModel(codec_config()).train()
        self.model.to(device)
        self.codebooks = Codebooks().to(device)
        self._distance = SpectralDistance().to(device)
        self._device = device
        self.trainer = Trainer(
            name="codec",
            parts={"model": self.model, "codebooks": self.codebooks},
            optimiser=torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, betas=(0.8, 0.99), weight_decay=1e-4),
            steps=steps,
            seed=seed,
            stream=CODEC_STREAM,
            learning_rate=LEARNING_RATE,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of one step; "wave" is the ratio of the error's energy to the signal's."""
        parts = stems(random, BATCH, SEGMENT_FRAMES).to(self._device)
        kept = subsets(random, BATCH).to(self._device)
        target = (parts * kept[..., None]).sum(1)
        latents, energy = self._latents(parts.sum(1, keepdim=True), random)
        masked = latents * kept.repeat_interleave(GROUP, 1)[:, None]
        decoded = self.model.decoder(masked.transpose(1, 2))[:, 0, : target.shape[-1]]
        wave = ((decoded - target).square().mean(-1) / (target.square().mean(-1) + self._floor())).mean()
        weight = SPECTRAL_WEIGHT * self._share(SPECTRAL_FROM, SPECTRAL_TO)
        spectral = self._distance(decoded, target) if weight else wave.new_zeros(())
        loss = wave + weight * spectral + LATENT_WEIGHT * energy
        return {"loss": loss, "wave": wave, "spectral": spectral, "latents": energy}

    def _latents(self, samples: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What the decoder is given, `[batch, frames, dim]`, and the energy of the encoder's latents."""
        if self._progress < UNQUANTIZED:
            latents = self._encode(samples)
            return latents + NOISE * torch.randn_like(latents), latents.square().mean()
        with torch.no_grad():
            if not self.codebooks.found:
                batches = [segments(random, BATCH, SEGMENT_FRAMES).to(self._device) for _ in range(KMEANS_BATCHES)]
                known = torch.cat([self._encode(batch) for batch in batches])
                self.codebooks.find(known.flatten(0, 1), self.trainer.seed)
            latents = self._encode(samples)
            return self.codebooks(latents), latents.square().mean()

    @property
    def _progress(self) -> float:
        return self.trainer.step / self.trainer.steps

    def _share(self, begin: float, end: float) -> float:
        """From 0 to 1 while the progress goes from `begin` to `end`."""
        return float(np.clip((self._progress - begin) / (end - begin), 0.0, 1.0))

    def _floor(self) -> float:
        return float(LOUDEST_FLOOR * (QUIETEST_FLOOR / LOUDEST_FLOOR) ** self._share(FLOOR_FROM, FLOOR_TO))

    def _encode(self, samples: Tensor) -> Tensor:
        """Latents `[batch, frames, dim]` of samples `[batch, 1, samples]`."""
        latents: Tensor = self.model.encoder(samples).transpose(1, 2)
        return latents

    @torch.no_grad()
    def finished(self) -> Any:
        """The EncodecModel with the trained codebooks, on the CPU."""
        layers = self.model.quantizer.layers
        for index, (layer, vectors) in enumerate(zip(layers, self.codebooks.vectors(), strict=True)):
            # The nearest code is the first of several that are equal.
            layer.codebook.embed.zero_()[:, index * GROUP :][:, :GROUP] = vectors.repeat(-(-CODES // len(vectors)), 1)[
                :CODES
            ]
            layer.codebook.embed_avg.copy_(layer.codebook.embed)
            layer.codebook.cluster_size.fill_(1.0)
            layer.codebook.inited.fill_(True)
        return self.model.cpu().eval()


def main() -> None:
    """Train, or resume training, into a folder."""
    arguments = parse_arguments("codec", __doc__, steps=6000)
    training = CodecTraining(arguments.steps, arguments.seed, torch.device(arguments.device))
    training.trainer.resume(arguments.folder)
    training.trainer.train(training.learn, arguments.folder)
    training.finished().save_pretrained(arguments.folder / "codec")


if __name__ == "__main__":
    main()
