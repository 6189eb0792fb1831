"""A file server that sends some files whole and others a byte at a time."""

from __future__ import annotations

import io
import struct
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRIP_SECONDS = 0.05


def tone(seconds: float) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(16_000)
        samples = [8000 if number // 20 % 2 else -8000 for number in range(int(16_000 * seconds))]
        target.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return file.getvalue()


@dataclass
class DrippingServer:
    """The server's URL, and the paths below `/drip/` that are being read or whose reader has hung up."""

    url: str = ""
    read: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)


@contextmanager
def dripping_server() -> Iterator[DrippingServer]:
    """`/drip/...` never ends by itself; every other path is a second of sound."""
    state, content = DrippingServer(), tone(1.0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not self.path.startswith("/drip/"):
                self.wfile.write(content)
                return
            state.read.add(self.path)
            try:
                for number in range(len(content) - 1):
                    self.wfile.write(content[number : number + 1])
                    if state.closed.wait(DRIP_SECONDS):
                        break
            except ConnectionError:
                state.left.add(self.path)
            state.read.discard(self.path)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.closed.set()
            server.shutdown()
            thread.join()
