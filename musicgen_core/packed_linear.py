"""A bias-free matrix product whose weight may be packed for the CPU.

One decoding step multiplies a few rows by every weight of the model. For few rows in float32 the stock CPU kernel
is two to four times slower than memory allows, and how it sums a row depends on how many rows there are. oneDNN,
given its own weight layout, runs near memory speed and gives each row the same bits whatever its neighbours (a
test asserts that).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """`x @ weight.T` for x [..., inputs] and weight [outputs, inputs]."""

    weight: nn.Parameter

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        self._packed: Tensor | None = None

    def pack(self) -> None:
        """Put oneDNN's layout in the weight's place; nothing happens unless it is float32 on a CPU."""
        if self._packed is not None or not _can_pack(self.weight):
            return
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.weight.data, None)
        self._packed = packed
        del self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: [..., inputs] -> [..., outputs]."""
        if self._packed is None:
            return F.linear(x, self.weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return product


def _can_pack(weight: Tensor) -> bool:
    # The operations are those that torch.compile's frozen CPU graphs call; builds without oneDNN lack them.
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and hasattr(torch.ops.mkldnn, "_linear_pointwise")
