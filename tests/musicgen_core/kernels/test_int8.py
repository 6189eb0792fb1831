"""What int8 costs on the trained model that comes with the package."""

from __future__ import annotations

import pytest
import torch

from benchmarks.int8 import compare, music, score
from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.kernels.library import Kernels, all_kernels
from musicgen_core.lm.transformer import LanguageModel


def pocket(kernels: Kernels | None, *, int8: bool) -> LanguageModel:
    folder = hub.resolve("musicgen-pocket")
    return load_language_model(folder, device=torch.device("cpu"), dtype=torch.float32, int8=int8, kernels=kernels)


@pytest.mark.skipif("x86" not in torch.backends.quantized.supported_engines, reason="torch has no 8 bits here")
def test_int8_is_as_close_to_float32_as_torch_s() -> None:
    columns = music(pocket(None, int8=False))
    expected = score(pocket(None, int8=False), columns)
    torch_s = compare(expected, score(pocket(None, int8=True), columns))
    for kernels in all_kernels(1):
        exact, rounded = (compare(expected, score(pocket(kernels, int8=int8), columns)) for int8 in (False, True))
        assert exact.mean < 1e-5
        assert exact.same > 0.999
        assert 0 < rounded.mean <= 1.1 * torch_s.mean, kernels.name
        assert 1 - rounded.correlation <= 1.1 * (1 - torch_s.correlation), kernels.name
