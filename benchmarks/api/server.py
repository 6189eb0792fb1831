"""Server processes for as long as a benchmark needs them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import wait_until


@contextmanager
def server(command: list[str], environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server within the block, which begins when it listens on the port."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, process=process)
        yield process
    finally:
        process.terminate()
        process.wait(20)
