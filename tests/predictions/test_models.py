"""The file of models: what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictions.inputs import Input
from predictions.models import Registry, RegistryError, load_registry
from predictions.settings import Settings

TWO = """
[[models]]
name = "ann/piano"
source = "piano"
default = true

[[models]]
name = "ann/strings"
source = "facebook/musicgen-stereo-small@main"
version = "v2"
defaults = { duration = 12, classifier_free_guidance = 4 }
abilities = { melody = false, max_duration = 20 }
"""


def read(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return load_registry(Settings(models=path))


def test_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "piano").mkdir()
    registry = read(tmp_path, TWO)
    piano, strings = registry.models
    assert registry.default is piano
    assert piano.source == str((tmp_path / "piano").resolve())
    assert (strings.source, strings.version) == ("facebook/musicgen-stereo-small@main", "v2")
    assert (piano.queue, strings.queue) == ("generation:ann/piano", "generation:ann/strings")
    assert registry.by_name("ann/strings") is strings
    assert registry.choose("ann/strings") is strings


def test_a_models_defaults_fill_in_what_is_left_out(tmp_path: Path) -> None:
    strings = read(tmp_path, TWO).models[1]
    asked = strings.with_defaults(Input.model_validate({"prompt": "x", "classifier_free_guidance": 3}))
    assert (asked.prompt, asked.duration, asked.classifier_free_guidance) == ("x", 12, 3)


def test_without_a_file_there_is_one_model() -> None:
    registry = load_registry(Settings(model="/models/mine"))
    assert [model.source for model in registry.models] == ["/models/mine"]
    assert registry.default.queue == "generation"
    assert registry.choose(None) is registry.default


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no \\[\\[models\\]\\]"),
        ("models = 3", "models: Input should be a valid tuple"),
        ("[[models]", "Expected"),
        ("[other]\n", "other: Extra inputs"),
        (TWO + '[[models]]\nname = "ann/piano"\nsource = "x"\n', "ann/piano: a name stands for one model"),
        (TWO.replace("default = true", ""), "one of the models must have default = true"),
        (TWO + '[[models]]\nname = "a/b"\nsource = "x"\ndefault = true\n', "one of the models must have default"),
        (TWO.replace("ann/piano", "piano"), "name: String should match pattern"),
        (TWO.replace("source = ", "folder = ", 1), "source: Field required"),
        (TWO.replace('source = "piano"', 'source = "piano"\ncolour = 1'), "colour: Extra inputs"),
        (TWO.replace("duration = 12", "duration = 0"), "duration"),
        (TWO.replace("duration = 12", "seed = 12"), "seed can only be given by a request"),
        (TWO.replace("melody = false", "melody = 0"), "abilities.melody"),
        (TWO.replace('version = "v2"', 'checksum = "12"'), "checksum"),
    ],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SystemExit, match=words) as stopped:
        read(tmp_path, text)
    assert "MUSICGEN_MODELS=" in str(stopped.value)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="No such file"):
        load_registry(Settings(models=tmp_path / "none.toml"))


def test_a_worker_must_know_its_model(tmp_path: Path) -> None:
    registry = read(tmp_path, TWO)
    with pytest.raises(RegistryError, match="--model with one of ann/piano, ann/strings"):
        registry.choose(None)
    with pytest.raises(RegistryError, match="there is no model ann/drums"):
        registry.choose("ann/drums")


def test_one_model_or_a_file_of_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSICGEN_MODEL", "facebook/musicgen-small")
    with pytest.raises(ValueError, match="keep one"):
        Settings(models=tmp_path / "models.toml")
