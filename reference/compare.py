"""Prints the differences between our engine and audiocraft; exits with 1 where they are too large.

usage: python -m reference.compare TINY [SMALL] [--parts text melody stereo sounds diffusion long]

TINY is the folder that `python -m reference.write TINY` wrote; SMALL is the one that `python -m reference.write SMALL
--shape small` wrote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors.torch import load_file

from musicgen_core.options import NormalizationStrategy
from reference import long_cases, native_diffusion, native_long, native_models
from reference.cases import PARTS, SMALL, TINY, Kind, Part, Shape, greedy_cases
from reference.native_models import NativeModel
from reference.table import Pair, Row, print_header, print_row

CODECS = ("text", "stereo")
"""The kinds that use the codec in different ways."""
SAME_LEVELS: dict[NormalizationStrategy, set[str]] = {
    NormalizationStrategy.CLIP: set(),
    NormalizationStrategy.PEAK: {"silence"},
    NormalizationStrategy.RMS: {"silence", "stereo", "opposite channels"},
}
"""The strategies that should be equal, each with the sounds for which it is not; see docs/parity.md."""


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=Path, metavar="TINY")
    parser.add_argument("small", type=Path, metavar="SMALL", nargs="?")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    print_header()
    held = [print_row(row) for row in rows(args.tiny, TINY, args.parts)]
    if args.small is not None:
        held += [print_row(row) for row in rows(args.small, SMALL, SMALL.parts)]
    return 0 if all(held) else 1


def rows(folder: Path, shape: Shape, parts: Sequence[Part]) -> Iterator[Row]:
    """The rows of one folder's results."""
    size = f"{shape.layers} layers of {shape.dim}"
    for part in parts:
        if part == "sounds":
            yield from _sounds(folder)
        elif part == "diffusion":
            yield from _diffusion(folder)
        elif part == "long":
            for case in long_cases.CASES:
                what = f"greedy, {long_cases.SECONDS} s in windows: {case}"
                yield Row(what, [native_long.codes(folder, case)], exact=True)
        else:
            yield from _model(folder, part, shape, f"{part}, {size}")


def _model(folder: Path, kind: Kind, shape: Shape, name: str) -> Iterator[Row]:
    model = NativeModel(folder, kind)
    yield Row(f"{name}: T5's states", list(model.text_states()))
    yield Row(f"{name}: teacher-forced logits", list(model.logits()))
    cases = greedy_cases(kind, shape)
    for case, pair in zip(cases, model.greedy(cases, shape.steps), strict=True):
        tie = model.lag(case, pair)
        yield Row(f"{name}: greedy, {shape.steps} steps: {case.name}", [pair], exact=True, tie=tie)
    if kind in CODECS:
        yield Row(f"{name}: EnCodec, codes of a sound", [model.encoded()], exact=True)
        yield Row(f"{name}: EnCodec, sound of codes", [model.decoded()])


def _sounds(folder: Path) -> Iterator[Row]:
    yield Row("chroma, repetition and cutting", list(native_models.chroma(folder)))
    for strategy, excepted in SAME_LEVELS.items():
        pairs = [pair for name, of, pair in native_models.normalized(folder) if of == strategy and name not in excepted]
        yield Row(f"level: {strategy}", pairs)


def _diffusion(folder: Path) -> Iterator[Row]:
    expected = load_file(folder / native_diffusion.RESULTS)
    whole = {"tokens to waveform": lambda: native_diffusion.whole(folder / native_diffusion.CHECKPOINT)}
    for title, part in (native_diffusion.PARTS | whole).items():
        yield Row(f"MultiBand Diffusion: {title}", [Pair(name, result, expected[name]) for name, result in part()])


if __name__ == "__main__":
    sys.exit(main())
