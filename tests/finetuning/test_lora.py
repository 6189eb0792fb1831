"""Training: it learns, goes on where it was stopped, stops at once, and keeps the best."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning import lora
from finetuning.dataset import DatasetSettings
from finetuning.errors import DatasetError, FineTuningCancelled, FineTuningError, InvalidSettings
from finetuning.examples import Example, read_examples
from finetuning.language_model import load_model
from finetuning.lora import TARGETS, LoraSettings, LoraTraining, split, usual_rate
from tests.finetuning.conftest import held_out_loss

CPU = torch.device("cpu")
QUICK = LoraSettings(steps=6, evaluate_every=2, batch_size=2, learning_rate=5e-3, warm_up=1, rank=4)


@pytest.fixture(scope="module")
def examples(models: dict[str, Path], archive: Path) -> list[Example]:
    return read_examples(archive, models["melody"], DatasetSettings(min_seconds=1), device=CPU)[1]


@pytest.fixture
def start(models: dict[str, Path], examples: list[Example]) -> Callable[..., LoraTraining]:
    def start(settings: LoraSettings = QUICK, **options: Any) -> LoraTraining:
        return LoraTraining(
            load_model(models["melody"], device=CPU, dtype=torch.float32), examples, settings, **options
        )

    return start


def weights(training: LoraTraining) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in training.model.state_dict().items() if "lora_" in name}


def assert_equal_weights(first: LoraTraining, second: LoraTraining) -> None:
    expected = weights(second)
    assert expected
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, expected[name]), name


def stop_after(training: LoraTraining, steps: int) -> None:
    """Train so many steps, and end as a killed process does: without another line of code."""

    class Killed(BaseException):
        pass

    def progress(step: int, *_: object) -> None:
        if step > steps:
            raise Killed

    with pytest.raises(Killed):
        training.train(progress)


def test_it_learns(start: Callable[..., LoraTraining]) -> None:
    training = start(replace(QUICK, steps=20, evaluate_every=5))
    losses: list[float] = []
    training.train(lambda step, steps, loss: losses.append(loss))
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert training.best.held_out < 0.95 * training.measurements[0].held_out


def test_the_base_is_not_changed(start: Callable[..., LoraTraining], models: dict[str, Path]) -> None:
    training = start()
    training.train()
    base = load_model(models["melody"], device=CPU, dtype=torch.float32).state_dict()
    kept = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): tensor
        for name, tensor in training.model.state_dict().items()
        if "lora_" not in name
    }
    assert kept.keys() == base.keys()
    assert all(torch.equal(tensor, base[name]) for name, tensor in kept.items())


def test_the_decoders_layers_are_adapted_and_nothing_else(start: Callable[..., LoraTraining]) -> None:
    adapted = {name.split(".lora_")[0] for name in weights(start())}
    prefix = "base_model.model.decoder.model.decoder.layers."
    assert all(name.startswith(prefix) and name.endswith(TARGETS) for name in adapted)
    assert len(adapted) == 2 * 6  # layers of a melody model


def test_the_same_seed_gives_the_same_weights(start: Callable[..., LoraTraining]) -> None:
    first, second, third = start(), start(), start(replace(QUICK, seed=1))
    for training in (first, second, third):
        torch.manual_seed(torch.seed())  # wherever the process' own numbers are
        training.train()
    assert_equal_weights(first, second)
    with pytest.raises(AssertionError):
        assert_equal_weights(first, third)


@pytest.mark.parametrize(("seconds", "last"), [(60.0, 2), (0.0, 3)], ids=["at measurements", "by time too"])
def test_it_goes_on_where_it_was_stopped(
    start: Callable[..., LoraTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, last: int
) -> None:
    monkeypatch.setattr(lora, "CHECKPOINT_SECONDS", seconds)
    through = start()
    through.train()
    written: list[Path] = []
    stop_after(start(checkpoint=tmp_path, on_checkpoint=written.append), 3)
    assert written == [tmp_path / lora.CHECKPOINT] * (1 if seconds else 3)
    resumed = start(checkpoint=tmp_path)
    assert resumed.step == last
    resumed.train()
    assert_equal_weights(resumed, through)
    assert resumed.measurements == through.measurements


def test_a_finished_training_is_not_repeated(start: Callable[..., LoraTraining], tmp_path: Path) -> None:
    first = start(checkpoint=tmp_path)
    first.train()
    again = start(checkpoint=tmp_path)
    steps: list[int] = []
    again.train(lambda step, *_: steps.append(step))
    assert not steps
    assert_equal_weights(again, first)


def test_anothers_checkpoint_is_refused(start: Callable[..., LoraTraining], tmp_path: Path) -> None:
    start(checkpoint=tmp_path, identity="one").train()
    with pytest.raises(FineTuningError, match="Delete it"):
        start(checkpoint=tmp_path, identity="other")
    with pytest.raises(FineTuningError, match="Delete it"):
        start(replace(QUICK, rank=8), checkpoint=tmp_path, identity="one")


def test_it_stops_within_a_step(start: Callable[..., LoraTraining]) -> None:
    training = start()
    asked: list[bool] = []
    done: list[int] = []

    def should_stop() -> bool:
        asked.append(len(done) == 1)
        return len(done) == 1 and asked.count(True) == 2  # in the second of the layers of the second step

    with pytest.raises(FineTuningCancelled):
        training.train(lambda step, *_: done.append(step), should_stop)
    assert done == [1]
    training.train()  # and asks nobody any more
    assert training.step == QUICK.steps


def test_it_ends_when_nothing_gets_better(start: Callable[..., LoraTraining]) -> None:
    """A learning rate that is far too high makes every later measurement worse than the best."""
    training = start(replace(QUICK, steps=200, evaluate_every=1, patience=3, learning_rate=5e-2))
    training.train()
    assert training.step < 200
    assert training.best.step == training.step - 3
    losses = [each.held_out for each in training.measurements[1:]]
    assert training.best.held_out == min(losses)


def test_the_best_weights_are_taken(start: Callable[..., LoraTraining]) -> None:
    settings = replace(QUICK, steps=200, evaluate_every=1, patience=3, learning_rate=5e-2)
    training = start(settings)
    training.train()
    measured = held_out_loss(training.model.base_model.model, training.held_out)
    assert measured == pytest.approx(training.best.held_out, rel=1e-5)


def test_a_loss_that_is_no_number_ends_it(start: Callable[..., LoraTraining]) -> None:
    training = start()
    with torch.no_grad():
        next(parameter for parameter in training.model.parameters() if parameter.requires_grad).fill_(float("nan"))
    with pytest.raises(FineTuningError, match="lower learning rate"):
        training.train()


def test_no_improvement_is_said(
    start: Callable[..., LoraTraining], examples: list[Example], caplog: pytest.LogCaptureFixture
) -> None:
    """A model that knows the clips learns one code for ever, which is not in the files that are held out."""
    training = start(replace(QUICK, steps=20, evaluate_every=20))
    training.train()
    constant = [replace(example, codes=torch.full_like(example.codes, 7)) for example in training.learnt]
    settings = replace(QUICK, steps=20, evaluate_every=20, learning_rate=2e-2)
    with caplog.at_level(logging.WARNING, "finetuning"):
        LoraTraining(training.model.merge_and_unload(), constant + training.held_out, settings).train()
    assert "did not improve" in caplog.text


def test_gradient_checkpointing_changes_no_result(start: Callable[..., LoraTraining]) -> None:
    settings = replace(QUICK, dropout=0.0, steps=2)
    plain, checkpointed = start(settings), start(replace(settings, gradient_checkpointing=True))
    computed = []

    def count(*_: object) -> bool:
        computed.append(1)
        return False

    plain.train(should_stop=count)
    before = len(computed)
    checkpointed.train(should_stop=count)
    assert len(computed) - before > before  # layers are computed again on the way back
    expected = weights(plain)
    for name, tensor in weights(checkpointed).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)


def test_mixed_precision_learns_the_same(models: dict[str, Path], examples: list[Example]) -> None:
    """As on GPUs: the base in bfloat16, the adapter in float32."""
    trainings = []
    for dtype in (torch.float32, torch.bfloat16):
        training = LoraTraining(load_model(models["melody"], device=CPU, dtype=dtype), examples, QUICK)
        training.train()
        assert {tensor.dtype for tensor in weights(training).values()} == {torch.float32}
        trainings.append(training)
    full, mixed = trainings
    for expected, found in zip(full.measurements, mixed.measurements, strict=True):
        assert found.held_out == pytest.approx(expected.held_out, rel=0.02)
        assert found.held_out != expected.held_out


def test_whole_files_are_held_out(examples: list[Example]) -> None:
    """Pieces of one file are too much alike."""
    halves = [
        replace(example, piece=replace(example.piece, start=start)) for example in examples for start in (0.0, 1.0)
    ]
    learnt, held_out = split(halves, 0.3, seed=3)
    names = [{example.piece.name for example in part} for part in (learnt, held_out)]
    assert names[0].isdisjoint(names[1])
    assert [len(part) for part in (learnt, held_out)] == [8, 4]
    assert {example.piece.name for example in split(halves, 0.3, seed=4)[1]} != names[1]


def test_of_a_single_file_the_end_is_held_out(examples: list[Example]) -> None:
    same = [replace(each, piece=replace(each.piece, name="a.wav", start=2.0 * n)) for n, each in enumerate(examples)]
    learnt, held_out = split(same, 0.1, seed=0)
    assert [each.piece.start for each in held_out] == [10.0]
    assert len(learnt) == 5


def test_one_piece_is_too_few(examples: list[Example]) -> None:
    with pytest.raises(DatasetError, match="2 at least"):
        split(examples[:1], 0.1, seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("rank", 1000), ("learning_rate", float("nan")), ("learning_rate", 0.0), ("steps", 0),
     ("batch_size", 0), ("text_dropout", 1.5), ("seed", -1), ("held_out", 0.0)],
)  # fmt: skip
def test_wrong_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(InvalidSettings, match=name):
        LoraSettings(**{name: value})  # type: ignore[arg-type]


def test_guidance_has_something_to_compare_with(start: Callable[..., LoraTraining]) -> None:
    """Over many steps, examples occur with every combination of conditions but melody alone."""
    training = start()
    texts, melodies = [], []
    for step in range(200):
        batch = training.batch(step)
        assert batch.chroma is not None
        texts += batch.text_mask.any(1).tolist()
        melodies += (batch.chroma.argmax(-1) != 0).any(1).tolist()
    pairs = list(zip(texts, melodies, strict=True))
    shares = {pair: pairs.count(pair) / len(pairs) for pair in set(pairs)}
    assert shares.keys() == {(True, True), (True, False), (False, False)}
    assert shares[False, False] == pytest.approx(0.2, abs=0.06)
    assert shares[True, True] == pytest.approx(0.4, abs=0.08)


def test_narrow_models_take_a_higher_learning_rate(start: Callable[..., LoraTraining]) -> None:
    assert [usual_rate(width) for width in (256, 1024, 2048)] == [8e-4, 2e-4, 2e-4]
    assert start().highest_rate == QUICK.learning_rate
    assert start(replace(QUICK, learning_rate=None)).highest_rate > 2e-4
