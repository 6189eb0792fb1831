"""Values and names as errors show them: as JSON, and cut short, whatever their size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

LONGEST = 60
"""Characters of a value or a name that are shown."""


def shown(value: object) -> str:
    """Return the value as JSON of at most 60 characters. What lies behind the cut is neither written nor looked at."""
    text = ""
    for token in _tokens(value):
        text += token
        if len(text) > LONGEST:
            break
    return cut(text)


def cut(text: str, longest: int = LONGEST) -> str:
    """Return the text with at most `longest` characters, in a form that UTF-8 can carry."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    # JSON can spell half of a surrogate pair, which no encoding can carry.
    return text.encode(errors="backslashreplace").decode()


def _tokens(value: object) -> Iterator[str]:
    """Write the value as JSON, piece by piece, so that the reader can stop."""
    if isinstance(value, str):
        yield json.dumps(value[: LONGEST + 1], ensure_ascii=False)
    elif value is None or isinstance(value, bool | int | float):
        yield json.dumps(value)
    elif isinstance(value, Mapping):
        yield from _joined("{", ((key, item) for key, item in value.items()), "}")
    elif isinstance(value, list | tuple):
        yield from _joined("[", ((None, item) for item in value), "]")
    else:
        yield "a file or bytes"


def _joined(opening: str, members: Iterable[tuple[object, object]], closing: str) -> Iterator[str]:
    yield opening
    for number, (key, item) in enumerate(members):
        if number:
            yield ", "
        if key is not None:
            yield from _tokens(key)
            yield ": "
        yield from _tokens(item)
    yield closing
