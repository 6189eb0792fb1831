"""A small HTTP load generator: each connection sends the same request again as soon as it has the response.

    python -m benchmarks.api.load_generator HOST PORT CONNECTIONS SECONDS < request.bin

Prints JSON: requests a second, the 50th and 99th percentile in milliseconds, and how many responses were not 202. It
shares the cores with what it measures, so it does as little as possible: of a response, it reads the length alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, request: bytes, until: float, latencies: list[float], done: asyncio.Future[int]) -> None:
        self._request, self._until, self._latencies, self._done = request, until, latencies, done
        self._buffer, self._refused, self._sent_at = b"", 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = self._buffer[:head].lower()
        start = headers.index(b"content-length:") + len(b"content-length:")
        length = int(headers[start : (headers + b"\r\n").index(b"\r\n", start)])
        if len(self._buffer) < head + 4 + length:
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        self._refused += b" 202 " not in self._buffer[:16]
        self._buffer = b""
        if time.perf_counter() < self._until:
            self._send()
        else:
            self._transport.close()
            self._done.set_result(self._refused)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))


async def generate_load(host: str, port: int, connections: int, seconds: float, request: bytes) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    began = time.perf_counter()
    ends = [loop.create_future() for _ in range(connections)]
    for done in ends:
        await loop.create_connection(
            lambda done=done: Connection(request, began + seconds, latencies, done), host, port
        )
    refused = sum(await asyncio.gather(*ends))
    elapsed = time.perf_counter() - began
    latencies.sort()
    return {
        "per_second": len(latencies) / elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "refused": refused,
    }


if __name__ == "__main__":
    host, port, connections, seconds = sys.argv[1:]
    result = uvloop.run(generate_load(host, int(port), int(connections), float(seconds), sys.stdin.buffer.read()))
    print(json.dumps(result))
