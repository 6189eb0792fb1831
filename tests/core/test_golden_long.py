"""45 s against audiocraft 1.3.0, by the file that `parity/long.py` wrote with audiocraft's own extended generation."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from musicgen_core.audio_file import Waveform
from musicgen_core.conditioning import MelodyConditioner
from musicgen_core.engine import Conditions, Engine, Request
from musicgen_core.input_audio import loop
from musicgen_core.long import LongGeneration, Window, plan_windows
from musicgen_core.params import SamplingParams
from parity.cases import FRAME_RATE, TEXTS
from parity.long_cases import CASES, SECONDS, melody, prompt
from parity.ours import TEXT_TOKENS, Ours
from parity.sounds import RATE

GOLDEN = Path(__file__).parents[1] / "golden"
WINDOW, STRIDE = 30 * FRAME_RATE, 18 * FRAME_RATE
HOP = RATE // FRAME_RATE


def hear(window: Window) -> torch.Tensor:
    """What a window hears of the melody."""
    tune = loop(Waveform(melody(), RATE), first=window.start * HOP, samples=WINDOW * HOP)
    return MelodyConditioner(sample_rate=RATE, bins=12, frames=235).encode(tune)


@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_are_identical_over_45_seconds(name: str) -> None:
    kind, prompted = CASES[name]
    ours, given = Ours(GOLDEN, kind), prompt() if prompted else None
    theirs = load_file(GOLDEN / "long.expected.safetensors")[name].long()
    assert theirs.shape == (4, SECONDS * FRAME_RATE)
    assert len(theirs[:, -100:].unique()) > 10
    windows = plan_windows(0 if given is None else given.shape[1], theirs.shape[1], window=WINDOW, stride=STRIDE)
    conditions = Conditions(ours.text.encode(TEXTS[0]))
    frames = sum(window.frames for window in windows)
    with Engine(ours.model, max_requests=1, max_frames=WINDOW, max_text_tokens=TEXT_TOKENS) as engine:
        request = Request(frames, SamplingParams(temperature=0), 0, conditions, given)
        codes = LongGeneration(engine, request, windows, hear if kind == "melody" else lambda _: None).codes()
    assert torch.equal(codes, theirs)
