"""The threads that carry out a call together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from musicgen_core.kernels.library import Kernels, Matrix, Team, all_kernels


def kernels_on(threads: int) -> Kernels:
    """The fastest, with a team of its own."""
    return replace(all_kernels(1)[0], team=Team(threads))


def products(layers: Sequence[Matrix], index: int) -> torch.Tensor:
    x = torch.randn(1 + index % 7, 64, generator=torch.Generator().manual_seed(index))
    return layers[index % len(layers)](x)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_from_several_threads_take_turns(threads: int) -> None:
    weights = [torch.randn(outputs, 64, generator=torch.Generator().manual_seed(outputs)) for outputs in (5, 64, 300)]
    alone, shared = (
        [Matrix(weight, kernels, int8=int8) for weight in weights for int8 in (False, True)]
        for kernels in (kernels_on(1), kernels_on(threads))
    )
    with ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda index: products(shared, index), range(400)))
    for index, result in enumerate(results):
        assert torch.equal(result, products(alone, index))


def test_a_team_larger_than_the_machine_gives_the_same() -> None:
    weight, x = torch.randn(300, 70), torch.randn(9, 70)
    crowd = Matrix(weight, kernels_on((os.cpu_count() or 1) + 9), int8=False)
    expected = Matrix(weight, kernels_on(1), int8=False)(x)
    for _ in range(10):
        assert torch.equal(crowd(x), expected)


ENDINGS = """
import gc, threading, torch
from dataclasses import replace
from pathlib import Path
from musicgen_core.kernels.library import Matrix, Team, all_kernels

fastest, threads = all_kernels(1)[0], lambda: len(list(Path("/proc/self/task").glob("*")))
x = torch.ones(3, 64)
before = threads()
for number in range(60):
    team = Team(1 + number % 5)
    layer = Matrix(torch.ones(40, 64), replace(fastest, team=team), int8=number % 2 == 0)
    if number % 3:
        torch.testing.assert_close(layer(x), torch.full((3, 40), 64.0))
    del team, layer
    gc.collect()
assert threads() == before, (threads(), before)
many = [Matrix(torch.ones(40, 64), replace(fastest, team=Team(3)), int8=False) for _ in range(20)]
for layer in many:
    torch.testing.assert_close(layer(x), torch.full((3, 40), 64.0))
if Path("/proc/self/task").is_dir():
    assert threads() == before + 40, threads()
print("to the end")
"""


def test_teams_end_with_their_last_user_or_with_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", ENDINGS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "to the end\n"), done.stderr
