import importlib
import logging
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from musicgen_core import (
    Abilities,
    CheckpointError,
    ContinuationMode,
    GenerationCancelled,
    GenerationInput,
    InvalidRequest,
    MusicGen,
    SamplingParams,
    UnsupportedByModel,
    Waveform,
)
from musicgen_core.audio.clip import trim
from musicgen_core.audio.files import encode_wav
from musicgen_core.codec.encodec import Codec
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.conditioning.text import TextConditioner
from musicgen_core.continuation import new_seconds
from musicgen_core.device import choose_dtype

RATE = 32_000
PROMPT = "warm lo-fi piano with soft drums"


def load(folder: Path, **options: Any) -> MusicGen:
    return MusicGen.load(folder, device="cpu", **({"max_requests": 2} | options))


@pytest.fixture(scope="module")
def text(text_model: Path) -> Iterator[MusicGen]:
    with load(text_model) as model:
        yield model


@pytest.fixture(scope="module")
def melody(melody_model: Path) -> Iterator[MusicGen]:
    with load(melody_model) as model:
        yield model


@pytest.fixture(scope="module")
def stereo(stereo_model: Path) -> Iterator[MusicGen]:
    with load(stereo_model) as model:
        yield model


def clip(seconds: float, channels: int = 1, seed: int = 3) -> Waveform:
    noise = np.random.default_rng(seed).normal(0, 0.2, (channels, round(seconds * RATE)))
    return Waveform(samples=noise.astype(np.float32), sample_rate=RATE)


def wanted(duration: float = 0.5, **changes: Any) -> GenerationInput:
    """A short greedy request."""
    guidance = changes.pop("guidance", 3.0)
    sampling = changes.pop("sampling", SamplingParams(temperature=0.0, guidance=guidance))
    return GenerationInput(**({"prompt": PROMPT, "duration": duration, "seed": 0, "sampling": sampling} | changes))


def reference(folder: Path, frames: int, *, guidance: float = 3.0, **inputs: Any) -> npt.NDArray[np.float32]:
    """What transformers' own `generate` plays, greedy: [channels, samples]."""
    kind: Any = MusicgenMelodyForConditionalGeneration if folder.name == "melody" else MusicgenForConditionalGeneration
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")
    audio = kind.from_pretrained(folder).generate(
        **tokens, **inputs, do_sample=False, guidance_scale=guidance, max_new_tokens=frames + 3
    )
    played: npt.NDArray[np.float32] = audio[0].numpy()
    return played


def assert_same_sound(audio: Waveform, expected: npt.NDArray[np.float32]) -> None:
    assert audio.samples.shape == expected.shape
    assert audio.samples.dtype == np.float32
    assert np.abs(audio.samples - expected).max() < 1e-4
    assert expected.std() > 0.01


# Against transformers


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_text_gives_what_transformers_gives(text: MusicGen, text_model: Path, guidance: float) -> None:
    audio = text.submit(wanted(1.0, guidance=guidance)).audio()
    assert_same_sound(audio, reference(text_model, 50, guidance=guidance))


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_a_continuation_gives_what_transformers_gives(text: MusicGen, text_model: Path, guidance: float) -> None:
    prompt = clip(0.6)
    audio = text.submit(wanted(0.8, guidance=guidance, input_audio=prompt, continuation=True)).audio()
    values = torch.from_numpy(prompt.samples)[None]
    assert_same_sound(audio, reference(text_model, 40, guidance=guidance, input_values=values))


@pytest.mark.parametrize("with_prompt", [False, True])
def test_stereo_gives_what_transformers_gives(stereo: MusicGen, stereo_model: Path, with_prompt: bool) -> None:
    prompt = clip(0.5, channels=2) if with_prompt else None
    audio = stereo.submit(wanted(0.5, input_audio=prompt, continuation=with_prompt)).audio()
    inputs = {} if prompt is None else {"input_values": torch.from_numpy(prompt.samples)[None]}
    assert_same_sound(audio, reference(stereo_model, 25, **inputs))
    assert np.abs(audio.samples[0] - audio.samples[1]).max() > 0.01


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_a_melody_gives_what_transformers_gives(melody: MusicGen, melody_model: Path, guidance: float) -> None:
    tune = clip(4.0)
    chroma = MelodyConditioner(sample_rate=RATE, bins=12, frames=235).chroma(torch.from_numpy(tune.samples[0]))
    audio = melody.submit(wanted(0.5, guidance=guidance, input_audio=tune)).audio()
    expected = reference(melody_model, 25, guidance=guidance, input_features=chroma[None])
    assert_same_sound(audio, expected)


def test_a_melody_model_without_a_melody_gives_what_transformers_gives(melody: MusicGen, melody_model: Path) -> None:
    assert_same_sound(melody.submit(wanted()).audio(), reference(melody_model, 25))


# What a model is


def test_abilities_name_and_version(text: MusicGen, melody: MusicGen, stereo: MusicGen) -> None:
    assert text.abilities == Abilities(melody=False, channels=1, sample_rate=RATE, frame_rate=50, max_seconds=30)
    assert melody.abilities.melody
    assert stereo.abilities.channels == 2
    assert (text.name, text.trained, text.max_requests) == ("text", False, 2)
    assert len(text.checksum) == 64
    assert text.checksum != melody.checksum


def test_the_log_says_what_was_loaded(text_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="musicgen_core"), load(text_model):
        pass
    line = next(message for message in caplog.messages if message.startswith("Loaded text:"))
    for part in ("M parameters", "float32 on cpu", "32000 Hz, mono", "requests at once: 2", "MiB each"):
        assert part in line


def test_nothing_to_load_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder, and it is not a hub id"):
        MusicGen.load(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="not a model folder"):
        MusicGen.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "state_dict.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="audiocraft"):
        MusicGen.load(tmp_path)


def test_an_unknown_device_is_named(text_model: Path) -> None:
    with pytest.raises(CheckpointError, match="abacus"):
        MusicGen.load(text_model, device="abacus")


def test_int8_where_there_is_none_is_refused() -> None:
    with pytest.raises(CheckpointError, match="int8 runs on CPUs"):
        choose_dtype("int8", torch.device("meta"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none_is_refused(text_model: Path) -> None:
    with pytest.raises(CheckpointError, match="no CUDA device"):
        MusicGen.load(text_model, device="cuda")


def imports_of(code: str) -> set[str]:
    """Those of the large packages that are imported once the code has been executed in a process of its own."""
    large = {"torch", "torch._dynamo", "transformers", "scipy", "sympy", "numpy"}
    code = f"import sys; {code}; print(*({large} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_loading_a_model_imports_neither_transformers_nor_torchs_compiler() -> None:
    """scipy comes later, in a thread."""
    load = "from musicgen_core import MusicGen; MusicGen.load('musicgen-pocket', device='cpu').close()"
    assert imports_of(load) - {"scipy"} == {"torch", "numpy"}


def test_importing_the_package_leaves_torch_alone() -> None:
    assert imports_of("import musicgen_core, musicgen_core.errors") == set()
    assert imports_of("from musicgen_core import MusicGen") == {"torch", "numpy"}
    package = importlib.import_module("musicgen_core")
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # noqa: B018


# What a request gives


def test_lengths_are_exact(text: MusicGen) -> None:
    assert text.submit(wanted(2)).audio().samples.shape == (1, 2 * RATE)
    assert text.submit(wanted(0.29)).audio().samples.shape == (1, 14 * 640)
    extended = text.submit(wanted(0.5, input_audio=clip(1.0), continuation=True)).audio()
    assert extended.samples.shape == (1, 1.5 * RATE)
    assert extended.duration == 1.5


def test_int8_gives_each_request_what_it_gives_it_alone(text_model: Path) -> None:
    sampled = SamplingParams(top_k=250)
    with load(text_model, dtype="int8", max_requests=3) as model:
        alone = [model.submit(wanted(0.3, sampling=sampled, seed=seed)).audio().samples for seed in range(3)]
        jobs = [model.submit(wanted(0.3, sampling=sampled, seed=seed)) for seed in range(3)]
        for expected, job in zip(alone, jobs, strict=True):
            assert np.array_equal(job.audio().samples, expected)


def test_takes_of_one_input_are_encoded_once(melody_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text, its melody, its clip."""
    asked: list[str] = []

    def count(part: Any, name: str) -> None:
        encode = getattr(part, name)

        def counted(self: Any, given: Any) -> Any:
            asked.append(part.__name__)
            return encode(self, given)

        monkeypatch.setattr(part, name, counted)

    for part, name in ((TextConditioner, "encode"), (MelodyConditioner, "encode"), (Codec, "encoding")):
        count(part, name)
    sampled = SamplingParams(top_k=250)
    takes = [wanted(0.3, sampling=sampled, seed=seed, input_audio=clip(1.0)) for seed in range(3)]
    continued = [replace(take, continuation=True) for take in takes]
    with load(melody_model, max_requests=2) as model:
        jobs = [model.submit(take) for take in (*takes, *continued)]
        together = [job.codes() for job in jobs]
    assert sorted(asked) == ["Codec", "MelodyConditioner", "TextConditioner"]
    monkeypatch.undo()
    for take, codes in zip((*takes, *continued), together, strict=True):
        with load(melody_model, max_requests=1) as model:
            assert torch.equal(model.submit(take).codes(), codes)


def test_the_seed_decides(text: MusicGen) -> None:
    sampled = SamplingParams(top_k=250)
    first, again, other, zero = (
        text.submit(wanted(0.2, sampling=sampled, seed=seed)).audio().samples for seed in (7, 7, 2**32 - 1, 0)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, zero)


def test_no_prompt_and_the_empty_prompt_are_the_same(text: MusicGen) -> None:
    none, empty, other = (text.submit(wanted(0.2, prompt=prompt)).audio().samples for prompt in (None, "", PROMPT))
    assert np.array_equal(none, empty)
    assert not np.array_equal(none, other)


def test_extreme_sampling_works(text: MusicGen) -> None:
    for sampling in (
        SamplingParams(top_k=10**9),
        SamplingParams(top_k=0),
        SamplingParams(top_p=0.9),
        SamplingParams(guidance=0.0),
    ):
        assert np.isfinite(text.submit(wanted(0.1, sampling=sampling)).audio().samples).all()


def test_progress_is_counted_to_the_end(text: MusicGen) -> None:
    seen: list[tuple[int, int]] = []
    text.generate(PROMPT, duration=3, seed=1, on_progress=lambda *steps: seen.append(steps))
    done, total = seen[-1]
    assert done == total == 153  # 150 frames, and 3 for the delays
    assert seen == sorted(seen)


def test_a_job_can_be_cancelled(text: MusicGen) -> None:
    job = text.submit(wanted(30))
    job.cancel()
    assert job.wait(30)
    with pytest.raises(GenerationCancelled):
        job.audio()
    assert text.submit(wanted(0.1)).audio().duration == 0.1  # the slot is free again


def test_an_error_in_the_progress_callback_cancels(text: MusicGen) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    job = text.submit(wanted(30))
    with pytest.raises(KeyboardInterrupt):
        job.finish(interrupt)
    with pytest.raises(GenerationCancelled):
        job.audio()


def test_jobs_run_side_by_side_as_if_alone(text: MusicGen) -> None:
    alone = [text.submit(wanted(0.4, seed=seed, sampling=SamplingParams())).audio() for seed in range(4)]
    jobs = [text.submit(wanted(0.4, seed=seed, sampling=SamplingParams())) for seed in range(4)]
    for job, expected in zip(jobs, alone, strict=True):
        np.testing.assert_allclose(job.audio().samples, expected.samples, atol=1e-4)


# What is refused


def test_a_melody_on_a_text_model_is_refused(text: MusicGen) -> None:
    with pytest.raises(UnsupportedByModel, match="cannot follow a melody"):
        text.submit(wanted(input_audio=clip(1.0)))


@pytest.mark.parametrize("duration", [0, -1, 0.001, math.nan, math.inf])
def test_a_duration_without_music_is_refused(text: MusicGen, duration: float) -> None:
    with pytest.raises(InvalidRequest):
        text.submit(wanted(duration))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(text: MusicGen, seed: int) -> None:
    with pytest.raises(InvalidRequest, match="seed"):
        text.submit(wanted(seed=seed))


def test_more_than_thirty_seconds_in_all_are_refused(text: MusicGen) -> None:
    with pytest.raises(InvalidRequest, match=r"30.02 s in all.*at most 30 s"):
        text.submit(wanted(30.02))
    with pytest.raises(InvalidRequest, match=r"clip of 23 s and 8 s of new music are 31 s.*shorter part"):
        text.submit(wanted(8, input_audio=clip(23), continuation=True))
    job = text.submit(wanted(8, input_audio=clip(22), continuation=True))
    job.cancel()


def test_audio_at_another_rate_or_without_samples_is_refused(melody: MusicGen) -> None:
    other = Waveform(samples=np.zeros((1, 44_100), np.float32), sample_rate=44_100)
    with pytest.raises(InvalidRequest, match="44100 Hz"):
        melody.submit(wanted(input_audio=other))
    with pytest.raises(InvalidRequest, match="no samples"):
        melody.submit(wanted(input_audio=clip(0), continuation=True))


def test_generate_refuses_what_makes_no_sense(text: MusicGen, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Give a prompt, an audio file, or both"):
        text.generate()
    with pytest.raises(InvalidRequest, match="nothing to continue"):
        text.generate(PROMPT, continuation=True)
    with pytest.raises(InvalidRequest, match=r"loud.*one of loudness, clip, peak, rms"):
        text.generate(PROMPT, normalization="loud")
    with pytest.raises(InvalidRequest, match="temperature"):
        text.generate(PROMPT, temperature=-1)


# From a file


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(encode_wav(clip(2.0)))
    return path


def test_generate_continues_a_part_of_a_file(text: MusicGen, clip_file: Path) -> None:
    audio = text.generate(
        PROMPT,
        duration=0.5,
        input_audio=clip_file,
        continuation=True,
        continuation_start=0.5,
        continuation_end=1.5,
        seed=1,
        normalization="clip",
    )
    assert audio.duration == 1.5
    total = text.generate(
        None, duration=2.5, input_audio=clip_file, continuation=True, continuation_mode="total", seed=1
    )
    assert total.duration == 2.5


def test_generate_follows_the_melody_of_a_part_of_a_file(melody: MusicGen, clip_file: Path) -> None:
    whole, same, part = (
        melody.generate(PROMPT, duration=0.3, input_audio=clip_file, seed=1, continuation_end=end).samples
        for end in (None, -1, 0.8)
    )
    assert np.array_equal(whole, same)
    assert not np.array_equal(whole, part)


def test_generate_normalises_and_draws_a_seed(text: MusicGen, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="musicgen_core"):
        loud = text.generate(PROMPT, duration=1, normalization="peak")
    assert np.abs(loud.samples).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    (line,) = [message for message in caplog.messages if message.startswith("Using seed ")]
    seed = int(line.removeprefix("Using seed "))
    again = text.generate(PROMPT, duration=1, normalization="peak", seed=seed)
    assert np.array_equal(loud.samples, again.samples)


# The part of a clip that is used


def test_trim_takes_the_part() -> None:
    whole = clip(3.0, channels=2)
    part = trim(whole, start=0.5, end=2.0)
    assert np.array_equal(part.samples, whole.samples[:, 16_000:64_000])
    assert part.sample_rate == RATE


@pytest.mark.parametrize("end", [None, -1, 3, 99.0])
def test_trim_ends_at_the_clips_end(end: float | None) -> None:
    whole = clip(3.0)
    assert np.array_equal(trim(whole, end=end).samples, whole.samples)
    assert np.array_equal(trim(whole, start=1, end=end).samples, whole.samples[:, RATE:])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (3.0, None, "begins at 3 s, but the audio is only 3.00 s long"),
        (7.0, 9.0, "begins at 7 s"),
        (1.0, 1.0, "from 1 to 1 s, is empty"),
        (2.0, 1.0, "from 2 to 1 s, is empty"),
        (0.0, 0.0, "is empty"),
        (-1.0, None, "negative"),
        (0.0, -2.0, "negative"),
    ],
)
def test_trim_refuses_an_empty_part(start: float, end: float | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        trim(clip(3.0), start=start, end=end)


@pytest.mark.parametrize(
    ("mode", "duration", "seconds", "new"),
    [("extend", 8, 5.0, 8), ("total", 8, 5.0, 3), ("total", 20, 3.33, 16.66), ("total", 30, 29.98, 0.02)],
)
def test_what_duration_means(mode: str, duration: float, seconds: float, new: float) -> None:
    rest = new_seconds(duration, clip(seconds), mode=ContinuationMode(mode), hop=640)
    assert rest == pytest.approx(new)
    if mode == "total":
        assert round(rest * 50) + math.ceil(seconds * 50) == duration * 50  # exactly, in whole frames


@pytest.mark.parametrize("seconds", [8.0, 7.99, 12.0])
def test_a_clip_that_fills_the_total_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="no room for new music"):
        new_seconds(8, clip(seconds), mode=ContinuationMode.TOTAL, hop=640)
