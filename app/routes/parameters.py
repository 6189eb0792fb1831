"""The parameters in paths and headers that several routes have in common."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path

from predictions.errors import FieldError, InvalidInput
from predictions.record.prediction import ID_PATTERN

MAX_WAIT_SECONDS = 60.0
MIN_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS = 5, 24 * 3600

PredictionId = Annotated[str, Path(pattern=ID_PATTERN, description="The prediction's id.")]
TrainingId = Annotated[str, Path(pattern=ID_PATTERN, description="The training's id.")]
FileId = Annotated[str, Path(pattern=ID_PATTERN, description="The file's id.")]
Prefer = Annotated[
    str | None,
    Header(description="`wait` or `wait=n`: answer once the prediction has ended, or after n seconds at the latest."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(max_length=255, description="A request that is repeated with the same key is carried out only once."),
]

CancelAfter = Annotated[
    str | None,
    Header(
        max_length=40,
        description=(
            "Cancel it if it has not ended this long after it was accepted: a duration of 5 seconds to 24 hours, such "
            "as `90s`, `1m30s` or `1h`."
        ),
        examples=["90s"],
    ),
]

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d+)\"?)?(?:$|[,;\s])", re.IGNORECASE)


def wait_seconds(prefer: str | None) -> float:
    """Return the seconds that a `Prefer` header (RFC 7240) asks to wait: 0 without `wait`, 60 for a bare one.

    60 is also the most.
    """
    match = _PREFER_WAIT.search(prefer or "")
    if match is None:
        return 0.0
    return min(float(match[1]), MAX_WAIT_SECONDS) if match[1] else MAX_WAIT_SECONDS


def deadline_seconds(cancel_after: str | None) -> int | None:
    """Return the seconds that a `Cancel-After` header gives a prediction; raises InvalidInput.

    As for Replicate, a number without a unit is one of seconds.
    """
    if cancel_after is None:
        return None
    match = _DURATION.fullmatch(cancel_after.strip())
    parts = [int(part or 0) for part in match.groups()] if match else [0, 0, 0, 0]
    seconds = sum(part * unit for part, unit in zip(parts, (24 * 3600, 3600, 60, 1), strict=True))
    if not MIN_DEADLINE_SECONDS <= seconds <= MAX_DEADLINE_SECONDS:
        remedy = "send a duration of 5 seconds to 24 hours, such as 90s, 1m30s or 1h"
        raise InvalidInput(FieldError("Cancel-After", f'is "{cancel_after}"', remedy))
    return seconds
