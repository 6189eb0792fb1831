"""A webhook receiver: an HTTP server that gives the configured responses and keeps the requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG = 0
"""A response that does not come while the test runs."""


@dataclass
class Receiver:
    """The receiver's URL, its requests (headers in lower case, body), and its next responses; 200 after these."""

    url: str = ""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int | tuple[int, Mapping[str, str]]] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.received]


@contextmanager
def receiver(*answers: int | tuple[int, Mapping[str, str]]) -> Iterator[Receiver]:
    """Run a receiver that gives these responses in turn: a status, or a status with headers."""
    state = Receiver(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = state.answers.pop(0) if state.answers else 200
            state.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status, headers = (answer, {}) if isinstance(answer, int) else answer
            if status == HANG:
                state.closed.wait()
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/hook"
        try:
            yield state
        finally:
            state.closed.set()
            server.shutdown()
            thread.join()
