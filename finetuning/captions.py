"""The captions of an archive's audio files: beside each file, in a table, or one for all.

For `drums/take 1.wav`, the first of these that exists:

1. `drums/take 1.txt`: its text;
2. `drums/take 1.json`: a text, or an object with `caption`, `description` or `text`, to which its `genre`, `mood`,
   `instrument`, `keywords`, `bpm` and `key` are added;
3. a line of `metadata.jsonl` or `metadata.csv` in its folder or a folder above, the nearest first, as in Hugging Face's
   audiofolder: `file_name`, relative to the table's folder, and the same fields as above;
4. the description for all.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from finetuning.archives import Dropped, Member

TABLES = ("metadata.jsonl", "metadata.csv")
TEXT_FIELDS = ("caption", "description", "text")
"""The first of them that has a text is the caption."""
ADDED_FIELDS = ("genre", "genres", "mood", "moods", "instrument", "instruments", "keywords", "bpm", "key")
MAX_CHARACTERS = 2000
"""Of a caption; T5 reads 512 tokens."""


class Captions:
    """Finds a file's caption."""

    def __init__(self, members: Iterable[Member], description: str | None = None) -> None:
        """Read the captions. `members`: an archive's files with captions. `description`: for files without any."""
        self.dropped: list[Dropped] = []
        """Files that could not be read as captions, and tables' lines that could not."""
        self._description = description
        self._beside: dict[str, dict[str, str]] = {".txt": {}, ".json": {}}
        self._by_table: dict[PurePosixPath, dict[str, str]] = {}
        for member in members:
            try:
                self._read(member)
            except (ValueError, RecursionError, csv.Error) as error:
                self.dropped.append(Dropped(member.name, f"its captions cannot be read: {error}"))

    def of(self, name: str) -> str | None:
        """The caption of a file, without line breaks; None where it has none. `name`: as in `Member`."""
        path = PurePosixPath(name)
        stem = str(path.with_suffix(""))
        found = next((texts[stem] for texts in self._beside.values() if stem in texts), None)
        if found is None:
            tables = ((folder, self._by_table[folder]) for folder in path.parents if folder in self._by_table)
            lines = (lines.get(str(path.relative_to(folder))) for folder, lines in tables)
            found = next(filter(None, lines), self._description)
        return found and " ".join(found.split())[:MAX_CHARACTERS]

    def _read(self, member: Member) -> None:
        path = PurePosixPath(member.name)
        # utf-8-sig: Windows' editors begin a file with a byte-order mark.
        text = member.path.read_text("utf-8-sig")
        if path.name in TABLES:
            lines = self._by_table.setdefault(path.parent, {})
            for number, row in _rows(text, path.suffix):
                file, caption = row.get("file_name"), describe(row)
                if isinstance(file, str) and caption:
                    lines.setdefault(unicodedata.normalize("NFC", str(PurePosixPath(file))), caption)
                else:
                    self.dropped.append(
                        Dropped(f"{member.name}, line {number}", "no file_name, or no caption, description or text")
                    )
        elif (suffix := member.suffix) in self._beside:
            caption = describe(json.loads(text)) if suffix == ".json" else text.strip()
            if caption:
                self._beside[suffix][str(path.with_suffix(""))] = caption
            else:
                self.dropped.append(Dropped(member.name, "no text in it"))
        else:
            self.dropped.append(Dropped(member.name, f"a table of captions is called {' or '.join(TABLES)}"))


def describe(value: object) -> str | None:
    """The caption that a JSON value holds: a text, or an object's text and what else it says; None without any."""
    if isinstance(value, str):
        return value.strip() or None
    if not isinstance(value, dict):
        return None
    parts = [next(filter(None, (_words(value.get(field)) for field in TEXT_FIELDS)), "")]
    parts += [_words(value.get(field), field) for field in ADDED_FIELDS]
    return ", ".join(filter(None, parts)) or None


def _words(value: object, field: str | None = None) -> str:
    """A field's value as words: a text, a number or a list of them; a tempo gets its unit."""
    if isinstance(value, list):
        return ", ".join(filter(None, (_words(item) for item in value)))
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    words = str(value).strip()
    if words and field == "bpm":
        return tempo_words(words)
    return words


def tempo_words(beats_per_minute: object) -> str:
    """A tempo as captions say it."""
    return f"{beats_per_minute} bpm"


def _rows(text: str, suffix: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """A table's lines, numbered from 1, as objects; a line that is no object has no fields."""
    if suffix == ".csv":
        yield from enumerate(csv.DictReader(io.StringIO(text)), 2)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            value = json.loads(line)
            yield number, value if isinstance(value, dict) else {}
