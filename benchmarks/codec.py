"""What the codec costs: seconds for each second of sound, ours and transformers' in turn, and how long a stretch takes.

python -m benchmarks.codec
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from musicgen_core.codec.encodec import Codec
from musicgen_core.executor import Resumable, run_to_end

PUSH = 25
"""Frames of a live push."""
LIMIT_DIM = 2048


def official_model() -> Any:
    """Random weights in the shape of the official 32 kHz codec."""
    config = EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32_000, audio_channels=1, num_filters=64, hidden_size=128,
        codebook_dim=128, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048, use_causal_conv=False,
        num_lstm_layers=2, norm_type="weight_norm", use_conv_shortcut=False,
    )  # fmt: skip
    torch.manual_seed(0)
    return EncodecModel(config).eval().requires_grad_(False)


def as_ours(model: Any, device: torch.device) -> Codec:
    """Our codec with the same weights."""
    return Codec(model.config.to_dict(), model.state_dict(), channels=1, device=device)


def measure(*, full: bool = False) -> list[str]:
    """Medians of alternating runs; the longest stretch is the median of each run's longest."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, runs = official_model().to(device), 7 if full else 3
    codec = as_ours(model, device)
    rows = []
    for seconds in (10 if full else 4, PUSH / codec.frame_rate):
        frames = round(seconds * codec.frame_rate)
        codes = torch.randint(codec.codebook_size, (codec.codebooks, frames), device=device)
        sound = 0.1 * torch.randn(1, frames * codec.hop, device=device)
        rows.append(_row("decode", seconds, runs, lambda codes=codes: codec.decoding(codes), _decode(model, codes)))
        rows.append(_row("encode", seconds, runs, lambda sound=sound: codec.encoding(sound), _encode(model, sound)))
    return [
        f"codec on {device}, torch {torch.__version__}, {torch.get_num_threads()} threads, official shape, float32",
        f"limit: {codec.multiply_adds * codec.frame_rate / 1e9:.1f} G multiply-adds for a second of sound take "
        f"{limit_seconds(codec, device):.3f} s at the speed of one large matrix product",
        "| | seconds of sound | ours, s/s | transformers, s/s | ratio | stretches | longest, ms |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def limit_seconds(codec: Codec, device: torch.device) -> float:
    """Seconds for a second of sound, if all multiply-adds ran at the speed of one large matrix product."""
    return codec.multiply_adds * codec.frame_rate / _peak(device)


def _decode(model: Any, codes: Tensor) -> Callable[[], object]:
    return lambda: model.decode(codes[None, None], [None])


def _encode(model: Any, sound: Tensor) -> Callable[[], object]:
    return lambda: model.encode(sound[None])


@torch.inference_mode()
def _row(
    name: str, seconds: float, runs: int, ours: Callable[[], Resumable[Tensor]], theirs: Callable[[], object]
) -> str:
    watch, whole, stretches = Stopwatch(), [], []
    run_to_end(ours(), watch)
    theirs()
    for _ in range(runs):
        watch.times.clear()
        run_to_end(ours(), watch)
        stretches.append(list(watch.times))
        watch.times.clear()
        watch.execute(theirs)
        whole.append(watch.times[0])
    mine, other = (statistics.median(times) / seconds for times in ([sum(times) for times in stretches], whole))
    longest = 1000 * statistics.median(max(times) for times in stretches)
    counted = f"{len(stretches[0])} | {longest:.0f}"
    return f"| {name} | {seconds:g} | {mine:.3f} | {other:.3f} | {other / mine:.1f} | {counted} |"


class Stopwatch:
    """An Executor that times what it does."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def execute(self, work: Callable[[], Any], /) -> Any:
        began = time.perf_counter()
        done = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter() - began)
        return done


def _peak(device: torch.device) -> float:
    """Multiply-adds a second."""
    matrix, watch = torch.randn(LIMIT_DIM, LIMIT_DIM, device=device), Stopwatch()
    for _ in range(5):
        watch.execute(lambda: matrix @ matrix)
    return LIMIT_DIM**3 / min(watch.times)


if __name__ == "__main__":
    print("\n".join(measure(full=True)))
