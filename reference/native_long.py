"""Results of our engine for more than 30 s, each paired with audiocraft's."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from musicgen_core.abilities import WINDOW_SECONDS
from musicgen_core.audio.clip import loop
from musicgen_core.audio.waveform import Waveform
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.long_form import LongFormGeneration, Window, plan_windows
from musicgen_core.engine.request import Conditions, Request
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.executor import in_one_stretch
from musicgen_core.musicgen import EXTEND_STRIDE
from reference.cases import FRAME_RATE
from reference.long_cases import CASES, RESULTS, melody, prompt
from reference.native_models import TEXT_TOKENS, NativeModel
from reference.sounds import RATE
from reference.table import Pair

WINDOW, STRIDE = WINDOW_SECONDS * FRAME_RATE, int(EXTEND_STRIDE * FRAME_RATE)
HOP = RATE // FRAME_RATE


def codes(folder: Path, name: str) -> Pair:
    """The greedy codes `[codebooks, frames]` of a case."""
    case, expected = CASES[name], load_file(folder / RESULTS)[name].long()
    native, given = NativeModel(folder, case.kind), prompt() if case.prompted else None
    windows = plan_windows(0 if given is None else given.shape[1], expected.shape[1], window=WINDOW, stride=STRIDE)
    frames = sum(window.frames for window in windows)
    with Engine(native.model, max_requests=1, max_frames=WINDOW, max_text_tokens=TEXT_TOKENS) as engine:
        request = Request(frames, SamplingParams(temperature=0), 0, Conditions(native.text.encode(case.text)), given)
        generation = LongFormGeneration(
            engine, windows, in_one_stretch(lambda: request), _chroma if case.kind == "melody" else _no_chroma
        )
        return Pair(name, generation.codes(), expected)


def _chroma(window: Window) -> torch.Tensor | None:
    """The chroma of a window: the melody's sound continues from window to window."""
    tune = loop(Waveform(melody(), RATE), first=window.start * HOP, samples=WINDOW * HOP)
    return MelodyConditioner(sample_rate=RATE, bins=12, frames=235).encode(tune)


def _no_chroma(_: Window) -> None:
    """No chroma, in a text model's windows."""
