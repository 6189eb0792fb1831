"""EnCodec: waveform to tokens and back.

Défossez et al., "High Fidelity Neural Audio Compression" (2022). The model is transformers'; this knows how
MusicGen uses it: one token frame is `hop` samples, and a stereo model codes left and right on their own,
their codebooks interleaved (left 0, right 0, left 1, ...). Always float32: the codec's quantizer picks among
near neighbours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import ModuleList

from musicgen_core.checkpoints.pretrained import load_part
from musicgen_core.checkpoints.tensors import read_weights
from musicgen_core.codec.chunked import InPieces
from musicgen_core.codec.streaming import GrowingDecoder
from musicgen_core.errors import CheckpointError


class Codec:
    """A loaded EnCodec. Safe to use from several threads."""

    def __init__(self, model: Any, *, channels: int) -> None:
        config = model.config
        if config.normalize or config.chunk_length_s is not None:
            raise CheckpointError("This EnCodec normalises or chunks its input; MusicGen's does neither.")
        self._model = model
        self.channels = channels
        self.sample_rate: int = config.sampling_rate
        self.hop: int = config.hop_length
        """Samples a frame."""
        self.codebooks: int = channels * config.num_quantizers
        self.dim: int = config.hidden_size
        """Width of the latents that tokens stand for."""

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self._model.device
        return device

    @torch.inference_mode()
    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        """Tokens `[codebooks, frames]` (int64, on the codec's device) of a `[channels, samples]` waveform.

        A last frame that the samples do not fill is completed, so there are ceil(samples / hop) of them. A
        mono waveform is doubled for a stereo model, a stereo one averaged for a mono model.
        """
        if waveform.dim() != 2 or waveform.shape[1] == 0:
            raise ValueError(f"expected a waveform [channels, samples], got {list(waveform.shape)}")
        waveform = self._match_channels(waveform.to(self.device, torch.float32))
        # Each channel is a mono signal: [channels, 1, samples] in, [1, channels, quantizers, frames] out.
        codes: torch.Tensor = self._model.encode(waveform[:, None], return_dict=True).audio_codes[0]
        return codes.transpose(0, 1).reshape(self.codebooks, -1)

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """The waveform `[channels, frames * hop]` (float32, on the codec's device) of `[codebooks, frames]` tokens."""
        # EnCodec wants a leading axis of chunks: [1, channels, quantizers, frames].
        decoded = self._model.decode(self._by_channel(codes)[None], [None], return_dict=True)
        audio: torch.Tensor = decoded.audio_values[:, 0]
        return audio[:, : codes.shape[1] * self.hop]

    def growing(self) -> GrowingCodes:
        """A decoder for codes that are still being made."""
        return GrowingCodes(self, GrowingDecoder(self._model.decoder.layers, hop=self.hop))

    @torch.inference_mode()
    def latents(self, codes: torch.Tensor) -> torch.Tensor:
        """What `[codebooks, frames]` tokens stand for, `[channels, dim, frames]`: the decoder's input."""
        latents: torch.Tensor = self._model.quantizer.decode(self._by_channel(codes).transpose(0, 1))
        return latents

    def _by_channel(self, codes: torch.Tensor) -> torch.Tensor:
        """`[codebooks, frames]` to `[channels, quantizers, frames]`."""
        if codes.dim() != 2 or codes.shape[0] != self.codebooks or codes.shape[1] == 0:
            raise ValueError(f"expected codes [{self.codebooks}, frames], got {list(codes.shape)}")
        return codes.to(self.device).reshape(-1, self.channels, codes.shape[1]).transpose(0, 1)

    def _match_channels(self, waveform: torch.Tensor) -> torch.Tensor:
        if waveform.shape[0] == self.channels:
            return waveform
        if self.channels == 1:
            return waveform.mean(dim=0, keepdim=True)
        return waveform[:2] if waveform.shape[0] > 1 else waveform.expand(2, -1)


class GrowingCodes:
    """Turns one piece's codes into sound as they come; put together, it is what `Codec.decode` makes of all of them."""

    def __init__(self, codec: Codec, decoder: GrowingDecoder) -> None:
        self._codec = codec
        self._decoder = decoder
        self._frames = 0

    def push(self, codes: torch.Tensor, *, last: bool = False) -> torch.Tensor:
        """The next samples `[channels, samples]`, maybe none, given all codes so far, `[codebooks, frames]`, some of
        them new; `last`: no more will follow."""
        latents = self._codec.latents(codes[:, self._frames :])
        self._frames = codes.shape[1]
        return self._decoder.push(latents, last=last)[:, 0]


def load_codec(folder: Path, config: dict[str, Any], *, channels: int, device: torch.device) -> Codec:
    """EnCodec from a model folder; `config` is the folder's config.json. Raises CheckpointError."""
    from transformers.models.encodec.configuration_encodec import EncodecConfig
    from transformers.models.encodec.modeling_encodec import EncodecModel

    section = config.get("audio_encoder", {})
    if section.get("model_type", "encodec") != "encodec":
        raise CheckpointError(f"The audio codec is {section['model_type']!r}; only EnCodec is supported.")
    weights = read_weights(folder, "audio_encoder.")
    model = load_part(EncodecModel, EncodecConfig(**section), weights, device)
    _save_memory(model)
    return Codec(model, channels=channels)


def _save_memory(model: Any) -> None:
    """Have the convolutions on the waveform's side of the encoder's and the decoder's LSTM take long sounds in
    pieces."""
    if model.config.norm_type != "weight_norm":
        return  # other norms look at the whole
    hop, layers = model.config.hop_length, model.encoder.layers
    lstm = _position_of_lstm(layers)
    model.encoder.layers = ModuleList([InPieces(layers[:lstm], samples_in=hop, samples_out=1), *layers[lstm:]])
    layers = model.decoder.layers
    after = _position_of_lstm(layers) + 1
    model.decoder.layers = ModuleList([*layers[:after], InPieces(layers[after:], samples_in=1, samples_out=hop)])


def _position_of_lstm(layers: ModuleList) -> int:
    return next(position for position, layer in enumerate(layers) if hasattr(layer, "lstm"))
