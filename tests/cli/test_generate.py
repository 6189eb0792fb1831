"""`musicgen generate`, called as on the command line."""

import subprocess
import sys
import wave
from pathlib import Path

import pytest
import torch

from cli.main import main
from musicgen_core.checkpoints.noise_model import write_noise_model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def seconds_of(path: Path) -> float:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (32_000, 2)
        return file.getnframes() / file.getframerate()


def test_writes_a_wav_with_the_model_that_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.wav"
    assert main(["generate", "warm lo-fi piano", "--duration", "1", "--seed", "5", "-o", str(output)]) == 0
    assert seconds_of(output) == 1.0
    shown = capsys.readouterr()
    assert shown.out == f"{output}: 1.00 s at 32000 Hz\n"
    assert "Loaded musicgen-pocket" in shown.err
    assert "Using seed 5" in shown.err
    assert "100%|" in shown.err
    assert "53/53" in shown.err


def test_takes_every_option(tmp_path: Path) -> None:
    model = write_noise_model(tmp_path / "stereo", kind="stereo")
    clip, output = tmp_path / "clip.wav", tmp_path / "out.mp3"
    assert main(["generate", "drums", "--duration", "2", "-o", str(clip), "--model", str(model)]) == 0
    music = "--duration 2.5 --seed 4 --temperature 0.9 --top-k 100 --top-p 0.5 --classifier-free-guidance 2"
    part = "--continuation --continuation-mode total --continuation-start 0.5 --continuation-end 1.5"
    rest = "--normalization-strategy peak --output-format wav --device cpu --dtype float32"
    options = f"{music} {part} {rest}".split()
    paths = ["--input-audio", str(clip), "--model", str(model), "-o", str(output)]
    assert main(["generate", *options, *paths]) == 0
    assert seconds_of(output) == 2.5  # a wav: the option outweighs the name


def test_the_format_follows_the_name(tmp_path: Path) -> None:
    output = tmp_path / "out.MP3"
    assert main(["generate", "", "--duration", "0.5", "-o", str(output)]) == 0
    assert output.read_bytes()[:3] == b"ID3" or output.read_bytes()[0] == 0xFF


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give a prompt, an audio file, or both"),
        (["song", "--duration", "31"], "at most 30 s"),
        (["song", "--duration", "41", "--max-duration", "40"], "at most 40 s"),
        (["song", "--continuation"], "nothing to continue"),
        (["song", "--top-p", "2"], "top_p"),
        (["song", "--seed", "-2"], "seed"),
        (["song", "--model", "no/such/folder"], "no such folder"),
        (["song", "-o", "/no/such/folder/out.wav"], "no folder /no/such/folder"),
        (["song", "--input-audio", __file__], "no audio that can be read"),
    ],
)
def test_says_what_is_wrong(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", *options]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("musicgen generate: ")
    assert message in last
    assert not list(tmp_path.iterdir())


def test_help_is_quick_to_import_and_complete() -> None:
    code = (
        "import sys; from cli.main import main\n"
        "try: main(['generate', '--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for option in ("--output-format", "--top-k", "--continuation-end", "--model", "--seed"):
        assert option in shown
