"""Webhook signatures, held to the specification's own library and words, what is told, and the schedule of attempts."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from predictions.record.prediction import Prediction, Progress
from predictions.record.schema import Status, WebhookEvent
from predictions.settings import Settings
from predictions.webhooks.signing import (
    RETRY_DELAYS_SECONDS,
    as_told,
    current_key,
    derived_key,
    is_delivered,
    retry_delay,
    signed_headers,
    signing_keys,
)

SECRET = "a secret that only the tests know"
KEY = derived_key(SECRET)
OTHER_KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = '{"id": "abc", "prompt": "Klavier für später"}'.encode()


@pytest.fixture
def now() -> datetime:
    """The test's own start: receivers refuse what is five minutes old."""
    return datetime.now(UTC)


def test_receivers_can_verify(now: datetime) -> None:
    headers = signed_headers([KEY], "abc-start", now, BODY)
    assert Webhook(KEY).verify(BODY, headers)["id"] == "abc"
    assert headers["webhook-id"] == "abc-start"


def test_the_signature_is_that_of_the_specification() -> None:
    headers = signed_headers([OTHER_KEY], "abc-start", datetime.fromtimestamp(1_700_000_000, UTC), BODY)
    content = b"abc-start.1700000000." + BODY
    expected = base64.b64encode(hmac.new(bytes(range(32)), content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-timestamp"] == "1700000000"


def test_while_secrets_are_rotated_receivers_with_either_can_verify(now: datetime) -> None:
    headers = signed_headers([OTHER_KEY, KEY], "abc-start", now, BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (OTHER_KEY, KEY):
        assert Webhook(key).verify(BODY, headers)["id"] == "abc"
    with pytest.raises(WebhookVerificationError):
        Webhook(derived_key("another secret of the tests")).verify(BODY, headers)


def test_the_first_secret_is_the_current_one_and_all_of_them_sign() -> None:
    rotating = Settings(secret=SECRET, webhook_secrets=f"{OTHER_KEY}, {KEY}")
    assert signing_keys(rotating) == (OTHER_KEY, KEY)
    assert current_key(rotating) == OTHER_KEY
    assert signing_keys(Settings(secret=SECRET)) == (KEY,)
    with pytest.raises(SystemExit, match="MUSICGEN_SECRET"):
        signing_keys(Settings())


def test_what_was_changed_or_is_old_is_not_verified(now: datetime) -> None:
    headers = signed_headers([KEY], "abc-start", now, BODY)
    old = signed_headers([KEY], "abc-start", now - timedelta(hours=1), BODY)
    for changed, body in [
        (headers, BODY.replace(b"abc", b"abd")),
        ({**headers, "webhook-id": "abd-start"}, BODY),
        ({**headers, "webhook-timestamp": str(int(now.timestamp()) + 1)}, BODY),
        (old, BODY),
    ]:
        with pytest.raises(WebhookVerificationError):
            Webhook(KEY).verify(body, changed)


def test_the_key_has_the_standard_form() -> None:
    prefix, _, key = KEY.partition("_")
    assert prefix == "whsec"
    assert "_" not in key
    assert "-" not in key


def test_only_completed_tells_of_an_end(now: datetime) -> None:
    ended = Prediction(
        id="abc",
        owner="ann",
        status=Status.SUCCEEDED,
        input={},
        model="m",
        version="v",
        base_url="http://host",
        created_at=now,
        started_at=now,
        completed_at=now,
        output_key="k",
        logs="100%",
        metrics={"seed": 1},
        progress=Progress(4, 4),
    )
    told = {event: as_told(ended, event) for event in WebhookEvent}
    assert told[WebhookEvent.COMPLETED] == ended
    for event in (WebhookEvent.START, WebhookEvent.LOGS, WebhookEvent.OUTPUT):
        assert (told[event].status, told[event].completed_at, told[event].metrics) == (Status.PROCESSING, None, {})
    assert [told[event].output_key for event in WebhookEvent] == [None, "k", None, "k"]
    assert [told[event].logs for event in WebhookEvent] == ["", "100%", "100%", "100%"]


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
