import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from musicgen_core.engine import batch_decoder
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import GenerationCancelled, InvalidRequest, StepFailed, UnsupportedByModel
from tests.musicgen_core.reference import (
    CHROMA_BINS,
    GREEDY,
    TEXT_DIM,
    VOCABULARY,
    chroma,
    drive,
    make_engine,
    make_request,
    mixed_requests,
    prompt,
    reference,
    run,
)
from tests.servers import wait_until

# A generation's life


def test_progress_counts_steps_up_to_the_total() -> None:
    engine = make_engine(requests=1)
    first, second = engine.submit(make_request(frames=5)), engine.submit(make_request(frames=5))
    assert (first.total_steps, first.completed_steps, first.started) == (8, 0, False)
    engine.step()
    assert (first.completed_steps, first.started) == (1, True)
    assert (second.completed_steps, second.started) == (0, False)
    for _ in range(7):
        assert not first.wait(0)
        engine.step()
    assert first.wait(0)
    assert first.completed_steps == first.total_steps
    assert first.codes().shape == (4, 5)


def test_the_work_done_is_counted_and_an_end_has_its_time() -> None:
    with make_engine(requests=2) as engine:
        generations = [engine.submit(make_request(frames=frames)) for frames in (5, 10)]
        for generation in generations:
            generation.codes()
            assert generation.started_at is not None
            assert generation.finished_at is not None
            assert generation.started_at < generation.finished_at
    done = engine.statistics
    # Every step of either, whether it was shared or not.
    assert done.request_steps == 8 + 13
    assert 13 <= done.steps <= 21
    assert done.seconds > 0


def test_the_prompt_stands_before_the_new_frames() -> None:
    codes = prompt("text", 9)
    [result] = run(make_engine(), Request(6, SamplingParams(), 0, Conditions(), codes))
    assert result.shape == (4, 15)
    assert torch.equal(result[:, :9], codes)
    assert (result >= 0).all()
    assert (result < VOCABULARY).all()


def test_the_result_is_an_ordinary_tensor() -> None:
    [codes] = run(make_engine(), make_request())
    codes += 1  # a tensor of inference mode refuses this
    assert codes.device.type == "cpu"
    assert codes.dtype == torch.int64


def test_cancelling_between_steps_frees_the_slot_at_once() -> None:
    engine = make_engine(requests=1)
    running, waiting, last = (engine.submit(make_request(frames=5)) for _ in range(3))
    engine.step()
    running.cancel()
    waiting.cancel()
    engine.step()
    for generation in (running, waiting):
        assert generation.wait(0)
        with pytest.raises(GenerationCancelled):
            generation.codes()
    assert running.completed_steps == 1
    assert not waiting.started
    assert last.completed_steps == 1
    while engine.step():
        pass
    assert last.codes().shape == (4, 5)


def test_cancelling_too_late_changes_nothing() -> None:
    engine = make_engine()
    generation = engine.submit(make_request())
    while engine.step():
        pass
    generation.cancel()
    engine.step()
    assert generation.codes().shape == (4, 10)


# Failures


class BreaksOnce(nn.Module):
    """Raises the next time it runs."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.broken = False

    def forward(self, *given: Any) -> Tensor:
        if not self.broken:
            self.broken = True
            raise RuntimeError("out of memory")
        return self.inner(*given)


@contextmanager
def breaking(owner: object, name: str) -> Iterator[None]:
    """Breaks the next use of a network's layer, or of a module's function."""
    inner = getattr(owner, name)
    setattr(owner, name, BreaksOnce(inner))
    yield
    setattr(owner, name, inner)


def test_a_failing_step_fails_those_that_ran_and_the_engine_goes_on() -> None:
    engine = make_engine(requests=2)
    first, second, third = (engine.submit(make_request(frames=5)) for _ in range(3))
    while not second.started:
        engine.step()
    with breaking(batch_decoder, "sample"):
        drive(engine)
    for generation in (first, second):
        # Any of the two may be the cause.
        with pytest.raises(StepFailed, match="a step of 2 requests failed: out of memory"):
            generation.codes()
    assert third.codes().shape == (4, 5)


def test_a_failing_admission_fails_only_its_own_request() -> None:
    engine = make_engine("melody", requests=2)  # runs the model at admission
    first, second = (engine.submit(make_request("melody", frames=5)) for _ in range(2))
    with breaking(reference("melody").ours.layers[1], "feed_forward_norm"):
        drive(engine)
    with pytest.raises(RuntimeError, match="out of memory"):
        first.codes()
    assert not first.started
    assert second.codes().shape == (4, 5)


def test_a_failing_step_of_one_request_is_its_own_error() -> None:
    engine = make_engine(requests=2)
    alone = engine.submit(make_request(frames=5))
    with breaking(batch_decoder, "sample"):
        drive(engine)
    with pytest.raises(RuntimeError, match="out of memory"):
        alone.codes()


# The engine's own thread


def test_how_long_the_thread_has_been_busy_is_known() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(20)

    engine = make_engine(requests=1)
    with engine:
        assert engine.busy_seconds == 0.0
        asker = threading.Thread(target=engine.execute, args=(work,))
        asker.start()
        assert begun.wait(20)
        before = engine.busy_seconds
        wait_until(lambda: engine.busy_seconds > before, seconds=10)
        go_on.set()
        asker.join()
        wait_until(lambda: engine.busy_seconds == 0.0, seconds=10)
    assert engine.busy_seconds == 0.0, "closed in order"


def test_an_engine_that_an_error_has_ended_is_busy_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Engine) -> bool:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(Engine, "step", lost)
    with make_engine(requests=1) as engine:
        generation = engine.submit(make_request(frames=5))
        with pytest.raises(RuntimeError, match="the device is lost"):
            generation.codes()
        assert engine.busy_seconds == math.inf


def test_the_thread_serves_many_submitters() -> None:
    requests = mixed_requests("text")
    alone = [run(make_engine(requests=1), request)[0] for request in requests]
    results: dict[int, Tensor] = {}
    with make_engine(requests=3) as engine:

        def submit(index: int) -> None:
            results[index] = engine.submit(requests[index]).codes()

        threads = [threading.Thread(target=submit, args=(index,)) for index in range(len(requests))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for index, expected in enumerate(alone):
        assert torch.equal(results[index], expected)


def test_the_thread_sleeps_and_wakes() -> None:
    with make_engine() as engine:
        assert engine.submit(make_request()).wait(30)
        assert engine.submit(make_request()).wait(30)


# Tasks


def test_tasks_are_done_in_the_engines_thread_one_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four threads that always want something computed, and a request that runs meanwhile."""
    done: list[str] = []
    step = BatchDecoder.step
    monkeypatch.setattr(BatchDecoder, "step", lambda decoder: (done.append("step"), step(decoder))[1])
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            engine.execute(lambda: done.append(threading.current_thread().name))

    with make_engine() as engine:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        # One alone: between two there may be a pause, in which the thread has nothing but tasks.
        assert engine.submit(make_request()).wait(60)
        ended.set()
        for thread in threads:
            thread.join()
    steps = [place for place, what in enumerate(done) if what == "step"]
    assert {*done} == {"step", "musicgen-engine"}
    assert max(after - before for before, after in pairwise(steps)) == 2


def test_a_task_gives_or_raises_what_its_work_does() -> None:
    def fail() -> None:
        raise ValueError("the work's own")

    with make_engine() as engine:
        assert engine.execute(lambda: engine.execute(threading.current_thread)).name == "musicgen-engine"
        with pytest.raises(ValueError, match="the work's own"):
            engine.execute(fail)
    for idle in (engine, make_engine()):
        assert idle.execute(threading.current_thread) is threading.current_thread()


def test_closing_leaves_nobody_waiting_for_a_task() -> None:
    with make_engine() as engine, ThreadPoolExecutor() as pool:
        begun, go_on = threading.Event(), threading.Event()
        first = pool.submit(engine.execute, lambda: (begun.set(), go_on.wait()))
        assert begun.wait(60)
        second = pool.submit(engine.execute, lambda: None)
        while not engine.waiting_tasks:
            time.sleep(0.001)
        closing = pool.submit(engine.close)
        while not engine.closed:
            time.sleep(0.001)
        go_on.set()
        closing.result()
        first.result()
        with pytest.raises(GenerationCancelled):
            second.result()


def test_close_ends_what_runs_and_waits_and_refuses_more() -> None:
    engine = make_engine(requests=1)
    running, waiting = engine.submit(make_request()), engine.submit(make_request())
    engine.step()
    engine.close()
    engine.close()
    assert running.wait(0)
    with pytest.raises(GenerationCancelled, match="closed"):
        waiting.codes()
    with pytest.raises(GenerationCancelled, match="closed"):
        engine.submit(make_request())


def test_a_thread_that_cannot_go_on_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(BatchDecoder, "release", lost)
    engine = make_engine(requests=1)
    generations = [engine.submit(make_request()) for _ in range(2)]
    with engine:
        for generation in generations:
            with pytest.raises(RuntimeError, match="device lost"):
                generation.codes()
        with pytest.raises(RuntimeError, match="device lost"):
            engine.submit(make_request())


# What is refused


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(0, GREEDY, 0), "at least one frame"),
        (Request(221, GREEDY, 0), "221 frames"),
        (Request(1, GREEDY, -1), "seed"),
        (Request(1, GREEDY, 2**64), "seed"),
        (Request(1, GREEDY, 0, Conditions(torch.zeros(17, TEXT_DIM))), "17 tokens, at most 16"),
        (Request(1, GREEDY, 0, Conditions(torch.zeros(3, TEXT_DIM + 1))), "text states"),
        (Request(1, GREEDY, 0, Conditions(torch.zeros(0, TEXT_DIM))), "text states"),
        (Request(1, GREEDY, 0, prompt_codes=torch.zeros(3, 5, dtype=torch.int64)), "prompt codes"),
        (Request(1, GREEDY, 0, prompt_codes=torch.zeros(4, 5)), "prompt codes"),
        (Request(1, GREEDY, 0, prompt_codes=torch.full((4, 5), VOCABULARY)), "between 0 and 127"),
        (Request(1, GREEDY, 0, prompt_codes=torch.zeros(4, 220, dtype=torch.int64)), "220 given"),
    ],
)
def test_refuses_at_once_what_cannot_be_served(request_: Request, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        make_engine().submit(request_)


def test_a_text_model_refuses_a_melody() -> None:
    with pytest.raises(UnsupportedByModel, match="melody"):
        make_engine().submit(Request(1, GREEDY, 0, Conditions(chroma=chroma(8))))
    with pytest.raises(InvalidRequest, match="a melody must have"):
        make_engine("melody").submit(Request(1, GREEDY, 0, Conditions(chroma=torch.zeros(8, CHROMA_BINS + 1))))


def test_the_longest_request_fits() -> None:
    longest = Conditions(torch.randn(16, TEXT_DIM), chroma(20))
    [codes] = run(make_engine("melody"), Request(20, GREEDY, 0, longest, prompt("melody", 200)))
    assert codes.shape == (4, 220)


def test_slot_bytes_counts_keys_and_values() -> None:
    engine = make_engine()
    layers, dim, width = 3, 64, 4
    positions, text = 256, 16  # 224 columns, rounded up
    assert engine.slot_bytes == layers * 2 * dim * width * (2 * positions + text)
