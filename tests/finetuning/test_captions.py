"""Captions in every form, and which of them counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetuning.archives import Member
from finetuning.captions import MAX_CHARACTERS, Captions


def read(tmp_path: Path, files: dict[str, str | bytes], description: str | None = None) -> Captions:
    members = []
    for number, (name, content) in enumerate(files.items()):
        path = tmp_path / str(number)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        members.append(Member(name, path))
    return Captions(members, description)


def test_a_text_beside_the_file(tmp_path: Path) -> None:
    captions = read(tmp_path, {"a/one.txt": " warm piano,\r\n slow \n", "one.txt": "another"})
    assert captions.of("a/one.wav") == "warm piano, slow"
    assert captions.of("one.mp3") == "another"
    assert captions.of("a/two.wav") is None
    assert not captions.dropped


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("warm piano", "warm piano"),
        ({"caption": "warm piano"}, "warm piano"),
        ({"description": "warm piano", "text": "not this"}, "warm piano"),
        ({"caption": "", "text": "warm piano"}, "warm piano"),
        (
            {"description": "warm piano", "genre": "jazz", "moods": ["calm", "late"], "bpm": 80, "key": "A minor"},
            "warm piano, jazz, calm, late, 80 bpm, A minor",
        ),
        ({"genre": "jazz", "title": "not said", "bpm": None, "key": {"a": 1}}, "jazz"),
    ],
)
def test_json_beside_the_file(tmp_path: Path, value: object, expected: str) -> None:
    assert read(tmp_path, {"one.json": json.dumps(value)}).of("one.wav") == expected


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_table(tmp_path: Path, name: str) -> None:
    if name.endswith(".csv"):
        table = 'file_name,text,bpm\none.wav,"warm, soft piano",80\nsub/two.wav,loud drums,\n'
    else:
        rows = [
            {"file_name": "one.wav", "text": "warm, soft piano", "bpm": 80},
            {"file_name": "./sub/two.wav", "text": "loud drums"},
        ]
        table = "\n\n".join(map(json.dumps, rows))
    captions = read(tmp_path, {f"a/{name}": table})
    assert captions.of("a/one.wav") == "warm, soft piano, 80 bpm"
    assert captions.of("a/sub/two.wav") == "loud drums"
    assert captions.of("one.wav") is None
    assert not captions.dropped


def test_names_in_tables_are_composed_as_those_of_files(tmp_path: Path) -> None:
    row = json.dumps({"file_name": "u\u0308bung.wav", "caption": "an exercise"})
    assert read(tmp_path, {"metadata.jsonl": row}).of("übung.wav") == "an exercise"


def test_the_nearest_counts(tmp_path: Path) -> None:
    files = {
        "a/one.txt": "text",
        "a/one.json": '"json"',
        "a/metadata.csv": "file_name,caption\none.wav,near table\n",
        "metadata.jsonl": '{"file_name": "a/one.wav", "caption": "far table"}',
    }
    for expected in ("text", "json", "near table", "far table", "for all"):
        assert read(tmp_path, files, "for all").of("a/one.wav") == expected
        files.pop(next(iter(files)), None) if files else None


def test_what_windows_writes(tmp_path: Path) -> None:
    assert read(tmp_path, {"one.txt": b"\xef\xbb\xbfwarm piano\r\n"}).of("one.wav") == "warm piano"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one.txt", b"\xff\xfe\x00broken"),
        ("one.txt", b"  \n"),
        ("one.json", b"{"),
        ("one.json", b"[" * 100_000),
        ("one.json", b"{}"),
        ("one.json", b"[1, 2]"),
        ("metadata.jsonl", b'{"file_name": "one.wav"}'),
        ("metadata.jsonl", b"{\n"),
        ("metadata.jsonl", b'["one.wav", "piano"]'),
        ("metadata.csv", b"name,words\none.wav,piano\n"),
        ("metadata.csv", b'file_name,text\n"' + b"x" * 200_000),
        ("notes.csv", b"file_name,text\none.wav,piano\n"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    captions = read(tmp_path, {name: content}, "for all")
    assert len(captions.dropped) == 1
    assert captions.dropped[0].name.startswith(name)
    assert captions.of("one.wav") == "for all"


def test_the_good_lines_of_a_table_count(tmp_path: Path) -> None:
    captions = read(tmp_path, {"metadata.csv": "file_name,text\none.wav,\ntwo.wav,piano\n"})
    assert captions.of("two.wav") == "piano"
    assert [dropped.name for dropped in captions.dropped] == ["metadata.csv, line 2"]


def test_long_captions_are_cut(tmp_path: Path) -> None:
    caption = read(tmp_path, {"one.txt": "la " * MAX_CHARACTERS}).of("one.wav")
    assert caption is not None
    assert len(caption) == MAX_CHARACTERS
