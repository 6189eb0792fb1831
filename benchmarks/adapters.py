"""What adapters cost a decoding step: none, one for all requests, and another one for each.

python -m benchmarks.adapters              # musicgen-small's real shape, rank 16, all modules changed
"""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.engine import PROMPT_TOKENS, SMALL, TINY, precisions, random_model, ways
from benchmarks.machine import describe_machine
from musicgen_core.adapters.adapter import EMBEDDING, Adapter, AdapterUse, LowRank
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.executor import run_to_end
from musicgen_core.lm.linear import PackedLinear
from musicgen_core.lm.transformer import LanguageModel

RANK = 16
WARM_UP = 3


def measure(*, full: bool = False) -> list[str]:
    """Random weights; guidance, so two rows for each request; the three cases take turns step by step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, config, steps = ("musicgen-small", SMALL, 60) if full else ("tiny (2 x 64)", TINY, 20)
    kernels, *_ = ways(device)
    lines = [
        f"a step of {name} with adapters of rank {RANK} on {describe_machine(device.type)}",
        "| dtype | requests | none, ms | one for all | one for each |",
        "|---|--:|--:|--:|--:|",
    ]
    for precision in precisions(device):
        model = random_model(config, device, kernels, precision)
        adapters = [random_adapter(model, seed) for seed in range(8)]
        for requests in (1, 8):
            none, shared, own = step_seconds(model, adapters, requests, steps)
            cells = f"{none * 1000:.2f} | {shared / none - 1:+.1%} | {own / none - 1:+.1%}"
            lines.append(f"| {precision} | {requests} | {cells} |")
    return lines


def random_adapter(model: LanguageModel, seed: int) -> Adapter:
    """One that changes every module of a step, with queries, keys, values and heads apart, as in PEFT's format."""
    config, generator = model.config, torch.Generator().manual_seed(seed)

    def change(start: int, inputs: int, outputs: int) -> LowRank:
        a, b = (torch.randn(shape, generator=generator) for shape in ((RANK, inputs), (outputs, RANK)))
        return LowRank(start, a * 0.02, b * 0.02)

    tokens = config.vocabulary + 1
    changes = {EMBEDDING: tuple(change(k * tokens, tokens, config.dim) for k in range(config.codebooks))}
    for module in model.modules():
        if isinstance(module, PackedLinear):
            parts = {"qkv": 3, "condition_kv": 2, "head": config.codebooks}.get(module.name.rpartition(".")[2], 1)
            outputs = module.outputs // parts
            changes[module.name] = tuple(change(part * outputs, module.inputs, outputs) for part in range(parts))
    return Adapter(f"random-{seed}", str(seed), config, changes)


def step_seconds(model: LanguageModel, adapters: list[Adapter], requests: int, steps: int) -> tuple[float, ...]:
    """The median step without adapters, with one for all requests, and with one for each."""
    decoders = []
    for chosen in (None, adapters[:1], adapters):
        decoder = BatchDecoder(
            model, slots=requests, max_frames=steps + 16, max_text_tokens=PROMPT_TOKENS, max_adapters=len(adapters)
        )
        for slot in range(requests):
            text = Conditions(torch.randn(PROMPT_TOKENS, model.config.text_dim))
            use = chosen and AdapterUse(chosen[slot % len(chosen)])
            run_to_end(decoder.admit(slot, Request(steps, SamplingParams(), slot, text, adapter=use or None)))
        decoders.append(decoder)
    times: list[list[float]] = [[] for _ in decoders]
    for _ in range(steps):
        for decoder, own in zip(decoders, times, strict=True):
            began = time.perf_counter()
            decoder.step()
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            own.append(time.perf_counter() - began)
    return tuple(statistics.median(own[WARM_UP:]) for own in times)


if __name__ == "__main__":
    print("\n".join(measure(full=True)))
