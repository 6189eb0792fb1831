"""Graphs against the plain step, with a stand-in that replays operations as a graph replays kernels."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.buckets import Bucket
from musicgen_core.engine.step_graphs import Recorder, StepGraphs
from musicgen_core.executor import run_to_end
from tests.musicgen_core.engine.tape import TapeRecorder
from tests.musicgen_core.reference import (
    KINDS,
    Kind,
    long_request,
    make_request,
    mixed_requests,
    reference,
    run_in_turns,
)

SMALL, MIDDLE, LARGE = (Bucket(slots, 256, 64, 256) for slots in (1, 2, 4))


class Order:
    """A step and a recorder that note what happens."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self._what = "carried out"

    def step(self, bucket: Bucket) -> None:
        self.events.append((self._what, bucket))

    def warm_up(self, step: Callable[[], None], /) -> None:
        self._note("warmed up", step)

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        self._note("recorded", step)
        return lambda: self._note("replayed", step)

    def _note(self, what: str, step: Callable[[], None]) -> None:
        self._what = what
        step()
        self._what = "carried out"


def test_a_bucket_is_warmed_up_recorded_and_then_replayed() -> None:
    order = Order()
    graphs = StepGraphs(order)
    for bucket in (SMALL, SMALL, LARGE, SMALL, LARGE):
        graphs.run(bucket, order.step)
    assert order.events == [
        *(("warmed up", SMALL), ("recorded", SMALL)),
        ("replayed", SMALL),
        *(("warmed up", LARGE), ("recorded", LARGE)),
        *(("replayed", SMALL), ("replayed", LARGE)),
    ]


def test_the_largest_is_prepared_first() -> None:
    order = Order()
    StepGraphs(order).prepare([MIDDLE, SMALL, LARGE], order.step)
    assert [bucket for what, bucket in order.events if what == "recorded"] == [LARGE, MIDDLE, SMALL]


def test_after_a_failure_steps_run_plainly_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    order, recorder = Order(), TapeRecorder(refuse_from=2)
    graphs = StepGraphs(recorder)
    with caplog.at_level(logging.WARNING):
        for bucket in (SMALL, MIDDLE, MIDDLE, LARGE, LARGE, SMALL):
            graphs.run(bucket, order.step)
    carried_out = [bucket for _, bucket in order.events]
    # Warmed up and recorded, warmed up, and plain from then on; the recorded one is still replayed.
    assert carried_out == [SMALL, SMALL, MIDDLE, MIDDLE, LARGE, LARGE]
    assert (recorder.warm_ups, recorder.recordings, recorder.replays) == (2, 2, 1)
    [warning] = caplog.records
    assert str(MIDDLE) in warning.getMessage()
    assert "not permitted" in warning.getMessage()


def test_an_error_of_the_step_itself_is_the_step_s() -> None:
    recorder, failures = TapeRecorder(), [RuntimeError("out of memory")]

    def step(bucket: Bucket) -> None:
        if failures:
            raise failures.pop()

    graphs = StepGraphs(recorder)
    with pytest.raises(RuntimeError, match="out of memory"):
        graphs.run(SMALL, step)
    assert recorder.recordings == 0
    graphs.run(SMALL, step)
    assert recorder.recordings == 1


def decoder(kind: Kind, recorder: Recorder | None) -> BatchDecoder:
    return BatchDecoder(
        reference(kind, kernels="torch").ours,
        slots=4,
        max_frames=320,
        max_text_tokens=80,
        attention="padded",
        recorder=recorder,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_equal_the_plain_step_bit_by_bit(kind: Kind) -> None:
    first, *others = [*mixed_requests(kind), long_request(kind)]
    requests = [first, *others, *others]  # others again, in graphs that were recorded for somebody else
    recorder = TapeRecorder()
    graphs, plain = decoder(kind, recorder), decoder(kind, None)
    for one, other in zip(run_in_turns(graphs, *requests), run_in_turns(plain, *requests), strict=True):
        assert torch.equal(one, other)
    assert recorder.recordings == recorder.warm_ups >= 5
    assert recorder.replays > 2 * recorder.recordings
    assert_caches_equal(graphs, plain)


def assert_caches_equal(one: BatchDecoder, other: BatchDecoder) -> None:
    """At all positions but 0, where preparing has computed idle slots."""
    assert torch.equal(one.cache.keys_values[..., 1:, :], other.cache.keys_values[..., 1:, :])
    assert torch.equal(one.cache.condition, other.cache.condition)


def test_preparing_leaves_every_slot_idle() -> None:
    recorder = TapeRecorder()
    prepared, fresh = decoder("text", recorder), decoder("text", None)
    assert recorder.recordings == 3  # all slots at full length, a lone request at both lengths
    assert_caches_equal(prepared, fresh)
    # A request writes its position 0 before it reads it. Idle slots have not moved on from there:
    assert prepared.cache.keys_values[..., 0, :].any()
    assert not prepared.lanes


def test_recording_amid_a_run_changes_nothing() -> None:
    recorder = TapeRecorder()
    graphs, plain = decoder("text", recorder), decoder("text", None)
    for one in (graphs, plain):
        run_to_end(one.admit(0, make_request("text", 30, 1)))
        one.step()
        run_to_end(one.admit(1, make_request("text", 30, 2)))
    before = recorder.recordings
    for _ in range(3):
        for one in (graphs, plain):
            one.step()
        assert_caches_equal(graphs, plain)
        for slot in (0, 1):
            assert torch.equal(graphs.codes(slot), plain.codes(slot))
    assert recorder.recordings == before + 1


def test_a_failing_device_makes_the_same_music(caplog: pytest.LogCaptureFixture) -> None:
    requests = mixed_requests("text")
    with caplog.at_level(logging.WARNING):
        refused = run_in_turns(decoder("text", TapeRecorder(refuse_from=5)), *requests)
    assert len(caplog.records) == 1
    for one, other in zip(refused, run_in_turns(decoder("text", None), *requests), strict=True):
        assert torch.equal(one, other)


def test_a_graph_knows_the_host_s_numbers_of_its_recording_alone() -> None:
    """What makes the tests above tests: a step that asks the host differs once it is replayed."""
    count, counter = [1], torch.zeros(1)

    def step(bucket: Bucket) -> None:
        counter.add_(count[0])

    graphs = StepGraphs(TapeRecorder())
    graphs.run(SMALL, step)
    count[0] = 10
    graphs.run(SMALL, step)
    assert counter.item() == 2


def test_a_decoder_is_freed_without_its_graphs_in_the_way() -> None:
    gc.collect()
    gc.disable()
    try:
        one = decoder("text", TapeRecorder())
        gone = weakref.ref(one)
        del one
        assert gone() is None
    finally:
        gc.enable()
