"""Reads a text/event-stream as a client does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx


@dataclass
class Message:
    """A server-sent event."""

    event: str = ""
    data: str = ""
    id: str = ""


def read_events(answer: httpx.Response) -> Iterator[Message]:
    """The events of a text/event-stream, as the specification says to read them."""
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    message, data = Message(), list[str]()
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if not line:
            if data:
                message.data = "\n".join(data)
                yield message
            message, data = Message(id=message.id), []
        elif name == "data" or line == "data:":
            data.append(value)
        elif name in ("event", "id"):
            setattr(message, name, value)


def listen(client: httpx.Client, path: str, **headers: str) -> list[Message]:
    with client.stream("GET", path, headers=headers) as answer:
        return list(read_events(answer))
