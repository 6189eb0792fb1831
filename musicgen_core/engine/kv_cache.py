"""Keys and values of all slots, in memory that is set aside once.

A slot holds one request: a pair of rows, the conditional and the unconditional one. A request that needs one row uses
the first. Slots are not cleared between requests: a request overwrites what it will read.
"""

import torch
from torch import Tensor

from musicgen_core.lm.transformer import LanguageModelConfig

ROWS = 2
"""Rows per slot."""


class KVCache:
    """The memory, and the views of it that attention needs."""

    def __init__(
        self,
        config: LanguageModelConfig,
        *,
        slots: int,
        positions: int,
        condition_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
        zeroed: bool,
    ) -> None:
        """Set the memory aside.

        `zeroed`: needed where attention masks what it does not want: it multiplies that by zero, and fresh memory may
        hold NaN.
        """
        # Untouched pages cost nothing on a CPU, so `empty` lets memory grow with use.
        allocate = torch.zeros if zeroed else torch.empty
        tokens = 0 if config.is_melody else condition_tokens
        shape = (config.layers, 2, slots * ROWS, config.heads, positions, config.head_dim)
        self.keys_values = allocate(shape, device=device, dtype=dtype)
        """For self-attention, `[layers, 2, slots * ROWS, heads, positions, head_dim]`."""
        shape = (config.layers, 2, slots, config.heads, tokens, config.head_dim)
        self.condition = allocate(shape, device=device, dtype=dtype)
        """For cross-attention (text models), `[layers, 2, slots, heads, condition_tokens, head_dim]`: one row per slot,
        since what the unconditional row attends to is zeros and gives zero."""
        self.slot_bytes = (self.keys_values.nbytes + self.condition.nbytes) // slots
        """Memory of one slot."""

    def rows(self, slot: int, rows: int, positions: int) -> Tensor:
        """A slot's first rows and positions, `[layers, 2, rows, heads, positions, head_dim]`; shares memory."""
        first = slot * ROWS
        return self.keys_values[:, :, first : first + rows, :, :positions]

    def condition_row(self, slot: int, tokens: int) -> Tensor:
        """A slot's first condition tokens, `[layers, 2, 1, heads, tokens, head_dim]`; shares memory."""
        return self.condition[:, :, slot : slot + 1, :, :tokens]

    def set_condition(self, slot: int, keys_values: list[Tensor]) -> None:
        """Keep each layer's cross-attention keys and values, `[2, heads, tokens, head_dim]`."""
        for layer, part in enumerate(keys_values):
            self.condition[layer, :, slot, :, : part.shape[2]] = part
