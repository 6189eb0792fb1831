"""Both storages against one contract, then what only one of them has: presigned URLs, signed paths."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from predictions.errors import ObjectNotFound, StorageError
from predictions.settings import Settings
from predictions.storage import local as local_module
from predictions.storage import open_storage
from predictions.storage.local import LocalStorage
from predictions.storage.protocol import AudioStorage
from predictions.storage.s3 import S3Storage
from tests.app.conftest import api_server
from tests.conftest import SECRET
from tests.s3_server import S3Server, s3_server

KEY = "predictions/abc123/1/output.wav"
CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """No skip where it cannot start: then these tests fail."""
    # Not below /tmp, which may be a file system without user xattrs.
    with tempfile.TemporaryDirectory(prefix="s3-", dir="/var/tmp") as folder, s3_server(Path(folder)) as server:
        yield server


def s3_settings(server: S3Server, **changes: object) -> Settings:
    fields = {
        "storage": "s3",
        "secret": SECRET,
        "s3_endpoint": server.endpoint,
        "s3_bucket": "music",
        "s3_access_key": server.access_key,
        "s3_secret_key": server.secret_key,
        "s3_create_bucket": True,
    }
    return Settings(**{**fields, **changes})


@pytest.fixture
def s3_storage(s3: S3Server) -> S3Storage:
    storage = S3Storage(s3_settings(s3))
    storage.delete_prefix("p")
    return storage


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "objects", SECRET, 3600)


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest) -> AudioStorage:
    return request.getfixturevalue("local" if request.param == "local" else "s3_storage")


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def test_objects_are_listed_with_the_time_at_which_they_were_stored(storage: AudioStorage) -> None:
    for key in ("predictions/p1/t/output.wav", "predictions/p1/t/live/0000.wav", "files/f/content"):
        storage.put(key, b"sound", "audio/wav")
    found = {item.key: item.stored_at for item in storage.objects("predictions/") if "/p1/" in item.key}
    assert sorted(found) == ["predictions/p1/t/live/0000.wav", "predictions/p1/t/output.wav"]
    assert all(abs(stored_at - time.time()) < 120 for stored_at in found.values())
    assert list(storage.objects("nothing/")) == []


def test_what_was_put_is_opened(storage: AudioStorage) -> None:
    storage.put(KEY, CONTENT, "audio/wav")
    assert storage.open(KEY) == CONTENT
    storage.put(KEY, b"", "audio/wav")
    assert storage.open(KEY) == b""


def test_a_file_is_put_and_saved(storage: AudioStorage, tmp_path: Path) -> None:
    with tempfile.SpooledTemporaryFile(10) as file:
        file.write(CONTENT)
        storage.put(KEY, file, "audio/wav")
        storage.put(KEY, file, "audio/wav")
    storage.save(KEY, tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == CONTENT


@pytest.mark.parametrize("key", [KEY, "predictions", "predictions/abc123", f"{KEY}/more", "other/key"])
def test_a_key_without_an_object_is_not_found(key: str, storage: AudioStorage, tmp_path: Path) -> None:
    storage.put("predictions/abc123/1/output.mp3", CONTENT, "audio/mpeg")
    storage.put("predictions/abc123/1/file", CONTENT, "audio/mpeg")
    with pytest.raises(ObjectNotFound):
        storage.open(key)
    with pytest.raises(ObjectNotFound):
        storage.save(key, tmp_path / "saved")


def test_delete_prefix_deletes_what_lies_below_and_nothing_else(storage: AudioStorage) -> None:
    below = [f"predictions/abc/{attempt}/output.wav" for attempt in (1, 2, 10)]
    beside = ["predictions/abcd/1/output.wav", "predictions/ab/1/output.wav", "p/abc"]
    for key in below + beside:
        storage.put(key, CONTENT, "audio/wav")
    storage.delete_prefix("predictions/abc/")
    storage.delete_prefix("predictions/abc/")
    for key in below:
        with pytest.raises(ObjectNotFound):
            storage.open(key)
    assert all(storage.open(key) == CONTENT for key in beside)


def test_delete_prefix_with_a_whole_key_deletes_that_object(storage: AudioStorage) -> None:
    storage.put("p/a/output.wav", CONTENT, "audio/wav")
    storage.put("p/b/output.wav", CONTENT, "audio/wav")
    storage.delete_prefix("p/a/output.wav")
    storage.delete_prefix("p/a/never")
    with pytest.raises(ObjectNotFound):
        storage.open("p/a/output.wav")
    assert storage.open("p/b/output.wav") == CONTENT


def test_an_empty_prefix_deletes_nothing(storage: AudioStorage) -> None:
    storage.put("p/a", CONTENT, "audio/wav")
    with pytest.raises(ObjectNotFound):
        storage.delete_prefix("")
    assert storage.open("p/a") == CONTENT


def test_many_threads_share_a_storage(storage: AudioStorage) -> None:
    def round_trip(number: int) -> bytes:
        storage.put(f"p/{number}/output.wav", bytes([number]) * 1000, "audio/wav")
        return storage.open(f"p/{number}/output.wav")

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(round_trip, range(24))) == [bytes([number]) * 1000 for number in range(24)]


def test_many_can_delete_the_same(storage: AudioStorage) -> None:
    for number in range(12):
        storage.put(f"p/same/{number}/output.wav", CONTENT, "audio/wav")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(storage.delete_prefix, ["p/same/"] * 4))
    with pytest.raises(ObjectNotFound):
        storage.open("p/same/7/output.wav")


def test_the_settings_choose_the_storage(s3: S3Server, tmp_path: Path) -> None:
    assert isinstance(open_storage(s3_settings(s3)), S3Storage)
    local = open_storage(Settings(data_dir=tmp_path, secret=SECRET))
    assert isinstance(local, LocalStorage)
    local.put(KEY, CONTENT, "audio/wav")
    assert (tmp_path / "objects" / KEY).read_bytes() == CONTENT


def test_a_presigned_url_reads_the_object(s3_storage: S3Storage, client: httpx.Client) -> None:
    s3_storage.put(KEY, CONTENT, "audio/wav")
    answer = client.get(s3_storage.url(KEY))
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "audio/wav", CONTENT)


def test_a_presigned_url_reads_a_range(s3_storage: S3Storage, client: httpx.Client) -> None:
    s3_storage.put(KEY, CONTENT, "audio/wav")
    answer = client.get(s3_storage.url(KEY), headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.content) == (206, CONTENT[10:20])
    assert answer.headers["content-range"] == f"bytes 10-19/{len(CONTENT)}"


def test_a_presigned_url_is_good_for_nothing_else(s3_storage: S3Storage, client: httpx.Client) -> None:
    s3_storage.put(KEY, CONTENT, "audio/wav")
    s3_storage.put("predictions/other/1/output.wav", CONTENT, "audio/wav")
    url = s3_storage.url(KEY)
    signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    forged = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    assert client.get(url.replace(signature, forged)).status_code == 403
    assert client.get(url.replace("abc123", "other")).status_code == 403
    assert client.get(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200")).status_code == 403
    assert client.put(url, content=b"x").status_code == 403
    assert client.delete(url).status_code == 403
    assert client.get(url.partition("?")[0]).status_code in (400, 401, 403)
    assert client.get(url).status_code == 200


def test_a_url_signed_with_another_secret_is_refused(s3: S3Server, s3_storage: S3Storage, client: httpx.Client) -> None:
    s3_storage.put(KEY, CONTENT, "audio/wav")
    stranger = S3Storage(s3_settings(s3, s3_secret_key="another secret", s3_create_bucket=False))
    assert client.get(stranger.url(KEY)).status_code == 403


def test_a_presigned_url_expires(s3: S3Server, client: httpx.Client) -> None:
    storage = S3Storage(s3_settings(s3, url_expiry_seconds=1))
    storage.put(KEY, CONTENT, "audio/wav")
    url = storage.url(KEY)
    time.sleep(2.1)
    assert client.get(url).status_code == 403


def test_urls_name_the_public_endpoint_and_are_signed_for_it(s3: S3Server, client: httpx.Client) -> None:
    """The same server under another name; a URL signed for the inner name would be refused there."""
    public = s3.endpoint.replace("127.0.0.1", "localhost")
    storage = S3Storage(s3_settings(s3, s3_public_endpoint=public))
    storage.put(KEY, CONTENT, "audio/wav")
    assert storage.url(KEY).startswith(f"{public}/music/{KEY}?")
    assert client.get(storage.url(KEY)).content == CONTENT
    inner = S3Storage(s3_settings(s3)).url(KEY)
    assert client.get(inner.replace(s3.endpoint, public)).status_code == 403


def test_a_bucket_is_made_only_when_asked_for(s3: S3Server) -> None:
    settings = s3_settings(s3, s3_bucket="another", s3_create_bucket=False)
    with pytest.raises(StorageError):
        S3Storage(settings).put(KEY, CONTENT, "audio/wav")
    storage = S3Storage(settings)
    storage.ensure_bucket()
    storage.ensure_bucket()
    storage.put(KEY, CONTENT, "audio/wav")
    assert storage.open(KEY) == CONTENT


def refused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("change", [{"s3_secret_key": "wrong"}, {"s3_endpoint": "http://127.0.0.1:{port}"}])
def test_a_storage_that_refuses_or_is_away_is_a_storage_error(change: dict[str, str], s3: S3Server) -> None:
    changes = {name: value.format(port=refused_port()) for name, value in change.items()}
    storage = S3Storage(s3_settings(s3, s3_create_bucket=False, **changes))
    actions: list[Callable[[], object]] = [
        lambda: storage.put(KEY, CONTENT, "audio/wav"),
        lambda: storage.open(KEY),
        lambda: storage.delete_prefix("p/"),
        storage.ensure_bucket,
    ]
    for action in actions:
        with pytest.raises(StorageError) as raised:
            action()
        assert not isinstance(raised.value, ObjectNotFound)


def signature_of(key: str, expires: str) -> str:
    """The signature of any key, as LocalStorage makes it for those that it accepts."""
    return hmac.new(SECRET.encode(), f"object\n{key}\n{expires}".encode(), hashlib.sha256).hexdigest()


def signed(storage: LocalStorage, key: str = KEY) -> tuple[str, str, str]:
    parts = urlsplit(storage.url(key))
    query = parse_qs(parts.query, strict_parsing=True)
    assert parts.path == f"/objects/{quote(key)}"
    return key, query["expires"][0], query["signature"][0]


def test_a_signed_path_leads_to_the_file(local: LocalStorage) -> None:
    local.put(KEY, CONTENT, "audio/wav")
    path, content_type = local.verify(*signed(local))
    assert path.read_bytes() == CONTENT
    assert content_type in ("audio/wav", "audio/x-wav")


def test_a_signed_path_is_good_for_nothing_else(local: LocalStorage, tmp_path: Path) -> None:
    local.put(KEY, CONTENT, "audio/wav")
    local.put("p/other", CONTENT, "audio/wav")
    key, expires, signature = signed(local)
    forged = [
        ("p/other", expires, signature),
        (key, str(int(expires) + 1), signature),
        (key, "²", signature),
        (key, "", signature),
        (key, expires, signature[:-1]),
        (key, expires, ""),
        (key, expires, "é"),
        ("é", expires, signature),
        signed(LocalStorage(tmp_path / "objects", "another secret altogether", 3600)),
    ]
    for values in forged:
        with pytest.raises(ObjectNotFound):
            local.verify(*values)


def test_a_signed_path_expires(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    local.put(KEY, CONTENT, "audio/wav")
    values, then = signed(local), time.time()
    monkeypatch.setattr(local_module.time, "time", lambda: then + 3599)
    local.verify(*values)
    monkeypatch.setattr(local_module.time, "time", lambda: then + 3600 + 61)
    with pytest.raises(ObjectNotFound):
        local.verify(*values)


def test_a_signed_path_to_what_is_gone_is_not_found(local: LocalStorage) -> None:
    local.put(KEY, CONTENT, "audio/wav")
    values = signed(local)
    local.delete_prefix("predictions/abc123/")
    with pytest.raises(ObjectNotFound):
        local.verify(*values)


BAD_KEYS = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "a//b",
    "a/./b",
    "..",
    ".",
    "a\\b",
    "a\0b",
    "a b",
    "~",
    "",
    "a/.b",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_no_key_leaves_the_folder(key: str, local: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    actions: list[Callable[[], object]] = [
        lambda: local.put(key, b"x", "audio/wav"),
        lambda: local.open(key),
        lambda: local.url(key),
        lambda: local.delete_prefix(key),
    ]
    for action in actions:
        with pytest.raises(ObjectNotFound):
            action()
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "objects").exists()


def test_a_write_that_fails_leaves_the_old_object_and_nothing_else(
    local: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    local.put(KEY, CONTENT, "audio/wav")
    with monkeypatch.context() as patch:
        patch.setattr(local_module.os, "fsync", fail)
        with pytest.raises(StorageError, match="No space left"):
            local.put(KEY, b"new", "audio/wav")
    assert local.open(KEY) == CONTENT
    assert [path.name for path in (tmp_path / "objects" / KEY).parent.iterdir()] == ["output.wav"]
    local.put(KEY, b"new", "audio/wav")
    assert local.open(KEY) == b"new"


@pytest.fixture
def served(settings: Settings) -> Iterator[tuple[LocalStorage, httpx.Client]]:
    """The local storage of a real API, and a client of it that has no token."""
    storage = open_storage(settings)
    assert isinstance(storage, LocalStorage)
    storage.put(KEY, CONTENT, "audio/wav")
    with api_server(settings) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield storage, client


def test_the_api_serves_the_whole_object(served: tuple[LocalStorage, httpx.Client]) -> None:
    storage, client = served
    answer, head = client.get(storage.url(KEY)), client.head(storage.url(KEY))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert (head.status_code, head.content) == (200, b"")
    for headers in (answer.headers, head.headers):
        assert (headers["content-length"], headers["content-type"]) == (str(len(CONTENT)), "audio/wav")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("10-19", 10, 20), ("-5", len(CONTENT) - 5, len(CONTENT)), ("10000-", 10_000, len(CONTENT)), ("0-0", 0, 1)],
)
def test_the_api_serves_ranges(asked: str, start: int, end: int, served: tuple[LocalStorage, httpx.Client]) -> None:
    storage, client = served
    answer = client.get(storage.url(KEY), headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(end - start)


def test_a_range_past_the_end_cannot_be_served(served: tuple[LocalStorage, httpx.Client]) -> None:
    storage, client = served
    answer = client.get(storage.url(KEY), headers={"Range": f"bytes={len(CONTENT)}-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")


def test_the_api_serves_nothing_else(served: tuple[LocalStorage, httpx.Client], settings: Settings) -> None:
    storage, client = served
    storage.put("predictions/other/1/output.wav", CONTENT, "audio/wav")
    root, url = settings.data_dir / "objects", storage.url(KEY)
    refused = [
        LocalStorage(root, SECRET, -3600).url(KEY),
        LocalStorage(root, "another secret altogether", 3600).url(KEY),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.replace("abc123", "other"),
        url.replace("expires=", "expires=9"),
        storage.url("predictions/abc123/1/never.wav"),
        storage.url("predictions/abc123"),
    ]
    for wrong in refused:
        answer = client.get(wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), wrong
    assert client.get(url.partition("?")[0]).status_code == 422
    assert client.put(url, content=b"x").status_code == 405
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("path", ["/objects/../secret.wav", "/objects/..%2Fsecret.wav", "/objects/%2e%2e/secret.wav"])
def test_no_path_leaves_the_folder_even_where_its_signature_is_right(
    path: str, served: tuple[LocalStorage, httpx.Client], settings: Settings
) -> None:
    storage, client = served
    (settings.data_dir / "secret.wav").write_bytes(b"what nobody may read")
    _, expires, signature = signed(storage)
    assert signature_of(KEY, expires) == signature
    query = f"expires={expires}&signature={signature_of('../secret.wav', expires)}"
    # Sent as it stands: other clients resolve the dots by themselves.
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 80)
    connection.request("GET", f"{path}?{query}")
    answer = connection.getresponse()
    assert answer.status == 404
    assert b"what nobody may read" not in answer.read()
    connection.close()
