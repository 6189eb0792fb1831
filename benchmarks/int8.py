"""The effect of int8 on the logits: a model's own music, scored in float32 and in int8, as the service computes it.

python -m benchmarks.int8                  # musicgen-pocket; musicgen-small's real shape with random weights
python -m benchmarks.int8 SOURCE...        # model folders or hub ids
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.peers.checkpoint import require_checkpoint
from benchmarks.peers.models import OURS
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.engine.attention import Lane, SequenceAttention
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.kv_cache import KVCache
from musicgen_core.engine.native_step import NativeStep
from musicgen_core.engine.request import Conditions, Request, condition_vectors
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.kernels.library import choose_kernels
from musicgen_core.lm.delay_pattern import apply_delays
from musicgen_core.lm.transformer import LanguageModel, position_table

FRAMES = 250
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Difference:
    """Of logits, in standard deviations of the exact ones."""

    correlation: float
    mean: float
    largest: float
    same: float
    """How often the likeliest token is the same."""


def measure(sources: Sequence[str | Path] = ()) -> list[str]:
    """A row for each model: the logits' differences in standard deviations, and how often the likeliest token agrees.

    Columns that contain padding are left out.
    """
    rows = [row(source) for source in sources or ("musicgen-pocket", require_checkpoint() / OURS)]
    return [
        f"int8 against float32 on {FRAMES} frames of the model's own sampled music, no text, no guidance",
        "| model | columns | correlation | mean difference | largest difference | same likeliest token |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def row(source: str | Path) -> str:
    folder, kernels = hub.resolve(source), choose_kernels()
    exact, rounded = (
        load_language_model(folder, device=CPU, dtype=torch.float32, int8=int8, kernels=kernels)
        for int8 in (False, True)
    )
    columns = music(exact)
    expected, got = (score(model, columns) for model in (exact, rounded))
    found = compare(expected, got)
    shape = f"{exact.config.layers} layers x {exact.config.dim}"
    name = source if isinstance(source, str) else "random weights"
    cells = f"{found.correlation:.5f} | {found.mean:.4f} sd | {found.largest:.3f} sd | {found.same:.1%}"
    return f"| {name} ({shape}) | {len(expected)} | {cells} |"


def compare(expected: Tensor, got: Tensor) -> Difference:
    """How far logits `[columns, codebooks, vocabulary]` are from the exact ones."""
    difference = (got - expected).abs() / expected.std()
    correlation = torch.corrcoef(torch.stack([expected.flatten(), got.flatten()]))[0, 1]
    same = (expected.argmax(-1) == got.argmax(-1)).float().mean()
    return Difference(float(correlation), float(difference.mean()), float(difference.max()), float(same))


def music(model: LanguageModel) -> Tensor:
    """Music that the model samples by itself, as columns of the delay pattern: [columns, codebooks]."""
    engine = Engine(model, max_requests=1, max_frames=FRAMES)
    generation = engine.submit(Request(FRAMES, SamplingParams(), seed=1))
    while engine.step():
        pass
    return apply_delays(generation.codes(), model.config.delays, model.config.padding).T[:FRAMES]


@torch.inference_mode()
def score(model: LanguageModel, columns: Tensor) -> Tensor:
    """Logits of the unconditional row from the first column without padding on: [columns, codebooks, vocabulary].

    Step by step where the model is packed for kernels, else all at once.
    """
    config, vectors = model.config, condition_vectors(model, Conditions(), conditional=False)
    before, tokens = (len(vectors), 1) if config.is_melody else (0, len(vectors))
    positions = before + len(columns)
    cache = KVCache(
        config,
        slots=1,
        positions=positions,
        condition_tokens=tokens,
        device=CPU,
        dtype=torch.float16 if model.int8 and model.kernels else torch.float32,
        zeroed=True,
    )
    if not config.is_melody:
        cache.set_condition(0, model.condition_keys_values(vectors))
    lane = Lane(rows=1, position=0, condition_tokens=tokens)
    table = position_table(positions, config.dim, device=CPU, dtype=torch.float32)
    x = torch.cat([vectors[:before], model.embed(columns)]) + table
    first = max(config.delays) + 1
    if model.kernels is None:
        out = model(x[None], SequenceAttention(cache, 0, lane, positions))
        return model.logits(out[0, before + first :])
    if before:
        model(x[None, :before], SequenceAttention(cache, 0, lane, before))
    step, logits, columns = NativeStep(model, cache, table), [], columns.contiguous()
    for column in range(len(columns)):
        lane.position = before + column
        logits.append(step.logits({0: lane}, columns[None], torch.tensor([column]))[0, 0].clone())
    return torch.stack(logits[first:])


if __name__ == "__main__":
    print("\n".join(measure(sys.argv[1:])))
