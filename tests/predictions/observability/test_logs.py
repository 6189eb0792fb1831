"""The lines of the log: their fields, and what never stands in them."""

from __future__ import annotations

import json
import logging

import pytest

from predictions.observability.logs import JsonFormatter, TextFormatter, belonging_to, note, redacted


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("app.access", logging.INFO, __file__, 1, message, (), None)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def test_a_line_says_what_it_belongs_to() -> None:
    with belonging_to(request_id="r1", prediction="p1", tenant=""):
        note(attempt=2)
        line = json.loads(JsonFormatter("worker").format(record("Done", fields={"seconds": 0.5})))
        text = TextFormatter("worker").format(record("Done", fields={"seconds": 0.5}))
    assert {name: line[name] for name in line if name != "time"} == {
        "level": "INFO",
        "process": "worker",
        "logger": "app.access",
        "message": "Done",
        "request_id": "r1",
        "prediction": "p1",
        "attempt": 2,
        "seconds": 0.5,
    }
    assert text.endswith("worker INFO app.access: Done request_id=r1 prediction=p1 attempt=2 seconds=0.5")
    assert "prediction" not in json.loads(JsonFormatter("worker").format(record("Later")))


def test_a_traceback_is_part_of_its_line() -> None:
    made = record("Broken")
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        made.exc_info = (ValueError, error, error.__traceback__)
    [line] = JsonFormatter("api").format(made).splitlines()
    assert "two\nlines" in json.loads(line)["exception"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host/objects/a.wav?expires=1&signature=abcdef0123", "signature=…"),
        ("GET /stream?token=abcdef0123 failed", "token=… failed"),
        ("Authorization: Bearer abcdef0123", "Bearer …"),
        ("input data:audio/wav;base64,abcdef0123 is no audio", "data:audio/wav;base64,… is no audio"),
        ("https://bucket/a?X-Amz-Signature=abcdef0123&x=1", "X-Amz-Signature=…&x=1"),
        ("signed with whsec_abcdef0123", "whsec_…"),
    ],
)
def test_secrets_are_left_out(text: str, shown: str) -> None:
    assert shown in redacted(text)
    assert "abcdef0123" not in redacted(text)
    assert "abcdef0123" not in JsonFormatter("api").format(record(text))


def test_other_text_stays() -> None:
    text = "Wrote 3 objects, a=1; the token is not shown"
    assert redacted(text) == text
