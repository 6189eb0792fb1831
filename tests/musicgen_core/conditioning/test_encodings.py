import numpy as np
import torch
from torch import Tensor

from musicgen_core.audio.waveform import Waveform
from musicgen_core.conditioning.encodings import RecentEncodings


def sound(seed: int = 0, rate: int = 32_000) -> Waveform:
    samples = np.random.default_rng(seed).standard_normal((1, 100), dtype=np.float32)
    return Waveform(samples, rate)


class Encoder:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, given: str | Waveform) -> Tensor:
        self.asked += 1
        return torch.full((10,), float(self.asked))


def test_what_was_encoded_is_not_encoded_again() -> None:
    recent, encoder = RecentEncodings(), Encoder()
    first = recent.text("a", encoder)
    assert recent.text("a", encoder) is first
    assert recent.text("b", encoder) is not first
    assert encoder.asked == 2
    same = recent.sound("codes", sound(), encoder)
    assert recent.sound("codes", sound(), encoder) is same
    assert encoder.asked == 3
    for other in (sound(1), sound(rate=48_000), Waveform(sound().samples.reshape(2, 50), 32_000)):
        assert recent.sound("codes", other, encoder) is not same
    assert recent.sound("chroma", sound(), encoder) is not same
    assert encoder.asked == 7


def test_what_was_used_longest_ago_makes_room() -> None:
    recent, encoder = RecentEncodings(max_bytes=80), Encoder()  # two encodings of 40 bytes
    for prompt in ("a", "b", "a", "c", "a"):
        recent.text(prompt, encoder)
    assert encoder.asked == 3
    recent.text("b", encoder)
    assert encoder.asked == 4


def test_no_text_is_not_kept() -> None:
    assert RecentEncodings().text("", lambda _: None) is None
