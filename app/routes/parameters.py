"""The parameters in paths and headers that several routes have in common."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path

from predictions.record.prediction import ID_PATTERN

MAX_WAIT_SECONDS = 60.0

PredictionId = Annotated[str, Path(pattern=ID_PATTERN, description="The prediction's id.")]
FileId = Annotated[str, Path(pattern=ID_PATTERN, description="The file's id.")]
Prefer = Annotated[
    str | None,
    Header(description="`wait` or `wait=n`: answer once the prediction has ended, or after n seconds at the latest."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(max_length=255, description="A request that is repeated with the same key is carried out only once."),
]

_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d+)\"?)?(?:$|[,;\s])", re.IGNORECASE)


def wait_seconds(prefer: str | None) -> float:
    """Return the seconds that a `Prefer` header (RFC 7240) asks to wait: 0 without `wait`, 60 for a bare one.

    60 is also the most.
    """
    match = _PREFER_WAIT.search(prefer or "")
    if match is None:
        return 0.0
    return min(float(match[1]), MAX_WAIT_SECONDS) if match[1] else MAX_WAIT_SECONDS
