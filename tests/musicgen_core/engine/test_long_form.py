"""Pieces longer than a window: against a plain loop over transformers, through the engine and through MusicGen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_core import (
    GenerationCancelled,
    GenerationInput,
    InvalidRequest,
    MusicGen,
    NormalizationStrategy,
    SamplingParams,
    Waveform,
    normalize,
)
from musicgen_core.audio.clip import loop
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.long_form import LongFormGeneration, Window, plan_windows
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.executor import in_one_stretch
from musicgen_core.generation_input import ResolvedInput
from tests.diffusion_model import STEPS, copy_with_diffusion
from tests.musicgen_core.reference import (
    GREEDY,
    KINDS,
    Kind,
    chroma,
    conditions,
    make_engine,
    make_request,
    prompt,
    run,
    text_tokens,
    their_codes,
)

RATE = 32_000
WINDOW, STRIDE = 60, 36


def melody_of(start: int) -> Tensor:
    """Another melody for each window."""
    return chroma(9, seed=start)


def begin(engine: Engine, request: Request, kind: Kind = "text") -> LongFormGeneration:
    windows = plan_windows(request.prompt_frames, request.total_frames, window=WINDOW, stride=STRIDE)
    return LongFormGeneration(
        engine, windows, in_one_stretch(lambda: request), lambda at: melody_of(at.start) if kind == "melody" else None
    )


def their_long_codes(kind: Kind, tokens: Tensor, total: int, guidance: float, given: Tensor | None) -> Tensor:
    """audiocraft's loop in the words of its `_generate_tokens`, with transformers' `generate` in its middle."""
    parts = [] if given is None else [given]
    prompt_length, offset = 0 if given is None else given.shape[1], 0
    while offset + prompt_length < total:
        length = min(total - offset, WINDOW)
        window = their_codes(
            kind,
            tokens,
            frames=length - prompt_length,
            guidance=guidance,
            melody=melody_of(offset) if kind == "melody" else None,
            prompt_codes=given,
        )
        parts.append(window[:, prompt_length:])
        given = window[:, STRIDE:]
        prompt_length = given.shape[1]
        offset += STRIDE
    return torch.cat(parts, dim=1)


# The windows


@pytest.mark.parametrize(
    ("given", "total", "windows"),
    [
        (0, 1500, [(0, 0, 1500)]),
        (0, 1501, [(0, 0, 1500), (900, 1500, 1501)]),
        (0, 2250, [(0, 0, 1500), (900, 1500, 2250)]),
        (0, 3301, [(0, 0, 1500), (900, 1500, 2400), (1800, 2400, 3300), (2700, 3300, 3301)]),
        (1000, 2250, [(0, 1000, 1500), (900, 1500, 2250)]),
        (1499, 1600, [(0, 1499, 1500), (900, 1500, 1600)]),
        (1500, 1600, [(900, 1500, 1600)]),
        (4000, 4010, [(2700, 4000, 4010)]),
    ],
)
def test_windows(given: int, total: int, windows: list[tuple[int, int, int]]) -> None:
    assert plan_windows(given, total, window=1500, stride=900) == [Window(*window) for window in windows]


def test_windows_of_any_size_leave_no_gap() -> None:
    for total in range(1, 200):
        for stride in (1, 7, 29):
            for given in range(0, total, 13):
                windows = plan_windows(given, total, window=30, stride=stride)
                assert [window.known for window in windows] == [given, *(window.end for window in windows[:-1])]
                assert windows[-1].end == total
                assert all(window.start <= window.known < window.end <= window.start + 30 for window in windows)


# Against transformers


@pytest.mark.parametrize("given", [0, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_codes_equal_audiocrafts_loop_over_transformers(kind: Kind, given: int) -> None:
    tokens, total = text_tokens(5), 100
    codes = prompt(kind, given) if given else None
    request = Request(total - given, GREEDY, 0, conditions(kind, tokens), codes)
    with make_engine(kind) as engine:
        ours = begin(engine, request, kind).codes()
    assert torch.equal(ours, their_long_codes(kind, tokens, total, 3.0, codes))


# A generation's life


def test_one_random_stream_for_the_whole() -> None:
    piece = make_request(frames=96, seed=3)
    with make_engine() as engine:
        whole, again = (begin(engine, piece).codes() for _ in range(2))
        first = engine.submit(make_request(frames=WINDOW, seed=3)).codes()
        offset = engine.steps(WINDOW)
        rest = Request(36, piece.sampling, 3, piece.conditions, first[:, STRIDE:], stream_offset=offset)
        anew = Request(36, piece.sampling, 3, piece.conditions, first[:, STRIDE:])
        rest_codes, anew_codes = engine.submit(rest).codes(), engine.submit(anew).codes()
    assert torch.equal(whole, again)
    assert torch.equal(whole[:, :WINDOW], first)
    assert torch.equal(whole[:, STRIDE:], torch.cat([first[:, STRIDE:], rest_codes[:, WINDOW - STRIDE :]], dim=1))
    assert not torch.equal(rest_codes, anew_codes)


def test_others_get_their_turn_between_windows() -> None:
    engine = make_engine(requests=1)
    long, short = begin(engine, make_request(frames=96)), engine.submit(make_request(frames=5, seed=1))
    while not short.wait(0):
        assert engine.step()
    assert (long.completed_steps, long.total_steps, long.wait(0)) == (63, 63 + 39, False)
    with engine:
        codes = long.codes()
    [alone] = run(make_engine(), make_request(frames=5, seed=1))
    assert torch.equal(short.codes(), alone)
    assert codes.shape == (4, 96)
    assert long.completed_steps == long.total_steps


@pytest.mark.parametrize("steps", [0, 10, 70])
def test_cancelling_ends_it_in_any_window(steps: int) -> None:
    engine = make_engine(requests=1)
    long = begin(engine, make_request(frames=200))
    while long.completed_steps < steps:
        engine.step()  # between two windows there may be nothing to do for a moment
    assert long.started == (steps > 0)
    long.cancel()
    while not long.wait(0):
        engine.step()
    assert long.completed_steps == steps
    with pytest.raises(GenerationCancelled):
        long.codes()


def test_the_engine_s_end_ends_it() -> None:
    engine = make_engine(requests=1)
    long = begin(engine, make_request(frames=200))
    engine.step()
    engine.close()
    with pytest.raises(GenerationCancelled, match="closed"):
        long.codes()
    with pytest.raises(GenerationCancelled, match="closed"):
        begin(engine, make_request(frames=200))


def test_what_fails_in_a_window_fails_the_whole() -> None:
    def chroma_of(window: Window) -> Tensor | None:
        if window.start:
            raise InvalidRequest("the melody is gone")
        return None

    windows = plan_windows(0, 100, window=WINDOW, stride=STRIDE)
    with make_engine() as engine:
        long = LongFormGeneration(engine, windows, in_one_stretch(lambda: make_request(frames=100)), chroma_of)
        with pytest.raises(InvalidRequest, match="the melody is gone"):
            long.codes()


# Through MusicGen. A long clip leaves little to generate, which keeps these quick.


@pytest.fixture(scope="module")
def model(melody_model: Path) -> Iterator[MusicGen]:
    with MusicGen.load(melody_model, device="cpu", max_requests=2, max_seconds=60) as model:
        yield model


def clip(seconds: float, seed: int = 3) -> Waveform:
    noise = np.random.default_rng(seed).normal(0, 0.2, (1, round(seconds * RATE)))
    return Waveform(noise.astype(np.float32), RATE)


def wanted(duration: float, continuation: Waveform) -> GenerationInput:
    return GenerationInput("piano", duration, 5, SamplingParams(), continuation, continuation=True)


@pytest.mark.parametrize("seconds", [29.9, 30, 41.3])
def test_a_clip_of_any_length_is_continued(model: MusicGen, seconds: float) -> None:
    given = clip(seconds)
    job = model.submit(wanted(0.5, given))
    assert job.total_steps == 25 + 3 * (2 if seconds < 30 else 1)
    audio = job.audio()
    assert audio.samples.shape == (1, round((seconds + 0.5) * RATE))
    assert job.completed_steps == job.total_steps
    assert np.isfinite(audio.samples).all()


def test_each_window_hears_its_part_of_the_melody(model: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    encode = MelodyConditioner.encode

    def listen(self: MelodyConditioner, melody: Waveform) -> Tensor:
        heard.append(melody.samples)
        return encode(self, melody)

    monkeypatch.setattr(MelodyConditioner, "encode", listen)
    tune = clip(7.0, seed=1)
    model.backend.submit(ResolvedInput("piano", 10, 5, SamplingParams(), tune, clip(29.9))).audio()
    assert [samples.shape for samples in heard] == [(1, 30 * RATE)] * 2
    for start, samples in zip((0, 18), heard, strict=True):
        positions = torch.arange(start * RATE, (start + 30) * RATE) % tune.samples.shape[1]
        assert np.array_equal(samples, tune.samples[:, positions.numpy()])


def test_a_loop_of_a_clip_begins_anew_at_its_end() -> None:
    counted = Waveform(np.arange(5, dtype=np.float32)[None], RATE)
    assert loop(counted, first=3, samples=9).samples.tolist() == [[3, 4, 0, 1, 2, 3, 4, 0, 1]]


def test_what_fits_into_one_window_is_an_ordinary_request(model: MusicGen) -> None:
    job = model.submit(wanted(0.1, clip(29.9)))
    assert job.total_steps == 8
    assert job.audio().duration == 30


def test_the_cap_is_the_operator_s(model: MusicGen, melody_model: Path) -> None:
    assert model.abilities.max_seconds == 60
    with pytest.raises(InvalidRequest, match=r"60.02 s in all.*at most 60 s"):
        model.submit(wanted(0.02, clip(60)))
    with pytest.raises(InvalidRequest, match=r"stride must be 1 s or more and below 30 s, got 30"):
        MusicGen.load(melody_model, device="cpu", extend_stride=30)


# With MultiBand Diffusion


@pytest.fixture(scope="module", params=["melody", "stereo"])
def diffusing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MusicGen]:
    source = request.getfixturevalue(f"{request.param}_model")
    folder = copy_with_diffusion(source, tmp_path_factory.mktemp("diffusion") / "model")
    with MusicGen.load(folder, device="cpu", max_requests=2, max_seconds=60) as model:
        yield model


def diffused(model: MusicGen) -> ResolvedInput:
    """Two windows of decoding and two of each diffusion step."""
    channels = model.abilities.channels
    given = Waveform(clip(29.9).samples.repeat(channels, 0), RATE)
    tune = clip(7.0, seed=1) if model.abilities.melody else None
    return ResolvedInput("piano", 15, 5, SamplingParams(), tune, given, multi_band_diffusion=True)


def test_diffusion_takes_windows_in_turns(diffusing: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    class Listening:
        def execute(self, work: Callable[[], object]) -> object:
            return diffusing.backend.executor.execute(lambda: threads.append(threading.current_thread().name) or work())

    monkeypatch.setattr(diffusing.diffusion, "executor", Listening())
    seen: list[int] = []
    job = diffusing.backend.submit(diffused(diffusing))
    decoding = 15 + 3 * 2
    assert job.total_steps == decoding + STEPS
    audio = job.finish(lambda done, total: seen.append(done))
    # Two windows a step, the end of the last one, and the codec's own decoding.
    assert threads == ["musicgen-engine"] * (2 * STEPS + 2)
    assert seen == sorted(seen)
    assert {*range(decoding, decoding + STEPS + 1)} <= {*seen}
    assert audio.samples.shape == (diffusing.abilities.channels, round(30.2 * RATE))
    assert np.isfinite(audio.samples).all()
    again = diffusing.backend.submit(diffused(diffusing))
    heard = again.audio()
    assert np.array_equal(normalize(heard, NormalizationStrategy.LOUDNESS).samples, audio.samples)
    assert not np.allclose(diffusing.codec.decode(again.codes()).numpy(), heard.samples, atol=1e-3)


def test_diffusion_can_be_cancelled_between_two_windows(diffusing: MusicGen) -> None:
    job, before = diffusing.backend.submit(diffused(diffusing)), []

    def on_progress(done: int, _: int) -> None:
        before.append(done)
        if len(before) == 4:
            job.cancel()

    assert job.wait(60)
    with pytest.raises(GenerationCancelled):
        job.audio(on_progress)
    assert [done - before[0] for done in before] == [0, 0, 1, 1]


def test_no_conditions_at_all() -> None:
    with make_engine() as engine:
        codes = begin(engine, Request(100, SamplingParams(), 1, Conditions())).codes()
    assert codes.shape == (4, 100)
    assert int(codes.min()) >= 0
