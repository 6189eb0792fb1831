"""Decoding speed for 1, 2, 4, 8 and 16 requests at once, in frames a second over all, and the memory of a slot.

On a CPU by the kernels, as the service decodes, and by torch, as it does where there are none.

python -m benchmarks.engine                # the project's tiny model, and musicgen-small's real shape
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import product

import torch

from musicgen_core.device import Dtype, choose_dtype
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.kernels.library import Kernels, choose_kernels
from musicgen_core.lm.linear import has_int8_kernel
from musicgen_core.lm.transformer import LanguageModel, LanguageModelConfig

TINY = LanguageModelConfig(
    layers=2,
    dim=64,
    heads=4,
    ffn_dim=256,
    activation="gelu",
    codebooks=4,
    vocabulary=2048,
    audio_channels=1,
    text_dim=32,
    chroma_bins=None,
    chroma_frames=None,
    frame_rate=50,
    sample_rate=32_000,
)
SMALL = replace(TINY, layers=24, dim=1024, heads=16, ffn_dim=4096, text_dim=768)
MEDIUM = replace(SMALL, layers=48, dim=1536, heads=24, ffn_dim=6144)
LARGE = replace(SMALL, layers=48, dim=2048, heads=32, ffn_dim=8192)
PROMPT_TOKENS = 12


def measure(*, full: bool = False) -> list[str]:
    """Random weights; guidance, so two rows for each request; all requests start together."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines = [
        f"engine on {device}, torch {torch.__version__}, {torch.get_num_threads()} threads, guidance 3, top_k 250",
        "| shape | by | dtype | memory a slot | requests at once | steps/s | frames/s in all |",
        "|---|---|---|---|---|---|---|",
    ]
    shapes = [("tiny (2 x 64)", TINY, 150), ("musicgen-small (24 x 1024)", SMALL, 60 if full else 12)]
    for name, config, steps in shapes:
        for kernels, precision in product(ways(device), precisions(device)):
            by = f"ours, {kernels.name}" if kernels else "ours by torch"
            for requests in (1, 2, 4, 8, 16):
                rate, slot = frames_per_second(config, device, kernels, precision, requests, steps)
                cells = f"{precision} | {slot / 2**20:.0f} MiB | {requests} | {rate:.1f} | {rate * requests:.1f}"
                lines.append(f"| {name} | {by} | {cells} |")
    return lines


def ways(device: torch.device) -> tuple[Kernels | None, ...]:
    """The kernels to measure on the device; None: torch."""
    kernels = choose_kernels() if device.type == "cpu" else None
    return (kernels, None) if kernels else (None,)


def precisions(device: torch.device) -> tuple[Dtype, ...]:
    """The number types to measure on the device."""
    if device.type != "cpu":
        return ("bfloat16",)
    return ("float32", "int8") if has_int8_kernel() else ("float32",)


@torch.inference_mode()
def random_model(
    config: LanguageModelConfig, device: torch.device, kernels: Kernels | None, precision: Dtype
) -> LanguageModel:
    """A model with random weights, ready to run."""
    with torch.device(device):
        model = LanguageModel(config).to(choose_dtype(precision, device)).eval()
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
        model.pack(int8=precision == "int8", kernels=kernels)
    return model


def weights_read(config: LanguageModelConfig) -> int:
    """Weights that every step reads: all but the embeddings and the conditions' keys and values."""
    layer = 4 * config.dim**2 + 2 * config.dim**2 + 2 * config.dim * config.ffn_dim
    return config.layers * layer + config.dim * config.codebooks * config.vocabulary


def frames_per_second(
    config: LanguageModelConfig,
    device: torch.device,
    kernels: Kernels | None,
    precision: Dtype,
    requests: int,
    steps: int,
) -> tuple[float, int]:
    """Steps a second, by the median step after the first three, and bytes of a slot."""
    model = random_model(config, device, kernels, precision)
    engine = Engine(model, max_requests=requests, max_frames=steps + 16)
    text = torch.randn(PROMPT_TOKENS, config.text_dim)
    for seed in range(requests):
        engine.submit(Request(steps, SamplingParams(), seed, Conditions(text, None), None))
    times = []
    while True:
        began = time.perf_counter()
        if not engine.step():
            break
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    slot = engine.slot_bytes
    engine.close()
    return 1 / statistics.median(times[3:]), slot


if __name__ == "__main__":
    print("\n".join(measure(full=True)))
