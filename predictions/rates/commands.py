"""The commands that count a tenant's requests: a token bucket for each kind of them, shared by all API processes.

The bucket holds as many requests as come in a second, and fills as fast. It is kept as one number, the time at which it
will be full again (the generic cell rate algorithm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from predictions.record.command import Arguments, Command


class Kind(StrEnum):
    """The kinds of requests, each counted apart: whoever polls much can still post."""

    CHANGES = "changes"
    READS = "reads"


@dataclass(frozen=True)
class Allowance:
    """What a tenant's bucket says of one request."""

    granted: bool
    """Whether the request was counted; it is to wait for `wait_seconds` first."""
    wait_seconds: float
    """How long it takes until there is room for the request."""
    limit: int
    """How many requests the bucket holds when it is full."""
    remaining: int
    """How many more requests it has room for."""
    reset_seconds: float
    """How long it takes until it is full."""


def spend(owner: str, kind: Kind, token: str, *, per_second: float, patience_seconds: float) -> Command[Allowance]:
    """Count a request, if there is room for it within its patience.

    `token`: random text, new for each request; with it the command can be repeated.
    """
    limit = max(math.ceil(per_second), 1)

    def read(answer: Any) -> Allowance:
        granted, wait, reset = answer[0] == "1", float(answer[1]), float(answer[2])
        # Rounded first: the store's numbers have six digits after the point.
        remaining = math.floor(round(limit - reset * per_second, 3))
        return Allowance(granted, wait, limit, max(remaining, 0), reset)

    arguments: Arguments = {
        "owner": owner,
        "kind": kind,
        "token": token,
        "interval": 1 / per_second,
        "limit": limit,
        "patience_seconds": patience_seconds,
    }
    return Command("rates/spend", arguments, read)
