"""A matrix product whose weight may be packed for the CPU, in float32 or in 8 bits.

One decoding step multiplies a few rows by every weight of the model. For few rows in float32, torch's default CPU
kernel is two to four times slower than the memory allows, and how it sums a row depends on the number of rows. Packed
weights are read at the memory's speed, and each row gets the same bits whatever its neighbours (a test asserts that).
Our own kernels pack them; where those are missing, oneDNN does in float32 and FBGEMM in 8 bits.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_core.kernels.library import Kernels, Matrix, available

WEIGHT_LEVELS = 127
"""Largest absolute value of a weight in 8 bits."""
ROW_LEVELS = 63
"""Largest absolute value of a row's elements for FBGEMM, in 7 bits: without VNNI it adds pairs of products in 16 bits.
Our own kernels use 8 bits."""


class Packed(Protocol):
    """A packed weight."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Multiply: `[..., inputs]` to `[..., outputs]`."""


class Adapters(Protocol):
    """What the adapters of a batch of rows add to the model; `...` stands for the rows' axes."""

    def add(self, target: str, x: Tensor, product: Tensor) -> Tensor:
        """A module's product with their changes to it, which may be written in place.

        `target`: the module's name. `x`: what it multiplied, `[..., inputs]`. `product`: `[..., outputs]`.
        """

    def embed(self, tokens: Tensor, embedded: Tensor) -> Tensor:
        """Embedded columns `[..., dim]` with their changes to it, which may be written in place.

        `tokens`: rows of the stacked tables, int64 `[..., codebooks]`.
        """


class PackedLinear(nn.Module):
    """A linear layer without bias, whose weight can be packed for few rows on a CPU."""

    weight: nn.Parameter
    """`[outputs, inputs]`; absent once it is packed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.name = ""
        """Its name in the model, by which adapters know it."""
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        self._packed: Packed | None = None

    def pack(self, *, int8: bool = False, kernels: Kernels | None = None) -> None:
        """Replace the weight by a packed layout; does nothing where there is none for it. Irreversible.

        `int8`: each output's weights are scaled and rounded to 8 bits; needs `has_int8_kernel`. `kernels`: packs for
        them, which takes a float32 weight on a CPU; None: for torch.
        """
        if self._packed is not None:
            return
        if kernels is not None:
            self._packed = Matrix(self.weight, kernels, int8=int8)
        elif int8:
            self._packed = _FbgemmWeight(self.weight)
        elif _can_pack_float32(self.weight):
            self._packed = _OneDnnWeight(self.weight)
        else:
            return
        del self.weight

    @property
    def matrix(self) -> Matrix:
        """The weight as our own kernels have packed it."""
        assert isinstance(self._packed, Matrix), "not packed for kernels"
        return self._packed

    def forward(self, x: Tensor, adapters: Adapters | None = None) -> Tensor:
        """Multiply: `[..., inputs]` to `[..., outputs]`."""
        product = F.linear(x, self.weight) if self._packed is None else self._packed(x)
        return product if adapters is None else adapters.add(self.name, x, product)


def has_int8_kernel() -> bool:
    """Whether 8-bit products can be computed on this machine: by our kernels, or by torch on x86 CPUs."""
    return available() or "x86" in torch.backends.quantized.supported_engines


def _can_pack_float32(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # builds without oneDNN lack it


class _OneDnnWeight:
    """A float32 weight in oneDNN's layout."""

    def __init__(self, weight: Tensor) -> None:
        # torch has no public name for oneDNN's packed product: torch.compile's frozen CPU graphs call these operations.
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.data, None)  # noqa: SLF001

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")  # noqa: SLF001
        return product


class _FbgemmWeight:
    """A weight in 8 bits, in FBGEMM's layout."""

    def __init__(self, weight: Tensor) -> None:
        scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # Deprecated for tensors that carry their scales, which the only kernel that is fast for few rows still
            # takes.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            whole = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(whole, None)

    def __call__(self, x: Tensor) -> Tensor:
        # Each row has its own scale, where the kernel would use one for all rows: no row depends on its neighbours.
        scale = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / scale, 1 / ROW_LEVELS, ROW_LEVELS + 1, self._packed
        )
        return product * scale
