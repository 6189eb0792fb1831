"""The API as a process, which measures how long its event loop was held up, in seconds of the loop's own CPU time.

`GET /watched` tells the longest turn of the loop and the most memory since the last such request. CPU time, because
other processes on a busy machine make wall time long, and no request can help that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.guard.connections import connections_for
from app.guard.protocol import protocol_factory
from app.main import calm_garbage_collector, create_app
from predictions.settings import load_settings

TICK_SECONDS = 0.001


class Watched:
    """The application beside what watches its loop."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.longest = 0.0
        self._last = 0.0
        self._idle_kb = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/watched":
            await self._tell(send)
        else:
            if not self._last:
                self._last = time.thread_time()
                self._tick()
            await self.app(scope, receive, send)

    def _tick(self) -> None:
        now = time.thread_time()
        # Between two ticks lies at least one whole turn of the loop.
        self.longest = max(self.longest, now - self._last)
        self._last = now
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    async def _tell(self, send: Send) -> None:
        found = {"longest": self.longest, "added_mb": (memory_kb("VmHWM") - self._idle_kb) / 1024}
        self.longest = 0.0
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._idle_kb = memory_kb("VmRSS")
        body = json.dumps(found).encode()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
        )
        await send({"type": "http.response.body", "body": body})


def memory_kb(name: str) -> int:
    """A figure of this process: VmRSS, what it has in memory; VmHWM, the most since that was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main(port: int) -> None:
    """Serve."""
    settings = load_settings()
    app = Watched(create_app(settings))
    calm_garbage_collector()
    uvicorn.run(
        app,
        port=port,
        http=protocol_factory(connections_for(settings)),
        ws="none",
        log_level="warning",
        log_config=None,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
