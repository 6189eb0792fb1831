from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from musicgen_core.engine.batch_decoder import AttentionKind, BatchDecoder
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.executor import run_to_end
from tests.musicgen_core.reference import (
    GREEDY,
    KINDS,
    TEXT_DIM,
    VOCABULARY,
    Kind,
    Packing,
    chroma,
    conditions,
    make_engine,
    make_request,
    mixed_requests,
    prompt,
    reference,
    run,
    text_tokens,
    their_codes,
)

WAYS: tuple[Packing, ...] = ("fastest", "torch")


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("given", [0, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_equal_transformers_over_200_steps(kind: Kind, given: int, guidance: float) -> None:
    tokens = text_tokens(6)
    melody = chroma(8) if "melody" in kind else None
    codes = prompt(kind, given) if given else None
    theirs = their_codes(kind, tokens, frames=200, guidance=guidance, melody=melody, prompt_codes=codes)
    sampling = SamplingParams(temperature=0, guidance=guidance)
    for way in WAYS:
        request = Request(200, sampling, 0, conditions(kind, tokens, melody), codes)
        [ours] = run(make_engine(kind, kernels=way), request)
        assert torch.equal(ours, theirs)
    assert len(set(theirs[:, given:].flatten().tolist())) > 10


@pytest.mark.parametrize("frames", [7, 20, 33])
def test_a_melody_of_any_length_equals_transformers(frames: int) -> None:
    tokens = text_tokens(6)
    theirs = their_codes("melody", tokens, frames=20, guidance=3, melody=chroma(frames))
    [ours] = run(make_engine("melody"), Request(20, GREEDY, 0, conditions("melody", tokens, chroma(frames))))
    assert torch.equal(ours, theirs)


def test_text_without_melody_equals_transformers() -> None:
    tokens = text_tokens(6)
    theirs = their_codes("melody", tokens, frames=20, guidance=3)
    [ours] = run(make_engine("melody"), Request(20, GREEDY, 0, conditions("melody", tokens)))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_0_ignores_the_conditions(kind: Kind) -> None:
    unguided = SamplingParams(temperature=0, guidance=0)
    given = Conditions(torch.randn(1, TEXT_DIM), chroma(8) if "melody" in kind else None)
    ignored, empty = run(make_engine(kind), Request(20, unguided, 0, given), Request(20, unguided, 0, Conditions()))
    assert torch.equal(ignored, empty)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_exact_where_there_is_nothing_to_follow(kind: Kind) -> None:
    nothing = Request(20, GREEDY, 0)
    assert nothing.rows == (False,)
    [ours] = run(make_engine(kind), nothing)
    assert torch.equal(ours, their_codes(kind, text_tokens(1), frames=20, guidance=3, ignore_text=True))


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_request_among_others_gives_the_same_tokens_as_alone(kind: Kind, way: Packing, int8: bool) -> None:
    check_alone_equals_together(kind, mixed_requests(kind), int8=int8, kernels=way)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("way", WAYS)
def test_the_same_holds_on_two_threads(way: Packing) -> None:
    check_alone_equals_together("text", mixed_requests("text")[-3:], kernels=way)


def check_alone_equals_together(kind: Kind, requests: list[Request], **packed: Any) -> None:
    alone = [run(make_engine(kind, 1, **packed), request)[0] for request in requests]
    engine, generations = make_engine(kind, 3, **packed), []
    for index, request in enumerate(requests):  # join one by one, while others run and leave
        generations.append(engine.submit(request))
        for _ in range(3 + 4 * index % 7):
            engine.step()
    while engine.step():
        pass
    for generation, expected in zip(generations, alone, strict=True):
        assert torch.equal(generation.codes(), expected)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_nor_do_neighbours_change_a_single_bit_of_what_is_computed(kind: Kind, way: Packing, int8: bool) -> None:
    request, *others = mixed_requests(kind)
    model = reference(kind, int8=int8, kernels=way).ours
    alone, crowded = (BatchDecoder(model, slots=4, max_frames=100, max_text_tokens=16) for _ in range(2))
    run_to_end(alone.admit(0, request))
    for slot, neighbour in enumerate([*others[:3], request]):
        run_to_end(crowded.admit(slot, neighbour))
    for _ in range(25):
        alone.step()
        crowded.step()
    lane = alone.lanes[0]  # the last layer's keys and values depend on everything before them
    expected = alone.cache.rows(0, lane.rows, lane.position)
    assert torch.equal(crowded.cache.rows(3, lane.rows, lane.position), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_however_it_attends_it_gives_the_same_greedy_tokens(kind: Kind) -> None:
    requests = [make_request(kind, 30, seed, temperature=0, guidance=seed % 3) for seed in range(6)]
    first, *others = (run(make_engine(kind, 4, attention=way), *requests) for way in get_args(AttentionKind))
    for other in others:
        assert all(map(torch.equal, first, other))


@pytest.mark.parametrize("attention", get_args(AttentionKind))
def test_what_a_slot_held_before_leaves_no_trace(attention: AttentionKind) -> None:
    engine = make_engine("melody", 1, attention=attention)
    first, _, again = run(
        engine, make_request("melody", 20, 1), make_request("melody", 60, 2), make_request("melody", 20, 1)
    )
    assert torch.equal(first, again)


def test_the_seed_decides() -> None:
    given = conditions("text", text_tokens(6))
    one, same, other = run(make_engine(), *(Request(10, SamplingParams(), seed, given) for seed in (1, 1, 2**64 - 1)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_first_tokens_follow_the_model_s_distribution() -> None:
    given = conditions("text", text_tokens(6))
    engine, draws = make_engine(requests=16), 600
    params = SamplingParams(top_k=6, temperature=0.8, guidance=2)
    codes = run(engine, *(Request(1, params, seed, given) for seed in range(draws)))
    counts = torch.bincount(torch.stack(codes)[:, 0, 0], minlength=VOCABULARY)
    expected = first_probabilities(given, params) * draws
    assert not counts[expected == 0].any()
    assert chisquare(counts[expected > 0].numpy(), expected[expected > 0].numpy()).pvalue > 1e-3
    hotter = first_probabilities(given, SamplingParams(top_k=6, temperature=1.5, guidance=2)) * draws
    assert chisquare(counts[expected > 0].numpy(), hotter[expected > 0].numpy()).pvalue < 1e-6


@torch.no_grad()
def first_probabilities(given: Conditions, params: SamplingParams) -> Tensor:
    """Of codebook 0's first token, [vocabulary], from transformers' logits."""
    assert given.text is not None
    start = torch.full((4, 1), VOCABULARY)
    masks = (torch.ones(1, len(given.text), dtype=torch.int64), torch.zeros(1, len(given.text), dtype=torch.int64))
    conditional, unconditional = (
        reference("text")
        .theirs(encoder_outputs=(given.text[None],), attention_mask=mask, decoder_input_ids=start)
        .logits[0, 0]
        .double()
        for mask in masks
    )
    logits = (unconditional + params.guidance * (conditional - unconditional)) / params.temperature
    top = logits.topk(params.top_k)
    return torch.zeros_like(logits).scatter(0, top.indices, top.values.softmax(-1))
