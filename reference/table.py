"""The table of a comparison: two results each, how far they are apart, and whether that is near enough."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
import transformers
from torch import Tensor

TOLERANCE = 1e-4
TIE = 2e-4
"""Tokens whose guided logits are this near each other may be taken for one another: guidance multiplies rounding."""


@dataclass(frozen=True)
class Pair:
    """One thing as we and as audiocraft compute it."""

    name: str
    ours: Tensor
    theirs: Tensor

    @property
    def difference(self) -> float:
        """The largest; infinite where the shapes differ or something is not a number."""
        if self.ours.shape != self.theirs.shape:
            return float("inf")
        return float((self.ours.double() - self.theirs.double()).abs().max().nan_to_num(float("inf")))

    @property
    def equal_share(self) -> float:
        """Of all values, how many are the same."""
        return float((self.ours == self.theirs).double().mean()) if self.ours.shape == self.theirs.shape else 0.0


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    pairs: list[Pair]
    exact: bool = False
    """Tokens, which must all be equal."""
    tie: float = 0.0
    """Where they part all the same: by how much one was likelier than the other."""

    @property
    def holds(self) -> bool:
        """Whether we are equal, or near enough."""
        if self.exact:
            return all(pair.difference == 0 for pair in self.pairs) or 0 < self.tie <= TIE
        return all(pair.difference <= TOLERANCE for pair in self.pairs)

    def __str__(self) -> str:
        result = f"{max(pair.difference for pair in self.pairs):.1e}"
        if self.exact:
            equal = sum(round(pair.equal_share * pair.theirs.numel()) for pair in self.pairs)
            result = f"{equal:,} of {sum(pair.theirs.numel() for pair in self.pairs):,} equal"
            result += f"; they part at a tie: {self.tie:.1e}" if self.tie else ""
        return f"| {self.what} | {len(self.pairs)} | {result} | {'yes' if self.holds else 'NO'} |"


def print_header() -> None:
    """The date, the machine, the versions, and the columns' names."""
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {versions}, float32, against audiocraft 1.3.0\n")
    print("| compared | cases | largest difference, or tokens | equal |\n|---|---|---|---|", flush=True)


def print_row(row: Row) -> bool:
    """A line; returns whether it holds."""
    print(row, flush=True)
    return row.holds
