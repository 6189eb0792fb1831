"""The storage is tried at the start; what is wrong is said in one line that names the setting."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from predictions.errors import WrongSetting
from predictions.settings import Settings
from predictions.storage.trial import require_storage
from tests.conftest import SECRET
from tests.s3_server import S3Server, s3_server
from tests.servers import free_port


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    # Not below /tmp, which may be a file system without user xattrs.
    with tempfile.TemporaryDirectory(prefix="s3-", dir="/var/tmp") as folder, s3_server(Path(folder)) as server:
        yield server


@pytest.fixture(autouse=True)
def no_keys_of_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 finds no keys outside the settings, and does not ask a cloud for some."""
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def s3_settings(server: S3Server, **changes: object) -> Settings:
    fields = {
        "storage": "s3",
        "secret": SECRET,
        "s3_endpoint": server.endpoint,
        "s3_bucket": "tried",
        "s3_access_key": server.access_key,
        "s3_secret_key": server.secret_key,
    }
    return Settings(**{**fields, **changes})


def test_a_storage_that_works_is_left_as_it_was(s3: S3Server, settings: Settings) -> None:
    for right in (settings, s3_settings(s3, s3_create_bucket=True)):
        storage = require_storage(right)
        assert list(storage.objects("predictions/")) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"s3_bucket": "missing"}, ["MUSICGEN_S3_BUCKET=missing", "MUSICGEN_S3_CREATE_BUCKET=true"]),
        ({"s3_secret_key": "wrong"}, ["MUSICGEN_S3_SECRET_KEY"]),
        ({"s3_access_key": "nobody:nobody"}, ["MUSICGEN_S3_ACCESS_KEY"]),
        ({"s3_access_key": None, "s3_secret_key": None}, ["MUSICGEN_S3_ACCESS_KEY", "there are none"]),
        ({"s3_bucket": "arn:no such/name"}, ["MUSICGEN_S3_", "bucket"]),
        ({"s3_endpoint": f"http://127.0.0.1:{free_port()}"}, ["MUSICGEN_S3_ENDPOINT", "cannot be reached"]),
        ({"s3_endpoint": "http://host name"}, ["MUSICGEN_S3_"]),
    ],
)
@pytest.mark.parametrize("creates", [False, True])
def test_a_wrong_s3_setting_is_named(s3: S3Server, changes: dict[str, object], words: list[str], creates: bool) -> None:
    if creates and changes.get("s3_bucket") == "missing":
        return
    with pytest.raises(WrongSetting) as stopped:
        require_storage(s3_settings(s3, s3_create_bucket=creates, **changes))
    message = str(stopped.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert s3.secret_key not in message.replace("MUSICGEN_S3_SECRET_KEY", "")


def test_a_folder_that_cannot_be_written_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WrongSetting, match="MUSICGEN_DATA_DIR"):
        require_storage(settings.model_copy(update={"data_dir": tmp_path / "file"}))
