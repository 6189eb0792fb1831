"""The log of a process: a line for each event, as text or as JSON, with what it belongs to.

What a line belongs to (the request, the prediction, its attempt, its tenant) is kept in the context of whoever writes
it, so that every line has it, those of libraries too.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from predictions.settings import Settings

FIELDS: ContextVar[dict[str, Any]] = ContextVar("FIELDS")
"""What lines belong to: `request_id`, `prediction`, `attempt`, `tenant`, and `trace_id` where there are traces."""

_SECRETS = re.compile(
    r"(data:[^,\s\"']{0,300},)[^\s\"']+"
    r"|((?:signature|token|secret|password|x-amz-[a-z]+)=)[^&\s\"']+"
    r"|(bearer )[^\s\"']+"
    r"|(whsec_)[A-Za-z0-9+/=]+",
    re.IGNORECASE,
)
_HINTS = ("data:", "signature=", "token=", "secret=", "password=", "x-amz-", "bearer ", "whsec_")
"""One of them is in every text that the pattern finds something in; looking for them first is twenty times as quick."""
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


def redacted(text: str) -> str:
    """Return the text without tokens, signatures and data: they may be in messages of libraries, and in URLs."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    return _SECRETS.sub(lambda found: "".join(filter(None, found.groups())) + "…", text)


def note(**fields: Any) -> None:
    """Have the further lines of this context say what they belong to."""
    known = FIELDS.get(None)
    if known is None:
        FIELDS.set(dict(fields))
    else:
        known.update(fields)


@contextmanager
def belonging_to(**fields: Any) -> Iterator[None]:
    """Have the lines inside the block say what they belong to; fields that are empty are left out."""
    token = FIELDS.set({**FIELDS.get({}), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        FIELDS.reset(token)


def event(logger: logging.Logger, message: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line with fields of its own."""
    if logger.isEnabledFor(level):
        logger.log(level, message, extra={"fields": fields})


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    own: Mapping[str, Any] = getattr(record, "fields", {})
    known = FIELDS.get(None)
    return {**known, **own} if known else own


class TextFormatter(logging.Formatter):
    """For people: the fields stand behind the message."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(name)s: %(message)s")
        self._second, self._second_shown = 0, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return local time with milliseconds; lines of one second share the work."""
        second = int(record.created)
        if second != self._second:
            self._second, self._second_shown = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._second_shown},{int(record.msecs):03d}"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows in lines of its own."""
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line without a traceback."""
        fields = _fields_of(record)
        line = super().formatMessage(record)
        return f"{line} {' '.join(f'{name}={value}' for name, value in fields.items())}" if fields else line


class JsonFormatter(logging.Formatter):
    """For programs: one JSON object a line, tracebacks included."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redacted(_encode(line))


def configure_logging(settings: Settings, process: str) -> None:
    """Write the log to standard error as the settings say; `process`: what kind of process this is."""
    # Nothing shows them, and finding them out for every line takes time.
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(process) if settings.log_format == "json" else TextFormatter(process))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
