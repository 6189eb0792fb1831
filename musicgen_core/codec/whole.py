"""Networks that look at the whole signal, or pad it in a way of their own: transformers computes them.

No official codec is one. A module by itself, imported where it is needed: transformers' import takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.models.encodec.configuration_encodec import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecModel

from musicgen_core.checkpoints.pretrained import load_part
from musicgen_core.codec.layer import State


class Whole:
    """A network that computes nothing before the signal has ended."""

    rate = 1.0
    multiply_adds = 0.0
    """It cannot be divided."""

    def __init__(self, network: Any) -> None:
        """`network`: transformers', `[channels, features, rows]` in and out."""
        self._network = network
        self._features: int = network.layers[-1].conv.out_channels

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """See `Layer.push`."""
        pieces = [*(state or []), x]
        if not last:
            return x.new_empty(0, x.shape[1], self._features), pieces
        out: Tensor = self._network(torch.cat(pieces).permute(1, 2, 0))
        return out.permute(2, 0, 1), None


def read_whole(section: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> tuple[Whole, Whole]:
    """Encoder and decoder, with the shapes of `seanet`'s. Raises CheckpointError.

    `section`: `audio_encoder` of config.json. `tensors`: of an EncodecModel.
    """
    model = load_part(EncodecModel, EncodecConfig(**section), dict(tensors), device)
    return Whole(model.encoder), Whole(model.decoder)
