"""Prints how far our engine is from audiocraft; exits with 1 where it is too far.

usage: python -m parity.compare FOLDER [--shape tiny|small] [--kinds text melody stereo]

FOLDER is what `python -m parity.reference` wrote with the same options.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

from musicgen_core.loudness import NormalizationStrategy
from parity import ours
from parity.cases import KINDS, SHAPES, Kind, Shape, greedy_cases
from parity.ours import Ours, Pair

TOLERANCE = 1e-4
CODECS = ("text", "stereo")
"""The kinds that differ in how they use the codec."""
SAME_LEVELS: dict[NormalizationStrategy, set[str]] = {
    NormalizationStrategy.CLIP: set(),
    NormalizationStrategy.PEAK: {"silence"},
    NormalizationStrategy.RMS: {"silence", "stereo", "opposite channels"},
}
"""The strategies that are meant to be equal, and the sounds for which they are not; see docs/parity.md."""


@dataclass(frozen=True)
class Row:
    """A line of the table. exact: tokens, which must all be equal."""

    what: str
    pairs: list[Pair]
    exact: bool = False

    @property
    def holds(self) -> bool:
        """Whether we are equal, or near enough."""
        return all(pair.difference <= (0 if self.exact else TOLERANCE) for pair in self.pairs)

    def __str__(self) -> str:
        result = f"{max(pair.difference for pair in self.pairs):.1e}"
        if self.exact:
            equal = sum(int((pair.ours == pair.theirs).sum()) for pair in self.pairs)
            result = f"{equal:,} of {sum(pair.theirs.numel() for pair in self.pairs):,} equal"
        return f"| {self.what} | {len(self.pairs)} | {result} | {'yes' if self.holds else 'NO'} |"


def main() -> int:
    """Compare a folder; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    shape: Shape = SHAPES[args.shape]
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    sizes = f"{shape.layers} layers x {shape.dim} x {shape.heads} heads"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {versions}, float32, {sizes}\n")
    print("| compared | cases | largest difference, or tokens | equal |\n|---|---|---|---|")
    held = [_print(row) for row in rows(args.folder, shape, args.kinds)]
    return 0 if all(held) else 1


def rows(folder: Path, shape: Shape, kinds: Iterable[Kind]) -> Iterator[Row]:
    """The table, line by line."""
    for kind in kinds:
        model = Ours(folder, kind)
        yield Row(f"{kind}: T5's states", list(model.text_states()))
        yield Row(f"{kind}: teacher-forced logits", list(model.logits()))
        for pair in model.greedy(greedy_cases(kind, shape), shape.steps):
            yield Row(f"{kind}: greedy, {shape.steps} steps: {pair.name}", [pair], exact=True)
        if kind in CODECS:
            yield Row(f"{kind}: EnCodec, codes", [model.encoded()], exact=True)
            yield Row(f"{kind}: EnCodec, sound", [model.decoded()])
    yield Row("chroma, repetition and cutting", list(ours.chroma(folder)))
    for strategy, excepted in SAME_LEVELS.items():
        pairs = [pair for name, of, pair in ours.normalized(folder) if of == strategy and name not in excepted]
        yield Row(f"level: {strategy}", pairs)


def _print(row: Row) -> bool:
    print(row, flush=True)
    return row.holds


if __name__ == "__main__":
    sys.exit(main())
