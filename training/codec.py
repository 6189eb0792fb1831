"""Builds the codec: an EnCodec for 32 kHz mono, with 25 frames per second and a codebook for each part of a song.

After Défossez et al., "High Fidelity Neural Audio Compression" (2022, https://arxiv.org/abs/2210.13438). The model is
transformers'. Most of it is computed, since songs consist of few different frames (`training.instruments`):

- The latents have a group of dimensions for each part: drums, bass, chords and lead. A group's dimensions are the
  principal components of that part's frames, and k-means finds its codes among them (`Dictionary`). Each codebook's
  vectors lie in its own group, so that residual quantization, codebook after codebook, is the product quantization of
  the groups.
- The decoder is the sum of the components, weighted by the latents. Its convolutions are written down, not learnt.
- Only the end of the encoder is trained, which must tell the parts of a mix apart. The convolutions before it gather
  the samples of 4 ms in the channels.

Signals pass through the activations (ELU) at a small scale, where these are the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecModel

from training.command import parse_arguments
from training.instruments import HOP, SAMPLE_RATE
from training.music import PARTS, compose, random_style, render
from training.trainer import Phase, Trainer

CODEBOOKS = len(PARTS)
CODES = 1024
USED_CODES = (256, 512, 1024, 1024)
"""The most codes of each codebook that differ; the others repeat these."""
GROUPS = [24, 40, 96, 96]
"""Dimensions of the latents for each part. Of the frames' energy, they leave out -26 dB of the chords and less of the
others."""
RATIOS = (10, 8, 4, 2, 2)
BLOCK = HOP // RATIOS[0]
"""Samples that the first convolutions of the encoder gather, and that the last of the decoder spread."""
FILTERS = BLOCK // 2 ** (len(RATIOS) - 1)
"""Channels at the waveform's rate, so that at the blocks' rate there is one for each sample."""
SCALE, LATENT_SCALE = 2.0**-9, 2.0**-11
"""The scales of samples and of latents in the channels. ELU changes them by less than -60 dB there."""
FIRST_GAIN = 3.0
"""Of the trained end's first layer at the beginning, so that what it finds is loud enough for the LSTM."""
DICTIONARY_SONGS, SEARCH_STEPS = 4096, 50
BATCH, SEGMENT_FRAMES = 32, 50
LEARNING_RATE = 2e-3
WARM_UP = 100
GAINS = (0.5, 1.5)
"""Gains of half of the mixes. The encoder should recognise songs that were made louder or quieter."""
QUIET = 1.0
"""Energy of an excerpt, in squared samples, below which its error counts less."""
CODEC_STREAM, DICTIONARY_STREAM = 1, 9


def codec_config() -> EncodecConfig:
    """The architecture: EnCodec's without residual blocks."""
    return EncodecConfig(
        target_bandwidths=[1.0], sampling_rate=SAMPLE_RATE, audio_channels=1, num_filters=FILTERS,
        hidden_size=sum(GROUPS), upsampling_ratios=list(RATIOS), codebook_size=CODES, use_causal_conv=False,
        num_lstm_layers=2, num_residual_layers=0, norm_type="weight_norm", use_conv_shortcut=False,
    )  # fmt: skip


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


class Dictionary(nn.Module):
    """The components of each part's frames, and its codes."""

    def __init__(self, used_codes: Sequence[int]) -> None:
        """An empty dictionary, with so many codes for each part."""
        super().__init__()
        for part, (dim, codes) in enumerate(zip(GROUPS, used_codes, strict=True)):
            self.register_buffer(f"components_{part}", torch.zeros(HOP, dim))
            self.register_buffer(f"codes_{part}", torch.zeros(codes, dim))

    @property
    def components(self) -> list[Tensor]:
        """Of each part, `[1280, dim]`, orthonormal."""
        return [cast(Tensor, getattr(self, f"components_{part}")) for part in range(CODEBOOKS)]

    @property
    def codes(self) -> list[Tensor]:
        """The vectors of each part's codes, `[codes, dim]`; the first is 0, silence."""
        return [cast(Tensor, getattr(self, f"codes_{part}")) for part in range(CODEBOOKS)]

    def find(self, songs: Tensor, seed: int) -> None:
        """Find both in the stems `[songs, parts, samples]`."""
        for part, (components, codes) in enumerate(zip(self.components, self.codes, strict=True)):
            frames = songs[:, part].reshape(-1, HOP)
            frames = frames[frames.square().sum(1) > 0]
            _, directions = torch.linalg.eigh(frames.T @ frames)  # the smallest eigenvalues come first
            components.copy_(directions[:, -components.shape[1] :].flip(1))
            latents = (frames @ components).numpy().round(3)
            different, counts = np.unique(latents, axis=0, return_counts=True)
            used = min(len(codes) - 1, len(different))
            clusters = KMeans(used, n_init=1, max_iter=SEARCH_STEPS, random_state=seed)
            found = clusters.fit(different, sample_weight=counts).cluster_centers_
            # What is left repeats the first of those that were found.
            codes[1:].copy_(torch.from_numpy(np.resize(found, (len(codes) - 1, codes.shape[1]))))

    def project(self, samples: Tensor) -> Tensor:
        """The latents `[batch, frames, dim]` of stems `[batch, parts, frames * 1280]`."""
        frames = samples.reshape(*samples.shape[:-1], -1, HOP)
        return torch.cat([frames[:, part] @ components for part, components in enumerate(self.components)], dim=-1)

    def frames(self, latents: Tensor) -> Tensor:
        """What latents `[..., dim]` sound like, `[..., 1280]`."""
        return latents @ torch.cat(self.components, dim=1).T

    def nearest(self, part: int, samples: Tensor) -> Tensor:
        """The codes `[frames]` of a part's samples `[frames * 1280]`."""
        latents = samples.view(-1, HOP) @ self.components[part]
        return torch.cdist(latents, self.codes[part]).argmin(-1)


class CodecTraining:
    """The codec and the training of its encoder's end."""

    def __init__(self, steps: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.dictionary = Dictionary(USED_CODES)
        self.dictionary.find(stems(np.random.default_rng([DICTIONARY_STREAM, seed]), DICTIONARY_SONGS, 25), seed)
        self.model: Any = build(self.dictionary).train()
        self.model.to(device)
        self.dictionary.to(device)
        self._end = encoder_end(self.model)
        self._device = device
        self.trainer = Trainer(
            name="codec",
            parts={"model": self.model, "dictionary": self.dictionary},
            optimiser=torch.optim.AdamW(self._end.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=1e-4),
            phases=(Phase(steps, LEARNING_RATE),),
            seed=seed,
            stream=CODEC_STREAM,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of one step: errors' energies relative to the signal's.

        "parts": of the latents; "mix": of the sound that they stand for. "right codes" is the share of the codes of
        frames that are not silent.
        """
        parts = stems(random, BATCH, SEGMENT_FRAMES).to(self._device)
        gains = np.where(random.random(BATCH) < 0.5, random.uniform(*GAINS, size=BATCH), 1.0)
        mixes = parts.sum(1) * torch.from_numpy(gains.astype(np.float32)).to(self._device)[:, None]
        expected = self.dictionary.project(parts)
        latents = self.encode(mixes)
        error = latents - expected
        by_part = _energy(error) / (_energy(expected) + QUIET)
        of_mix = _energy(self.dictionary.frames(error)) / (_energy(self.dictionary.frames(expected)) + QUIET)
        losses = {"parts": by_part.mean(), "mix": of_mix.mean()}
        right = self._right_codes(latents.detach(), expected)
        return {"loss": losses["parts"] + losses["mix"]} | losses | {"right codes": right}

    def encode(self, samples: Tensor) -> Tensor:
        """Latents `[batch, frames, dim]` of samples `[batch, frames * 1280]`, as the whole encoder has them."""
        hidden: Tensor = functional.elu(SCALE * samples.view(len(samples), -1, BLOCK).transpose(1, 2))
        for layer in self._end:
            hidden = layer(hidden)
        return hidden.transpose(1, 2)

    def _right_codes(self, latents: Tensor, expected: Tensor) -> Tensor:
        groups = zip(self.dictionary.codes, *(torch.split(x, GROUPS, dim=-1) for x in (latents, expected)), strict=True)
        right = torch.cat(
            [
                (torch.cdist(found, codes).argmin(-1) == torch.cdist(true, codes).argmin(-1))[true.abs().sum(-1) > 0]
                for codes, found, true in groups
            ]
        )
        return right.float().mean()


def _energy(values: Tensor) -> Tensor:
    """Of each excerpt `[batch, frames, dim]`."""
    return values.square().sum((1, 2))


@torch.no_grad()
def build(dictionary: Dictionary) -> Any:
    """An EncodecModel that decodes by the dictionary, and whose encoder's end is to be trained."""
    model: Any = EncodecModel(codec_config())
    _build_quantizer(model.quantizer, dictionary)
    _build_decoder(model.decoder, torch.cat(dictionary.components, dim=1))
    _build_encoder(model.encoder)
    return model


def _build_quantizer(quantizer: Any, dictionary: Dictionary) -> None:
    """Write the codes into the codebooks, each in its group's dimensions."""
    first = 0
    for layer, codes in zip(quantizer.layers, dictionary.codes, strict=True):
        book = layer.codebook
        # The nearest code is the first of several that are equal.
        book.embed.zero_()[:, first : first + codes.shape[1]] = codes.repeat(-(-CODES // len(codes)), 1)[:CODES]
        book.embed_avg.copy_(book.embed)
        book.cluster_size.fill_(1.0)
        book.inited.fill_(True)
        first += codes.shape[1]


def _build_decoder(decoder: Any, components: Tensor) -> None:
    """Play the components `[1280, dim]`: in the channels lie first the latents, then samples of ever smaller blocks.

    From layer to layer, a channel's stretch of samples is spread over time.
    """
    first, lstm, *upsamplings, last = _weighted(decoder)
    dim = components.shape[1]
    weight = torch.zeros_like(first.conv.weight)
    weight[:, :, weight.shape[2] // 2] = LATENT_SCALE * torch.eye(dim)
    _write(first.conv, weight)
    for parameter in lstm.parameters():
        parameter.zero_()  # it adds nothing to its input
    inputs, block = dim, HOP
    spread = SCALE / LATENT_SCALE * components
    for upsampling, ratio in zip(upsamplings, RATIOS, strict=True):
        block //= ratio
        weight = torch.zeros_like(upsampling.conv.weight)
        weight[:inputs, :block, _own_taps(ratio)] = spread.T.reshape(inputs, ratio, block).transpose(1, 2)
        _write(upsampling.conv, weight)
        inputs, spread = block, torch.eye(block)
    weight = torch.zeros_like(last.conv.weight)
    weight[0, 0, weight.shape[2] // 2] = 1 / SCALE
    _write(last.conv, weight)


def _build_encoder(encoder: Any) -> None:
    """Gather the samples of a block in the channels, and prepare the end for this scale."""
    first, *convolutions, end, _, _ = _weighted(encoder)
    weight = torch.zeros_like(first.conv.weight)
    weight[0, 0, weight.shape[2] // 2] = SCALE
    _write(first.conv, weight)
    block = 1
    for convolution, ratio in zip(convolutions, RATIOS[:0:-1], strict=True):
        weight = torch.zeros_like(convolution.conv.weight)
        gathered = torch.eye(ratio * block).view(ratio * block, ratio, block).transpose(1, 2)
        weight[: ratio * block, :block, _own_taps(ratio)] = gathered
        _write(convolution.conv, weight)
        block *= ratio
    _write(end.conv, FIRST_GAIN * end.conv.weight)
    end.conv.parametrizations.weight.original0.div_(SCALE)


def _weighted(network: Any) -> list[Any]:
    """The layers with weights."""
    return [layer for layer in network.layers if not isinstance(layer, nn.ELU)]


def _write(convolution: Any, weight: Tensor) -> None:
    """Give a convolution with weight normalization these weights, and no bias."""
    lengths, directions = convolution.parametrizations.weight.parameters()
    norms = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
    lengths.copy_(norms)
    # A direction must not be zero, even where the length is.
    directions.copy_(torch.where(norms > 0, weight, 1.0))
    convolution.bias.zero_()


def encoder_end(model: Any) -> nn.ModuleList:
    """The layers of the encoder that are trained: from the last strided convolution on."""
    return cast(nn.ModuleList, model.encoder.layers[-4:])


def _own_taps(stride: int) -> slice:
    """The taps of a kernel of two strides that lie on the stride's own samples, after EnCodec's padding."""
    before = stride - stride // 2
    return slice(before, before + stride)


def load_dictionary(folder: Path) -> Dictionary:
    """The dictionary of the codec that was trained in a folder."""
    state = torch.load(folder / "codec.pt", weights_only=True, map_location="cpu")["dictionary"]
    dictionary = Dictionary([len(state[f"codes_{part}"]) for part in range(CODEBOOKS)])
    dictionary.load_state_dict(state)
    return dictionary


def main() -> None:
    """Train, or resume training, into a folder."""
    arguments = parse_arguments("codec", __doc__, steps=2500)
    training = CodecTraining(arguments.steps, arguments.seed, torch.device(arguments.device))
    training.trainer.resume(arguments.folder)
    training.trainer.train(training.learn, arguments.folder)
    training.model.cpu().eval().save_pretrained(arguments.folder / "codec")


if __name__ == "__main__":
    main()
