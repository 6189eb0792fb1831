"""More than 30 s by our engine, beside what audiocraft made of it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from musicgen_core.audio.clip import loop
from musicgen_core.audio.waveform import Waveform
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.engine.engine import Conditions, Engine, Request
from musicgen_core.engine.long_form import LongGeneration, Window, plan_windows
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.musicgen import EXTEND_STRIDE, WINDOW_SECONDS
from reference.cases import FRAME_RATE
from reference.long_cases import CASES, RESULTS, melody, prompt
from reference.ours import TEXT_TOKENS, Ours
from reference.sounds import RATE
from reference.table import Pair

WINDOW, STRIDE = WINDOW_SECONDS * FRAME_RATE, int(EXTEND_STRIDE * FRAME_RATE)
HOP = RATE // FRAME_RATE


def codes(folder: Path, name: str) -> Pair:
    """The greedy codes [codebooks, frames] of a case."""
    case, theirs = CASES[name], load_file(folder / RESULTS)[name].long()
    ours, given = Ours(folder, case.kind), prompt() if case.prompted else None
    windows = plan_windows(0 if given is None else given.shape[1], theirs.shape[1], window=WINDOW, stride=STRIDE)
    frames = sum(window.frames for window in windows)
    with Engine(ours.model, max_requests=1, max_frames=WINDOW, max_text_tokens=TEXT_TOKENS) as engine:
        request = Request(frames, SamplingParams(temperature=0), 0, Conditions(ours.text.encode(case.text)), given)
        generation = LongGeneration(engine, request, windows, _hear if case.kind == "melody" else _deaf)
        return Pair(name, generation.codes(), theirs)


def _hear(window: Window) -> torch.Tensor | None:
    """What a window hears of the melody."""
    tune = loop(Waveform(melody(), RATE), first=window.start * HOP, samples=WINDOW * HOP)
    return MelodyConditioner(sample_rate=RATE, bins=12, frames=235).encode(tune)


def _deaf(_: Window) -> None:
    """A text model's windows."""
