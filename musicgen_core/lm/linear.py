"""A matrix product whose weight may be packed for the CPU, in float32 or in 8 bits.

One decoding step multiplies a few rows by every weight of the model. For few rows in float32, torch's default CPU
kernel is two to four times slower than the memory allows, and how it sums a row depends on the number of rows. oneDNN,
with its own weight layout, runs near memory speed and gives each row the same bits whatever its neighbours (a test
asserts that). So does int8, which FBGEMM sums in integers.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHT_LEVELS = 127
"""Largest absolute value of a weight in 8 bits."""
ROW_LEVELS = 63
"""Largest absolute value of a row's elements, in 7 bits: without VNNI, FBGEMM adds pairs of products in 16 bits."""


class PackedLinear(nn.Module):
    """A linear layer without bias, whose weight can be packed for few rows on a CPU."""

    weight: nn.Parameter
    """`[outputs, inputs]`; absent once it is packed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        self._packed: Tensor | None = None
        self._packed_int8: torch.ScriptObject | None = None

    def pack(self, *, int8: bool = False) -> None:
        """Replace the weight by a packed layout; does nothing where there is none for it. Irreversible.

        The layout is oneDNN's for float32 on a CPU. With `int8`, which needs `has_int8_kernel`, it is FBGEMM's: each
        output's weights are scaled and rounded to 8 bits.
        """
        if self._packed is not None or self._packed_int8 is not None:
            return
        if int8:
            self._packed_int8 = _pack_int8(self.weight)
        elif _can_pack_float32(self.weight):
            self._packed = _pack_float32(self.weight)
        else:
            return
        del self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: `[..., inputs]` to `[..., outputs]`."""
        if self._packed_int8 is not None:
            return _multiply_int8(x, self._packed_int8)
        if self._packed is None:
            return F.linear(x, self.weight)
        return _multiply_float32(x, self._packed)


def has_int8_kernel() -> bool:
    """Whether this build of torch multiplies in 8 bits on this machine: on x86 CPUs it does."""
    return "x86" in torch.backends.quantized.supported_engines


def _can_pack_float32(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # builds without oneDNN lack it


def _pack_float32(weight: Tensor) -> Tensor:
    # torch has no public name for oneDNN's packed product: torch.compile's frozen CPU graphs call these operations.
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.data, None)  # noqa: SLF001
    return packed


def _multiply_float32(x: Tensor, packed: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")  # noqa: SLF001
    return product


def _pack_int8(weight: Tensor) -> torch.ScriptObject:
    scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
    with warnings.catch_warnings():
        # Deprecated for tensors that carry their scales, which the only kernel that is fast for few rows still takes.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        whole = torch.quantize_per_channel(weight, scales, torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8)
    packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(whole, None)
    return packed


def _multiply_int8(x: Tensor, packed: torch.ScriptObject) -> Tensor:
    # Each row has its own scale, where the kernel would use one for all rows: no row depends on its neighbours.
    scale = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
        x / scale, 1 / ROW_LEVELS, ROW_LEVELS + 1, packed
    )
    return product * scale
