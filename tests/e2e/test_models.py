"""Two models in one deployment of `musicgen serve`, each with its own worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from musicgen_core.checkpoints import hub
from musicgen_core.checkpoints.noise_model import write_noise_model
from tests.e2e.conftest import Service, serve
from tests.e2e.sound import RATE, read_wav

REGISTRY = """
default = "tests/mono"

[[models]]
name = "tests/mono"
source = "mono"
checksum = "{checksum}"
defaults = {{ duration = 2 }}

[[models]]
name = "tests/stereo"
source = "stereo"
version = "2.1"
abilities = {{ channels = 2, max_duration = 9 }}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of a mono model that follows melodies and a stereo one that does not."""
    folder = tmp_path_factory.mktemp("models")
    mono = write_noise_model(folder / "mono", kind="melody")
    write_noise_model(folder / "stereo", kind="stereo")
    path = folder / "models.toml"
    path.write_text(REGISTRY.format(checksum=hub.checksum(mono)))
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, registry: Path) -> Iterator[Service]:
    with serve(tmp_path_factory.mktemp("service"), MUSICGEN_MODELS=str(registry)) as service:
        yield service


def ask(service: Service, version: str | None = None, **value: Any) -> dict[str, Any]:
    """The API's response to a prediction of that version."""
    body = {"input": {"prompt": "piano", **value}}
    answer = service.client.post("/predictions", json=body if version is None else {**body, "version": version})
    found: dict[str, Any] = answer.json()
    return found


def test_each_prediction_lands_on_its_models_worker(both: Service, registry: Path) -> None:
    mono = hub.checksum(registry.parent / "mono")
    references = {
        None: 1,
        mono: 1,
        "tests/mono": 1,
        f"tests/mono:{mono}": 1,
        "2.1": 2,
        "tests/stereo": 2,
        "tests/stereo:2.1": 2,
    }
    asked = [
        ask(both, reference, **({} if channels == 1 else {"duration": 1})) for reference, channels in references.items()
    ]
    made = [both.wait(body["id"]) for body in asked]
    assert [body["status"] for body in made] == ["succeeded"] * len(made)
    names = {1: ("tests/mono", mono), 2: ("tests/stereo", "2.1")}
    assert [(body["model"], body["version"]) for body in made] == [names[channels] for channels in references.values()]
    checksums = {1: mono, 2: hub.checksum(registry.parent / "stereo")}
    assert [body["provenance"]["model_checksum"] for body in made] == [checksums[n] for n in references.values()]
    shapes = [read_wav(both.audio(body)).shape for body in made]
    assert shapes == [(1, 2 * RATE) if channels == 1 else (2, RATE) for channels in references.values()]


def test_what_a_model_cannot_do_is_refused_at_submit(both: Service) -> None:
    audio = "https://example.com/a.mp3"
    assert field_of(ask(both, "tests/stereo", input_audio=audio)) == "input_audio"
    assert field_of(ask(both, "tests/stereo", duration=10)) == "duration"
    assert field_of(ask(both, "tests/stereo", multi_band_diffusion=True)) == "multi_band_diffusion"
    assert field_of(ask(both, "tests/stereo:2.2")) == "version"
    accepted = ask(both, "tests/mono", duration=10)
    assert accepted["status"] == "starting"
    both.client.post(accepted["urls"]["cancel"])


def field_of(problem: dict[str, Any]) -> str:
    """The only field that is wrong."""
    assert problem["status"] == 422, problem
    [error] = problem["errors"]
    field: str = error["field"]
    return field


def test_the_models_tell_what_they_are(both: Service) -> None:
    mono, stereo = both.client.get("/models").json()["results"]
    assert (mono["name"], mono["workers"], mono["abilities"]["melody"]) == ("tests/mono", 1, True)
    assert (stereo["name"], stereo["workers"], stereo["versions"]) == ("tests/stereo", 1, ["2.1"])
    abilities = stereo["abilities"]
    assert (abilities["channels"], abilities["melody"], abilities["max_duration"]) == (2, False, 9)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f'checksum = "{"0" * 64}"', "The checksum of tests/mono is wrong"),
        ("abilities = { multi_band_diffusion = true }", "multi_band_diffusion = true of tests/mono"),
    ],
)
def test_a_worker_does_not_serve_what_the_registry_does_not_say(registry: Path, line: str, words: str) -> None:
    wrong = registry.with_name("wrong.toml")
    wrong.write_text(f'[[models]]\nname = "tests/mono"\nsource = "mono"\n{line}\n')
    settings = {"MUSICGEN_MODELS": str(wrong), "MUSICGEN_SECRET": "s" * 16, "MUSICGEN_DATA_DIR": str(registry.parent)}
    worker = [sys.executable, "-m", "cli.main", "worker", "--model", "tests/mono"]
    ended = subprocess.run(worker, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 78
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
