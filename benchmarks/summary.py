"""The table to read first: what this machine reaches, beside the best peer, the machine's limit and the stored figures.

python -m benchmarks.summary               # minutes; the peers run on the same weights, in turn
python -m benchmarks.summary --store       # keeps these figures in benchmarks/stored.json, for others to compare with
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import codec, engine
from benchmarks.machine import describe_machine
from benchmarks.peers.comparison import AUDIOCRAFT_ENVIRONMENT, WARM_UP, contenders, same_music, start, take_turns
from benchmarks.peers.models import FRAME_RATE
from benchmarks.peers.process import Round, Timing

STORED = Path(__file__).with_name("stored.json")
AT_ONCE = 8
Timings = dict[str, list[Timing]]


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    """The best of the others."""
    limit: float | None = None
    """What the machine allows, by its memory or its arithmetic."""
    more_is_better: bool = True

    def times_as_fast(self, other: float | None) -> float | None:
        """Ours in proportion to another figure; above 1 where ours is better."""
        if other is None:
            return None
        return self.ours / other if self.more_is_better else other / self.ours


def measure(audiocraft: Path = AUDIOCRAFT_ENVIRONMENT, *, store: bool = False) -> list[str]:
    """The table as lines of Markdown."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = _figures(device, audiocraft)
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"machine": "nothing", "figures": {}}
    if store:
        values = {figure.what: figure.ours for figure in figures}
        STORED.write_text(json.dumps({"machine": describe_machine(device.type), "figures": values}, indent=2) + "\n")
    lines = [
        f"{describe_machine(device.type)}; musicgen-small's shape, random weights, guidance 3",
        "",
        "| | ours | best peer | times as fast | the machine's limit | share of it | stored | here / stored |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for figure in figures:
        kept = stored["figures"].get(figure.what)
        share = figure.times_as_fast(figure.limit)
        cells = (
            f"{_number(figure.ours)} {figure.unit}",
            _number(figure.peer),
            _number(figure.times_as_fast(figure.peer)),
            _number(figure.limit),
            "" if share is None else f"{share:.0%}",
            _number(kept),
            _number(figure.times_as_fast(kept)),
        )
        lines.append(f"| {figure.what} | {' | '.join(cells)} |")
    return [*lines, "", f"Stored: {stored['machine']}."]


def _figures(device: torch.device, audiocraft: Path) -> list[Figure]:
    round_ = Round(frames=2 * FRAME_RATE, requests=1, codec_frames=10 * FRAME_RATE)
    timings = _peers(device, audiocraft, round_)
    theirs = {name: own for name, own in timings.items() if not name.startswith("ours")}
    reading = _read_bytes_per_second(device)
    sound = round_.codec_frames / FRAME_RATE
    figures = []
    for dtype, width in (("int8", 1), ("float32", 4), ("bfloat16", 2)):
        own = timings.get(f"ours, {dtype}")
        if own is None:
            continue
        figures += [
            Figure(
                f"one request, {dtype}: decoding",
                "steps/s",
                _median(own, "steps"),
                max(_median(other, "steps") for other in theirs.values()),
                reading / (width * engine.weights_read(engine.SMALL)),
            ),
            Figure(
                f"one request of 2 s, {dtype}: text to sound",
                "s",
                _median(own, "request"),
                min(_median(other, "request") for other in theirs.values()),
                more_is_better=False,
            ),
        ]
    precision = "int8" if device.type == "cpu" else "bfloat16"
    kernels, *_ = engine.ways(device)
    steps, _ = engine.frames_per_second(engine.SMALL, device, kernels, precision, AT_ONCE, 40)
    figures.append(Figure(f"{AT_ONCE} requests at once, {precision}: decoding", "frames/s", steps * AT_ONCE))
    ours = next(own for name, own in timings.items() if name.startswith("ours"))
    return [
        *figures,
        Figure(
            "the codec, for a second of sound",
            "s",
            _median(ours, "codec") / sound,
            min(_median(other, "codec") for other in theirs.values()) / sound,
            codec.limit_seconds(codec.as_ours(codec.official_model(), device), device),
            more_is_better=False,
        ),
    ]


def _peers(device: torch.device, audiocraft: Path, round_: Round) -> Timings:
    subprocess.run([sys.executable, "-m", "benchmarks.peers.checkpoint"], check=True, stdout=subprocess.DEVNULL)
    with ExitStack() as stack:
        peers = [stack.enter_context(start(one, device.type)) for one in contenders(device.type, audiocraft)]
        same_music({peer.name: peer.measure(WARM_UP) for peer in peers})
        return take_turns(peers, round_, rounds=3)


def _median(timings: list[Timing], measure: str) -> float:
    return statistics.median(getattr(timing, measure) for timing in timings)


def _read_bytes_per_second(device: torch.device) -> float:
    """How fast the memory can be read: the best of several sums of a gigabyte."""
    numbers = torch.zeros(2**28, dtype=torch.float32, device=device)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        numbers.sum().item()
        times.append(time.perf_counter() - began)
    return numbers.nbytes / min(times)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="store_true", help="keep these figures in benchmarks/stored.json")
    parser.add_argument("--audiocraft", type=Path, default=AUDIOCRAFT_ENVIRONMENT, metavar="FOLDER")
    given = parser.parse_args()
    print("\n".join(measure(given.audiocraft, store=given.store)))
