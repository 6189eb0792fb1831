"""EnCodec's LSTM, continued from piece to piece."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musicgen_core.codec.layer import State


class _Weights(NamedTuple):
    """Of one layer of an LSTM; its gates (input, forget, cell, output) side by side: `[4 * dim, dim]`."""

    rows: Tensor
    hidden: Tensor
    bias: Tensor


class LSTM:
    """Layers of LSTM over `[rows, channels, dim]`, whose input is added to their output."""

    rate = 1.0

    def __init__(self, lstm: nn.LSTM) -> None:
        """Use torch's LSTM: as it is on a GPU, its weights alone on the CPU."""
        self._lstm = lstm
        self._layers = [
            _Weights(rows, hidden, rows_bias + hidden_bias) for rows, hidden, rows_bias, hidden_bias in lstm.all_weights
        ]
        self.multiply_adds = float(sum(layer.rows.numel() + layer.hidden.numel() for layer in self._layers))

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:  # noqa: ARG002
        """See `Layer.push`."""
        if not len(x):
            return x, state
        out, state = self._lstm(x, state) if x.is_cuda else self._run(x, state)
        return out + x, state

    def _run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """What torch's own does, which on CPUs rearranges its weights in each call: too often for a few rows.

        A layer goes through all rows before the next one begins, so that one layer's weights stay in the cache.
        """
        ended = []
        for weights, (hidden, cell) in zip(self._layers, state or self._start(x), strict=True):
            gates, out = F.linear(x, weights.rows, weights.bias), torch.empty_like(x)
            for gate, row in zip(gates, out, strict=True):
                enter, keep, new, show = torch.addmm(gate, hidden, weights.hidden.t()).chunk(4, dim=-1)
                cell = keep.sigmoid_().mul_(cell).addcmul_(enter.sigmoid_(), new.tanh_())
                hidden = torch.mul(show.sigmoid_(), cell.tanh(), out=row)
            ended.append((hidden.clone(), cell.clone()))
            x = out
        return x, ended

    def _start(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(torch.zeros_like(x[0]), torch.zeros_like(x[0]))] * len(self._layers)
