"""A Redis-protocol server for tests, free ports, and waiting; the S3 server is in `tests.s3_server`."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from cli.redis_server import redis_command


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The same private server that `musicgen serve` starts; yields its URL."""
    path = folder / "redis.sock"
    process = subprocess.Popen(redis_command(folder, path))
    url = f"unix://{path}"
    try:
        with redis.Redis.from_url(url) as client:
            wait_until(lambda: path.exists() and bool(client.ping()), process=process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """A port on which nothing listens at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], object],
    *,
    seconds: float = 120.0,
    every: float = 0.02,
    process: subprocess.Popen[bytes] | None = None,
) -> None:
    """Poll until the condition holds; fails when it does not in time, or when the process has died."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"the process ended with {process.returncode}"
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds} s"
        time.sleep(every)
