"""A bias-free matrix product whose weight may be packed for the CPU, as it is or in 8 bits.

One decoding step multiplies a few rows by every weight of the model. For few rows in float32 the stock CPU kernel
is two to four times slower than memory allows, and how it sums a row depends on how many rows there are. oneDNN,
given its own weight layout, runs near memory speed and gives each row the same bits whatever its neighbours (a
test asserts that). So does int8, which FBGEMM sums in whole numbers.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHT_LEVELS = 127
ROW_LEVELS = 63
"""Rows have 7 bits: without VNNI, FBGEMM adds pairs of products in 16 bits, which twice 127 x 127 just fits."""


class PackedLinear(nn.Module):
    """`x @ weight.T` for x [..., inputs] and weight [outputs, inputs]."""

    weight: nn.Parameter

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        self._packed: Tensor | None = None
        self._packed_int8: torch.ScriptObject | None = None

    def pack(self, *, int8: bool = False) -> None:
        """Put a packed layout in the weight's place: oneDNN's where it is float32 on a CPU, else none; with
        `int8`, FBGEMM's, each output's weights scaled to whole numbers of 8 bits. Needs `has_int8_kernel`.
        """
        if self._packed is not None or self._packed_int8 is not None:
            return
        if int8:
            self._packed_int8 = _pack_int8(self.weight)
        elif _can_pack(self.weight):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.data, None)
        else:
            return
        del self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: [..., inputs] -> [..., outputs]."""
        if self._packed_int8 is not None:
            return _multiply_int8(x, self._packed_int8)
        if self._packed is None:
            return F.linear(x, self.weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return product


def has_int8_kernel() -> bool:
    """Whether this build of torch multiplies in 8 bits here: on x86 CPUs it does."""
    return "x86" in torch.backends.quantized.supported_engines


def _can_pack(weight: Tensor) -> bool:
    # The operations are those that torch.compile's frozen CPU graphs call; builds without oneDNN lack them.
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _pack_int8(weight: Tensor) -> torch.ScriptObject:
    scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
    with warnings.catch_warnings():
        # Deprecated for tensors that carry their scales, which the only kernel fast for a few rows still takes.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        whole = torch.quantize_per_channel(weight, scales, torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8)
    packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(whole, None)
    return packed


def _multiply_int8(x: Tensor, packed: torch.ScriptObject) -> Tensor:
    # A scale of its own for each row, where the kernel would take one for all: no row depends on its neighbours.
    scale = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
        x / scale, 1 / ROW_LEVELS, ROW_LEVELS + 1, packed
    )
    return product * scale
