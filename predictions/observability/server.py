"""The port of metrics and health: every process has one of its own where the settings say so.

It is a thread beside all others, so that it answers while the process works, and says so where that has come to a halt.
Nobody needs a token here: the port is for the operator's machines, and is bound to the loopback address by default.
"""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from predictions.errors import WrongSetting
from predictions.observability.metrics import Exposition
from predictions.settings import Settings

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
"""How long a client may take to send its request."""

Check = Callable[[], Mapping[str, str]]
"""Says what is wrong, by part; nothing where all is well."""


def _nothing_wrong() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Checks:
    """What the paths below /health answer."""

    live: Check = _nothing_wrong
    """Wrong where the process has to be started again."""
    ready: Check = _nothing_wrong
    """Wrong where it does not do its work at present."""
    startup: Check = _nothing_wrong
    """Wrong until it has been ready once."""


class MetricsServer:
    """Serves /metrics, /health/live, /health/ready and /health/startup. Start it, and close it at the end."""

    def __init__(self, settings: Settings, exposition: Exposition, checks: Checks) -> None:
        """Listen where the settings say. Raises WrongSetting where that is not possible."""
        handler = _handler(exposition, checks)
        self._server: socketserver.BaseServer | None = None
        try:
            if settings.metrics_socket is not None:
                settings.metrics_socket.unlink(missing_ok=True)
                self._server = _UnixServer(str(settings.metrics_socket), handler)
            elif settings.metrics_port:
                self._server = _TCPServer((settings.metrics_host, settings.metrics_port), handler)
        except OSError as error:
            where = settings.metrics_socket or f"{settings.metrics_host}:{settings.metrics_port}"
            raise WrongSetting(
                f"MUSICGEN_METRICS_PORT: nothing can listen on {where} ({error.strerror or error}). Choose another "
                "port, one for each process of a machine, or 0 for none."
            ) from error
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to answer."""
        if self._server is not None:
            self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()


class _TCPServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _handler(exposition: Exposition, checks: Checks) -> type[BaseHTTPRequestHandler]:
    health: Mapping[str, Check] = {
        "/health/live": checks.live,
        "/health/ready": checks.ready,
        "/health/startup": checks.startup,
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                body, media_type = exposition.render(self.headers.get("Accept", ""))
                self._answer(200, body, media_type)
            elif path in health:
                wrong = dict(health[path]())
                body = json.dumps({"status": "failing" if wrong else "ok", "wrong": wrong}).encode()
                self._answer(503 if wrong else 200, body, "application/json")
            else:
                self._answer(404, b"Here are /metrics and /health/live, ready and startup.\n", "text/plain")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes, media_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def version_string(self) -> str:
            """Say nothing of Python's version."""
            return "musicgen"

        def log_message(self, format: str, *arguments: object) -> None:
            """Write no line for each time that somebody looks."""

    return Handler
