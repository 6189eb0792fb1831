"""In which order CUDA is asked for what; a stand-in for `torch.cuda` takes it down. test_gpu.py has the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from musicgen_core.engine import cuda_graphs
from musicgen_core.engine.cuda_graphs import LEAD, CudaRecorder


class Cuda:
    """As much of `torch.cuda` as a recorder uses; `happened` is what it was asked for."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.pools = self.events = 0
        self.current = SimpleNamespace(wait_stream=lambda other: self.happened.append("the rest waits for the side"))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"torch.cuda.{name} is unknown to the stand-in")

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.happened.append("aside")
        try:
            yield
        finally:
            self.happened.append("back")

    @contextmanager
    def graph(self, graph: Any, *, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.happened.append(("begin", pool, capture_error_mode))
        yield
        self.happened.append("end")

    def current_stream(self, device: torch.device) -> Any:
        return self.current

    def graph_pool_handle(self) -> str:
        self.pools += 1
        return f"pool {self.pools}"

    def Stream(self, device: torch.device) -> Any:  # noqa: N802 (torch's name)
        return SimpleNamespace(wait_stream=lambda other: self.happened.append("the side waits for the rest"))

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.happened.append("launched"))

    def Event(self, *, blocking: bool) -> Any:  # noqa: N802
        self.events += 1
        name = self.events
        return SimpleNamespace(
            synchronize=lambda: self.happened.append(f"waited for {name}"),
            record=lambda stream: self.happened.append(f"noted {name}"),
        )


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    monkeypatch.setattr(cuda_graphs, "torch", SimpleNamespace(cuda=cuda))
    return cuda


def test_a_warm_up_takes_its_turn_on_the_side_stream(cuda: Cuda) -> None:
    CudaRecorder(torch.device("cuda")).warm_up(lambda: cuda.happened.append("step"))
    assert cuda.happened == [
        "the side waits for the rest",
        *("aside", "step", "back"),
        "the rest waits for the side",
    ]


def test_all_graphs_share_a_pool_and_are_of_their_thread_alone(cuda: Cuda) -> None:
    recorder = CudaRecorder(torch.device("cuda"))
    for _ in range(2):
        recorder.record(lambda: cuda.happened.append("step"))
    assert cuda.happened == 2 * ["aside", ("begin", "pool 1", "thread_local"), "step", "end", "back"]


def test_the_stream_is_put_back_where_recording_fails(cuda: Cuda) -> None:
    def step() -> None:
        raise RuntimeError("not permitted")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder(torch.device("cuda")).record(step)
    assert cuda.happened[-1] == "back"


def test_the_host_waits_for_the_step_before_the_last_whichever_graph_it_was(cuda: Cuda) -> None:
    recorder = CudaRecorder(torch.device("cuda"))
    one, other = (recorder.record(lambda: None) for _ in range(2))
    cuda.happened.clear()
    for replay in (one, other, one):
        replay()
    assert LEAD == 2
    assert cuda.happened == [
        *("waited for 1", "launched", "noted 1"),
        *("waited for 2", "launched", "noted 2"),
        *("waited for 1", "launched", "noted 1"),
    ]
