"""A server that speaks as much of the hub's protocol as its client needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

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


@contextmanager
def serve_hub() -> Iterator[str]:
    """The address of a running server that has served nothing yet."""
    Hub.fetched.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
