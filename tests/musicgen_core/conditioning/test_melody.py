"""The chromagram of a melody."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers.audio_utils import chroma_filter_bank

from musicgen_core.audio.waveform import Waveform
from musicgen_core.conditioning.melody import MelodyConditioner, chroma_filters

RATE = 32_000
C_MAJOR = {"C": 261.63, "E": 329.63, "G": 392.0, "A": 440.0}
BIN = {"C": 0, "E": 4, "G": 7, "A": 9}


@pytest.fixture(scope="module")
def melody() -> MelodyConditioner:
    return MelodyConditioner(sample_rate=RATE, bins=12, frames=235)


def tone(frequency: float, seconds: float) -> npt.NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def wave(*channels: npt.NDArray[np.float32]) -> Waveform:
    return Waveform(samples=np.stack(channels).astype(np.float32), sample_rate=RATE)


def tune(seconds: float) -> npt.NDArray[np.float32]:
    """A different note each second, with noise on it."""
    notes = [*C_MAJOR.values()]
    whole = np.concatenate([tone(notes[second * 7 % 4], 1.0) for second in range(math.ceil(seconds))])
    noise = np.random.default_rng(0).normal(0, 0.1, len(whole))
    return (whole + noise)[: round(seconds * RATE)].astype(np.float32)


def numpy_chroma(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Chroma energies [frames, 12], from the definition, without torch and without transformers' filters."""
    padded = np.pad(samples.astype(np.float64), 8192, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16_384) / 16_384)
    frames = np.stack([padded[start : start + 16_384] for start in range(0, len(padded) - 16_383, 4096)])
    power = np.abs(np.fft.rfft(frames * window)) ** 2 / np.sum(window**2)
    return power @ _chroma_filters().T


def _chroma_filters() -> npt.NDArray[np.float64]:
    """librosa's `filters.chroma(sr=32000, n_fft=16384, tuning=0)`, [12, 8193]."""
    frequencies = np.arange(1, 16_384) * RATE / 16_384
    pitches = 12 * np.log2(frequencies / (440.0 / 16))
    pitches = np.concatenate([[pitches[0] - 18], pitches])
    widths = np.concatenate([np.maximum(np.diff(pitches), 1.0), [1.0]])
    filters = np.empty((12, 16_384))
    for pitch_class in range(12):
        distance = (pitches - pitch_class + 6 + 120) % 12 - 6
        filters[pitch_class] = np.exp(-0.5 * (2 * distance / widths) ** 2)
    filters /= np.sqrt((filters**2).sum(axis=0))
    filters *= np.exp(-0.5 * ((pitches / 12 - 5) / 2) ** 2)
    return np.roll(filters, -3, axis=0)[:, :8193]  # from A to C


@pytest.mark.parametrize("seconds", [1.0, 7.3])
def test_chroma_is_what_the_definition_says(melody: MelodyConditioner, seconds: float) -> None:
    samples = tune(seconds)
    chroma = melody.chroma(torch.from_numpy(samples))
    energies = numpy_chroma(samples)
    assert chroma.shape == energies.shape == (1 + len(samples) // 4096, 12)
    top_two = np.sort(energies, axis=1)[:, -2:]
    clear = top_two[:, 1] > top_two[:, 0] * 1.001  # float32 and float64 may differ on a tie
    assert clear.mean() > 0.9
    assert (chroma.numpy().argmax(axis=1) == energies.argmax(axis=1))[clear].all()


def test_chroma_is_one_hot_and_names_the_note(melody: MelodyConditioner) -> None:
    for note, frequency in C_MAJOR.items():
        chroma = melody.chroma(torch.from_numpy(tone(frequency, 2.0)))
        assert set(chroma.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(chroma.sum(dim=1), torch.ones(len(chroma)))
        assert (chroma.argmax(dim=1) == BIN[note]).all()


def test_a_short_melody_is_repeated_to_fill(melody: MelodyConditioner) -> None:
    samples = tune(5.0)
    once = melody.chroma(torch.from_numpy(samples))
    assert len(once) == 40
    chroma = melody.encode(wave(samples))
    assert chroma.shape == (235, 12)
    assert chroma.dtype == torch.float32
    assert torch.equal(chroma, torch.cat([once] * 6)[:235])


def test_a_long_melody_is_cut(melody: MelodyConditioner) -> None:
    samples = tune(45.0)
    whole = melody.chroma(torch.from_numpy(samples))
    assert torch.equal(melody.encode(wave(samples)), whole[:235])


def test_thirty_seconds_fill_exactly(melody: MelodyConditioner) -> None:
    samples = tune(30.0)
    once = melody.chroma(torch.from_numpy(samples))
    assert torch.equal(melody.encode(wave(samples)), once)


@pytest.mark.parametrize("samples", [1, 100, 16_383])
def test_a_melody_shorter_than_the_window_works(melody: MelodyConditioner, samples: int) -> None:
    chroma = melody.encode(wave(tone(440.0, samples / RATE)))
    assert chroma.shape == (235, 12)
    assert torch.equal(chroma.sum(dim=1), torch.ones(235))


def test_silence_is_the_first_bin(melody: MelodyConditioner) -> None:
    chroma = melody.encode(wave(np.zeros(RATE, np.float32)))
    assert (chroma.argmax(dim=1) == 0).all()


def test_channels_are_averaged(melody: MelodyConditioner) -> None:
    a, c = tone(C_MAJOR["A"], 2.0), tone(C_MAJOR["C"], 2.0)
    both = melody.encode(wave(a * 0.2 + c, c))
    assert (both.argmax(dim=1) == BIN["C"]).all()
    assert torch.equal(melody.encode(wave(a, -a)), melody.encode(wave(np.zeros_like(a))))


def test_another_sample_rate_is_refused(melody: MelodyConditioner) -> None:
    with pytest.raises(ValueError, match="32000 Hz, got 44100 Hz"):
        melody.encode(Waveform(samples=np.zeros((1, 44_100), np.float32), sample_rate=44_100))


@pytest.mark.parametrize(("bins", "rate"), [(12, 32_000), (12, 16_000), (24, 44_100), (7, 48_000)])
def test_filters_are_those_of_transformers(bins: int, rate: int) -> None:
    theirs = chroma_filter_bank(num_frequency_bins=16_384, num_chroma=bins, sampling_rate=rate, tuning=0.0)
    np.testing.assert_allclose(chroma_filters(bins, rate), theirs, rtol=1e-12, atol=1e-15)
    assert np.array_equal(chroma_filters(bins, rate).astype(np.float32), theirs.astype(np.float32))
