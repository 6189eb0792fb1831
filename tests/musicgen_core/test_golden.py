"""Our engine against audiocraft 1.3.0, by files that audiocraft wrote (`make golden`); see docs/parity.md.

The weights go through `convert`, as a user's checkpoint does.
"""

import functools
from pathlib import Path

import pytest
import torch

from musicgen_core.audio.loudness import CEILING, NormalizationStrategy, integrated_loudness, normalize, true_peak
from musicgen_core.audio.waveform import Waveform
from reference import native_models
from reference.cases import KINDS, TINY, Kind, greedy_cases
from reference.native_models import NativeModel
from reference.sounds import RATE, levels
from reference.table import TIE, TOLERANCE, Pair

GOLDEN = Path(__file__).parents[1] / "golden"


@functools.cache
def golden(kind: Kind) -> NativeModel:
    return NativeModel(GOLDEN, kind)


def assert_close(pair: Pair) -> None:
    assert pair.audiocraft.isfinite().all()
    assert pair.difference <= TOLERANCE, f"{pair.name}: {pair.difference}"


def test_text_states() -> None:
    pairs = list(golden("text").text_states())
    assert len(pairs) == 3
    for pair in pairs:
        assert_close(pair)


@pytest.mark.parametrize("kind", KINDS)
def test_teacher_forced_logits(kind: Kind) -> None:
    pairs = list(golden(kind).logits())
    assert len({float(pair.audiocraft.sum()) for pair in pairs}) >= 3  # the texts matter
    for pair in pairs:
        assert pair.audiocraft.std() > 1
        assert_close(pair)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_does_not_feel_its_neighbours_length_as_it_does_in_audiocraft(kind: Kind) -> None:
    """audiocraft pads the texts of a batch with vectors that are attended to; nothing else is different."""
    alone, padded = golden(kind).padded_logits()
    assert alone.difference > 0.1
    assert_close(padded)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_identical_over_500_steps(kind: Kind) -> None:
    cases = greedy_cases(kind, TINY)
    pairs = list(golden(kind).greedy(cases, TINY.steps))
    parted = []
    for case, pair in zip(cases, pairs, strict=True):
        assert pair.native.shape == pair.audiocraft.shape == (len(case.texts), golden(kind).model.config.codebooks, 500)
        assert len(pair.audiocraft.unique()) > 20, pair.name
        if not torch.equal(pair.native, pair.audiocraft):
            assert golden(kind).lag(case, pair) <= TIE, f"{pair.name}: {pair.equal_share:.4%} of the tokens are equal"
            parted.append(pair.name)
    assert len(parted) <= 2, parted  # by rounding, where two tokens are as good as equally likely


def test_a_token_that_is_not_the_likeliest_is_found() -> None:
    """The check of tokens that part would see a wrong one."""
    case = greedy_cases("text", TINY)[0]
    expected = golden("text").expected[f"greedy {case.name}"].long()
    wrong = expected.clone()
    wrong[1, 2, 400] = (wrong[1, 2, 400] + 1) % TINY.vocabulary
    assert golden("text").lag(case, Pair(case.name, wrong, expected)) > 100 * TIE


@pytest.mark.parametrize("kind", ["text", "stereo"])
def test_codec(kind: Kind) -> None:
    encoded, decoded = golden(kind).encoded(), golden(kind).decoded()
    assert encoded.audiocraft.shape[1] == 86  # the last frame is filled in part
    assert len(encoded.audiocraft.unique()) > 30
    assert torch.equal(encoded.native, encoded.audiocraft)
    assert decoded.audiocraft.std() > 0.01
    assert_close(decoded)


def test_chroma_and_its_repetition_and_cutting_to_30_seconds() -> None:
    pairs = list(native_models.chroma(GOLDEN))
    assert len(pairs) == 18
    for pair in pairs:
        assert_close(pair)


def levelled(strategy: NormalizationStrategy) -> dict[str, Pair]:
    return {name: pair for name, of, pair in native_models.normalized(GOLDEN) if of == strategy}


def test_clip_is_the_same() -> None:
    for pair in levelled(NormalizationStrategy.CLIP).values():
        assert_close(pair)


def test_peak_is_the_same_but_silence_stays_silence() -> None:
    pairs = levelled(NormalizationStrategy.PEAK)
    silence = pairs.pop("silence")
    assert silence.audiocraft.isnan().all()
    assert not silence.native.any()
    for pair in pairs.values():
        assert_close(pair)


def test_rms_is_the_same_in_mono_and_is_taken_over_the_channels_in_stereo() -> None:
    pairs = levelled(NormalizationStrategy.RMS)
    silence, stereo, opposite = (pairs.pop(name) for name in ("silence", "stereo", "opposite channels"))
    for pair in pairs.values():
        assert_close(pair)
    assert silence.audiocraft.isnan().all()
    assert not silence.native.any()
    assert opposite.audiocraft.abs().max() == 1  # audiocraft takes the level of the mix, which is next to nothing here
    assert opposite.native.abs().max() < 0.5
    assert 0.5 < (stereo.native.abs().max() / stereo.audiocraft.abs().max()) < 1


def test_loudness_is_the_same_where_no_peak_must_be_limited() -> None:
    pairs = levelled(NormalizationStrategy.LOUDNESS)
    for name in ("almost silence", "silence"):  # left as they are
        assert_close(pairs[name])
    for name in ("quiet tune", "stereo", "opposite channels"):
        assert true_peak(normalize(Waveform(levels()[name], RATE), NormalizationStrategy.LOUDNESS)) < -1
        # BS.1770-4's low cut lifts all that it lets through, by 0.065 dB at 32 kHz; torchaudio's does not.
        gain = pairs[name].native.norm() / pairs[name].audiocraft.norm()
        assert 20 * float(gain.log10()) == pytest.approx(-0.065, abs=0.01), name
        assert_close(Pair(name, pairs[name].native / gain, pairs[name].audiocraft))


def test_loudness_limits_peaks_that_audiocraft_clips() -> None:
    limited = normalize(Waveform(levels()["click"], RATE), NormalizationStrategy.LOUDNESS)
    pair = levelled(NormalizationStrategy.LOUDNESS)["click"]
    assert pair.audiocraft.norm() > 1.5 * pair.native.norm()
    assert abs(limited.samples).max() <= CEILING * 1.001
    assert integrated_loudness(limited) < -14
