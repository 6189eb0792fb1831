"""Compare our engine with audiocraft and transformers: the same weights in musicgen-small's shape, in turn in one run.

In every round each engine, in a process of its own, makes whole requests (text in, waveform out: T5, language model,
codec) and then decodes a longer stretch of codes, while the others are idle. audiocraft takes part where
scripts/audiocraft-env.sh has built its environment, or where it is installed beside us.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.api.accepting import resident_mb
from benchmarks.machine import describe_machine
from benchmarks.peers.checkpoint import FOLDER
from benchmarks.peers.models import FRAME_RATE, GUIDANCE, TOP_K
from benchmarks.peers.process import Peer, PeerError, Round, Timing
from benchmarks.peers.tables import medians, ratios
from musicgen_core.lm.linear import has_int8_kernel

AUDIOCRAFT_ENVIRONMENT = Path("build/audiocraft")
QUICK: dict[str, Any] = {"seconds": 1.0, "rounds": 3, "requests": [1], "codec_seconds": 5.0}
FULL: dict[str, Any] = {"seconds": 5.0, "rounds": 5, "requests": [1, 4], "codec_seconds": 30.0}
WARM_UP = Round(frames=12, requests=1, codec_frames=50, greedy=True)
SAME_SOUND = 1e-2
"""Largest difference, relative to the loudest sample, between two that compute the same; cuDNN may round to TF32."""


@dataclass(frozen=True)
class Contender:
    """An engine that takes part."""

    model: str
    """Its name in `models.MODELS`."""
    dtype: str
    python: str = sys.executable
    """The interpreter of its environment."""

    @property
    def name(self) -> str:
        return f"{self.model}, {self.dtype}"


def measure(
    *,
    seconds: float = QUICK["seconds"],
    rounds: int = QUICK["rounds"],
    requests: Sequence[int] = QUICK["requests"],
    codec_seconds: float = QUICK["codec_seconds"],
    audiocraft: Path = AUDIOCRAFT_ENVIRONMENT,
) -> list[str]:
    """The tables, as lines of Markdown. Raises PeerError where an engine fails or makes other music than the rest."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # In a process of its own, so that this one needs little memory.
    subprocess.run([sys.executable, "-m", "benchmarks.peers.checkpoint"], check=True, stdout=subprocess.DEVNULL)
    lines = [
        f"{describe_machine(device)}; musicgen-small's shape, random weights, guidance {GUIDANCE:g}, top-k {TOP_K}; "
        f"rounds in turn: {rounds}; median (least to most)"
    ]
    taking_part = contenders(device, audiocraft)
    if taking_part[-1].model != "audiocraft":
        lines += ["", f"audiocraft is left out: not installed in {audiocraft} (scripts/audiocraft-env.sh does that)"]
    with ExitStack() as stack:
        peers = [stack.enter_context(start(contender, device)) for contender in taking_part]
        lines += ["", same_music({peer.name: peer.measure(WARM_UP) for peer in peers})]
        for at_once in requests:
            round_ = Round(round(seconds * FRAME_RATE), at_once, round(codec_seconds * FRAME_RATE))
            timings = take_turns(peers, round_, rounds)
            resident = {peer.name: resident_mb(peer.pid) / 1000 for peer in peers}
            ours = {name: timings[name] for name in timings if name.startswith("ours")}
            theirs = {name: timings[name] for name in timings if name not in ours}
            lines += ["", *medians(timings, resident, round_), "", *ratios(ours, theirs)]
        lines += ["", *(f"- {peer.name}: {peer.about}" for peer in peers)]
    return lines


def contenders(device: str, audiocraft: Path) -> list[Contender]:
    """The engines that can be compared on this machine; audiocraft, if it is installed, is the last."""
    ours = ["float32", "int8"] if has_int8_kernel() else ["float32"]
    theirs = ["float32"]
    if device == "cuda":
        ours, theirs = ["bfloat16", "float16", "float32"], ["float16", "float32"]
    found = [Contender("ours", dtype) for dtype in ours] + [Contender("transformers", dtype) for dtype in theirs]
    python = audiocraft.absolute() / "bin" / "python"  # not resolved: the link is how Python finds the environment
    if python.exists():
        found.append(Contender("audiocraft", theirs[0], str(python)))
    elif find_spec("audiocraft") is not None:
        found.append(Contender("audiocraft", theirs[0]))
    return found


def start(contender: Contender, device: str) -> Peer:
    """Start its process and load the model. One at a time: loading takes more memory than the loaded model."""
    return Peer(contender.name, contender.python, contender.model, FOLDER, device, contender.dtype)


def take_turns(peers: Sequence[Peer], round_: Round, rounds: int) -> dict[str, list[Timing]]:
    """Each engine's timings, after a short round that does not count. Raises PeerError where the lengths differ."""
    for peer in peers:
        peer.measure(replace(round_, frames=WARM_UP.frames, codec_frames=WARM_UP.codec_frames))
    timings: dict[str, list[Timing]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            timings[peer.name].append(peer.measure(round_))
    lengths = {name: {timing.samples for timing in own} for name, own in timings.items()}
    if len(set().union(*lengths.values())) != 1:
        raise PeerError(f"The engines made sounds of different lengths, in samples: {lengths}")
    return timings


def same_music(timings: Mapping[str, Timing]) -> str:
    """How far each engine's greedy sounds are from those of the first in float32.

    Raises PeerError where another one in float32 differs: then the weights or the settings are not the same.
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
    """The largest difference, relative to the loudest sample of `other`; NaN where a sample is NaN."""
    theirs = torch.tensor(other)
    return float((torch.tensor(one) - theirs).abs().max() / theirs.abs().max())
