"""EnCodec: waveform to tokens and back.

Défossez et al., "High Fidelity Neural Audio Compression" (2022, https://arxiv.org/abs/2210.13438). The model is
transformers'; this module knows how MusicGen uses it: one token frame is `hop` samples, and a stereo model codes left
and right separately, with their codebooks interleaved (left 0, right 0, left 1, ...). Always float32: the quantizer
chooses among near neighbours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import ModuleList

from musicgen_core.checkpoints.pretrained import load_part
from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.codec.chunked import ChunkedLayers
from musicgen_core.codec.streaming import StreamingDecoder
from musicgen_core.errors import CheckpointError


class Codec:
    """A loaded EnCodec. Safe to use from several threads."""

    def __init__(self, model: Any, *, channels: int) -> None:
        config = model.config
        if config.normalize or config.chunk_length_s is not None:
            raise CheckpointError("This EnCodec normalises or chunks its input; MusicGen's does neither.")
        self.model = model
        """transformers' EncodecModel."""
        self.channels = channels
        """1: mono, 2: stereo."""
        self.sample_rate: int = config.sampling_rate
        """Hz."""
        self.hop: int = config.hop_length
        """Samples per frame."""
        self.codebooks: int = channels * config.num_quantizers
        """Tokens per frame, over all channels."""
        self.codebook_size: int = config.codebook_size
        """Codes in each codebook."""
        self.dim: int = config.hidden_size
        """Width of the latents that tokens stand for."""

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        device: torch.device = self.model.device
        return device

    @torch.inference_mode()
    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        """Tokens `[codebooks, frames]` (int64, on the codec's device) of a `[channels, samples]` waveform.

        The last frame is padded, so there are ceil(samples / hop) of them. The channels are matched to the model's (see
        `match_channels`). Raises ValueError for a waveform that is empty or has another shape.
        """
        if waveform.dim() != 2 or waveform.shape[1] == 0:
            raise ValueError(f"expected a waveform [channels, samples], got {list(waveform.shape)}")
        waveform = match_channels(waveform.to(self.device, torch.float32), self.channels)
        # Each channel is a mono signal: [channels, 1, samples] in, [1, channels, quantizers, frames] out.
        codes: torch.Tensor = self.model.encode(waveform[:, None], return_dict=True).audio_codes[0]
        return codes.transpose(0, 1).reshape(self.codebooks, -1)

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """The waveform `[channels, frames * hop]` (float32, on the codec's device) of `[codebooks, frames]` tokens.

        Raises ValueError for tokens that are empty or have another shape.
        """
        # EnCodec expects a leading axis of chunks: [1, channels, quantizers, frames].
        decoded = self.model.decode(self._by_channel(codes)[None], [None], return_dict=True)
        audio: torch.Tensor = decoded.audio_values[:, 0]
        return audio[:, : codes.shape[1] * self.hop]

    def streaming_decoder(self) -> StreamingDecoder:
        """A decoder for codes that are still being generated; its chunks together are what `decode` returns."""
        return StreamingDecoder(self.latents, self.model.decoder.layers, hop=self.hop)

    @torch.inference_mode()
    def latents(self, codes: torch.Tensor) -> torch.Tensor:
        """The vectors `[channels, dim, frames]` that `[codebooks, frames]` tokens stand for: the decoder's input."""
        latents: torch.Tensor = self.model.quantizer.decode(self._by_channel(codes).transpose(0, 1))
        return latents

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
    from transformers.models.encodec.configuration_encodec import EncodecConfig
    from transformers.models.encodec.modeling_encodec import EncodecModel

    section = config.get("audio_encoder", {})
    if section.get("model_type", "encodec") != "encodec":
        raise CheckpointError(f"The audio codec is {section['model_type']!r}; only EnCodec is supported.")
    weights = read_weights(folder, "audio_encoder.")
    model = load_part(EncodecModel, EncodecConfig(**section), weights, device)
    _chunk_convolutions(model)
    return Codec(model, channels=channels)


def _chunk_convolutions(model: Any) -> None:
    """Run the convolutions between the waveform and the LSTM, in encoder and decoder, chunk by chunk."""
    if model.config.norm_type != "weight_norm":
        return  # other norms depend on the whole signal
    hop, layers = model.config.hop_length, model.encoder.layers
    lstm = _position_of_lstm(layers)
    model.encoder.layers = ModuleList([ChunkedLayers(layers[:lstm], samples_in=hop, samples_out=1), *layers[lstm:]])
    layers = model.decoder.layers
    after = _position_of_lstm(layers) + 1
    model.decoder.layers = ModuleList([*layers[:after], ChunkedLayers(layers[after:], samples_in=1, samples_out=hop)])


def _position_of_lstm(layers: ModuleList) -> int:
    return next(position for position, layer in enumerate(layers) if hasattr(layer, "lstm"))
