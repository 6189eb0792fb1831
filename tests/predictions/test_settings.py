"""Settings: a wrong value stops the start, and the message says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictions.errors import WrongSetting
from predictions.settings import Settings, load_settings
from predictions.storage import open_storage


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MUSICGEN_DEVICE", "gpu", "MUSICGEN_DEVICE"),
        ("PORT", "http", "MUSICGEN_PORT"),
        ("MUSICGEN_PORT", "70000", "MUSICGEN_PORT"),
        ("MUSICGEN_LEASE_SECONDS", "0", "MUSICGEN_LEASE_SECONDS"),
        ("MUSICGEN_MAX_DURATION", "301", "MUSICGEN_MAX_DURATION"),
        ("MUSICGEN_EXTEND_STRIDE", "30", "MUSICGEN_EXTEND_STRIDE"),
        ("MUSICGEN_PUBLIC_URL", "example.com", "http://"),
        ("MUSICGEN_OUTBOUND_ALLOW", "10.0.0.0/33", "MUSICGEN_OUTBOUND_ALLOW"),
        ("MUSICGEN_SECRET", "short", "16 characters"),
        ("MUSICGEN_API_TOKENS", "abc", "8 characters"),
        ("MUSICGEN_WEBHOOK_SECRETS", "a plain password", "whsec_"),
        ("MUSICGEN_WEBHOOK_SECRETS", "whsec_c2hvcnQ=", "24 to 64 bytes"),
        ("MUSICGEN_WEBHOOK_SECRETS", "whsec_" + "QUJD" * 12 + ",whsec_not*base64", "MUSICGEN_WEBHOOK_SECRETS"),
        ("MUSICGEN_REDIS", "x", "did you mean MUSICGEN_REDIS_URL?"),
        ("MUSICGEN_REDIS_URL", "http://127.0.0.1:6379", "redis://"),
        ("MUSICGEN_REDIS_URL", "127.0.0.1:6379", "redis://"),
        ("MUSICGEN_REDIS_URL", "redis://127.0.0.1:port/0", "redis://"),
        ("MUSICGEN_S3_BUCKET", "no such/name", "MUSICGEN_S3_BUCKET"),
        ("MUSICGEN_RETENTION_HOURS", "1e9", "MUSICGEN_RETENTION_HOURS"),
        ("MUSICGEN_MAX_INPUT_AUDIO_MB", "5000", "MUSICGEN_MAX_INPUT_AUDIO_MB"),
        ("MUSICGEN_C2PA_KEY", "key.pem", "set both"),
        ("MUSICGEN_C2PA_CERTIFICATE", "chain.pem", "set both"),
        ("MUSICGEN_MARK_PROMPT", "perhaps", "MUSICGEN_MARK_PROMPT"),
        ("MUSICGEN_ZZZZZZ", "x", "Unknown setting MUSICGEN_ZZZZZZ"),
    ],
)
def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        load_settings()
    assert words in str(stopped.value)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "Infinity", "1e999"])
def test_every_number_is_finite(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]
    assert {"lease_seconds", "extend_stride", "port", "max_queued"} <= set(numbers)
    for name in numbers:
        variable = f"MUSICGEN_{name.upper()}"
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with pytest.raises(WrongSetting, match=variable):
                load_settings()


def test_an_access_key_needs_its_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGEN_STORAGE", "s3")
    monkeypatch.setenv("MUSICGEN_S3_ACCESS_KEY", "key")
    with pytest.raises(SystemExit, match="MUSICGEN_S3_SECRET_KEY is not"):
        load_settings()
    monkeypatch.setenv("MUSICGEN_S3_SECRET_KEY", "another key")
    load_settings()


def test_local_storage_needs_the_secret(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="MUSICGEN_SECRET"):
        open_storage(load_settings(data_dir=tmp_path))


def test_several_wrong_settings_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGEN_DEVICE", "gpu")
    monkeypatch.setenv("MUSICGEN_MAX_ATTEMPTS", "0")
    with pytest.raises(SystemExit, match=r"MUSICGEN_MAX_ATTEMPTS.*MUSICGEN_DEVICE"):
        load_settings()


def test_port_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9001")
    assert load_settings().port == 9001
    monkeypatch.setenv("MUSICGEN_PORT", "9002")
    assert load_settings().port == 9002


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGEN_API_TOKENS", "first-token, second-token,")
    monkeypatch.setenv("MUSICGEN_OUTBOUND_ALLOW", "10.0.0.0/8,fd00::/8")
    settings = load_settings()
    assert [token.get_secret_value() for token in settings.api_tokens] == ["first-token", "second-token"]
    assert [str(network) for network in settings.outbound_allow] == ["10.0.0.0/8", "fd00::/8"]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGEN_API_TOKENS", "token-of-ann")
    monkeypatch.setenv("MUSICGEN_SECRET", "0123456789abcdef")
    shown = repr(load_settings())
    assert "token-of-ann" not in shown
    assert "0123456789abcdef" not in shown


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com"])
def test_strangers_are_not_served_without_tokens(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("MUSICGEN_HOST", host)
    with pytest.raises(SystemExit, match="MUSICGEN_API_TOKENS"):
        load_settings().require_safe_binding()
    monkeypatch.setenv("MUSICGEN_API_TOKENS", "token-of-ann")
    load_settings().require_safe_binding()
    monkeypatch.delenv("MUSICGEN_API_TOKENS")
    monkeypatch.setenv("MUSICGEN_TOKENS_FILE", "tokens.json")
    load_settings().require_safe_binding()


def test_an_empty_name_of_a_tokens_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGEN_TOKENS_FILE", "")
    assert load_settings().tokens_file is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_tokens(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("MUSICGEN_HOST", host)
    load_settings().require_safe_binding()


def test_a_missing_secret_stops_what_needs_it() -> None:
    with pytest.raises(SystemExit, match="MUSICGEN_SECRET"):
        load_settings().require_secret()
