"""Pieces: cut, judged, described; real files, decoded by ffmpeg."""

from __future__ import annotations

import logging
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from finetuning.archives import ArchiveLimits
from finetuning.dataset import DatasetSettings, Piece, digest, read_pieces
from finetuning.errors import ArchiveError, DatasetError, FineTuningCancelled, InvalidSettings
from musicgen_core import Waveform
from musicgen_core.audio.ffmpeg import ffmpeg_path
from tests.finetuning.conftest import RATE, tune, write_clip

SHORT = DatasetSettings(description="music", piece_seconds=3, min_seconds=1.5)


def pack(folder: Path) -> Path:
    path = folder.parent / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def pieces(archive: Path, settings: DatasetSettings = SHORT, channels: int = 1) -> list[tuple[Piece, Waveform | None]]:
    return list(read_pieces(archive, settings, sample_rate=RATE, channels=channels, device=torch.device("cpu")))


def table(archive: Path, settings: DatasetSettings = SHORT) -> list[Piece]:
    return [piece for piece, _ in pieces(archive, settings)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clips"


def test_files_are_cut_and_short_remainders_dropped(folder: Path) -> None:
    write_clip(folder / "a.wav", tune(1, 8.0))
    write_clip(folder / "b.wav", tune(2, 7.5))
    found = table(pack(folder))
    assert [(piece.name, piece.start, piece.seconds, piece.dropped_reason) for piece in found] == [
        ("a.wav", 0.0, 3.0, None),
        ("a.wav", 3.0, 3.0, None),
        ("a.wav", 6.0, 2.0, None),
        ("b.wav", 0.0, 3.0, None),
        ("b.wav", 3.0, 3.0, None),
        ("b.wav", 6.0, 1.5, "not longer than 1.5 s"),
    ]


def test_the_sound_is_that_of_the_piece(folder: Path) -> None:
    write_clip(folder / "a.wav", tune(1, 5.0))
    (_, first), (_, second) = pieces(pack(folder))
    assert first is not None
    assert second is not None
    joined = np.concatenate([first.samples, second.samples], axis=1)
    np.testing.assert_allclose(joined[0], tune(1, 5.0), atol=1e-4)


def test_thirty_seconds_and_five_are_the_defaults(folder: Path) -> None:
    write_clip(folder / "a.wav", tune(1, 66.0))
    found = table(pack(folder), DatasetSettings(description="music"))
    assert [(piece.seconds, piece.dropped_reason is None) for piece in found] == [(30, True), (30, True), (6, True)]
    assert table(write_clip(folder / "b.wav", tune(1, 5.0)), DatasetSettings())[0].dropped_reason is not None


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", ["-b:a", "96k"]), ("ogg", ["-c:a", "libvorbis"]), ("flac", [])])
def test_the_same_recording_in_another_format_is_found(folder: Path, suffix: str, codec: list[str]) -> None:
    source = write_clip(folder / "a.wav", tune(1, 3.0))
    command = [ffmpeg_path(), "-loglevel", "error", "-i", str(source), "-af", "volume=0.5", *codec]
    subprocess.run([*command, str(folder / f"copy.{suffix}")], check=True)
    write_clip(folder / "z.wav", tune(2, 3.0))
    reasons = {piece.name: piece.dropped_reason for piece in table(pack(folder)) if piece.seconds > 1.5}
    assert reasons == {"a.wav": None, f"copy.{suffix}": "the same as a.wav at 0 s", "z.wav": None}


def test_silence_and_what_is_no_audio_are_dropped(folder: Path) -> None:
    write_clip(folder / "silent.wav", 1e-4 * tune(1))
    write_clip(folder / "loud.wav", np.clip(20 * tune(2), -1, 1))
    (folder / "text.mp3").write_text("no sound")
    (folder / "cover.jpg").write_text("no sound")
    found = {piece.name: piece for piece in table(pack(folder))}
    assert found["silent.wav"].dropped_reason == "silent"
    assert "no audio that can be read" in str(found["text.mp3"].dropped_reason)
    assert "neither audio nor captions" in str(found["cover.jpg"].dropped_reason)
    assert found["loud.wav"].clipped
    assert found["loud.wav"].dropped_reason is None


def test_captions_reach_their_files(folder: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        write_clip(folder / f"{name}.wav", tune(number))
    (folder / "a.txt").write_text("said beside")
    (folder / "metadata.csv").write_text("file_name,text\nb.wav,said in a table\n")
    archive = pack(folder)
    assert [piece.caption for piece in table(archive)] == ["said beside", "said in a table", "music"]
    without = table(archive, DatasetSettings(min_seconds=1))
    assert [piece.dropped_reason is None for piece in without] == [True, True, False]
    assert "no caption" in str(without[2].dropped_reason)


def test_channels_are_the_models(folder: Path) -> None:
    left, right = tune(1), tune(2)
    write_clip(folder / "a.wav", np.stack([left, right]))
    ((_, mono),) = pieces(pack(folder))
    ((_, stereo),) = pieces(pack(folder), channels=2)
    assert mono is not None
    assert stereo is not None
    np.testing.assert_allclose(mono.samples[0], (left + right) / 2, atol=1e-4)
    np.testing.assert_allclose(stereo.samples, [left, right], atol=1e-4)


def test_tempo_and_key_are_added(folder: Path) -> None:
    beat = np.zeros(RATE * 20, np.float32)
    time = np.arange(RATE // 4) / RATE
    for number in range(40):  # A minor, 120 beats a minute
        pitches = [57, 60, 64, 69] if number % 4 < 3 else [52, 56, 59, 64]
        chord = sum(np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time) for pitch in pitches)
        beat[number * RATE // 2 :][: time.size] = 0.1 * chord * np.exp(-8 * time)
    write_clip(folder / "a.wav", beat)
    (piece,) = table(pack(folder), DatasetSettings(description="music", tempo_and_key=True))
    description, tempo, key = str(piece.caption).split(", ")
    assert description == "music"
    assert abs(int(tempo.removesuffix(" bpm")) - 120) <= 3
    assert key == "A minor"


def test_limits_of_length(folder: Path) -> None:
    write_clip(folder / "a.wav", tune(1, 4.0))
    write_clip(folder / "b.wav", tune(2, 2.0))
    archive = pack(folder)
    long = DatasetSettings(description="music", min_seconds=1, max_file_seconds=3)
    assert [piece.dropped_reason is None for piece in table(archive, long)] == [False, True]
    with pytest.raises(DatasetError, match="send less"):
        table(archive, DatasetSettings(description="music", max_total_seconds=5))
    with pytest.raises(ArchiveError, match="more than 1 entries"):
        table(archive, DatasetSettings(archive=ArchiveLimits(entries=1)))


def test_everything_is_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_clip(folder / "a.wav", tune(1))
    (folder / "b.jpg").write_text("no sound")
    with caplog.at_level(logging.INFO, "finetuning"):
        table(pack(folder))
    assert caplog.messages == [
        "Dropped 'b.jpg' at 0 s (0 s): neither audio nor captions, by its name",
        "Taken 'a.wav' at 0 s (2 s): 'music'",
    ]


def test_the_digest_is_of_all_that_was_seen(folder: Path) -> None:
    write_clip(folder / "a.wav", tune(1))
    first = digest(table(pack(folder)))
    assert digest(table(pack(folder))) == first
    assert digest(table(pack(folder), DatasetSettings(description="other", min_seconds=1))) != first


def test_reading_can_be_stopped(folder: Path) -> None:
    for number in range(3):
        write_clip(folder / f"{number}.wav", tune(number))
    asked = iter((False, False, True))  # before the first file, before its piece, before the second file
    reading = read_pieces(
        pack(folder), SHORT, sample_rate=RATE, channels=1, device=torch.device("cpu"), should_stop=lambda: next(asked)
    )
    assert next(reading)[0].name == "0.wav"
    with pytest.raises(FineTuningCancelled):
        next(reading)


def test_vocals_need_demucs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(folder))
    write_clip(folder / "a.wav", tune(1))
    with pytest.raises(InvalidSettings, match="musicgen-server\\[melody\\]"):
        table(pack(folder), DatasetSettings(description="music", remove_vocals=True))


@pytest.mark.parametrize("wrong", [{"piece_seconds": 31}, {"piece_seconds": 0.5}, {"piece_seconds": 4}])
def test_wrong_settings_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSettings, match="s"):
        DatasetSettings(**wrong)  # type: ignore[arg-type]
