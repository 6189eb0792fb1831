"""Webhook signatures, held to the specification's own library and words."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from predictions.settings import Settings
from predictions.webhooks.signing import SigningKeys, derived_key, operators_keys, signed_headers

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
    assert operators_keys(rotating) == (OTHER_KEY, KEY)
    assert operators_keys(Settings(secret=SECRET)) == (KEY,)
    with pytest.raises(SystemExit, match="MUSICGEN_SECRET"):
        SigningKeys(Settings())


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
