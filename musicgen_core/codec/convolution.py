"""EnCodec's convolutions, computed piece by piece as matrix products.

A convolution that is not causal looks half its kernel's width ahead, so its output comes that much later. Where the
signal begins and ends it is padded as transformers does it; between two pieces the last rows are kept.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from musicgen_core.codec.layer import State

Padding = Literal["constant", "reflect"]
"""Zeros, or the signal mirrored at its end."""


class _Kept(NamedTuple):
    rows: Tensor
    begun: bool
    """Whether the rows follow the padding at the beginning; otherwise there have been too few to mirror."""


class Convolution:
    """A convolution over `[rows, channels, features]`."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        padding: tuple[int, int],
        mode: Padding,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """`weight`: `[out, in, kernel]`; with a stride, the kernel is a multiple of it and there is no dilation.

        `padding`: rows before and after the signal, `kernel - stride` in all; more are added to fill the last stride.
        """
        self._product = _Product(weight, bias, stride=stride, dilation=dilation)
        self._span = (weight.shape[2] - 1) * dilation + 1
        self._stride = stride
        self._before, self._after = padding
        self._mode: Padding = mode
        mirrored = mode == "reflect"
        # So many rows there must have been before it begins, and so many are kept, for the padding to mirror.
        self._fewest = max(self._before, self._after + stride - 1) + 1 if mirrored else 0
        self._reserve = max(self._span - stride, self._after + stride if mirrored else 0)
        self.rate = 1 / stride
        self.multiply_adds = weight.numel() / stride

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """See `Layer.push`."""
        kept: _Kept = state or _Kept(x[:0], begun=False)
        rows = torch.cat([kept.rows, x])
        if not (kept.begun or last) and len(rows) < self._fewest:
            return self._product(rows, 0), _Kept(rows, begun=False)
        before, after = 0 if kept.begun else self._before, 0
        if last:
            after = self._after + (self._span - len(rows) - before - self._after) % self._stride
        rows = _pad(rows, before, after, self._mode)
        count = max(0, len(rows) - (self._span - self._stride if last else self._reserve)) // self._stride
        # A copy, so that the rest can be freed.
        return self._product(rows, count), _Kept(rows[count * self._stride :].clone(), begun=True)


class Upsampling:
    """A transposed convolution over `[rows, channels, features]` whose kernel is twice its stride.

    So each row and the one before it make `stride` rows together: a convolution of two taps over rows, padded with
    zeros, whose output features are those of `stride` rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, trimmed: tuple[int, int]) -> None:
        """`weight`: `[in, out, 2 * stride]`. `trimmed`: rows cut off at the beginning and the end, `stride` in all."""
        inputs, outputs, kernel = weight.shape
        self._stride = kernel // 2
        taps = weight.view(inputs, outputs, 2, self._stride).flip(2).permute(3, 1, 0, 2).reshape(-1, inputs, 2)
        self._convolution = Convolution(taps, bias.repeat(self._stride), padding=(1, 1), mode="constant")
        self._trimmed = trimmed
        self.rate = float(self._stride)
        self.multiply_adds = self._convolution.multiply_adds

    def push(self, x: Tensor, state: State, *, last: bool) -> tuple[Tensor, State]:
        """See `Layer.push`."""
        convolution_state, begun = state or (None, False)
        blocks, convolution_state = self._convolution.push(x, convolution_state, last=last)
        count, channels, features = blocks.shape
        rows = blocks.view(count, channels, self._stride, features // self._stride).transpose(1, 2).flatten(0, 1)
        if count and not begun:
            rows, begun = rows[self._trimmed[0] :], True
        if last:
            rows = rows[: len(rows) - self._trimmed[1]]
        return rows, (convolution_state, begun)


class _Product:
    """The sum of a kernel's taps over rows, by one of three ways that suit different shapes."""

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int, dilation: int) -> None:
        outputs, inputs, kernel = weight.shape
        # With a stride, `stride` rows side by side are one row, and the kernel has that many fewer taps.
        self._stride, self._dilation, self._taps = stride, dilation, kernel // stride
        self._outputs, self._inputs = outputs, inputs * stride
        taps = weight.view(outputs, inputs, self._taps, stride).permute(2, 3, 1, 0)
        taps = taps.reshape(self._taps, self._inputs, outputs)  # each [in, out]
        self._bias = bias.clone()
        if self._inputs < self._taps:
            self._sum, self._weight = self._by_windows, taps.transpose(0, 1).reshape(-1, outputs)
        elif self._outputs < self._taps:
            self._sum, self._weight = self._by_outputs, taps.transpose(0, 1).reshape(self._inputs, -1)
        else:
            self._sum, self._weight = self._by_taps, taps
        self._weight = self._weight.contiguous()

    def __call__(self, rows: Tensor, count: int) -> Tensor:
        """The first `count` rows of output, `[count, channels, out]`."""
        channels = rows.shape[1]
        if count == 0:
            return rows.new_empty(0, channels, self._outputs)
        needed = count + (self._taps - 1) * self._dilation
        rows = rows[: needed * self._stride].view(needed, self._stride, channels, -1).transpose(1, 2).flatten(2)
        out = self._sum(rows, count)
        return out.view(count, channels, self._outputs)

    def _by_taps(self, rows: Tensor, count: int) -> Tensor:
        """A product for each tap, added up while they are made: for wide layers, which are nearly all."""
        first, *others = (rows[tap : tap + count].flatten(0, 1) for tap in range(0, self._reach, self._dilation))
        out = torch.addmm(self._bias, first, self._weight[0])
        for tap, moved in enumerate(others, 1):
            out.addmm_(moved, self._weight[tap])
        return out

    def _by_windows(self, rows: Tensor, count: int) -> Tensor:
        """One product of copied windows: where a row is narrow, such as the single samples that are encoded."""
        windows = rows.unfold(0, self._reach, 1)[..., :: self._dilation]
        return torch.addmm(self._bias, windows.reshape(count * rows.shape[1], -1), self._weight)

    def _by_outputs(self, rows: Tensor, count: int) -> Tensor:
        """One product for all taps, whose parts are then added up: where little comes out, such as single samples."""
        parts = (rows.flatten(0, 1) @ self._weight).view(len(rows), rows.shape[1], self._taps, self._outputs)
        out = self._bias + parts[:count, :, 0]
        for tap in range(1, self._taps):
            begin = tap * self._dilation
            out += parts[begin : begin + count, :, tap]
        return out

    @property
    def _reach(self) -> int:
        return (self._taps - 1) * self._dilation + 1


def _pad(rows: Tensor, before: int, after: int, mode: Padding) -> Tensor:
    """The rows with padding. As in transformers, zeros are put after a signal that is too short to be mirrored."""
    if not (before or after):
        return rows
    if mode == "constant":
        return F.pad(rows, (0, 0, 0, 0, before, after))
    count = len(rows)
    lacking = max(0, max(before, after) + 1 - count)
    rows = F.pad(rows, (0, 0, 0, 0, 0, lacking))
    mirrored = rows[1 : before + 1].flip(0), rows, rows[len(rows) - 1 - after : len(rows) - 1].flip(0)
    return torch.cat(mirrored)[: before + count + after]
