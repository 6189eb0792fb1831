"""Rows with adapters against transformers' models into which peft has merged them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from musicgen_core.adapters.adapter import AdapterUse, LowRank
from musicgen_core.engine import adapter_bank, batch_decoder, native_step
from musicgen_core.engine.adapters import AppliedAdapter, SequenceAdapter
from musicgen_core.engine.batch_decoder import AttentionKind, BatchDecoder
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.request import Request
from musicgen_core.engine.sampler import SamplingTable, guide
from musicgen_core.errors import InvalidRequest
from musicgen_core.executor import run_to_end
from musicgen_core.kernels.library import Kernels, all_kernels
from musicgen_core.lm.delay_pattern import apply_delays
from musicgen_core.lm.linear import PackedLinear
from tests.musicgen_core.adapters.peft_adapters import ATTENTION, TARGETS, adapted_requests, make_adapter, with_adapter
from tests.musicgen_core.engine.tape import TapeRecorder
from tests.musicgen_core.reference import (
    GREEDY,
    KINDS,
    VOCABULARY,
    Kind,
    Packing,
    chroma,
    conditions,
    drive,
    make_engine,
    make_request,
    prompt,
    reference,
    run,
    run_in_turns,
    text_tokens,
    their_codes,
)

WAYS: tuple[AttentionKind, ...] = get_args(AttentionKind)
GIVEN, STEPS = 40, 6


def melody_of(kind: Kind) -> Tensor | None:
    return chroma(8) if "melody" in kind else None


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Copies of each step's logits, `[slots, 2, codebooks, vocabulary]`."""
    seen: list[Tensor] = []

    def seeing(step: Tensor, table: SamplingTable) -> Tensor:
        seen.append(step.clone())
        return guide(step, table)

    monkeypatch.setattr(batch_decoder, "guide", seeing)
    return seen


@torch.no_grad()
def their_logits(model: Any, columns: Tensor, tokens: Tensor, melody: Tensor | None) -> Tensor:
    """Of both rows and all columns, `[2, columns, codebooks, vocabulary]`."""
    rows = []
    for conditional in (True, False):
        mask = torch.ones_like(tokens) if conditional else torch.zeros_like(tokens)
        inputs = {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": columns.T}
        if melody is not None and conditional:
            inputs["input_features"] = melody[None]
        rows.append(model(**inputs).logits[:, -columns.shape[0] :].transpose(0, 1))
    return torch.stack(rows)


def decoder(kind: Kind, attention: AttentionKind, **rest: Any) -> BatchDecoder:
    model = reference(kind, kernels="fastest" if attention == "native" else "torch").ours
    return BatchDecoder(model, slots=4, max_frames=120, max_text_tokens=16, attention=attention, max_adapters=3, **rest)


def step_logits(one: BatchDecoder, request: Request, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Of a request's first steps `[2, STEPS, codebooks, vocabulary]`, and its columns up to the last one's."""
    run_to_end(one.admit(1, request))
    logits.clear()
    for _ in range(STEPS):
        one.step()
    codes = one.codes(1)
    one.release(1)
    columns = apply_delays(codes, one.model.config.delays, VOCABULARY).T[: request.prompt_frames + STEPS]
    return torch.stack([step[1] for step in logits], dim=1), columns


@pytest.mark.parametrize("attention", WAYS)
@pytest.mark.parametrize("rank", [1, 8, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_those_of_merged_weights(
    kind: Kind, rank: int, attention: AttentionKind, logits: list[Tensor]
) -> None:
    """After a prefill by the same adapter, step by step."""
    made, tokens, melody = make_adapter(kind, rank), text_tokens(6), melody_of(kind)
    given = Request(STEPS, GREEDY, 0, conditions(kind, tokens, melody), prompt(kind, GIVEN))
    ours, columns = step_logits(decoder(kind, attention), with_adapter(given, made.ours), logits)
    theirs, without = (
        their_logits(model, columns, tokens, melody)[:, GIVEN:] for model in (made.merged, reference(kind).theirs)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (theirs - without).abs().max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_equal_those_of_merged_weights_over_100_steps(kind: Kind) -> None:
    made, tokens, melody = make_adapter(kind, 16, 1), text_tokens(6), melody_of(kind)
    theirs = their_codes(kind, tokens, frames=100, guidance=3, melody=melody, theirs=made.merged)
    request = Request(100, GREEDY, 0, conditions(kind, tokens, melody))
    for way in WAYS:
        ours, plain = run(adapted_engine(kind, attention=way), with_adapter(request, made.ours), request)
        assert torch.equal(ours, theirs)
        assert not torch.equal(plain, theirs)


@pytest.mark.parametrize("attention", WAYS)
@pytest.mark.parametrize("target", TARGETS[:8] + TARGETS[8::8])
def test_each_target_alone_equals_merged_weights(target: str, attention: AttentionKind, logits: list[Tensor]) -> None:
    kind: Kind = "stereo-melody" if target == "audio_enc_to_dec_proj" else "stereo"
    made, tokens, melody = make_adapter(kind, 4, 2, (target,), rslora=True), text_tokens(6), melody_of(kind)
    given = Request(STEPS, GREEDY, 0, conditions(kind, tokens, melody), prompt(kind, 9))
    ours, columns = step_logits(decoder(kind, attention), with_adapter(given, made.ours), logits)
    theirs, without = (
        their_logits(model, columns, tokens, melody)[:, 9:] for model in (made.merged, reference(kind).theirs)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (theirs - without).abs().max() > 0.01


@pytest.mark.parametrize("attention", WAYS)
def test_the_strength_scales_the_change(attention: AttentionKind, logits: list[Tensor]) -> None:
    """Twice the change is the change of an adapter whose scale is twice as large; none is the model itself."""
    adapter, request = make_adapter("text", 8).ours, make_request("text", STEPS, 1, temperature=0)
    doubled = replace(
        adapter,
        digest="doubled",
        changes={
            target: tuple(replace(part, b=2 * part.b) for part in parts) for target, parts in adapter.changes.items()
        },
    )
    one = decoder("text", attention)
    twice, _ = step_logits(one, with_adapter(request, adapter, 2.0), logits)
    expected, _ = step_logits(one, with_adapter(request, doubled), logits)
    torch.testing.assert_close(twice, expected, atol=1e-4, rtol=0)
    none, _ = step_logits(one, with_adapter(request, adapter, 0.0), logits)
    plain, _ = step_logits(one, request, logits)
    assert torch.equal(none, plain)
    assert (twice - plain).abs().max() > 0.5


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_refuses_a_strength_that_makes_no_sense(strength: float) -> None:
    with pytest.raises(InvalidRequest, match="between 0 and 2"):
        AdapterUse(make_adapter("text", 8).ours, strength)


# 8 bits


@pytest.mark.parametrize("kernels", all_kernels(1), ids=lambda kernels: kernels.name)
def test_beside_8_bits_the_change_is_exact(kernels: Kernels) -> None:
    """A product is the 8-bit one and, in float32, what the adapter adds."""
    torch.manual_seed(0)
    layer, x = PackedLinear(64, 48), torch.randn(5, 64)
    torch.nn.init.normal_(layer.weight)
    layer.name = "layer"
    layer.pack(int8=True, kernels=kernels)
    change = LowRank(16, torch.randn(4, 64), torch.randn(32, 4))
    applied = AppliedAdapter(0, 4, {"layer": (change,)}, 0.5)
    expected = layer(x)
    expected[:, 16:] += 0.5 * (x @ change.a.T @ change.b.T)
    torch.testing.assert_close(layer(x, SequenceAdapter(applied)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["text", "melody", "stereo"])
def test_in_8_bits_a_step_by_the_kernels_is_the_one_by_torch(kind: Kind, logits: list[Tensor]) -> None:
    """Both multiply by the same rounded weights; the kernels keep keys and values in float16."""
    made = make_adapter(kind, 8)
    given = replace(make_request(kind, STEPS, 1, temperature=0), prompt_codes=prompt(kind, 9))
    native, by_slot = (
        BatchDecoder(
            reference(kind, int8=True).ours,
            slots=2,
            max_frames=40,
            max_text_tokens=16,
            attention=attention,
            max_adapters=1,
        )
        for attention in ("native", "by_slot")
    )
    adapted = with_adapter(given, made.ours)
    (ours, _), (expected, _), (plain, _) = (
        step_logits(one, request, logits) for one, request in ((native, adapted), (by_slot, adapted), (native, given))
    )
    # The first step: from then on the codes may differ, and with them all that follows.
    rounding, change = ((other[:, 0] - expected[:, 0]).std() / expected[:, 0].std() for other in (ours, plain))
    assert rounding < 0.1
    assert change > 10 * rounding


# Rows with different adapters, and with none, in one batch


def adapted_engine(kind: Kind, requests: int = 4, *, max_adapters: int = 3, **rest: Any) -> Engine:
    return make_engine(kind, requests, max_adapters=max_adapters, **rest)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("way", ["fastest", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_among_others_gives_the_same_tokens_as_alone(kind: Kind, way: Packing, int8: bool) -> None:
    packed: Any = {"int8": int8, "kernels": way}
    requests = adapted_requests(kind)
    alone = [run(adapted_engine(kind, 1, **packed), request)[0] for request in requests]
    plain = [run(make_engine(kind, 1, **packed), replace(request, adapter=None))[0] for request in requests]
    engine, generations = adapted_engine(kind, 3, max_adapters=2, **packed), []
    for index, request in enumerate(requests):  # join one by one, while others run and leave
        generations.append(engine.submit(request))
        for _ in range(3 + 4 * index % 7):
            engine.step()
    drive(engine)
    for generation, expected in zip(generations, alone, strict=True):
        assert torch.equal(generation.codes(), expected)
    for request, one, other in zip(requests, alone, plain, strict=True):
        assert torch.equal(one, other) == (request.adapter is None)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("kind", ["text", "stereo-melody"])
def test_the_kernels_give_a_row_the_same_bits_whatever_its_neighbours(
    kind: Kind, int8: bool, logits: list[Tensor]
) -> None:
    """With every set of instructions, on one thread and on several: the bits of every logit."""
    requests = [*adapted_requests(kind)[:7], with_adapter(make_request(kind, 20, 9), make_adapter(kind, 64, 64).ours)]
    for threads in (1, 3):
        for kernels in all_kernels(threads):
            model = reference(kind, int8=int8, kernels=kernels).ours
            crowded = BatchDecoder(model, slots=8, max_frames=100, max_text_tokens=16, max_adapters=4)
            for slot, request in enumerate(requests):
                run_to_end(crowded.admit(slot, request))
            rows = [lane.rows for lane in crowded.lanes.values()]
            logits.clear()
            for _ in range(3):
                crowded.step()
            together = [step.clone() for step in logits]
            for slot in (0, 1, 2, 3, 7):
                alone = BatchDecoder(model, slots=1, max_frames=100, max_text_tokens=16, max_adapters=1)
                run_to_end(alone.admit(0, requests[slot]))
                logits.clear()
                for _ in range(3):
                    alone.step()
                for one, other in zip(logits, together, strict=True):
                    assert torch.equal(one[0, : rows[slot]], other[slot, : rows[slot]]), (kernels.name, threads, slot)


@pytest.mark.parametrize("attention", WAYS)
def test_rows_without_an_adapter_are_what_they_are_among_rows_without(attention: AttentionKind) -> None:
    plain, _, _, other = (replace(request, adapter=None) for request in adapted_requests("text")[:4])
    adapted = adapted_requests("text")[1:3]
    alone = run(make_engine("text", 4, attention=attention), plain, other)
    among = run(adapted_engine("text", attention=attention), plain, *adapted, other)
    assert torch.equal(alone[0], among[0])
    assert torch.equal(alone[1], among[3])


@pytest.mark.parametrize("attention", WAYS)
def test_what_begins_alike_is_shared_by_those_with_the_same_adapter_alone(attention: AttentionKind) -> None:
    """The first positions are copied from a neighbour only where the adapter and its strength made them too."""
    one, other = make_adapter("text", 8).ours, make_adapter("text", 8, 8, ATTENTION).ours
    given = replace(make_request("text", 12, 3, temperature=0), prompt_codes=prompt("text", GIVEN))
    variants = [given, *(with_adapter(given, adapter, strength) for adapter in (one, other) for strength in (1.0, 0.5))]
    alone = [run(adapted_engine("text", 1, attention=attention), request)[0] for request in variants]
    together = run(adapted_engine("text", 10, attention=attention), *variants, *variants)
    for codes, expected in zip(together, [*alone, *alone], strict=True):
        assert torch.equal(codes, expected)
    assert len({codes.numpy().tobytes() for codes in alone}) == 5


# Places


def test_who_was_used_least_lately_makes_room() -> None:
    adapters = [make_adapter("text", 4, seed, ATTENTION).ours for seed in range(4)]
    engine = adapted_engine("text", 2, max_adapters=2)
    for used, held in ((0, [0]), (1, [0, 1]), (0, [1, 0]), (2, [0, 2]), (3, [2, 3]), (2, [3, 2])):
        run(engine, with_adapter(make_request("text", 3), adapters[used]))
        assert list(engine.adapters_in_memory) == [adapters[index].digest for index in held]


@pytest.mark.parametrize("attention", WAYS)
def test_an_adapter_that_came_back_makes_the_same_music(attention: AttentionKind) -> None:
    """Larger ones were in its place meanwhile."""
    small, large = make_adapter("text", 4, 4, ATTENTION).ours, make_adapter("text", 64).ours
    engine = adapted_engine("text", 2, max_adapters=1, attention=attention)
    request = make_request("text", 20, 1)
    first, _, again = (run(engine, with_adapter(request, adapter))[0] for adapter in (small, large, small))
    assert torch.equal(first, again)


def test_a_request_waits_until_a_place_is_free() -> None:
    one, other = (make_adapter("text", 4, seed, ATTENTION).ours for seed in (1, 2))
    engine = adapted_engine("text", 3, max_adapters=1)
    running = engine.submit(with_adapter(make_request("text", 30, 1), one))
    waiting = engine.submit(with_adapter(make_request("text", 5, 2), other))
    behind = engine.submit(make_request("text", 5, 3))
    while not running.wait(0):
        assert not waiting.started
        assert not behind.started  # in order of submission, as ever
        engine.step()
    drive(engine)
    [expected] = run(adapted_engine("text", 1), with_adapter(make_request("text", 5, 2), other))
    assert torch.equal(waiting.codes(), expected)
    assert behind.codes().shape == (4, 5)


@pytest.mark.parametrize("attention", WAYS)
def test_giving_up_while_an_adapter_enters_frees_its_place(
    attention: AttentionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (adapter_bank, native_step):
        monkeypatch.setattr(module, "LOADING_PIECE", 1)
    adapter = make_adapter("text", 8).ours
    engine = adapted_engine("text", 1, max_adapters=1, attention=attention)
    given_up = engine.submit(with_adapter(make_request("text", 5), adapter))
    engine.step()
    given_up.cancel()
    engine.step()
    assert given_up.wait(0)
    assert engine.adapters_in_memory == ()
    request = with_adapter(make_request("text", 5, 1), adapter)
    generation = engine.submit(request)
    pieces = 0
    while not generation.started:
        engine.step()
        pieces += 1
    assert pieces > 10
    drive(engine)
    [expected] = run(adapted_engine("text", 1, attention=attention), request)
    assert torch.equal(generation.codes(), expected)


def test_refuses_what_it_cannot_use() -> None:
    adapter = make_adapter("text", 8).ours
    request = with_adapter(make_request("text", 5), adapter)
    with pytest.raises(InvalidRequest, match="adapters are off; load the model with max_adapters"):
        make_engine("text").submit(request)
    with pytest.raises(InvalidRequest, match="has rank 8, at most 4"):
        make_engine("text", max_adapters=1, max_adapter_rank=4).submit(request)
    with pytest.raises(InvalidRequest, match="was loaded for another model"):
        adapted_engine("stereo").submit(replace(make_request("stereo", 5), adapter=request.adapter))


# Padded steps as graphs


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_equal_the_plain_step_bit_by_bit(kind: Kind) -> None:
    """Adapters come into memory and leave it while recorded steps are replayed."""
    first, *others = adapted_requests(kind)
    requests = [first, *others, *others]
    recorder = TapeRecorder()
    graphs, plain = (decoder(kind, "padded", recorder=recorder) for recorder in (recorder, None))
    for one, other in zip(run_in_turns(graphs, *requests), run_in_turns(plain, *requests), strict=True):
        assert torch.equal(one, other)
    assert recorder.replays > 2 * recorder.recordings


def test_nobody_pays_for_adapters_who_uses_none() -> None:
    one = decoder("text", "padded", recorder=(recorder := TapeRecorder()))
    before = recorder.recordings
    run_to_end(one.admit(0, make_request("text", 30, 1)))
    one.step()
    assert recorder.recordings == before  # the step without adapters, recorded at the start
    run_to_end(one.admit(1, with_adapter(make_request("text", 30, 2), make_adapter("text", 8).ours)))
    one.step()
    assert recorder.recordings == before + 1
    one.release(1)
    replays = recorder.replays
    one.step()
    assert (recorder.recordings, recorder.replays) == (before + 1, replays + 1)
