"""Webhook signatures, held to the specification's own library, and the schedule of attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from predictions.prediction import WebhookEvent
from predictions.webhook import RETRY_DELAYS_SECONDS, is_delivered, retry_delay, signed_headers, signing_key, webhook_id

KEY = signing_key("a secret that only the tests know")
BODY = '{"id": "abc", "prompt": "Klavier für später"}'.encode()


def test_receivers_can_verify() -> None:
    headers = signed_headers(KEY, webhook_id("abc", WebhookEvent.START), datetime.now(UTC), BODY)
    assert Webhook(KEY).verify(BODY, headers)["id"] == "abc"
    assert headers["webhook-id"] == "abc-start"
    assert "." not in headers["webhook-id"]


def test_what_was_changed_or_is_old_is_not_verified() -> None:
    now = datetime.now(UTC)
    headers = signed_headers(KEY, "abc-start", now, BODY)
    old = signed_headers(KEY, "abc-start", now - timedelta(hours=1), BODY)
    for changed, body in [
        (headers, BODY.replace(b"abc", b"abd")),
        ({**headers, "webhook-id": "abd-start"}, BODY),
        ({**headers, "webhook-timestamp": str(int(now.timestamp()) + 1)}, BODY),
        (old, BODY),
    ]:
        with pytest.raises(WebhookVerificationError):
            Webhook(KEY).verify(body, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_key("another secret of the tests")).verify(BODY, headers)


def test_the_key_has_the_standard_form() -> None:
    prefix, _, key = KEY.partition("_")
    assert prefix == "whsec"
    assert "_" not in key
    assert "-" not in key


@pytest.mark.parametrize(("status", "delivered"), [(200, True), (204, True), (302, False), (404, False), (500, False)])
def test_any_2xx_is_delivered(status: int, delivered: bool) -> None:
    assert is_delivered(status) is delivered


def test_delays_grow_over_about_a_day_and_end() -> None:
    for attempts, delay in enumerate(RETRY_DELAYS_SECONDS, start=1):
        actual = retry_delay(attempts, 500, None)
        assert actual is not None
        assert delay <= actual <= delay * 1.2
    assert list(RETRY_DELAYS_SECONDS) == sorted(RETRY_DELAYS_SECONDS)
    assert 20 * 3600 < sum(RETRY_DELAYS_SECONDS) < 28 * 3600
    assert retry_delay(len(RETRY_DELAYS_SECONDS) + 1, 500, None) is None


def test_delays_grow_from_attempt_to_attempt_and_differ_between_receivers() -> None:
    delays = [retry_delay(attempts, None, None) or 0 for attempts in range(1, len(RETRY_DELAYS_SECONDS))]
    assert delays == sorted(delays)
    assert len({retry_delay(5, 500, None) for _ in range(10)}) > 1


def test_receivers_can_ask_for_time_or_for_an_end() -> None:
    assert retry_delay(1, 429, "900") == 900
    assert retry_delay(1, 503, "99999999") == 86_400
    assert 5 <= (retry_delay(1, 429, "2") or 0) <= 6
    # A date, nonsense, and digits that are no numbers: the plain schedule.
    for value in ("soon", "Wed, 21 Oct 2099 07:28:00 GMT", "-5", "1.5", "", "²", "9" * 5000 + "²"):
        assert 5 <= (retry_delay(1, 503, value) or 0) <= 6
    assert retry_delay(1, 503, "9" * 5000) == 86_400
    assert retry_delay(1, 410, None) is None
    assert retry_delay(1, None, None) is not None
