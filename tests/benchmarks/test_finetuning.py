"""The benchmark of fine-tuning in a short form: its measure tells the style, and musicgen-pocket begins to learn it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import finetuning
from finetuning.lora import LoraSettings
from musicgen_core import MusicGen
from musicgen_core.checkpoints import hub
from training.attributes import labelled_songs

QUICK = LoraSettings(steps=16, evaluate_every=8, batch_size=2, learning_rate=2e-3, warm_up=4)


def test_the_style_is_told_from_what_the_model_has_heard() -> None:
    style = [finetuning.tresillo_share(samples) for _, samples in finetuning.songs(6)]
    heard = [
        finetuning.tresillo_share(samples)
        for song, samples in labelled_songs(34, 40, 200)
        if song.pace == "moderate" and song.chords
    ]
    assert len(heard) > 5
    assert min(style) > 0.9
    assert np.mean(heard) < 0.3
    assert max(heard) < 0.8


def test_songs_are_different_and_their_captions_say_what_they_are() -> None:
    captions, sounds = zip(*finetuning.songs(4), strict=True)
    assert len(set(captions)) == 4
    assert all("tresillo" in caption and "kalimba" in caption for caption in captions)
    assert not any(np.array_equal(sounds[0], other) for other in sounds[1:])


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")  # PEFT's, of transformers
def test_the_model_begins_to_learn_it(tmp_path: Path) -> None:
    tuned = finetuning.train(tmp_path, hub.POCKET, QUICK, clips=6)
    assert tuned.best.held_out < 0.9 * tuned.measurements[0].held_out
    merged = finetuning.merge(hub.resolve(hub.POCKET), tuned, tmp_path / "merged")
    with MusicGen.load(merged, max_requests=2) as model:
        music = finetuning.generate(model, takes=2)
    assert all(np.isfinite(samples).all() and np.abs(samples).max() > 0.01 for samples in music)
