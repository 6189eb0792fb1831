"""Ours against audiocraft and transformers: the same weights in musicgen-small's shape, in turn in one run.

python -m benchmarks.peers                 # one request of 1 s, three rounds: a few minutes on two cores
python -m benchmarks.peers --full          # one request and four at once, of 5 s, five rounds: about an hour
python -m benchmarks.peers --full --seconds 10 --requests 1

In every round each engine, in a process of its own, makes whole requests (text in, waveform out: T5, language model,
codec) and then decodes a longer stretch of codes, while the others idle. audiocraft takes part where
scripts/audiocraft-env.sh has built its environment (build/audiocraft, or --audiocraft FOLDER), or where it is installed
beside us.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.accepting import resident_mb
from benchmarks.checkpoint import FOLDER
from benchmarks.machine import describe_machine
from benchmarks.peer import Peer, PeerError, Round, Timing
from benchmarks.peer_models import FRAME_RATE, GUIDANCE, MOST_REQUESTS, TOP_K
from benchmarks.peer_tables import medians, ratios
from musicgen_core.lm.linear import has_int8_kernel

AUDIOCRAFT_ENVIRONMENT = Path("build/audiocraft")
QUICK: dict[str, Any] = {"seconds": 1.0, "rounds": 3, "requests": [1], "codec_seconds": 5.0}
FULL: dict[str, Any] = {"seconds": 5.0, "rounds": 5, "requests": [1, 4], "codec_seconds": 30.0}
WARM_UP = Round(frames=12, requests=1, codec_frames=50, greedy=True)
SAME_SOUND = 1e-2
"""Largest difference, relative to the loudest sample, between two that compute the same; cuDNN may round to TF32."""


@dataclass(frozen=True)
class Contender:
    """What takes part. model: in `peer_models`; python: of its environment."""

    model: str
    dtype: str
    python: str = sys.executable

    @property
    def name(self) -> str:
        return f"{self.model}, {self.dtype}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="longer requests, more rounds, four requests at once too")
    parser.add_argument("--seconds", type=float, help="of each request")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--requests", type=int, nargs="+", choices=range(1, MOST_REQUESTS + 1), help="at once")
    parser.add_argument("--codec-seconds", type=float, help="of the sound that the codec alone decodes")
    parser.add_argument("--audiocraft", type=Path, help=f"its environment ({AUDIOCRAFT_ENVIRONMENT})")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    print("\n".join(measure(**(FULL if given.pop("full") else QUICK) | given)))


def measure(
    *,
    seconds: float = QUICK["seconds"],
    rounds: int = QUICK["rounds"],
    requests: Sequence[int] = QUICK["requests"],
    codec_seconds: float = QUICK["codec_seconds"],
    audiocraft: Path = AUDIOCRAFT_ENVIRONMENT,
) -> list[str]:
    """The tables. Raises PeerError where an engine fails, or two that should make the same sound do not."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # In a process of its own, so that this one stays small.
    subprocess.run([sys.executable, "-m", "benchmarks.checkpoint"], check=True, stdout=subprocess.DEVNULL)
    lines = [
        f"{describe_machine(device)}; musicgen-small's shape, random weights, guidance {GUIDANCE:g}, top-k {TOP_K}; "
        f"rounds in turn: {rounds}; median (least to most)"
    ]
    taking_part = contenders(device, audiocraft)
    if taking_part[-1].model != "audiocraft":
        lines += ["", f"audiocraft is left out: not installed in {audiocraft} (scripts/audiocraft-env.sh does that)"]
    with ExitStack() as stack:
        peers = [stack.enter_context(start(contender, device)) for contender in taking_part]
        lines += ["", same_music({peer.name: peer.run(WARM_UP) for peer in peers})]
        for at_once in requests:
            round_ = Round(round(seconds * FRAME_RATE), at_once, round(codec_seconds * FRAME_RATE))
            timings = run_in_turn(peers, round_, rounds)
            resident = {peer.name: resident_mb(peer.pid) / 1000 for peer in peers}
            ours = {name: timings[name] for name in timings if name.startswith("ours")}
            theirs = {name: timings[name] for name in timings if name not in ours}
            lines += ["", *medians(timings, resident, round_), "", *ratios(ours, theirs)]
        lines += ["", *(f"- {peer.name}: {peer.about}" for peer in peers)]
    return lines


def contenders(device: str, audiocraft: Path) -> list[Contender]:
    """What can be compared here; audiocraft, if it is there, last."""
    ours = ["float32", "int8"] if has_int8_kernel() else ["float32"]
    theirs = ["float32"]
    if device == "cuda":
        ours, theirs = ["bfloat16", "float16", "float32"], ["float16", "float32"]
    found = [Contender("ours", dtype) for dtype in ours] + [Contender("transformers", dtype) for dtype in theirs]
    python = audiocraft.absolute() / "bin" / "python"  # not resolved: a link is what makes it an environment's
    if python.exists():
        found.append(Contender("audiocraft", theirs[0], str(python)))
    elif find_spec("audiocraft") is not None:
        found.append(Contender("audiocraft", theirs[0]))
    return found


def start(contender: Contender, device: str) -> Peer:
    """Load it; one after the other, for loading takes more memory than having loaded."""
    return Peer(contender.name, contender.python, contender.model, FOLDER, device, contender.dtype)


def run_in_turn(peers: Sequence[Peer], round_: Round, rounds: int) -> dict[str, list[Timing]]:
    """Each engine's timings, after a short round that does not count."""
    for peer in peers:
        peer.run(replace(round_, frames=WARM_UP.frames, codec_frames=WARM_UP.codec_frames))
    timings: dict[str, list[Timing]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            timings[peer.name].append(peer.run(round_))
    lengths = {name: {timing.samples for timing in own} for name, own in timings.items()}
    if len(set().union(*lengths.values())) != 1:
        raise PeerError(f"The engines made sounds of different lengths, in samples: {lengths}")
    return timings


def same_music(timings: Mapping[str, Timing]) -> str:
    """How far each engine's greedy sounds lie from those of the first in float32; in float32 they must agree, or the
    weights or the settings are not the same.
    """
    first = next(name for name in timings if name.endswith("float32"))
    said = []
    for name, timing in timings.items():
        sound = difference(timing.sound, timings[first].sound)
        codec = difference(timing.codec_sound, timings[first].codec_sound)
        if name.endswith("float32") and not (sound <= SAME_SOUND and codec <= SAME_SOUND):  # nor may they be NaN
            raise PeerError(f"{name} and {first} make different sounds: {sound:.1e} apart, the codec alone {codec:.1e}")
        said.append(f"{name} {sound:.0e}, {codec:.0e}")
    return (
        f"Largest differences to {first}, relative to the loudest sample, of {WARM_UP.frames} greedy frames' sound and "
        f"of the codec alone: {'; '.join(said)}."
    )


def difference(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest, relative to the loudest sample of `other`; NaN where a sample is."""
    theirs = torch.tensor(other)
    return float((torch.tensor(one) - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    main()
