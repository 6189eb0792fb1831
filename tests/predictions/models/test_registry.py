"""The registry: what is wrong in its file stops the start with a message that names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from predictions.models.card import Announcement
from predictions.models.registry import ModelEntry, load_registry, worker_entry
from predictions.settings import Settings, load_settings

ONE = '[[models]]\nname = "ann/one"\nsource = "musicgen-pocket"\n'
TWO = '[[models]]\nname = "bob/two"\nsource = "facebook/musicgen-small@main"\n'

Write = Callable[[str], Settings]

FOUND = Announcement(
    name="whatever the engine calls it",
    version="a" * 64,
    melody=True,
    channels=1,
    sample_rate=32000,
    max_duration=30,
    concurrency=4,
)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the file; the answer is the settings that name it."""

    def write(text: str) -> Settings:
        path = tmp_path / "models.toml"
        path.write_text(text)
        monkeypatch.setenv("MUSICGEN_MODELS", str(path))
        return load_settings()

    return write


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[models]\n", ["models.toml", "not valid TOML", "line 1"]),
        ("", ["models", "required"]),
        ("models = []", ["models", "at least 1"]),
        ("models = [1]", ["model 1"]),
        ('models = "ann/one"', ["models"]),
        (ONE + ONE, ["ann/one is there twice"]),
        (ONE + TWO, ['no default; add default = "ann/one"']),
        ('default = "bob/two"\n' + ONE, ["no model bob/two; there are ann/one"]),
        ("defualt = 1\n" + ONE, ["defualt"]),
        (ONE + 'sorce = "x"', ["model ann/one, sorce"]),
        ('[[models]]\nsource = "x"', ["model 1, name", "required"]),
        ('[[models]]\nname = "ann/one"', ["model ann/one, source", "required"]),
        ('[[models]]\nname = "one"\nsource = "x"', ["model one, name"]),
        ('[[models]]\nname = "ann/one:2"\nsource = "x"', ["model ann/one:2, name"]),
        (ONE + 'version = "a/b"', ["model ann/one, version"]),
        (ONE + 'checksum = "abc"', ["model ann/one, checksum"]),
        (ONE + "defaults = { tempo = 120 }", ["model ann/one, defaults", "no default for tempo", "duration"]),
        (ONE + "defaults = { seed = 1 }", ["no default for seed"]),
        (ONE + "defaults = { duration = 0 }", ["model ann/one, defaults", "duration", "greater than or equal to 1"]),
        (ONE + 'defaults = { normalization_strategy = "loud" }', ["normalization_strategy", "loudness"]),
        (ONE + "abilities = { dance = true }", ["model ann/one, abilities.dance"]),
        (ONE + "abilities = { melody = 1 }", ["model ann/one, abilities.melody"]),
        (ONE + "abilities = { channels = 3 }", ["model ann/one, abilities.channels"]),
    ],
)
def test_what_is_wrong_is_named(write: Write, text: str, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_registry(write(text))
    assert all(word in str(stopped.value) for word in words), stopped.value


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"MUSICGEN_MODELS: cannot read .*none\.toml"):
        load_registry(load_settings(models=tmp_path / "none.toml"))


def test_a_folder_lies_beside_the_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "tune").mkdir()
    registry = load_registry(write(f'default = "ann/tune"\n{TWO}[[models]]\nname = "ann/tune"\nsource = "tune"'))
    assert [entry.source for entry in registry.entries] == ["facebook/musicgen-small@main", str(tmp_path / "tune")]


def test_each_model_has_a_queue_of_its_own(write: Write) -> None:
    registry = load_registry(write('default = "bob/two"\n' + ONE + TWO))
    assert [entry.queue for entry in registry.entries] == ["generation:ann/one", "generation:bob/two"]
    assert registry.default.name == "bob/two"


def test_a_worker_serves_what_it_is_told_or_the_default(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write('default = "bob/two"\n' + ONE + TWO)
    assert worker_entry(settings).name == "bob/two"
    assert worker_entry(load_settings(model="ann/one")).name == "ann/one"
    monkeypatch.setenv("MUSICGEN_MODEL", "ann/one")
    assert worker_entry(load_settings()).name == "ann/one"
    monkeypatch.setenv("MUSICGEN_MODEL", "facebook/musicgen-small")
    with pytest.raises(SystemExit, match=r"no model facebook/musicgen-small.*ann/one, bob/two"):
        worker_entry(load_settings())


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("musicgen-pocket", "local/musicgen-pocket"),
        ("facebook/musicgen-small", "facebook/musicgen-small"),
        ("facebook/musicgen-small@main", "facebook/musicgen-small"),
        ("/models/my tune", "local/my-tune"),
        ("/", "local/model"),
    ],
)
def test_without_a_file_there_is_the_one_model(model: str, name: str) -> None:
    registry = load_registry(load_settings(model=model))
    assert [(entry.name, entry.source, entry.queue) for entry in registry.entries] == [(name, model, "generation")]
    assert worker_entry(load_settings(model=model)) == registry.default


def entry(**fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"name": "ann/one", "source": "one", **fields})


def test_the_version_is_the_checksum_unless_it_is_named() -> None:
    assert entry().settle(FOUND) == FOUND.model_copy(update={"name": "ann/one"})
    assert entry(checksum="a" * 64).settle(FOUND).version == "a" * 64
    assert entry(version="1.2", checksum="a" * 64).settle(FOUND).version == "1.2"


def test_another_checksum_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"checksum of ann/one is wrong: one has a{64}.*says b{64}"):
        entry(version="1.2", checksum="b" * 64).settle(FOUND)


def test_declared_abilities_take_away() -> None:
    declared = {"melody": False, "continuation": False, "max_duration": 10}
    assert entry(abilities=declared).settle(FOUND) == FOUND.model_copy(update={"name": "ann/one", **declared})


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"multi_band_diffusion": True}, r"multi_band_diffusion = true of ann/one.*has false"),
        ({"channels": 2}, r"channels = 2 of ann/one.*has 1"),
        ({"max_duration": 31}, r"max_duration = 31 of ann/one.*has 30"),
    ],
)
def test_declared_abilities_cannot_add(declared: dict[str, object], words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        entry(abilities=declared).settle(FOUND)


@pytest.mark.parametrize(
    ("defaults", "abilities"),
    [({"multi_band_diffusion": True}, {}), ({"duration": 20}, {"max_duration": 10}), ({}, {"max_duration": 7})],
)
def test_defaults_that_the_model_cannot_do_are_refused(
    defaults: dict[str, object], abilities: dict[str, object]
) -> None:
    with pytest.raises(SystemExit, match="defaults of ann/one ask for more than it can do"):
        entry(defaults=defaults, abilities=abilities).settle(FOUND)


def test_a_models_own_defaults_must_be_such_that_a_prediction_may_ask_for_them() -> None:
    own = FOUND.model_copy(update={"defaults": {"temperature": 0.5}})
    assert entry().settle(own).defaults == {"temperature": 0.5}
    wrong = FOUND.model_copy(update={"defaults": {"classifier_free_guidance": 2.5}})
    with pytest.raises(SystemExit, match=r"generation_config\.json of ann/one .*classifier_free_guidance"):
        entry().settle(wrong)
