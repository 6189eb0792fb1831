"""What only a CUDA device can show: the same music as on the CPU, in every number type, from many threads, with
graphs as without.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen_core import GenerationInput, MusicGen, SamplingParams
from musicgen_core.adapters.adapter import AdapterUse
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.buckets import Bucket
from musicgen_core.engine.cuda_graphs import CudaRecorder
from musicgen_core.engine.request import Request
from musicgen_core.engine.step_graphs import StepGraphs
from musicgen_core.lm.transformer import LanguageModel
from tests.musicgen_core.adapters.peft_adapters import adapted_requests, make_adapter
from tests.musicgen_core.reference import (
    KINDS,
    Kind,
    long_request,
    make_engine,
    make_request,
    mixed_requests,
    reference,
    run,
    run_in_turns,
)

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
GREEDY = SamplingParams(temperature=0)


def greedy(folder: Path, device: str, dtype: str) -> np.ndarray:
    with MusicGen.load(folder, device=device, dtype=dtype, max_requests=2) as model:
        return model.submit(GenerationInput("warm piano", 2.0, 1, GREEDY)).audio().samples


@pytest.mark.parametrize("kind", ["text_model", "melody_model", "stereo_model"])
def test_float32_makes_the_same_music_as_the_cpu(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    np.testing.assert_allclose(greedy(folder, "cuda", "float32"), greedy(folder, "cpu", "float32"), atol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_makes_finite_sound(dtype: str, text_model: Path) -> None:
    samples = greedy(text_model, "cuda", dtype)
    assert samples.shape == (1, 64_000)
    assert np.isfinite(samples).all()
    assert samples.std() > 1e-3


def test_many_threads_share_one_engine(melody_model: Path) -> None:
    with MusicGen.load(melody_model, device="cuda", max_requests=8) as model:

        def generate(seed: int) -> float:
            return model.submit(GenerationInput(f"music {seed}", 1.0 + seed % 3, seed)).audio().duration

        with ThreadPoolExecutor(16) as threads:
            durations = list(threads.map(generate, range(32)))
    assert durations == [1.0 + seed % 3 for seed in range(32)]


class Refusing(CudaRecorder):
    """Records nothing: all steps run plainly."""

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        raise RuntimeError("not recorded")


class Counting(CudaRecorder):
    """Counts recordings and replays."""

    recordings = replays = 0

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        replay = super().record(step)
        self.recordings += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return counted


def on_cuda(kind: Kind, dtype: torch.dtype, folder: Path) -> LanguageModel:
    reference(kind).theirs.save_pretrained(folder)
    return load_language_model(folder, device=CUDA, dtype=dtype)


def decode(
    model: LanguageModel, recorder: CudaRecorder, *requests: Request, max_adapters: int = 0
) -> list[torch.Tensor]:
    decoder = BatchDecoder(
        model, slots=4, max_frames=320, max_text_tokens=80, recorder=recorder, max_adapters=max_adapters
    )
    return run_in_turns(decoder, *requests)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_equal_plain_steps_bit_by_bit(
    kind: Kind, dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, requests = on_cuda(kind, dtype, tmp_path), [*mixed_requests(kind), long_request(kind)]
    recorder = Counting(CUDA)
    graphs = decode(model, recorder, *requests)
    assert not caplog.records
    assert recorder.recordings >= 5
    assert recorder.replays > recorder.recordings
    plain = decode(model, Refusing(CUDA), *requests)
    [warning] = caplog.records  # that nothing is recorded is said once
    assert "not recorded" in warning.getMessage()
    for one, other in zip(graphs, plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_with_adapters_equal_plain_steps_bit_by_bit(kind: Kind, dtype: torch.dtype, tmp_path: Path) -> None:
    """Adapters come into memory and leave it while recorded steps are replayed."""
    model, requests = on_cuda(kind, dtype, tmp_path), adapted_requests(kind)
    graphs = decode(model, Counting(CUDA), *requests, *requests, max_adapters=3)
    plain = decode(model, Refusing(CUDA), *requests, *requests, max_adapters=3)
    for one, other in zip(graphs, plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_give_the_same_greedy_tokens_as_on_the_cpu(kind: Kind, tmp_path: Path) -> None:
    adapter = make_adapter(kind, 16, 1).ours
    request = replace(make_request(kind, 60, 1, temperature=0), adapter=AdapterUse(adapter))
    [ours] = decode(on_cuda(kind, torch.float32, tmp_path), CudaRecorder(CUDA), request, max_adapters=1)
    [expected] = run(make_engine(kind, max_adapters=1), request)
    assert torch.equal(ours, expected)


def test_a_recording_that_fails_halfway_leaves_the_device_usable(caplog: pytest.LogCaptureFixture) -> None:
    counter = torch.zeros(1, device=CUDA)

    def step(bucket: Bucket) -> None:
        counter.add_(1)
        counter.item()  # may not be recorded

    graphs = StepGraphs(CudaRecorder(CUDA))
    before = torch.cuda.current_stream()
    for slots in (1, 1, 2):
        graphs.run(Bucket(slots, 256, 64, 256), step)
    assert counter.item() == 3
    assert len(caplog.records) == 1
    assert torch.cuda.current_stream() == before


def test_recording_carries_nothing_out_and_replaying_does() -> None:
    counter = torch.zeros(1, device=CUDA)

    def step() -> None:
        counter.add_(1)

    recorder = CudaRecorder(CUDA)
    recorder.warm_up(step)
    replay = recorder.record(step)
    assert counter.item() == 1
    for _ in range(10):  # more than the host may be ahead
        replay()
    assert counter.item() == 11
