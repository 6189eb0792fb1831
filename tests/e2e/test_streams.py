"""Listening to music while a real worker generates it, and after that worker is killed."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from musicgen_core import GenerationInput, MusicGen, SamplingParams
from tests.e2e.conftest import Service, serve
from tests.server_sent_events import Message, read_events

RATE = 32_000
HEADER_BYTES = 58


def post(service: Service, **value: object) -> dict[str, object]:
    answer = service.client.post("/predictions", json={"input": value, "stream": True})
    assert answer.status_code == 202, answer.text
    body: dict[str, object] = answer.json()
    return body


def events(service: Service, path: str) -> Iterator[Message]:
    with service.client.stream("GET", path) as answer:
        yield from read_events(answer)


def samples(content: bytes) -> np.ndarray:
    return np.frombuffer(content[HEADER_BYTES:], "<f4")


def test_chunks_make_the_music(service: Service, model_folder: Path) -> None:
    body = post(service, prompt="piano", duration=3, seed=5)
    told = list(events(service, f"/predictions/{body['id']}/stream"))
    chunks = [json.loads(message.data) for message in told if message.event == "audio"]
    # The first within the first second of music.
    assert chunks[0]["start"] == 0
    assert chunks[0]["duration"] <= 1
    assert [chunk["index"] for chunk in chunks] == list(range(len(chunks)))
    together = np.concatenate([samples(service.client.get(chunk["url"]).content) for chunk in chunks])
    assert [message.event for message in told][-3:] == ["status", "output", "done"]
    with MusicGen.load(model_folder, device="cpu", max_requests=1) as model:
        whole = model.submit(GenerationInput("piano", 3.0, 5, SamplingParams())).audio()
    np.testing.assert_allclose(together, whole.samples[0], atol=1e-4)
    heard = service.client.get(f"/predictions/{body['id']}/audio").content
    np.testing.assert_allclose(np.frombuffer(heard[44:], "<i2") / 32767, np.clip(whole.samples[0], -1, 1), atol=1e-4)


def test_replicates_stream_and_the_sound_need_no_token(service: Service) -> None:
    body = post(service, prompt="drums", duration=2)
    urls = body["urls"]
    assert isinstance(urls, dict)
    told = list(events(service, urls["stream"]))
    assert {message.event for message in told} == {"logs", "output", "done"}
    logs = "".join(message.data for message in told if message.event == "logs")
    assert logs == service.get(str(body["id"]))["logs"]
    assert service.client.get(urls["audio"]).content[:4] == b"RIFF"


def test_a_canceled_predictions_streams_end(service: Service) -> None:
    body = post(service, prompt="x", duration=30)
    with service.client.stream("GET", f"/predictions/{body['id']}/audio") as answer:
        pieces = answer.iter_raw()
        assert struct.unpack_from("<4s", next(pieces)) == (b"RIFF",)
        service.client.post(f"/predictions/{body['id']}/cancel")
        for _ in pieces:
            pass
    told = list(events(service, f"/predictions/{body['id']}/stream"))
    assert json.loads(told[-2].data) == {"status": "canceled"}
    assert told[-1].event == "done"


def test_the_music_begins_anew_when_its_worker_dies(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as service:
        body = post(service, prompt="x", duration=20, seed=1)
        told: list[Message] = []
        for message in events(service, f"/predictions/{body['id']}/stream"):
            told.append(message)
            if message.event == "audio" and sum(item.event == "audio" for item in told) == 1:
                os.kill(service.pid("worker"), signal.SIGKILL)
    assert told[-1].event == "done"
    names = [message.event if message.event != "status" else message.data for message in told]
    again = [place for place, name in enumerate(names) if name == '{"status": "starting"}'][1]
    chunks = [(place, json.loads(message.data)) for place, message in enumerate(told) if message.event == "audio"]
    assert {chunk["attempt"] for place, chunk in chunks if place < again} == {1}
    second = [chunk for place, chunk in chunks if place > again]
    assert {chunk["attempt"] for chunk in second} == {2}
    assert sum(chunk["duration"] for chunk in second) == pytest.approx(20, abs=1e-3)
