"""Start the real parts that tests need: a Redis-protocol server here, the S3 server in `tests.s3_server`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from cli.serve import redis_command


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The same private server that `musicgen serve` starts; yields its URL."""
    socket = folder / "redis.sock"
    process = subprocess.Popen(redis_command(folder, socket))
    url = f"unix://{socket}"
    try:
        with redis.Redis.from_url(url) as client:
            wait_until(lambda: socket.exists() and bool(client.ping()), process=process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def wait_until(condition, *, seconds: float = 30.0, process: subprocess.Popen[bytes] | None = None) -> None:
    """Poll until the condition holds; fails when it does not in time, or when the process has died."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"the process ended with {process.returncode}"
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)
