import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from musicgen_core.decoding import AttentionKind, BatchDecoder
from musicgen_core.engine import Conditions, Engine, Request
from musicgen_core.errors import GenerationCancelled, InvalidRequest, UnsupportedByModel
from musicgen_core.params import SamplingParams
from tests.core.reference import (
    CHROMA_BINS,
    KINDS,
    TEXT_DIM,
    VOCABULARY,
    Kind,
    chroma,
    conditions,
    prompt,
    reference,
    text_tokens,
    their_codes,
)

GREEDY = SamplingParams(temperature=0)


def make_engine(kind: Kind = "text", requests: int = 4, **rest: Any) -> Engine:
    return Engine(reference(kind).ours, max_requests=requests, max_frames=220, max_text_tokens=16, **rest)


def run(engine: Engine, *requests: Request) -> list[Tensor]:
    generations = [engine.submit(request) for request in requests]
    while engine.step():
        pass
    return [generation.codes() for generation in generations]


def make_request(kind: Kind = "text", frames: int = 10, seed: int = 0, **sampling: Any) -> Request:
    melody = chroma(8, seed) if kind == "melody" else None
    given = conditions(kind, text_tokens(3 + seed % 5, seed), melody)
    return Request(frames, SamplingParams(**sampling), seed, given)


# Equal to transformers


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("given", [0, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_equal_transformers_over_200_steps(kind: Kind, given: int, guidance: float) -> None:
    tokens = text_tokens(6)
    melody = chroma(8) if kind == "melody" else None
    codes = prompt(kind, given) if given else None
    theirs = their_codes(kind, tokens, frames=200, guidance=guidance, melody=melody, prompt_codes=codes)
    sampling = SamplingParams(temperature=0, guidance=guidance)
    [ours] = run(make_engine(kind), Request(200, sampling, 0, conditions(kind, tokens, melody), codes))
    assert torch.equal(ours, theirs)
    assert ours[:, given:].unique().numel() > 10


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


# Which rows run


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_0_ignores_the_conditions(kind: Kind) -> None:
    unguided = SamplingParams(temperature=0, guidance=0)
    given = Conditions(torch.randn(1, TEXT_DIM), chroma(8) if kind == "melody" else None)
    ignored, empty = run(make_engine(kind), Request(20, unguided, 0, given), Request(20, unguided, 0, Conditions()))
    assert torch.equal(ignored, empty)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_exact_where_there_is_nothing_to_follow(kind: Kind) -> None:
    nothing = Request(20, GREEDY, 0)
    assert nothing.rows == (False,)
    [ours] = run(make_engine(kind), nothing)
    assert torch.equal(ours, their_codes(kind, text_tokens(1), frames=20, guidance=3, ignore_text=True))


# Continuous batching


def mixed_requests(kind: Kind) -> list[Request]:
    """Requests of all sorts: lengths, texts, settings, seeds, one row and two, with and without a prompt."""
    requests = [
        make_request(kind, 30, 1),
        make_request(kind, 45, 2, top_k=3),
        make_request(kind, 7, 3, top_p=0.9, guidance=1),
        make_request(kind, 60, 4, temperature=0),
        make_request(kind, 22, 5, top_k=0, temperature=0.8, guidance=6.5),
        make_request(kind, 1, 6),
        Request(25, SamplingParams(), 7),
    ]
    given = make_request(kind, 20, 8)
    return [*requests, Request(20, given.sampling, 8, given.conditions, prompt(kind, 12))]


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_among_others_gives_the_same_tokens_as_alone(kind: Kind) -> None:
    check_alone_equals_together(kind, mixed_requests(kind))


@pytest.mark.usefixtures("_two_threads")
def test_the_same_holds_on_two_threads() -> None:
    check_alone_equals_together("text", mixed_requests("text")[-3:])


def check_alone_equals_together(kind: Kind, requests: list[Request]) -> None:
    alone = [run(make_engine(kind, 1), request)[0] for request in requests]
    engine, generations = make_engine(kind, 3), []
    for index, request in enumerate(requests):  # join one by one, while others run and leave
        generations.append(engine.submit(request))
        for _ in range(3 + 4 * index % 7):
            engine.step()
    while engine.step():
        pass
    for generation, expected in zip(generations, alone, strict=True):
        assert torch.equal(generation.codes(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_padded_attention_gives_the_same_greedy_tokens(kind: Kind) -> None:
    requests = [make_request(kind, 30, seed, temperature=0, guidance=seed % 3) for seed in range(6)]
    by_slot, padded = (run(make_engine(kind, 4, attention=way), *requests) for way in ("by_slot", "padded"))
    for one, other in zip(by_slot, padded, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("attention", ["by_slot", "padded"])
def test_what_a_slot_held_before_leaves_no_trace(attention: AttentionKind) -> None:
    engine = make_engine("melody", 1, attention=attention)
    first, _, again = run(
        engine, make_request("melody", 20, 1), make_request("melody", 60, 2), make_request("melody", 20, 1)
    )
    assert torch.equal(first, again)


def test_the_seed_decides() -> None:
    one, same, other = run(make_engine(), make_request(seed=1), make_request(seed=1), make_request(seed=1 + 2**63))
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
    hotter = first_probabilities(given, SamplingParams(top_k=6, temperature=1.2, guidance=2)) * draws
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
    """Raises the first time it runs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.broken = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.broken:
            self.broken = True
            raise RuntimeError("out of memory")
        out: Tensor = self.inner(x)
        return out


@pytest.fixture
def breaking_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("text", "melody"):
        model = reference(kind).ours
        monkeypatch.setitem(model._modules, "norm", BreaksOnce(model.norm))


@pytest.mark.usefixtures("breaking_norm")
def test_a_failing_step_fails_those_that_ran_and_the_engine_goes_on() -> None:
    engine = make_engine(requests=2)
    first, second, third = (engine.submit(make_request(frames=5)) for _ in range(3))
    while engine.step():
        pass
    for generation in (first, second):
        with pytest.raises(RuntimeError, match="out of memory"):
            generation.codes()
    assert third.codes().shape == (4, 5)


@pytest.mark.usefixtures("breaking_norm")
def test_a_failing_admission_fails_only_its_own_request() -> None:
    engine = make_engine("melody", requests=2)  # runs the model at admission
    first, second = (engine.submit(make_request("melody", frames=5)) for _ in range(2))
    while engine.step():
        pass
    with pytest.raises(RuntimeError, match="out of memory"):
        first.codes()
    assert not first.started
    assert second.codes().shape == (4, 5)


# The engine's own thread


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


def test_close_ends_what_runs_and_waits_and_refuses_more() -> None:
    engine = make_engine(requests=1)
    running, waiting = engine.submit(make_request()), engine.submit(make_request())
    engine.step()
    engine.start()
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
