"""Bands of a signal."""

import random

import torch
from scipy.fft import next_fast_len

from musicgen_core.diffusion.filter_bank import FilterBank, fast_length, match_bands
from reference import diffusion_cases as cases


def test_the_bands_of_a_signal_add_up_to_it() -> None:
    signal = cases.numbers("signal", 2, 1200)
    for bands in (1, 4, 32):
        torch.testing.assert_close(sum(FilterBank(bands, cases.SAMPLE_RATE).split(signal)), signal)


def test_silence_is_matched_to_silence() -> None:
    silence, sound = torch.zeros(1, 1000), cases.numbers("sound", 1, 1000)
    bank = FilterBank(32, cases.SAMPLE_RATE)
    for signal, reference in ((silence, silence), (silence, sound), (sound, silence)):
        assert match_bands(signal, reference, bank).abs().max() < 1e-4


def test_lengths_are_those_that_scipy_finds_fast() -> None:
    numbers = random.Random(0)
    for samples in [*range(1, 1000), *(numbers.randrange(1, 10**8) for _ in range(200))]:
        assert fast_length(samples) == next_fast_len(samples, real=True)
