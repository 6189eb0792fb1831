"""`musicgen finetune`, called as on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cli.main import main
from musicgen_core.checkpoints.noise_model import write_noise_model
from tests.finetuning.conftest import tune, write_clip
from tests.servers import wait_until


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    with zipfile.ZipFile(folder / "songs.zip", "w") as packed:
        for number in range(3):
            packed.write(write_clip(folder / f"{number}.wav", tune(number, 6.0)), f"{number}.wav")
        packed.writestr("0.txt", "the first tune")
        packed.writestr("cover.jpg", "no sound")
    return folder / "songs.zip"


def options(archive: Path, base: Path) -> list[str]:
    return ["finetune", str(archive), "--model", str(base), "--description", "a tune", "--device", "cpu"]


def test_an_adapter_is_written(archive: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "adapter"
    short = ["--steps", "2", "--rank", "2", "--seed", "7", "--batch-size", "1", "--sample-seconds", "0.2"]
    assert main([*options(archive, base), "--output", str(output), *short]) == 0
    shown = capsys.readouterr()
    assert "Held-out loss" in shown.out
    assert "2/2" in shown.err  # the progress
    assert "Dropped 'cover.jpg'" in shown.err
    settings = json.loads((output / "training.json").read_text())["settings"]
    assert (settings["rank"], settings["steps"], settings["seed"], settings["batch_size"]) == (2, 2, 7, 1)
    assert (output / "adapter_model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]  # the checkpoint is gone


def test_a_killed_command_goes_on(archive: Path, base: Path, tmp_path: Path) -> None:
    short = ["--steps", "100", "--rank", "2", "--batch-size", "1", "--sample-seconds", "0"]
    through, resumed = tmp_path / "through", tmp_path / "resumed"
    assert main([*options(archive, base), "--output", str(through), *short]) == 0
    command = [*options(archive, base), "--output", str(resumed), *short]
    with subprocess.Popen([sys.executable, "-m", "cli.main", *command], stderr=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "resumed.checkpoint" / "checkpoint.pt").is_file, process=process)
        process.kill()
    assert not resumed.exists()
    assert main(command) == 0
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (through, resumed)]
    assert weights[0] == weights[1]


def test_a_dry_run_shows_the_table(
    archive: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*options(archive, base), "--inspect"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows == [
        "cover.jpg\t0 s\t0 s\tdropped: neither audio nor captions, by its name",
        "0.wav\t0 s\t6 s\tthe first tune",
        "1.wav\t0 s\t6 s\ta tune",
        "2.wav\t0 s\t6 s\ta tune",
        "3 pieces, 18 s; 1 dropped",
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "--output FOLDER"),
        (["--output", "{there}"], "choose another folder"),
        (["--output", "new", "--rank", "0"], "rank must lie between 1 and 256"),
        (["--output", "new", "--sample-seconds", "-1"], "Samples last 0 to 30 s"),
        (["--output", "new", "--model", "nowhere"], "No model at nowhere"),
    ],
)
def test_mistakes_are_named(
    archive: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("kept")
    assert main(options(archive, base) + [change.format(there=tmp_path) for change in changes]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_archive_is_named(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options(tmp_path / "gone.zip", base), "--inspect"]) == 1
    assert "gone.zip" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(archive: Path, base: Path) -> None:
    """Where peft cannot be imported."""
    code = (
        "import sys; sys.modules['peft'] = None; from cli.main import main; "
        f"sys.exit(main({[*options(archive, base), '--output', '/tmp/never']!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "musicgen-server[engine,finetuning]" in done.stderr
