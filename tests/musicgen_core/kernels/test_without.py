"""A package that was built without the library."""

from __future__ import annotations

import functools
import inspect
import logging
from pathlib import Path

import numpy as np
import pytest

from musicgen_core import GenerationInput, MusicGen, SamplingParams
from musicgen_core.kernels import library
from musicgen_core.kernels.library import available, choose_kernels


@pytest.fixture
def _no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "libkernels.so")
    for name in ("_load", "all_kernels"):  # as in a new process
        monkeypatch.setattr(library, name, functools.cache(inspect.unwrap(vars(library)[name])))


def play(folder: Path) -> np.ndarray:
    with MusicGen.load(folder, device="cpu", max_requests=1) as model:
        return model.submit(GenerationInput("warm piano", 0.5, 1, SamplingParams(temperature=0))).audio().samples


@pytest.mark.usefixtures("_no_library")
def test_torch_computes_and_it_is_said_once(text_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "musicgen_core.kernels.library"):
        assert not available()
        assert choose_kernels() is None
        for _ in range(2):
            play(text_model)
    [said] = [record for record in caplog.records if record.name == "musicgen_core.kernels.library"]
    assert "so torch computes" in said.getMessage()


def test_torch_makes_the_same_music(text_model: Path, request: pytest.FixtureRequest) -> None:
    ours = play(text_model)
    request.getfixturevalue("_no_library")
    np.testing.assert_allclose(play(text_model), ours, atol=1e-4)
