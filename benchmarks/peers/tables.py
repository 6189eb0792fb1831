"""Tables of the rounds' results, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from benchmarks.peers.models import FRAME_RATE
from benchmarks.peers.process import Round, Timing

MEASURES: Mapping[str, tuple[Callable[[Timing], float], bool]] = {
    "decoding": (lambda timing: timing.steps, True),
    "whole requests": (lambda timing: timing.request, False),
    "codec": (lambda timing: timing.codec, False),
}
"""What is compared, and whether a larger value is better."""


def medians(timings: Mapping[str, list[Timing]], resident: Mapping[str, float], round_: Round) -> list[str]:
    """A row for each engine; `resident`: its memory in gigabytes."""
    requests = "one request" if round_.requests == 1 else f"{round_.requests} requests at once,"
    seconds, codec_seconds = round_.frames / FRAME_RATE, round_.codec_frames / FRAME_RATE
    heads = "decoding, steps/s", f"{requests} of {seconds:g} s, s", f"codec alone, {codec_seconds:g} s of sound, s"
    lines = [f"| | {' | '.join(heads)} | memory |", "|---|---|---|---|---|"]
    for name, own in timings.items():
        cells = " | ".join(spread([value(timing) for timing in own]) for value, _ in MEASURES.values())
        lines.append(f"| {name} | {cells} | {resident[name]:.1f} GB |")
    return lines


def ratios(ours: Mapping[str, list[Timing]], theirs: Mapping[str, list[Timing]]) -> list[str]:
    """How many times as fast as the others ours are, compared round by round."""
    lines = [f"| times as fast | {' | '.join(MEASURES)} |", "|---|---|---|---|"]
    for name, own in ours.items():
        for other, rounds in theirs.items():
            cells = []
            for value, more_is_better in MEASURES.values():
                pairs = [(value(a), value(b)) for a, b in zip(own, rounds, strict=True)]
                cells.append(spread([a / b if more_is_better else b / a for a, b in pairs]))
            lines.append(f"| {name} / {other} | {' | '.join(cells)} |")
    return lines


def spread(values: list[float]) -> str:
    """Median, smallest and largest value: 2.41 (2.35 to 2.50)."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
