"""The schedule of a webhook's attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from predictions.webhooks.schedule import RETRY_DELAYS_SECONDS, is_delivered, retry_delay


@pytest.mark.parametrize(("status", "delivered"), [(200, True), (204, True), (302, False), (404, False), (500, False)])
def test_any_2xx_is_delivered(status: int, delivered: bool) -> None:
    assert is_delivered(status) is delivered


def test_delays_grow_over_about_a_day_and_end() -> None:
    for attempts, delay in enumerate(RETRY_DELAYS_SECONDS, start=1):
        actual = retry_delay(attempts, None)
        assert actual is not None
        assert delay <= actual <= delay * 1.2
    assert list(RETRY_DELAYS_SECONDS) == sorted(RETRY_DELAYS_SECONDS)
    assert sum(RETRY_DELAYS_SECONDS) > 19 * 3600
    # However long each is made, all of them fall into the day for which a prediction is kept.
    assert sum(RETRY_DELAYS_SECONDS) * 1.2 < 24 * 3600
    assert retry_delay(len(RETRY_DELAYS_SECONDS) + 1, None) is None


def test_delays_grow_from_attempt_to_attempt_and_differ_between_receivers() -> None:
    delays = [retry_delay(attempts, None) or 0 for attempts in range(1, len(RETRY_DELAYS_SECONDS))]
    assert delays == sorted(delays)
    assert len({retry_delay(5, None) for _ in range(10)}) > 1


def test_receivers_can_ask_for_time() -> None:
    assert retry_delay(1, "900") == 900
    assert retry_delay(1, "99999999") == 86_400
    assert retry_delay(1, "9" * 5000) == 86_400
    assert 5 <= (retry_delay(1, "2") or 0) <= 6
    assert 890 < (retry_delay(1, format_datetime(datetime.now(UTC) + timedelta(minutes=15), usegmt=True)) or 0) < 910
    assert retry_delay(1, "Wed, 21 Oct 2099 07:28:00 GMT") == 86_400


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "-5",
        "1.5",
        "",
        "²",
        "9" * 5000 + "²",
        "Wed, 21 Oct 99999999999 07:28:00 GMT",
    ],
)
def test_a_retry_after_without_sense_changes_nothing(value: str) -> None:
    assert 5 <= (retry_delay(1, value) or 0) <= 6
