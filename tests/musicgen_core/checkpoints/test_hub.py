"""Finding models, against a server that speaks as much of the hub's protocol as the client needs."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from musicgen_core.checkpoints import hub
from musicgen_core.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "config.json": b"{}",
    "generation_config.json": b'{"max_length": 9}',
    "spiece.model": b"pieces",
    "README.md": b"read me",
}
SAFETENSORS = {"model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two"}
PICKLED = {"pytorch_model.bin": b"pickle", "state_dict.bin": b"audiocraft's", "flax_model.msgpack": b"flax"}


class Hub(BaseHTTPRequestHandler):
    """Serves the repositories some/both (safetensors and pickles) and some/old (pickles only)."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {
        "some/both": CONFIG | SAFETENSORS | PICKLED,
        "some/old": CONFIG | PICKLED,
        "some/audiocraft": {"README.md": b"read me", "state_dict.bin": b"audiocraft's"},
        "some/empty": {"README.md": b"nothing here"},
    }
    fetched: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.split("?")[0].lstrip("/")
        if path.startswith("api/models/"):
            repository = "/".join(path.split("/")[2:4])
            files = self.repositories.get(repository)
            if files is None:
                self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif "/tree/" in path:
                self.send(200, json.dumps([entry(name, body) for name, body in files.items()]).encode())
            else:
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
                self.send(200, json.dumps(info).encode())
            return
        repository, _, name = path.partition("/resolve/")
        name = name.partition("/")[2]
        body = self.repositories[repository][name]
        if self.command == "GET":
            self.fetched.append(name)
        self.send(200, body, {"ETag": f'"{etag(body)}"', "X-Repo-Commit": COMMIT})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def etag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


def entry(name: str, body: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(body), "oid": etag(body)}


@pytest.fixture
def endpoint() -> Iterator[str]:
    Hub.fetched.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_fetches_safetensors_and_no_duplicates(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve("some/both", endpoint=endpoint, cache_folder=tmp_path)
    expected = {"config.json", "generation_config.json", "spiece.model", *SAFETENSORS}
    assert {path.name for path in folder.iterdir()} == expected
    assert sorted(Hub.fetched) == sorted(expected)
    assert [path.read_bytes() for path in hub.weight_files(folder)] == [b"one", b"two"]


def test_fetches_pickles_where_there_is_nothing_else(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve("some/old", endpoint=endpoint, cache_folder=tmp_path)
    assert [path.name for path in hub.weight_files(folder)] == ["pytorch_model.bin"]
    assert "state_dict.bin" not in Hub.fetched


def test_a_second_time_nothing_is_fetched_not_even_without_a_network(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve("some/both", endpoint=endpoint, cache_folder=tmp_path)
    Hub.fetched.clear()
    assert hub.resolve("some/both@main", endpoint=endpoint, cache_folder=tmp_path) == folder
    assert hub.resolve("some/both", endpoint="http://127.0.0.1:9", cache_folder=tmp_path) == folder
    assert not Hub.fetched


@pytest.mark.parametrize("repository", ["some/unknown", "some/empty"])
def test_what_is_not_there_is_named(endpoint: str, tmp_path: Path, repository: str) -> None:
    with pytest.raises(CheckpointError, match=repository.replace("/", ".*")):
        hub.resolve(repository, endpoint=endpoint, cache_folder=tmp_path)


def test_what_audiocraft_alone_wrote_is_to_be_converted(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="musicgen convert some/audiocraft --base"):
        hub.resolve("some/audiocraft", endpoint=endpoint, cache_folder=tmp_path)
    assert not Hub.fetched
    hub.resolve_audiocraft("some/audiocraft", endpoint=endpoint, cache_folder=tmp_path)
    with pytest.raises(CheckpointError, match="musicgen convert some/audiocraft --base"):
        hub.resolve("some/audiocraft", endpoint="http://127.0.0.1:9", cache_folder=tmp_path)


@pytest.mark.parametrize("resolve", [hub.resolve, hub.resolve_audiocraft])
@pytest.mark.parametrize("source", ["facebook/musicgen-style", "facebook/musicgen-style@main"])
def test_the_style_model_is_refused_before_it_is_fetched(
    source: str, resolve: Callable[..., Path], endpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"facebook/musicgen-style is refused: .*style.*MERT.*melody model"):
        resolve(source, endpoint=endpoint, cache_folder=tmp_path)


def test_without_network_and_cache_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"some/both can be neither fetched.*path of a model folder"):
        hub.resolve("some/both", endpoint="http://127.0.0.1:9", cache_folder=tmp_path)


@pytest.mark.parametrize("source", ["nonsense", "/no/such/folder", "a/b/c", "../x/y"])
def test_what_is_neither_folder_nor_id_is_refused(source: str) -> None:
    with pytest.raises(CheckpointError, match="not a hub id"):
        hub.resolve(source)


def test_audiocraft_s_files_are_fetched_alone(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve_audiocraft("some/both", endpoint=endpoint, cache_folder=tmp_path)
    assert {path.name for path in folder.iterdir()} == {"state_dict.bin"} == set(Hub.fetched)
    assert hub.resolve_audiocraft("some/both", endpoint="http://127.0.0.1:9", cache_folder=tmp_path) == folder


def test_audiocraft_s_checkpoint_may_be_a_file_or_a_folder(tmp_path: Path) -> None:
    weights = tmp_path / "state_dict.bin"
    with pytest.raises(CheckpointError, match=r"holds no state_dict\.bin.*give the file"):
        hub.resolve_audiocraft(tmp_path)
    weights.touch()
    assert hub.resolve_audiocraft(str(tmp_path)) == tmp_path
    assert hub.resolve_audiocraft(weights) == weights
    with pytest.raises(CheckpointError, match="musicgen convert"):
        hub.resolve(tmp_path)


@pytest.mark.parametrize("source", ["nonsense", "/no/such/file.th", "a/b/c"])
def test_a_checkpoint_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(CheckpointError, match=f"No checkpoint at {source}"):
        hub.resolve_audiocraft(source)


def test_a_repository_without_audiocraft_s_files_is_named(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="some/empty"):
        hub.resolve_audiocraft("some/empty", endpoint=endpoint, cache_folder=tmp_path)


def test_a_folder_is_taken_as_it_is(text_model: Path) -> None:
    assert hub.resolve(text_model) == text_model
    assert hub.resolve(str(text_model)) == text_model


def test_the_checksum_follows_config_and_weights_alone(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(name)
    before = hub.checksum(tmp_path)
    assert len(before) == 64
    assert set(before) <= set("0123456789abcdef")
    (tmp_path / "README.md").write_text("changed")
    assert hub.checksum(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("changed")
    changed = hub.checksum(tmp_path)
    assert changed != before
    (tmp_path / "config.json").write_text("changed")
    assert hub.checksum(tmp_path) not in (before, changed)
