"""The examples, run as their readers run them; each uses the public surface alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import musicgen_core
from musicgen_core import Waveform, decode_wav, write_audio
from tests.e2e.conftest import serve

EXAMPLES = Path(__file__).parents[2] / "examples"
OURS = {"app", "cli", "finetuning", "musicgen_core", "predictions", "reference", "training", "worker"}


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seconds(path: Path) -> float:
    audio = decode_wav(path.read_bytes())
    assert np.abs(audio.samples).max() > 0.01
    return audio.duration


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        *("continuation_and_melody.py", "http_webhooks.py", "library.py")
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_imports_the_public_surface_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.module == "musicgen_core":
                assert {alias.name for alias in node.names} <= set(musicgen_core.__all__)
        assert not [name for name in modules if name.partition(".")[0] in OURS and name != "musicgen_core"]


def test_takes(tmp_path: Path) -> None:
    printed = run("library.py", "warm piano", "--takes", 2, "--duration", 1, "--folder", tmp_path)
    assert [line.partition(": ")[2] for line in printed.splitlines()] == ["seed 0", "seed 1"]
    first, second = (tmp_path / f"take-{take}.wav" for take in range(2))
    assert seconds(first) == seconds(second) == 1
    assert first.read_bytes() != second.read_bytes()


def test_a_clip_is_continued_and_its_melody_followed(tmp_path: Path) -> None:
    times = np.arange(2 * 32_000) / 32_000
    tune = 0.3 * np.sin(2 * np.pi * np.where(times < 1, 262, 392) * times)
    write_audio(tmp_path / "clip.wav", Waveform(tune.astype(np.float32)[None], 32_000))
    run(
        "continuation_and_melody.py",
        *(tmp_path / "clip.wav", "happy piano", "--seconds", 1.52, "--duration", 1, "--folder", tmp_path),
    )
    assert seconds(tmp_path / "continued.wav") == 2.52
    assert seconds(tmp_path / "melody.wav") == 1


def test_a_service_calls_back(tmp_path: Path) -> None:
    output = tmp_path / "music.wav"
    with serve(tmp_path / "data") as service:
        address = str(service.client.base_url)
        printed = run("http_webhooks.py", "warm piano", "--service", address, "--duration", 1, "--output", output)
    assert "music.wav: seed " in printed
    assert seconds(output) == 1
