"""Words for bodies that cannot be read at all: of another type than JSON, or broken JSON."""

from __future__ import annotations

import json

from app.problems.fields import EXAMPLE, UPLOAD
from predictions.errors import FieldError

SEND_JSON = f"send JSON with the header Content-Type: application/json, such as {EXAMPLE}"


def wrong_type(content_type: str | None, *, wants_file: bool) -> FieldError:
    """Say which type the body has and which it should have."""
    message = f"is {content_type[:60]}" if content_type else "has no Content-Type"
    return FieldError("body", message, UPLOAD if wants_file else SEND_JSON)


def broken_json(document: str, position: int, reason: str) -> FieldError:
    """Say where the JSON breaks, why, and what is most likely the cause."""
    line = document.count("\n", 0, position) + 1
    column = position - document.rfind("\n", 0, position)
    remedy = _cause(document, position) or reason[:1].lower() + reason[1:]
    return FieldError("body", f"is not valid JSON at line {line}, column {column}", remedy)


def unreadable(cause: BaseException | None) -> FieldError:
    """Say why a body could not be read that broke before any place in it was known."""
    if isinstance(cause, UnicodeDecodeError):
        return FieldError("body", "is not UTF-8", "encode the JSON as UTF-8")
    if isinstance(cause, RecursionError):
        return FieldError("body", "is nested too deeply", f"send {EXAMPLE}")
    if isinstance(cause, ValueError) and not isinstance(cause, json.JSONDecodeError):
        return FieldError("body", "holds a number of too many digits", "send a smaller number")
    return FieldError("body", "cannot be read", SEND_JSON)


def _cause(document: str, position: int) -> str | None:
    rest = document[position : position + 5]
    before = document[max(position - 100, 0) : position].rstrip()
    if not rest:
        return "the text ends too early: close every string, list and object"
    if rest.startswith("'"):
        return 'strings and names stand in double quotes: "piano"'
    if rest.startswith(("None", "True", "False")):
        return "write null, true and false"
    if rest[0] in "}]" and before.endswith(","):
        return "leave out the comma after the last member"
    return None
