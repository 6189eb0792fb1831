"""Every field of an input with its edge cases, through the service, on every kind of model: one row for each case.

All rows' inputs are posted to a model at once and decoded together; each row then checks its own outcomes. Sounds that
no model makes (silence, a single click, opposite channels) are in `tests/musicgen_core/audio/test_loudness.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from musicgen_core.checkpoints.noise_model import Kind
from predictions.models.inputs import Input
from tests.diffusion_model import STEPS
from tests.e2e.conftest import Service, side_by_side
from tests.e2e.rows import KINDS, ROWS, Fields, Model, Outcome, row, serving
from tests.e2e.sound import RATE, Samples, data_uri, measure, tone, wav

CEILING = 10 ** (-1 / 20)
LOOK_AHEAD = round(0.2 * RATE)
"""Samples at a clip's end that depend on what follows, because the codec looks ahead; an upper bound."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Model]]:
    with side_by_side([serving(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS]) as served:
        yield dict(zip(KINDS, served, strict=True))


# prompt


@row({"prompt": None})
def no_prompt_and_no_audio(model: Model, nothing: Outcome) -> None:
    assert "prompt" in nothing.refused


@row({"prompt": ""}, {"prompt": "", "classifier_free_guidance": 1}, {"prompt": "", "classifier_free_guidance": 0}, {})
def prompt_empty_is_unconditional(model: Model, empty: Outcome, one: Outcome, zero: Outcome, piano: Outcome) -> None:
    """Without a condition, guidance changes nothing."""
    assert empty.content == one.content == zero.content != piano.content
    assert empty.samples.shape == (model.channels, RATE)


@row({}, {"prompt": "flute"})
def prompt_is_followed(model: Model, piano: Outcome, flute: Outcome) -> None:
    assert piano.content != flute.content


@row({"prompt": "x" * 2000}, {"prompt": "x" * 2001})
def prompt_of_2000_characters(model: Model, longest: Outcome, longer: Outcome) -> None:
    assert longest.seconds == 1
    assert "prompt" in longer.refused


# input_audio, as a melody

SONG = np.concatenate([tone(1, frequency) for frequency in (220, 330, 440)], axis=1)
CLIP, SECOND = wav(SONG), wav(SONG[:, RATE : 2 * RATE])
A, E_FLAT = (data_uri(wav(tone(3, frequency))) for frequency in (220.0, 311.1))
MELODIES = [tone(0.5, 220 * 2 ** (n / 12), 8_000) for n in (0, 3, 7, 10, 5, 2, 8, 11, 1, 6)]
TUNE = np.concatenate([MELODIES[n % 7 + n // 40] for n in range(80)], axis=1)
"""40 s at 8 kHz, with different notes in the second half."""


def tune(seconds: float, start: float = 0.0) -> str:
    return data_uri(wav(TUNE[:, round(8_000 * start) : round(8_000 * (start + seconds))], 8_000))


def no_melody(model: Model, *outcomes: Outcome) -> bool:
    """Whether the model follows no melody; if so, the requests have to have been refused."""
    if not model.melody:
        assert all("cannot follow a melody" in outcome.refused["input_audio"] for outcome in outcomes)
    return not model.melody


@row({"input_audio": A}, {"input_audio": E_FLAT}, {})
def input_audio_is_followed_or_refused(model: Model, a: Outcome, e_flat: Outcome, without: Outcome) -> None:
    if no_melody(model, a, e_flat):
        return
    assert len({a.content, e_flat.content, without.content}) == 3
    assert a.seconds == 1


@row({"input_audio": A, "prompt": None}, {"input_audio": A, "prompt": ""})
def input_audio_without_a_prompt(model: Model, none: Outcome, empty: Outcome) -> None:
    if not no_melody(model, none, empty):
        assert none.content == empty.content


@row({"input_audio": A}, {"input_audio": data_uri(wav(tone(31)))}, {"input_audio": data_uri(wav(tone(0.3)))})
def melody_shorter_than_30_s_is_repeated(model: Model, three: Outcome, long: Outcome, short: Outcome) -> None:
    """A steady tone repeats itself exactly."""
    if not no_melody(model, three, long, short):
        assert three.content == long.content == short.content


@row({"input_audio": tune(40)}, {"input_audio": tune(31)}, {"input_audio": tune(20)})
def melody_longer_than_30_s_is_cut(model: Model, all_: Outcome, begin: Outcome, half: Outcome) -> None:
    if not no_melody(model, all_, begin, half):
        assert all_.content == begin.content != half.content


@row(
    {"input_audio": data_uri(CLIP), "continuation_start": 1, "continuation_end": 2},
    {"input_audio": data_uri(SECOND)},
    {"input_audio": data_uri(CLIP)},
)
def start_and_end_trim_a_melody_too(model: Model, trimmed: Outcome, cut: Outcome, whole: Outcome) -> None:
    if not no_melody(model, trimmed, cut, whole):
        assert trimmed.content == cut.content != whole.content


# input_audio, however it is sent


@row({}, {"input_audio": A, "continuation": True})
def input_audio_as_url_upload_or_data_uri(model: Model, made: Outcome, by_data: Outcome) -> None:
    assert by_data.body["input"]["input_audio"].startswith(str(model.service.client.base_url))
    files = {"content": ("a.wav", made.content, "audio/wav")}
    uploaded = model.service.client.post("/files", files=files).json()["urls"]["get"]
    sent = [made.body["output"], uploaded, data_uri(made.content)]
    continued = [model.post(input_audio=uri, continuation=True) for uri in sent]
    assert len({outcome.content for outcome in continued}) == 1
    assert continued[0].seconds == 2


@row(
    {"input_audio": data_uri(b"no audio"), "continuation": True},
    {"input_audio": "http://127.0.0.1:9/a.wav", "continuation": True},
)
def input_audio_that_is_none_fails(model: Model, text: Outcome, nobody: Outcome) -> None:
    assert "audio" in text.failure
    assert "http://127.0.0.1:9/a.wav" in nobody.failure


@row({"input_audio": "http://10.0.0.1/a.wav"}, {"input_audio": "file:///etc/passwd"}, {"input_audio": "data:,"})
def input_audio_that_is_seen_to_be_wrong(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"input_audio"} for outcome in wrong)


# continuation


def continued(**fields: Any) -> Fields:
    return {"input_audio": data_uri(CLIP), "continuation": True, **fields}


def in_total(**fields: Any) -> Fields:
    return continued(continuation_mode="total", **fields)


@row(continued(), continued(seed=8))
def continuation_begins_with_the_clip(model: Model, one: Outcome, other: Outcome) -> None:
    assert one.seconds == other.seconds == 4
    same = 3 * RATE - LOOK_AHEAD
    expected = np.clip(model.rendered(CLIP), -CEILING, CEILING)[:, :same]
    for outcome in (one, other):
        np.testing.assert_allclose(outcome.samples[:, :same], expected, atol=2 / 32768)
    assert not np.allclose(one.samples[:, 3 * RATE :], other.samples[:, 3 * RATE :], atol=0.01)


@row(continued(prompt=None), continued(prompt=""), continued())
def continuation_without_a_prompt(model: Model, none: Outcome, empty: Outcome, piano: Outcome) -> None:
    assert none.content == empty.content != piano.content


@row({"continuation": True})
def continuation_without_audio(model: Model, outcome: Outcome) -> None:
    assert "continuation" in outcome.refused


@row(continued(continuation_start=1, continuation_end=2), continued(input_audio=data_uri(SECOND)))
def continuation_start_and_end(model: Model, part: Outcome, cut: Outcome) -> None:
    assert part.seconds == 2
    assert part.content == cut.content


@row(continued(), continued(continuation_end=-1), continued(continuation_end=99))
def continuation_end_minus_one_or_past_the_clip(model: Model, whole: Outcome, *others: Outcome) -> None:
    assert {outcome.content for outcome in others} == {whole.content}


@row(continued(continuation_start=2, continuation_end=1), continued(continuation_start=2, continuation_end=2))
def continuation_start_at_or_after_the_end(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"continuation_end"} for outcome in wrong)


@row(continued(continuation_start=3), continued(continuation_start=99))
def continuation_start_past_the_clip_fails(model: Model, *wrong: Outcome) -> None:
    assert all("only 3.00 s long" in outcome.failure for outcome in wrong)


@row(continued(continuation_start=-1), continued(continuation_end=-2))
def continuation_start_and_end_negative(model: Model, start: Outcome, end: Outcome) -> None:
    assert (start.refused.keys(), end.refused.keys()) == ({"continuation_start"}, {"continuation_end"})


@row(continued(input_audio=data_uri(wav(tone(0.2)))))
def continuation_of_a_fifth_of_a_second(model: Model, outcome: Outcome) -> None:
    assert outcome.seconds == 1.2


# continuation_mode


@row(continued(duration=2), in_total(duration=5), continued(duration=2, continuation_mode="extend"))
def continuation_mode_extend_or_total(model: Model, plain: Outcome, total: Outcome, extend: Outcome) -> None:
    """Two new seconds in both modes."""
    assert plain.seconds == 5
    assert plain.content == total.content == extend.content


@row(in_total(duration=3), in_total(duration=2))
def total_no_longer_than_the_clip_fails(model: Model, *wrong: Outcome) -> None:
    assert all("3.00 s long, which leaves no room" in outcome.failure for outcome in wrong)


@row(in_total(input_audio=data_uri(wav(tone(29))), duration=30), continued(duration=28), continued(duration=30))
def continuation_up_to_30_s_in_all(model: Model, most: Outcome, too_long: Outcome, hopeless: Outcome) -> None:
    assert most.seconds == 30
    assert "31 s in all, but" in too_long.failure
    assert "duration" in hopeless.refused


@row(continued(continuation_mode="both"))
def continuation_mode_unknown(model: Model, outcome: Outcome) -> None:
    assert "continuation_mode" in outcome.refused


# Channels of a clip

LEFT, RIGHT = tone(1, 220), tone(1, 330)
STEREO, MIXED = wav(np.concatenate([LEFT, RIGHT])), wav((LEFT + RIGHT) / 2)
FOUR = wav(np.concatenate([LEFT, RIGHT, RIGHT, LEFT]))


@row(*(continued(input_audio=data_uri(content)) for content in (STEREO, MIXED, FOUR)))
def channels_are_averaged_or_the_first_two_taken(model: Model, stereo: Outcome, mixed: Outcome, four: Outcome) -> None:
    assert stereo.samples.shape == mixed.samples.shape == (model.channels, 2 * RATE)
    assert four.content == stereo.content
    assert (stereo.content == mixed.content) == (model.channels == 1)
    if model.channels == 2:
        begin = slice(RATE - LOOK_AHEAD)
        np.testing.assert_allclose(*mixed.samples[:, begin], atol=2 / 32768)
        assert not np.allclose(stereo.samples[0, begin], stereo.samples[1, begin], atol=0.01)
        np.testing.assert_allclose(stereo.samples[:, begin], model.rendered(STEREO)[:, begin], atol=2 / 32768)


# duration


@row({}, {"duration": 3}, {"duration": None})
def duration_in_seconds_8_by_default(model: Model, one: Outcome, three: Outcome, default: Outcome) -> None:
    assert [outcome.seconds for outcome in (one, three, default)] == [1, 3, 8]


@row({"duration": 0}, {"duration": -1}, {"duration": 31}, {"duration": 1.5}, {"duration": "8"})
def duration_zero_negative_too_long_or_no_whole_number(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"duration"} for outcome in wrong)


# multi_band_diffusion


@row({"multi_band_diffusion": True}, {"multi_band_diffusion": True}, {}, {"multi_band_diffusion": False})
def multi_band_diffusion(model: Model, sampled: Outcome, again: Outcome, decoded: Outcome, asked: Outcome) -> None:
    assert sampled.content == again.content != decoded.content == asked.content
    assert sampled.samples.shape == (model.channels, RATE)
    assert (decoded.body["progress"]["total_steps"], sampled.body["progress"]["total_steps"]) == (53, 53 + STEPS)
    assert f"{53 + STEPS}/{53 + STEPS}" in sampled.body["logs"]


@row({"multi_band_diffusion": True})
def multi_band_diffusion_of_each_channel(model: Model, sampled: Outcome) -> None:
    levels = np.sqrt(np.mean(sampled.samples**2, axis=1))
    assert (levels > 0.01).all()
    assert len({channel.tobytes() for channel in sampled.samples}) == model.channels


@row(continued(multi_band_diffusion=True), continued())
def multi_band_diffusion_of_a_continuation(model: Model, sampled: Outcome, decoded: Outcome) -> None:
    assert sampled.seconds == decoded.seconds == 4
    assert sampled.content != decoded.content


# normalization_strategy

LEVELS = [{"duration": 2, "normalization_strategy": name} for name in ("loudness", "clip", "peak", "rms")]


@row(LEVELS[0], {"duration": 2, "normalization_strategy": None})
def normalization_strategy_loudness(model: Model, asked: Outcome, default: Outcome) -> None:
    assert asked.content == default.content
    loudness, peak = measure(asked.content)
    assert loudness == pytest.approx(-14, abs=0.3)
    assert peak <= -0.9
    assert asked.body["metrics"]["loudness"] == pytest.approx(loudness, abs=0.11)


@row(LEVELS[1], LEVELS[3])
def normalization_strategy_clip(model: Model, clipped: Outcome, rms: Outcome) -> None:
    """No gain: below the ceiling, the samples are those of the other strategies without their gain."""
    assert np.abs(clipped.samples).max() <= CEILING + 1 / 32768
    assert_same_up_to_gain(clipped.samples, rms.samples)


@row(LEVELS[2], LEVELS[3])
def normalization_strategy_peak(model: Model, peak: Outcome, rms: Outcome) -> None:
    assert np.abs(peak.samples).max() == pytest.approx(CEILING, abs=1 / 32768)
    assert_same_up_to_gain(peak.samples, rms.samples)


@row(LEVELS[3])
def normalization_strategy_rms(model: Model, rms: Outcome) -> None:
    assert 20 * np.log10(np.sqrt(np.mean(rms.samples**2))) == pytest.approx(-18, abs=0.1)


def assert_same_up_to_gain(one: Samples, other: Samples) -> None:
    gain = np.sum(one * other) / np.sum(other * other)
    inside = (np.abs(one) < CEILING - 0.01) & (np.abs(other) < 0.99)
    assert inside.mean() > 0.99
    np.testing.assert_allclose(one[inside], gain * other[inside], atol=1e-3)


@row({"normalization_strategy": "loud"})
def normalization_strategy_unknown(model: Model, outcome: Outcome) -> None:
    assert "normalization_strategy" in outcome.refused


# top_k, top_p, temperature

GREEDY: Fields = {"temperature": 0}


@row({}, {"top_k": 250}, {"top_k": 5}, {"top_k": 1}, GREEDY)
def top_k_250_by_default(model: Model, default: Outcome, asked: Outcome, *others: Outcome) -> None:
    five, one, greedy = others
    assert default.content == asked.content
    assert len({default.content, five.content, one.content}) == 3
    assert one.content == greedy.content


@row({"top_k": 2048}, {"top_k": 100_000}, {"top_k": 0}, {})
def top_k_over_the_vocabulary_or_0_is_all_of_it(model: Model, all_: Outcome, *others: Outcome) -> None:
    over, none, default = others
    assert all_.content == over.content == none.content != default.content


@row({"top_k": -1}, {"top_k": 2.5})
def top_k_negative_or_no_whole_number(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"top_k"} for outcome in wrong)


@row({"top_p": 0.9, "top_k": 1}, {"top_p": 0.9}, {"top_p": 1e-6}, {"top_p": 0}, {}, GREEDY)
def top_p_takes_the_place_of_top_k(model: Model, one: Outcome, many: Outcome, *others: Outcome) -> None:
    tiny, off, default, greedy = others
    assert one.content == many.content
    assert len({many.content, default.content, greedy.content}) == 3
    assert tiny.content == greedy.content
    assert off.content == default.content


@row({"top_p": -0.1}, {"top_p": 1.1})
def top_p_outside_0_to_1(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"top_p"} for outcome in wrong)


@row(GREEDY, GREEDY | {"seed": 8})
def temperature_0_is_greedy(model: Model, one: Outcome, other: Outcome) -> None:
    """The seed has no effect."""
    assert one.content == other.content


@row({}, {"temperature": 1}, {"temperature": 0.5}, {"temperature": 1.5})
def temperature_1_by_default(model: Model, default: Outcome, one: Outcome, low: Outcome, high: Outcome) -> None:
    assert default.content == one.content
    assert len({one.content, low.content, high.content}) == 3


@row({"temperature": -0.1}, {"temperature": "warm"})
def temperature_negative_or_no_number(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"temperature"} for outcome in wrong)


# classifier_free_guidance


@row(*({"classifier_free_guidance": guidance} for guidance in (3, 1, 0)), {})
def guidance_3_by_default(model: Model, three: Outcome, one: Outcome, zero: Outcome, default: Outcome) -> None:
    assert default.content == three.content
    assert len({three.content, one.content, zero.content}) == 3


@row({"classifier_free_guidance": 0}, {"classifier_free_guidance": 0, "prompt": "flute"})
def guidance_0_is_unconditional(model: Model, piano: Outcome, flute: Outcome) -> None:
    assert piano.content == flute.content


@row({"classifier_free_guidance": 0}, {"classifier_free_guidance": 0, "input_audio": A})
def guidance_0_ignores_a_melody(model: Model, without: Outcome, tune: Outcome) -> None:
    if not no_melody(model, tune):
        assert without.content == tune.content


@row({"classifier_free_guidance": -1}, {"classifier_free_guidance": 2.5})
def guidance_negative_or_no_whole_number(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"classifier_free_guidance"} for outcome in wrong)


# seed


@row({"seed": 0}, {"seed": 0}, {"seed": 1}, {"seed": 2**32 - 1})
def seed_0_and_the_largest_are_seeds(model: Model, zero: Outcome, again: Outcome, *others: Outcome) -> None:
    one, largest = others
    assert zero.content == again.content
    assert len({zero.content, one.content, largest.content}) == 3
    assert [outcome.body["metrics"]["seed"] for outcome in (zero, largest)] == [0, 2**32 - 1]


@row({"seed": None}, {"seed": -1}, {"seed": -1})
def seed_none_or_minus_one_is_random_and_told(model: Model, *drawn: Outcome) -> None:
    seeds = [outcome.body["metrics"]["seed"] for outcome in drawn]
    assert len(set(seeds)) == 3
    for outcome, seed in zip(drawn, seeds, strict=True):
        assert outcome.body["logs"].startswith(f"Using seed {seed}\n")
    assert model.post(seed=seeds[0]).content == drawn[0].content


@row({"seed": -2}, {"seed": 2**32}, {"seed": 0.5})
def seed_outside_the_32_bits(model: Model, *wrong: Outcome) -> None:
    assert all(outcome.refused.keys() == {"seed"} for outcome in wrong)


# output_format


@row({"output_format": "wav"}, {})
def output_format_wav_by_default(model: Model, asked: Outcome, default: Outcome) -> None:
    assert asked.content == default.content
    assert asked.file.headers["content-type"] == "audio/wav"
    assert asked.samples.shape == (model.channels, RATE)
    assert np.sqrt(np.mean(asked.samples**2)) > 0.01


@row({"output_format": "mp3", "duration": 3}, {"duration": 3})
def output_format_mp3_at_320_kb(model: Model, mp3: Outcome, same: Outcome) -> None:
    assert mp3.file.headers["content-type"] == "audio/mpeg"
    assert len(mp3.content) * 8 / 3 == pytest.approx(320_000, rel=0.06)
    sound = model.read(mp3.content)
    assert sound.shape[1] / RATE == pytest.approx(3, abs=0.1)
    length = min(sound.shape[1], same.samples.shape[1])
    assert np.corrcoef(sound[:, :length].ravel(), same.samples[:, :length].ravel())[0, 1] > 0.8


@row({"output_format": "flac"}, {"output_format": "wav24"}, {})
def output_format_flac_is_the_wav_and_24_bits_are_finer(
    model: Model, flac: Outcome, fine: Outcome, same: Outcome
) -> None:
    assert [each.file.headers["content-type"] for each in (flac, fine)] == ["audio/flac", "audio/wav"]
    assert np.array_equal(model.read(flac.content), same.samples)
    difference = model.read(fine.content) - same.samples
    assert 0 < np.abs(difference).max() < 1 / 32768


@row({"output_format": "ogg"})
def output_format_unknown(model: Model, outcome: Outcome) -> None:
    assert "output_format" in outcome.refused


# adapter_strength


@row({"adapter_strength": 0.5}, {"adapter_strength": 1}, {"adapter_strength": 2.5}, {})
def adapter_strength_is_for_fine_tunes(
    model: Model, half: Outcome, whole: Outcome, more: Outcome, same: Outcome
) -> None:
    """With one, it is tested in `test_fine_tunes.py`."""
    assert half.refused.keys() == more.refused.keys() == {"adapter_strength"}
    assert whole.content == same.content


# Fields that are not there, and progress


@row({"tempo": 120}, {"tempo": 120, "duration": 0, "top_p": 2})
def unknown_fields_are_named(model: Model, one: Outcome, several: Outcome) -> None:
    assert one.refused.keys() == {"tempo"}
    assert several.refused.keys() == {"tempo", "duration", "top_p"}


@row({"duration": 12})
def progress_in_lines_of_tqdm_and_in_the_record(model: Model, outcome: Outcome) -> None:
    """Replicate's client reads the progress from these lines."""
    steps = re.findall(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)", outcome.body["logs"], re.MULTILINE)
    assert steps[-1] == ("100", "603", "603")
    assert len(steps) > 2
    expected = {"completed_steps": 603, "total_steps": 603, "fraction": 1.0}
    assert outcome.body["progress"] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_field(name: str, kind: Kind, models: dict[Kind, Model]) -> None:
    model, chosen = models[kind], ROWS[name]
    chosen.check(model, *model.outcomes_of(chosen))


def test_the_table_has_every_field() -> None:
    named = {name for row in ROWS.values() for fields in row.inputs for name in fields}
    assert named - {"tempo"} == set(Input.model_fields)


def test_multi_band_diffusion_is_refused_where_the_model_has_none(service: Service) -> None:
    refused = Outcome(service, {"multi_band_diffusion": True}).refused
    assert "has no MultiBand Diffusion" in refused["multi_band_diffusion"]
