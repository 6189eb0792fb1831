"""EnCodec: waveform to tokens and back.

Défossez et al., "High Fidelity Neural Audio Compression" (2022, https://arxiv.org/abs/2210.13438). This module knows
how MusicGen uses it: one token frame is `hop` samples, and a stereo model codes left and right separately, with their
codebooks interleaved (left 0, right 0, left 1, ...). Always float32: the quantizer chooses among near neighbours. The
networks compute in stretches (docs/decisions/0019-the-codec-in-stretches.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.codec.checkpoint import CodecConfig, Weights
from musicgen_core.codec.layer import Layer
from musicgen_core.codec.quantizer import Quantizer
from musicgen_core.codec.seanet import computes_in_pieces, read_decoder, read_encoder
from musicgen_core.codec.streaming import StreamingDecoder
from musicgen_core.errors import CheckpointError
from musicgen_core.executor import Resumable, run_to_end

CPU_STRETCH = 1.25e9
"""Multiply-adds at a stretch on a CPU. With the official codec these are 16 frames (0.3 s of sound): some 30 ms on two
cores, 55 on one."""
DEVICE_STRETCH = 6.4e10
"""The same on an accelerator: 16 s of sound. There the limit is for the memory."""


class Codec:
    """A loaded EnCodec. Safe to use from several threads."""

    def __init__(
        self, section: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, channels: int, device: torch.device
    ) -> None:
        """Build it on `device`, in float32. Raises CheckpointError.

        `section`: `audio_encoder` of config.json, the fields of transformers' EncodecConfig. `tensors`: its weights, by
        their names in transformers' EncodecModel. `channels`: 1 or 2, which are coded separately.
        """
        config = CodecConfig.read(section)
        if config.normalize or config.chunk_length_s is not None:
            raise CheckpointError("This EnCodec normalises or chunks its input; MusicGen's does neither.")
        self.channels = channels
        """1: mono, 2: stereo."""
        self.sample_rate: int = config.sampling_rate
        """Hz."""
        self.hop: int = config.hop
        """Samples per frame."""
        self.codebooks: int = channels * config.quantizers
        """Tokens per frame, over all channels."""
        self.codebook_size: int = config.codebook_size
        """Codes in each codebook."""
        self.dim: int = config.hidden_size
        """Width of the latents that tokens stand for."""
        self.device = device
        """The device that holds the weights."""
        weights = Weights(tensors, device)
        self._quantizer = Quantizer(config, weights)
        self.encoder: Layer
        """Samples `[rows, channels, 1]` to latents `[rows, channels, dim]`."""
        self.decoder: Layer
        """The way back."""
        if computes_in_pieces(config):
            self.encoder, self.decoder = read_encoder(config, weights), read_decoder(config, weights)
        else:
            from musicgen_core.codec.whole import read_whole

            self.encoder, self.decoder = read_whole(section, tensors, device)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @property
    def multiply_adds(self) -> float:
        """Of decoding a frame of one channel; encoding takes about as many."""
        return self.decoder.multiply_adds

    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        """Tokens `[codebooks, frames]` (int64, on the codec's device) of a `[channels, samples]` waveform.

        The last frame is padded, so there are ceil(samples / hop) of them. The channels are matched to the model's (see
        `match_channels`). Raises ValueError for a waveform that is empty or has another shape.
        """
        return run_to_end(self.encoding(waveform))

    @torch.inference_mode()
    def encoding(self, waveform: torch.Tensor) -> Resumable[torch.Tensor]:
        """What `encode` does, in stretches of a limited number of frames."""
        if waveform.dim() != 2 or waveform.shape[1] == 0:
            raise ValueError(f"expected a waveform [channels, samples], got {list(waveform.shape)}")
        waveform = match_channels(waveform.to(self.device, torch.float32), self.channels)
        samples = waveform.t()[:, :, None]
        stretch = self._stretch(self.encoder, rows=self.hop) * self.hop
        state, codes = None, []
        for begin in range(0, len(samples), stretch):
            if begin:
                yield
            end = begin + stretch
            latents, state = self.encoder.push(samples[begin:end], state, last=end >= len(samples))
            # [channels, dim, frames] in, [quantizers, channels, frames] out.
            codes.append(self._quantizer.encode(latents.permute(1, 2, 0)))
        return torch.cat(codes, dim=-1).flatten(0, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """The waveform `[channels, frames * hop]` (float32, on the codec's device) of `[codebooks, frames]` tokens.

        Raises ValueError for tokens that are empty or have another shape.
        """
        return run_to_end(self.decoding(codes))

    def decoding(self, codes: torch.Tensor) -> Resumable[torch.Tensor]:
        """What `decode` does, in stretches of a limited number of frames."""
        return self.streaming_decoder().push(codes, last=True)

    def streaming_decoder(self) -> StreamingDecoder:
        """A decoder for codes that are still being generated; its chunks together are what `decode` returns."""
        return StreamingDecoder(self.latents, self.decoder, stretch=self._stretch(self.decoder, rows=1))

    @torch.inference_mode()
    def latents(self, codes: torch.Tensor) -> torch.Tensor:
        """The vectors `[channels, dim, frames]` that `[codebooks, frames]` tokens stand for: the decoder's input."""
        return self._quantizer.decode(self._by_channel(codes).transpose(0, 1))

    def _stretch(self, network: Layer, *, rows: int) -> int:
        """Frames at a stretch, for a network that takes so many rows for each."""
        work = network.multiply_adds * rows * self.channels
        limit = CPU_STRETCH if self.device.type == "cpu" else DEVICE_STRETCH
        return max(1, int(limit // max(1.0, work)))

    def _by_channel(self, codes: torch.Tensor) -> torch.Tensor:
        """`[codebooks, frames]` to `[channels, quantizers, frames]`."""
        if codes.dim() != 2 or codes.shape[0] != self.codebooks or codes.shape[1] == 0:
            raise ValueError(f"expected codes [{self.codebooks}, frames], got {list(codes.shape)}")
        return codes.to(self.device).reshape(-1, self.channels, codes.shape[1]).transpose(0, 1)


def match_channels(waveform: torch.Tensor, channels: int) -> torch.Tensor:
    """Mix `[any channels, samples]` to mono (the mean) or stereo (the first two channels, or a mono signal twice)."""
    if waveform.shape[0] == channels:
        return waveform
    if channels == 1:
        return waveform.mean(dim=0, keepdim=True)
    return waveform[:2] if waveform.shape[0] > 1 else waveform.expand(2, -1)


def load_codec(folder: Path, config: dict[str, Any], *, channels: int, device: torch.device) -> Codec:
    """Load EnCodec from a model folder; `config` is the folder's config.json. Raises CheckpointError."""
    section = config.get("audio_encoder", {})
    if section.get("model_type", "encodec") != "encodec":
        raise CheckpointError(f"The audio codec is {section['model_type']!r}; only EnCodec is supported.")
    return Codec(section, read_weights(folder, "audio_encoder."), channels=channels, device=device)
