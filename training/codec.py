"""Trains the codec: a small EnCodec for 32 kHz mono, with 50 frames per second and 4 codebooks.

After Défossez et al., "High Fidelity Neural Audio Compression" (2022, https://arxiv.org/abs/2210.13438). The model is
transformers'. The residual quantizer is vector-quantize-pytorch's, with a k-means start, moving averages and replaced
dead codes; its codebooks are copied into the model at the end. The losses are distances of samples, and of log-mel and
linear spectrograms at four resolutions. There is no adversary, which would cost too much time on a CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecModel
from vector_quantize_pytorch import ResidualVQ

from training.command import parse_arguments
from training.instruments import HOP, SAMPLE_RATE
from training.music import compose, random_style, render
from training.trainer import Trainer

CODEBOOKS = 4
CODES = 1024
DIM = 64
SEGMENT_FRAMES = 50
BATCH = 8
LEARNING_RATE = 3e-3
WARM_UP = 100
UNQUANTIZED = 0.1
"""Share of the steps before the quantizer is used."""
SPECTRAL_FROM, SPECTRAL_TO = 0.15, 0.45
"""Shares of the steps between which the spectral loss is faded in. From samples alone, the encoder learns phases within
a few hundred steps; with spectra from the start it never did."""
SPECTRAL_WEIGHT = 0.4
COMMITMENT_WEIGHT = 0.1
RESOLUTIONS = (256, 512, 1024, 2048)
KMEANS_BATCHES = 40
CODEC_STREAM = 1


def codec_config() -> EncodecConfig:
    """The architecture: EnCodec's without residual blocks, which are costly at the waveform's rate."""
    return EncodecConfig(
        target_bandwidths=[2.0], sampling_rate=SAMPLE_RATE, audio_channels=1, num_filters=8, hidden_size=DIM,
        upsampling_ratios=[8, 5, 4, 4], codebook_size=CODES, use_causal_conv=False, num_lstm_layers=2,
        num_residual_layers=0, norm_type="weight_norm", use_conv_shortcut=False,
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


def segments(random: np.random.Generator, count: int, frames: int) -> Tensor:
    """Excerpts `[count, 1, frames * 640]` of `count` songs.

    One in five does not begin on the frame grid, so that the codec also works for other audio.
    """
    excerpts = np.zeros((count, 1, frames * HOP), np.float32)
    for row in excerpts:
        style = random_style(random)
        start = int(random.integers(style.loop_frames))
        samples = render(style, compose(style, random), frames + 1, start=start)
        shift = int(random.integers(HOP)) if random.random() < 0.2 else 0
        row[0] = samples[shift : shift + frames * HOP]
    return torch.from_numpy(excerpts)


class CodecTraining:
    """The codec, its quantizer and their losses."""

    def __init__(self, steps: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.model: Any = EncodecModel(codec_config()).train()
        self.model.to(device)
        self.quantizer: Any = ResidualVQ(
            dim=DIM, num_quantizers=CODEBOOKS, codebook_size=CODES, kmeans_init=True, kmeans_iters=20,
            threshold_ema_dead_code=0.03, decay=0.99, rotation_trick=True,
        ).to(device).train()  # fmt: skip
        self._distance = SpectralDistance().to(device)
        self._device = device
        self.trainer = Trainer(
            name="codec",
            parts={"model": self.model, "quantizer": self.quantizer},
            optimiser=torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, betas=(0.8, 0.99), weight_decay=1e-4),
            steps=steps,
            seed=seed,
            stream=CODEC_STREAM,
            learning_rate=LEARNING_RATE,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of one step; "wave" is the ratio of the error's energy to the signal's."""
        samples = segments(random, BATCH, SEGMENT_FRAMES).to(self._device)
        latents = self.model.encoder(samples).transpose(1, 2)
        commitment = latents.new_zeros(())
        if self.trainer.step >= UNQUANTIZED * self.trainer.steps:
            # vector-quantize-pytorch has no public attribute for whether the k-means start has happened.
            if not bool(self.quantizer.layers[0]._codebook.initted):  # noqa: SLF001
                self._start_quantizer(random)
            latents, _, commitments = self.quantizer(latents)
            commitment = commitments.sum()
        decoded = self.model.decoder(latents.transpose(1, 2))[..., : samples.shape[-1]]
        wave = ((decoded - samples).square().mean(-1) / (samples.square().mean(-1) + 1e-4)).mean()
        weight = self._spectral_weight()
        spectral = self._distance(decoded[:, 0], samples[:, 0]) if weight else wave.new_zeros(())
        loss = wave + weight * spectral + COMMITMENT_WEIGHT * commitment
        return {"loss": loss, "wave": wave, "spectral": spectral, "commitment": commitment}

    def _spectral_weight(self) -> float:
        begin, end = SPECTRAL_FROM * self.trainer.steps, SPECTRAL_TO * self.trainer.steps
        return SPECTRAL_WEIGHT * float(np.clip((self.trainer.step - begin) / (end - begin), 0.0, 1.0))

    @torch.no_grad()
    def _start_quantizer(self, random: np.random.Generator) -> None:
        """Run the quantizer's k-means start on more latents than one training step has."""
        batches = [segments(random, BATCH, SEGMENT_FRAMES).to(self._device) for _ in range(KMEANS_BATCHES)]
        latents = [self.model.encoder(samples).transpose(1, 2) for samples in batches]
        self.quantizer(torch.cat(latents).reshape(1, -1, DIM))

    @torch.no_grad()
    def finished(self) -> Any:
        """The EncodecModel with the trained codebooks, on the CPU."""
        for layer, codebook in zip(self.model.quantizer.layers, self.quantizer.codebooks, strict=True):
            layer.codebook.embed.copy_(codebook)
            layer.codebook.embed_avg.copy_(codebook)
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
