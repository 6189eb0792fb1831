"""What is known of a request enters in pieces, and what others know already is not computed again."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from musicgen_core.engine import prefill
from musicgen_core.engine.batch_decoder import AttentionKind, BatchDecoder
from musicgen_core.engine.native_step import NativeStep
from musicgen_core.engine.request import Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.errors import GenerationCancelled
from musicgen_core.executor import run_to_end
from musicgen_core.lm.transformer import Layer
from tests.musicgen_core.engine.test_batch_decoder import check_alone_equals_together
from tests.musicgen_core.reference import (
    KINDS,
    Kind,
    drive,
    make_engine,
    make_request,
    mixed_requests,
    prompt,
    reference,
    run,
)

SMALL_PIECE = 5e5
"""Less than two layers of six positions with guidance."""
LAYERS = 3
ATTENTION: tuple[AttentionKind, ...] = get_args(AttentionKind)


@pytest.fixture
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "CPU_PIECE", SMALL_PIECE)


@pytest.fixture
def layers_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each layer is run for, in order: "entering", "condition", "step"."""
    done: list[str] = []
    forward, condition, logits = Layer.forward, Layer.condition_keys_values, NativeStep.logits

    def counted_forward(layer: Layer, x: Tensor, *rest: Any) -> Tensor:
        done.append("entering" if x.ndim == 3 else "step")
        return forward(layer, x, *rest)

    def counted_condition(layer: Layer, vectors: Tensor, *rest: Any) -> Tensor:
        done.append("condition")
        return condition(layer, vectors, *rest)

    def counted_logits(step: NativeStep, *given: Any) -> Tensor:
        done.extend(["step"] * LAYERS)
        return logits(step, *given)

    monkeypatch.setattr(NativeStep, "logits", counted_logits)
    monkeypatch.setattr(Layer, "forward", counted_forward)
    monkeypatch.setattr(Layer, "condition_keys_values", counted_condition)
    return done


def continuation(kind: Kind, *, given: int = 40, seed: int = 3, frames: int = 12, **sampling: Any) -> Request:
    """A request with a text, a melody where the model follows one, and codes to continue."""
    return replace(make_request(kind, frames, seed, **sampling), prompt_codes=prompt(kind, given))


def make_decoder(kind: Kind, attention: AttentionKind, *, int8: bool = False) -> BatchDecoder:
    model = reference(kind, int8=int8).ours
    return BatchDecoder(model, slots=4, max_frames=120, max_text_tokens=16, attention=attention)


def cached(decoder: BatchDecoder, slot: int) -> Tensor:
    """All that a slot has of its request, self-attention's and cross-attention's."""
    lane = decoder.lanes[slot]
    own = decoder.cache.rows(slot, lane.rows, lane.position)
    condition = decoder.cache.condition_row(slot, lane.condition_tokens)
    return torch.cat([own.flatten(), condition.flatten()]).clone()


# Pieces


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_running_requests_step_between_pieces(kind: Kind, attention: AttentionKind, layers_run: list[str]) -> None:
    engine = make_engine(kind, 2, attention=attention)
    running = engine.submit(make_request(kind, 100, 1))
    while not running.started:
        engine.step()
    entering = engine.submit(continuation(kind))
    steps = 0
    layers_run.clear()
    while not entering.started:
        before = running.completed_steps
        engine.step()
        assert running.completed_steps == before + 1
        steps += 1
    assert steps >= 40 // 6 * 3
    pieces = "".join({"step": " ", "entering": "e", "condition": "c"}[what] for what in layers_run).split()
    assert max(len(piece) for piece in pieces) <= 3
    assert max(piece.count("e") for piece in pieces) == 1
    assert entering.completed_steps == 1
    drive(engine)
    assert entering.codes().shape[1] == 52


def test_a_piece_ends_where_it_is_full_and_is_never_empty(
    layers_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two layers of one position with guidance fit: they cost as much as eight rows each, for reading the weights."""
    monkeypatch.setattr(prefill, "CPU_PIECE", 2 * 8 * 40_960)
    decoder = make_decoder("text", "by_slot")
    work = decoder.admit(0, continuation("text", given=1))
    pieces = []
    for _ in work:
        pieces.append(len(layers_run))
        layers_run.clear()
    assert [*pieces, len(layers_run)] == [4, 2]  # three layers' conditions, a layer of the column; two more layers


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("kind", KINDS)
def test_in_pieces_too_a_request_among_others_gives_the_same_tokens_as_alone(kind: Kind) -> None:
    check_alone_equals_together(kind, mixed_requests(kind))


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_between_pieces_change_nothing_of_what_enters(
    kind: Kind, attention: AttentionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = continuation(kind)
    whole = make_decoder(kind, attention)
    run_to_end(whole.admit(0, request))
    monkeypatch.setattr(prefill, "CPU_PIECE", SMALL_PIECE)
    alone, crowded = make_decoder(kind, attention), make_decoder(kind, attention)
    run_to_end(alone.admit(0, request))
    run_to_end(crowded.admit(2, make_request(kind, 100, 1)))
    run_to_end(crowded.admit(0, request), between=crowded.step)  # below a slot that runs: computed along by its steps
    assert torch.equal(cached(crowded, 0), cached(alone, 0))
    torch.testing.assert_close(cached(alone, 0), cached(whole, 0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_in_pieces_equal_those_in_one_go(
    kind: Kind, attention: AttentionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [continuation(kind, seed=seed, temperature=0, guidance=seed, frames=30) for seed in (1, 2, 3)]
    expected = run(make_engine(kind, 2, attention=attention), *requests)
    monkeypatch.setattr(prefill, "CPU_PIECE", SMALL_PIECE)
    for one, other in zip(run(make_engine(kind, 2, attention=attention), *requests), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("attention", ATTENTION)
def test_cancelling_in_mid_admission_ends_it_and_frees_the_slot(attention: AttentionKind) -> None:
    engine = make_engine("melody", 2, attention=attention)
    running = engine.submit(make_request("melody", 40, 1))
    while not running.started:
        engine.step()
    entering, waiting = (engine.submit(continuation("melody", seed=seed)) for seed in (2, 3))
    for _ in range(3):
        engine.step()
    entering.cancel()
    engine.step()
    assert entering.wait(0)
    assert not entering.started
    with pytest.raises(GenerationCancelled):
        entering.codes()
    drive(engine)
    [alone] = run(make_engine("melody", 1, attention="by_slot"), make_request("melody", 40, 1))
    assert attention == "padded" or torch.equal(running.codes(), alone)
    assert waiting.codes().shape[1] == 52


@pytest.mark.usefixtures("_small_pieces")
def test_an_error_in_a_piece_fails_only_what_enters(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine("text", 2)
    running = engine.submit(make_request("text", 60, 1))
    engine.step()
    entering, waiting = engine.submit(continuation("text")), engine.submit(continuation("text"))
    for _ in range(5):
        engine.step()
    forward = Layer.forward

    def fail(layer: Layer, x: Tensor, *rest: Any) -> Tensor:
        if x.ndim == 3:
            raise RuntimeError("out of memory")
        return forward(layer, x, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Layer, "forward", fail)
        engine.step()
    with pytest.raises(RuntimeError, match="out of memory"):
        entering.codes()
    drive(engine)
    [alone, again] = run(make_engine("text", 1), make_request("text", 60, 1), continuation("text"))
    assert torch.equal(running.codes(), alone)
    assert torch.equal(waiting.codes(), again)


@pytest.mark.usefixtures("_small_pieces")
def test_closing_in_mid_admission_leaves_nobody_waiting() -> None:
    engine = make_engine("text", 1)
    entering = engine.submit(continuation("text"))
    engine.step()
    assert not entering.started
    engine.close()
    with pytest.raises(GenerationCancelled, match="closed"):
        entering.codes()


@pytest.mark.usefixtures("_small_pieces")
def test_pieces_are_no_steps_in_the_statistics_but_their_time_counts() -> None:
    with make_engine("text", 1) as engine:
        generation = engine.submit(continuation("text"))
        generation.codes()
        assert generation.started_at is not None
        assert generation.finished_at is not None
    assert engine.statistics.steps == engine.statistics.request_steps == 15
    assert engine.statistics.seconds > generation.finished_at - generation.started_at


# Takes


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_further_take_computes_nothing_before_its_first_step(kind: Kind, slots: int, layers_run: list[str]) -> None:
    takes = [replace(continuation(kind, frames=8 + seed), seed=seed) for seed in range(5)]
    alone = []
    for take in takes:
        layers_run.clear()
        alone.extend(run(make_engine(kind, 1), take))
    once = [what for what in layers_run if what != "step"]
    layers_run.clear()
    together = run(make_engine(kind, slots), *takes)
    assert [what for what in layers_run if what != "step"] == once
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_copied_has_the_same_bits(kind: Kind, attention: AttentionKind, int8: bool) -> None:
    request = continuation(kind)
    alone, shared = (make_decoder(kind, attention, int8=int8) for _ in range(2))
    run_to_end(alone.admit(1, request))
    run_to_end(shared.admit(0, request))
    run_to_end(shared.admit(1, replace(request, seed=9)), between=shared.step)
    assert torch.equal(cached(shared, 1), cached(alone, 1))


@pytest.mark.usefixtures("_small_pieces")
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_take_may_leave_while_it_is_copied(kind: Kind, attention: AttentionKind) -> None:
    request, other = continuation(kind), make_request(kind, 100, 1)
    alone, shared = (make_decoder(kind, attention) for _ in range(2))
    run_to_end(alone.admit(1, request))
    for slot, first in ((0, request), (2, other)):
        run_to_end(shared.admit(slot, first))
    work = shared.admit(1, request)
    next(work)
    shared.release(0)
    shared.step()
    run_to_end(work, between=shared.step)
    assert torch.equal(cached(shared, 1), cached(alone, 1))


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("kind", KINDS)
def test_of_another_clip_only_the_conditions_are_shared(
    kind: Kind, attention: AttentionKind, layers_run: list[str]
) -> None:
    decoder, alone = make_decoder(kind, attention), make_decoder(kind, attention)
    request = continuation(kind)
    another = replace(request, prompt_codes=prompt(kind, 40, seed=5))
    run_to_end(decoder.admit(0, request))
    layers_run.clear()
    run_to_end(decoder.admit(1, another))
    assert layers_run == ["entering"] * 3
    run_to_end(alone.admit(1, another))
    assert torch.equal(cached(decoder, 1), cached(alone, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": SamplingParams(guidance=1)},
        {"conditions": make_request("melody", seed=4).conditions},
        {"conditions": replace(make_request("melody", seed=3).conditions, chroma=None)},
        {"conditions": replace(make_request("melody", seed=3).conditions, text=None)},
    ],
)
def test_other_rows_or_conditions_share_nothing(change: dict[str, Any], layers_run: list[str]) -> None:
    decoder, request = make_decoder("melody", "by_slot"), continuation("melody")
    run_to_end(decoder.admit(0, request))
    layers_run.clear()
    run_to_end(decoder.admit(1, replace(request, **change)))
    assert layers_run == ["entering"] * 6


def test_what_another_request_has_overwritten_is_not_shared(layers_run: list[str]) -> None:
    decoder, request = make_decoder("text", "by_slot"), continuation("text")
    run_to_end(decoder.admit(0, request))
    decoder.release(0)
    work = decoder.admit(0, continuation("text", seed=4))
    work.close()  # before its first piece
    decoder.release(0)
    run_to_end(decoder.admit(0, continuation("text", seed=5)))
    decoder.release(0)
    layers_run.clear()
    run_to_end(decoder.admit(0, request))
    assert layers_run == ["condition"] * 3 + ["entering"] * 3
