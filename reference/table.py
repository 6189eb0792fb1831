"""The table of a comparison: pairs of results, their differences, and whether these are small enough."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
import transformers
from torch import Tensor

TOLERANCE = 1e-4
TIE = 2e-4
"""Tokens whose guided logits differ by less may be exchanged: guidance multiplies rounding errors."""


@dataclass(frozen=True)
class Pair:
    """A tensor as our engine and as audiocraft compute it."""

    name: str
    native: Tensor
    audiocraft: Tensor

    @property
    def difference(self) -> float:
        """The largest absolute difference; infinite where the shapes differ or a value is NaN."""
        if self.native.shape != self.audiocraft.shape:
            return float("inf")
        return float((self.native.double() - self.audiocraft.double()).abs().max().nan_to_num(float("inf")))

    @property
    def equal_share(self) -> float:
        """The share of values that are equal."""
        return (
            float((self.native == self.audiocraft).double().mean())
            if self.native.shape == self.audiocraft.shape
            else 0.0
        )


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    what: str
    pairs: list[Pair]
    exact: bool = False
    """The values are tokens, which must all be equal."""
    tie: float = 0.0
    """Where tokens differ: by how much one was likelier than the other (see `NativeModel.lag`)."""

    @property
    def holds(self) -> bool:
        """Whether the results are equal, or near enough."""
        if self.exact:
            return all(pair.difference == 0 for pair in self.pairs) or 0 < self.tie <= TIE
        return all(pair.difference <= TOLERANCE for pair in self.pairs)

    def __str__(self) -> str:
        result = f"{max(pair.difference for pair in self.pairs):.1e}"
        if self.exact:
            equal = sum(round(pair.equal_share * pair.audiocraft.numel()) for pair in self.pairs)
            result = f"{equal:,} of {sum(pair.audiocraft.numel() for pair in self.pairs):,} equal"
            result += f"; they part at a tie: {self.tie:.1e}" if self.tie else ""
        return f"| {self.what} | {len(self.pairs)} | {result} | {'yes' if self.holds else 'NO'} |"


def print_header() -> None:
    """Print the date, the machine, the versions, and the columns' names."""
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {versions}, float32, against audiocraft 1.3.0\n")
    print("| compared | cases | largest difference, or tokens | equal |\n|---|---|---|---|", flush=True)


def print_row(row: Row) -> bool:
    """Print a row; returns whether it holds."""
    print(row, flush=True)
    return row.holds
