"""The songs and captions that musicgen-pocket learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.attributes import ATTRIBUTES, labelled_songs, loudest_instrument, on_grid
from training.captions import BRIGHTNESSES, DENSITIES, DRUMS, MODES, PACES, caption
from training.instruments import CYCLES, DRUM_NAMES, HOP, INSTRUMENTS, SAMPLE_RATE, drum, frequency, note
from training.music import FRAMES_PER_STEP, PARTS, Style, compose, random_style, render

SONGS = labelled_songs(50, 90, 350)


def song(index: int) -> tuple[Style, list, np.ndarray]:
    random = np.random.default_rng([7, index])
    style = random_style(random)
    events = compose(style, random)
    return style, events, render(style, events, 100)


def test_a_seed_gives_one_song() -> None:
    first, second, other = song(3), song(3), song(4)
    assert first[:2] == second[:2]
    np.testing.assert_array_equal(first[2], second[2])
    assert first[1] != other[1]


def test_songs_neither_clip_nor_fall_silent() -> None:
    for index in range(40):
        samples = song(index)[2]
        assert samples.shape == (100 * HOP,)
        assert samples.dtype == np.float32
        assert np.abs(samples).max() <= 1.0
        assert np.sqrt(np.mean(samples**2)) > 0.005


def test_a_window_is_cut_out_of_the_endless_loop() -> None:
    style, events, _ = song(5)
    frames = style.loop_frames
    whole = render(style, events, 3 * frames)
    window = render(style, events, frames, start=frames + 37)
    np.testing.assert_allclose(window, whole[(frames + 37) * HOP :][: frames * HOP], atol=1e-6)


def test_parts_add_up_to_the_mix() -> None:
    style, events, mix = song(5)
    total = sum(render(style, events, 100, voices=voices) for voices in PARTS)
    np.testing.assert_allclose(total, mix, atol=1e-5)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_instruments_play_in_tune(name: str) -> None:
    """The strongest peak of an A3 is its fundamental or one of its harmonics."""
    samples = note(name, "bright", 57, 13)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 1 << 17))
    peak = np.fft.rfftfreq(1 << 17, 1 / 32_000)[spectrum.argmax()]
    assert peak / 220 == pytest.approx(round(peak / 220), abs=0.01)


def test_a_note_is_a_short_cycle_of_frames() -> None:
    for pitch in range(36, 84):
        cycle = next(cycle for cycle in CYCLES if (frequency(pitch) * cycle * HOP / SAMPLE_RATE) % 1 == 0)
        assert abs(1200 * np.log2(frequency(pitch) / (440 * 2 ** ((pitch - 69) / 12)))) < 12
        held = note("organ", "bright", pitch, cycle + 3).reshape(-1, HOP)
        np.testing.assert_allclose(held[1 + cycle], held[1], atol=2e-3)


def test_a_solo_has_one_instrument() -> None:
    solos = [style for style in (random_style(np.random.default_rng([5, i])) for i in range(400)) if style.solo]
    assert {style.solo for style in solos} == set(INSTRUMENTS)
    for style in solos:
        sounds = {event.sound for event in compose(style, np.random.default_rng(1))}
        assert sounds == {style.solo}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_a_solo_is_recognized(name: str) -> None:
    styles = (random_style(np.random.default_rng([51, index])) for index in range(1000))
    style = next(style for style in styles if style.solo == name)
    assert loudest_instrument(render(style, compose(style, np.random.default_rng(1)), 100)) == name


def test_a_beat_is_told_from_another() -> None:
    drummed = [(style, samples) for style, samples in SONGS if style.drums and style.density == "dense"]
    right = [on_grid(samples, style.frames_per_step) for style, samples in drummed]
    wrong = [
        np.mean([on_grid(samples, frames) for frames in FRAMES_PER_STEP.values() if frames != style.frames_per_step])
        for style, samples in drummed
    ]
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.7


def test_drums_are_the_same_each_time_and_different_from_each_other() -> None:
    sounds = [drum(name) for name in DRUM_NAMES]
    for name, sound in zip(DRUM_NAMES, sounds, strict=True):
        np.testing.assert_array_equal(sound, drum.__wrapped__(name))
        assert 0.1 < np.abs(sound).max() <= 1.01
    assert len({sound[:1000].tobytes() for sound in sounds}) == len(sounds)


def test_the_first_drums_tell_tempo_and_density() -> None:
    drummed = [style for style in (random_style(np.random.default_rng([6, i])) for i in range(300)) if style.drums]
    told: dict[frozenset[str], set[tuple[str, str]]] = {}
    for index, style in enumerate(drummed):
        events = compose(style, np.random.default_rng(index))
        first = frozenset(event.sound for event in events if event.voice == "drums" and event.step == 0)
        told.setdefault(first, set()).add((style.pace, style.density))
    assert len(told) == 9
    assert all(len(styles) == 1 for styles in told.values())


def test_captions_never_contradict_the_song() -> None:
    for index in range(300):
        random = np.random.default_rng([8, index])
        style = random_style(random)
        text = f" {caption(style, random).lower().replace(',', ' ').replace('.', ' ')} "
        for table, value in (
            (PACES, style.pace),
            (MODES, style.mode),
            (BRIGHTNESSES, style.brightness),
            (DENSITIES, style.density),
            (DRUMS, style.drums),
        ):
            right = {word for words in (table[value],) for word in words}
            for other, words in table.items():
                wrong = [word for word in words if other != value and f" {word} " in text]
                # "warm and dark" holds "dark": a word counts only if no right one explains it.
                assert not [word for word in wrong if not any(word in good for good in right)], (text, style)


def test_some_captions_say_nothing_and_some_say_more_than_the_song() -> None:
    known = {
        word for table in (PACES, MODES, BRIGHTNESSES, DENSITIES, DRUMS) for words in table.values() for word in words
    }
    style = song(3)[0]
    texts = [caption(style, np.random.default_rng([10, index])) for index in range(300)]
    silent = [text for text in texts if not any(word in text.lower() for word in known)]
    assert 5 < len(silent) < 150
    assert len(set(texts)) > 250


def test_captions_vary() -> None:
    style = song(3)[0]
    texts = {caption(style, np.random.default_rng([9, index])) for index in range(50)}
    assert len(texts) > 45


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_can_be_measured(name: str) -> None:
    attribute = ATTRIBUTES[name]
    end = attribute.seconds * SAMPLE_RATE
    songs = [(attribute.is_high(style), samples[:end]) for style, samples in SONGS if attribute.concerns(style)]
    high, low = (
        [attribute.is_right(samples, high=side) for samples in [samples for high, samples in songs if high == side][:6]]
        for side in (True, False)
    )
    assert len(high) == len(low) == 6
    assert np.mean(high) + np.mean(low) > 1.6  # 1.0 is what guessing gives, and always the same answer


def test_brightness_is_heard() -> None:
    style, events, _ = song(3)
    centroids = []
    for brightness in ("dark", "bright"):
        samples = render(replace(style, brightness=brightness), events, 100)
        spectrum = np.abs(np.fft.rfft(samples)) ** 2
        centroids.append((spectrum * np.fft.rfftfreq(samples.size)).sum() / spectrum.sum())
    assert centroids == sorted(centroids)
