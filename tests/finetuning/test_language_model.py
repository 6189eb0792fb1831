"""The loss: of every kind of model, equal to transformers' own, padding left out, conditions taken in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetuning.dataset import DatasetSettings
from finetuning.examples import Example, read_examples
from finetuning.language_model import IGNORED, Batch, load_model, logits, loss, make_batch
from musicgen_core.conditioning.text import load_tokenizer
from musicgen_core.lm.delay_pattern import codebook_delays

CPU = torch.device("cpu")
KINDS = ("text", "melody", "stereo", "stereo-melody")


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, models: dict[str, Path], archive: Path) -> tuple[Any, list[Example]]:
    """A model of each kind, and six examples."""
    folder = models[request.param]
    _, examples = read_examples(archive, folder, DatasetSettings(min_seconds=1), device=CPU)
    return load_model(folder, device=CPU, dtype=torch.float32), examples


def batch(model: Any, examples: list[Example], *, text: bool = True, melody: bool = True) -> Batch:
    count = len(examples)
    return make_batch(examples, model.config, has_text=np.full(count, text), has_melody=np.full(count, melody))


def cut(example: Example, frames: int) -> Example:
    return replace(example, codes=example.codes[:, :frames])


@torch.no_grad()
def test_the_model_sees_what_transformers_shows_it(loaded: tuple[Any, list[Example]]) -> None:
    """Transformers' whole forward pass, from the text's tokens on, makes the same of the same columns."""
    model, (example, *_) = loaded
    made = batch(model, [example])
    columns = made.columns[:, :, :-1]
    tokens = torch.tensor([load_tokenizer(Path(model.name_or_path))(str(example.piece.caption))])
    expected = model(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        decoder_input_ids=columns.flatten(0, 1),
        **({} if made.chroma is None else {"input_features": made.chroma}),
    ).logits
    torch.testing.assert_close(logits(model, made)[0], expected[:, -columns.shape[2] :], rtol=1e-4, atol=1e-4)


def test_each_code_is_asked_for_once(loaded: tuple[Any, list[Example]]) -> None:
    """The labels of a codebook are its codes, from its delay on; nothing else counts."""
    model, examples = loaded
    made = batch(model, [examples[0], cut(examples[1], 30)])
    decoder = model.config.decoder
    for row, frames in ((0, examples[0].codes.shape[1]), (1, 30)):
        for codebook, delay in enumerate(codebook_delays(decoder.num_codebooks, decoder.audio_channels)):
            labels = made.labels[row, codebook]
            assert torch.equal(labels[delay : delay + frames], examples[row].codes[codebook, :frames])
            assert int((labels != IGNORED).sum()) == frames
            assert made.columns[row, codebook, 0] == decoder.vocab_size


@torch.no_grad()
def test_padding_changes_no_loss(loaded: tuple[Any, list[Example]]) -> None:
    model, (long, other, *_) = loaded
    short = replace(cut(other, 30), text=long.text)  # texts of equal length: they stand before the music
    alone, padded = batch(model, [short]), batch(model, [short, long])
    assert padded.columns.shape[2] > alone.columns.shape[2]
    padded = padded._replace(labels=padded.labels.clone())
    padded.labels[1] = IGNORED  # what is left is the short one
    torch.testing.assert_close(loss(model, padded), loss(model, alone), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_conditions_reach_the_model(loaded: tuple[Any, list[Example]]) -> None:
    model, (first, second, *_) = loaded
    made = logits(model, batch(model, [first]))
    assert not torch.allclose(made, logits(model, batch(model, [first], text=False)), atol=1e-3)
    other_text = replace(first, text=second.text + 1)
    assert not torch.allclose(made, logits(model, batch(model, [other_text])), atol=1e-3)
    if first.chroma is not None:
        assert second.chroma is not None
        assert not torch.equal(first.chroma, second.chroma)
        assert not torch.allclose(made, logits(model, batch(model, [first], melody=False)), atol=1e-3)
        other = logits(model, batch(model, [replace(first, chroma=second.chroma)]))
        # Not in the numbers only: the likeliest tokens are others.
        assert (other.argmax(-1) != made.argmax(-1)).float().mean() > 0.01


@torch.no_grad()
def test_without_text_its_words_do_not_matter(loaded: tuple[Any, list[Example]]) -> None:
    model, (first, *_) = loaded
    silenced = logits(model, batch(model, [first], text=False))
    other = replace(first, text=first.text + 1)
    assert torch.equal(silenced, logits(model, batch(model, [other], text=False)))
