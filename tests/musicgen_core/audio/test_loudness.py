"""The level strategies, and loudness and true peak against ffmpeg's own meter."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from musicgen_core.audio import loudness
from musicgen_core.audio.ffmpeg import ffmpeg_path
from musicgen_core.audio.loudness import integrated_loudness, normalize, true_peak
from musicgen_core.audio.waveform import Waveform
from musicgen_core.errors import InvalidRequest
from musicgen_core.options import NormalizationStrategy

RATE = 32_000
CEILING = 10 ** (-1 / 20)


def waveform(samples: np.ndarray, rate: int = RATE) -> Waveform:
    return Waveform(np.atleast_2d(samples).astype(np.float32), rate)


def tone(frequency: float, seconds: float = 5.0, level: float = 0.3, rate: int = RATE, phase: float = 0.0) -> Waveform:
    time = np.arange(round(seconds * rate)) / rate
    # Faded in and out: where a sine begins at once, meters differ in what they see between the samples.
    fade = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.05)
    return waveform(fade * level * np.sin(2 * np.pi * frequency * time + phase), rate)


def noise(channels: int = 2, seconds: float = 6.0, level: float = 0.05, rate: int = RATE) -> Waveform:
    return waveform(np.random.default_rng(1).normal(0, level, (channels, round(seconds * rate))), rate)


def gated(rate: int = RATE) -> Waveform:
    """Loud, then nearly silent: the gates decide the result."""
    loud, quiet = noise(2, 3.0, 0.1, rate).samples, noise(2, 6.0, 0.0005, rate).samples
    return waveform(np.concatenate([loud, quiet], axis=1), rate)


def drums(channels: int = 2) -> Waveform:
    """Short decaying bursts with a high crest factor: at -14 LUFS their peaks exceed full scale."""
    rng = np.random.default_rng(2)
    samples = rng.normal(0, 0.003, (channels, 6 * RATE))
    burst = rng.normal(0, 0.25, (channels, RATE // 8)) * np.exp(-np.arange(RATE // 8) / 600)
    for start in range(0, 6 * RATE - RATE // 8, RATE // 4):
        samples[:, start : start + RATE // 8] += burst
    return waveform(samples)


def measure_with_ffmpeg(sound: Waveform, tmp_path: Path) -> tuple[float, float]:
    """LUFS and dBTP as ffmpeg's ebur128 filter prints them, in tenths."""
    raw = tmp_path / "sound.f32"
    raw.write_bytes(sound.samples.T.astype("<f4").tobytes())
    layout = {1: "mono", 2: "stereo"}[sound.channels]
    source = ["-f", "f32le", "-ar", str(sound.sample_rate), "-ch_layout", layout, "-i", str(raw)]
    command = [ffmpeg_path(), "-hide_banner", "-nostdin", *source, "-af", "ebur128=peak=true", "-f", "null", "-"]
    summary = subprocess.run(command, capture_output=True, text=True, check=True).stderr.rpartition("Summary:")[2]
    found = {name: float(value) for name, value in re.findall(r"^\s+(I|Peak):\s+(-?[\d.]+)", summary, re.MULTILINE)}
    return found["I"], found["Peak"]


SIGNALS = {
    "tone": tone(997),
    "low tone": tone(60),
    "high tone": tone(7000),
    "tone between its samples": tone(RATE / 4, phase=np.pi / 4, level=0.9),
    "mono noise": noise(1),
    "stereo noise": noise(2),
    "noise at 44.1 kHz": noise(2, rate=44_100),
    "gated": gated(),
    "gated at 48 kHz": gated(48_000),
    "drums": drums(),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_loudness_and_peak_agree_with_ffmpeg(name: str, tmp_path: Path) -> None:
    loudness, peak = measure_with_ffmpeg(SIGNALS[name], tmp_path)
    assert integrated_loudness(SIGNALS[name]) == pytest.approx(loudness, abs=0.11)
    assert true_peak(SIGNALS[name]) == pytest.approx(peak, abs=0.3)


def test_a_full_scale_tone_in_one_channel_has_the_loudness_of_the_recommendation() -> None:
    """BS.1770-4, annex 1: 0 dBFS at 997 Hz in one channel reads -3.01 LKFS."""
    left = np.sin(2 * np.pi * 997 * np.arange(5 * 48_000) / 48_000)[None]
    assert integrated_loudness(waveform(np.concatenate([left, 0 * left]), 48_000)) == pytest.approx(-3.01, abs=0.02)


@pytest.mark.parametrize("name", SIGNALS)
def test_loudness_normalization_reaches_the_target_as_ffmpeg_measures_it(name: str, tmp_path: Path) -> None:
    loudness, peak = measure_with_ffmpeg(normalize(SIGNALS[name], NormalizationStrategy.LOUDNESS), tmp_path)
    assert loudness == pytest.approx(-14.0, abs=0.3)
    assert peak <= -0.9


def test_peaks_are_limited_not_clipped() -> None:
    leveled = normalize(drums(), NormalizationStrategy.LOUDNESS)
    at_ceiling = np.abs(leveled.samples) >= CEILING * 0.999
    gained = drums().samples * np.median(np.abs(leveled.samples)) / np.median(np.abs(drums().samples))
    over = np.abs(gained) > CEILING
    assert over.sum() > 100
    # A clipper would put every sample that was over at the ceiling.
    assert at_ceiling.sum() < over.sum() / 10


def test_without_peaks_over_the_ceiling_the_gain_is_plain() -> None:
    sound = noise(level=0.02)
    leveled = normalize(sound, NormalizationStrategy.LOUDNESS)
    ratio = leveled.samples / sound.samples
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 25_000])
def test_peaks_found_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.3, (2, length)).astype(np.float32)
    whole = loudness.peak_envelope(samples)
    monkeypatch.setattr(loudness, "BLOCK_SAMPLES", 10_000)
    assert whole.shape == (length,)
    np.testing.assert_allclose(loudness.peak_envelope(samples), whole, rtol=0, atol=1e-12)


def test_both_channels_get_the_same_gain() -> None:
    """Otherwise a peak in one channel would move the stereo image."""
    loud = drums(1).samples
    leveled = normalize(waveform(np.concatenate([loud, 0.25 * loud])), NormalizationStrategy.LOUDNESS).samples
    np.testing.assert_allclose(leveled[1], 0.25 * leveled[0], atol=1e-6)


def test_noise_between_clicks_stays_quiet() -> None:
    samples = np.random.default_rng(0).normal(0, 1e-4, (1, 5 * RATE))
    samples[0, ::16_000] = 1.0
    leveled = normalize(waveform(samples), NormalizationStrategy.LOUDNESS)
    lifted = np.median(np.abs(leveled.samples)) / np.median(np.abs(samples))
    assert lifted < 10
    assert true_peak(leveled) <= -0.9


def test_a_click_over_quiet_music_does_not_keep_it_quiet(tmp_path: Path) -> None:
    samples = noise(2, level=0.015).samples.copy()
    samples[:, 3 * RATE : 3 * RATE + 3] = 1.0
    leveled = normalize(waveform(samples), NormalizationStrategy.LOUDNESS)
    loudness, peak = measure_with_ffmpeg(leveled, tmp_path)
    assert loudness == pytest.approx(-14.0, abs=0.3)
    assert peak <= -0.9
    # Away from the click the music has one gain: the limiter acts for some milliseconds only.
    gain = leveled.samples / np.where(samples == 0, 1, samples)
    away = np.r_[0 : 3 * RATE - RATE // 50, 3 * RATE + RATE // 50 : samples.shape[1]]
    np.testing.assert_allclose(gain[:, away], gain[0, 0], rtol=1e-3)


@pytest.mark.parametrize("samples", [1, 7, 400, RATE // 10, RATE // 3])
def test_clips_shorter_than_a_block_are_normalised(samples: int) -> None:
    sound = waveform(tone(997).samples[:, RATE : RATE + samples])
    leveled = normalize(sound, NormalizationStrategy.LOUDNESS)
    assert leveled.samples.shape == (1, samples)
    assert np.isfinite(leveled.samples).all()
    assert np.abs(leveled.samples).max() <= CEILING + 1e-3
    if samples >= RATE // 10:
        assert integrated_loudness(leveled) == pytest.approx(-14.0, abs=0.3)


def test_what_is_nearly_silent_is_left_alone() -> None:
    sound = noise(level=1.9e-3)
    assert (normalize(sound, NormalizationStrategy.LOUDNESS).samples == sound.samples).all()


@pytest.mark.parametrize("strategy", NormalizationStrategy)
@pytest.mark.parametrize("shape", [(1, 0), (2, 0), (1, 1), (2, RATE)])
def test_silence_stays_silence(strategy: NormalizationStrategy, shape: tuple[int, int]) -> None:
    leveled = normalize(waveform(np.zeros(shape)), strategy)
    assert leveled.samples.shape == shape
    assert (leveled.samples == 0).all()


def test_silence_has_no_loudness_and_no_peak() -> None:
    silence = waveform(np.zeros((1, RATE)))
    assert integrated_loudness(silence) == true_peak(silence) == -np.inf


@pytest.mark.parametrize("strategy", NormalizationStrategy)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(strategy: NormalizationStrategy, value: float) -> None:
    sound = tone(997)
    sound.samples[0, 100] = value
    with pytest.raises(InvalidRequest, match="not numbers"):
        normalize(sound, strategy)


def test_clip_changes_only_what_exceeds_the_ceiling() -> None:
    leveled = normalize(waveform(np.array([0.5, -0.5, 0.95, -2.0])), NormalizationStrategy.CLIP)
    np.testing.assert_allclose(leveled.samples, [[0.5, -0.5, CEILING, -CEILING]], rtol=1e-6)


def test_peak_scales_the_highest_sample_to_the_ceiling() -> None:
    leveled = normalize(waveform(np.array([[0.1, -0.2], [0.05, 0.0]])), NormalizationStrategy.PEAK)
    np.testing.assert_allclose(leveled.samples, np.array([[0.1, -0.2], [0.05, 0.0]]) / 0.2 * CEILING, rtol=1e-6)


def test_rms_measures_all_channels_and_clips_at_full_scale() -> None:
    left = tone(997, level=0.3).samples
    opposite = normalize(waveform(np.concatenate([left, -left])), NormalizationStrategy.RMS).samples
    # The mix of opposite channels is silent, their level is not.
    assert 20 * np.log10(np.sqrt(np.mean(opposite**2))) == pytest.approx(-18, abs=0.01)
    np.testing.assert_allclose(opposite[0], -opposite[1])
    spike = np.zeros((1, RATE))
    spike[0, 5] = 0.01
    assert normalize(waveform(spike), NormalizationStrategy.RMS).samples.max() == 1.0
