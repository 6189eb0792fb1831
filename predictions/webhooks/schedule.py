"""When a webhook is attempted: what counts as delivered, the delays between attempts, and their time limits."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

TIMEOUT_SECONDS = 15.0
"""How long one attempt may take."""

ATTEMPT_LOST_SECONDS = 30.0
"""An attempt that has not ended by then never will, because its process is gone. More than `TIMEOUT_SECONDS`."""

SPACING_SECONDS = 0.5
"""The shortest time between two attempts at a prediction's `output` webhooks, or at its `logs` webhooks."""

RETRY_DELAYS_SECONDS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0, 21600.0)
"""About a day in all. Each delay is lengthened by up to a fifth, so that a receiver that recovers is not flooded."""

MAX_RETRY_AFTER_SECONDS = 86_400.0


def is_delivered(status: int) -> bool:
    """Whether the receiver took the webhook: any 2xx. A redirect is not followed and counts as a failure."""
    return 200 <= status < 300


def retry_delay(tries: int, retry_after: str | None) -> float | None:
    """Seconds until the next attempt after `tries` failed ones; None to give up.

    `Retry-After`, in whole seconds or as a date, can lengthen the delay up to a day.
    """
    if tries > len(RETRY_DELAYS_SECONDS):
        return None
    delay = RETRY_DELAYS_SECONDS[tries - 1] * random.uniform(1.0, 1.2)
    return max(delay, min(_seconds(retry_after or ""), MAX_RETRY_AFTER_SECONDS))


def _seconds(retry_after: str) -> float:
    """The time that a Retry-After asks for (RFC 9110, 10.2.3); 0 where it is neither a number nor a date."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
