"""Following a prediction: events and growing sound; a worker's part is played by its commands on the real store."""

from __future__ import annotations

import io
import json
import struct
import threading
import wave
from dataclasses import dataclass

import httpx
import pytest

from app.live.followers import READERS
from predictions.live_wav import UNKNOWN_SIZE, float_wav
from predictions.record import commands
from predictions.record.events import Chunk
from predictions.record.prediction import Progress, output_key
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from tests.app.conftest import api_server
from tests.records import take
from tests.server_sent_events import Message, listen, read_events
from tests.servers import wait_until

RATE = 32_000


def create(client: httpx.Client, *, stream: bool = True) -> dict[str, object]:
    body: dict[str, object] = client.post(
        "/predictions", json={"input": {"prompt": "x"}, "stream": stream}, timeout=30
    ).json()
    return body


@dataclass
class Worker:
    """Does what a worker does to the store."""

    store: PredictionStore
    settings: Settings
    prediction_id: str
    attempt: int = 0
    token: str = ""

    def claim(self) -> None:
        taken = take(self.store, self.prediction_id, 30)
        assert taken is not None
        self.attempt, self.token = taken.attempt, taken.lease_token

    def reach(self, steps: int, logs: str) -> None:
        self.store.run(commands.renew(self.prediction_id, self.token, 30, progress=Progress(steps, 100), logs=logs))

    def chunk(self, index: int, samples: list[float]) -> None:
        chunk = Chunk(self.attempt, self.token, index, index * 0.5, 0.5)
        content = float_wav(struct.pack(f"<{len(samples)}f", *samples), sample_rate=RATE, channels=1)
        open_storage(self.settings).put(chunk.key(self.prediction_id), content, "audio/wav")
        assert self.store.run(commands.announce_chunk(self.prediction_id, chunk))

    def die(self) -> None:
        self.store.redis.zadd("musicgen:leases", {self.prediction_id: 1.0})
        self.store.run(commands.reap(3))

    def succeed(self) -> None:
        key = output_key(self.prediction_id, self.token, "wav")
        self.store.run(
            commands.succeed(
                self.prediction_id,
                self.token,
                output_key=key,
                metrics={},
                logs="seed\nhalf\n",
                progress=Progress(100, 100),
            )
        )


@pytest.fixture
def worker(client: httpx.Client, store: PredictionStore, settings: Settings) -> Worker:
    """A prediction to be followed, and its worker."""
    return Worker(store, settings, str(create(client)["id"]))


def test_a_whole_life_is_told(client: httpx.Client, worker: Worker) -> None:
    told: list[Message] = []
    path = f"/predictions/{worker.prediction_id}/stream"
    listener = threading.Thread(target=lambda: told.extend(listen(client, path)))
    listener.start()
    worker.claim()
    worker.reach(50, "seed\n")
    worker.chunk(0, [0.5])
    worker.succeed()
    listener.join(20)
    assert [message.event for message in told] == [
        *("status", "status", "progress", "logs", "audio", "logs", "progress", "status", "output", "done")
    ]
    statuses = [json.loads(message.data)["status"] for message in told if message.event == "status"]
    assert statuses == ["starting", "processing", "succeeded"]
    assert [message.data for message in told if message.event == "logs"] == ["seed\n", "half\n"]
    assert json.loads(told[2].data) == {"completed_steps": 50, "total_steps": 100, "fraction": 0.5}
    chunk = json.loads(told[4].data)
    assert (chunk["attempt"], chunk["index"], chunk["start"], chunk["duration"]) == (1, 0, 0.0, 0.5)
    assert client.get(chunk["url"]).content[:4] == b"RIFF"
    assert told[-2].data.startswith("http")
    assert told[-1].data == "{}"
    assert all(message.id for message in told)


def test_a_listener_goes_on_where_it_stopped(client: httpx.Client, worker: Worker) -> None:
    worker.claim()
    worker.reach(10, "a\n")
    worker.succeed()
    path = f"/predictions/{worker.prediction_id}/stream"
    told = listen(client, path)
    for place in range(len(told)):
        # What follows, and at most the closing events of one moment over again.
        rest = listen(client, path, **{"Last-Event-ID": told[place].id})
        wanted = [message for message in told if message.id == told[-1].id or told.index(message) > place]
        assert rest[-1].event == "done"
        assert [message.event for message in told[place + 1 :]] == [message.event for message in rest][
            -len(told[place + 1 :]) or len(rest) :
        ]
        assert len(rest) <= len(wanted) + 2
    assert [message.event for message in listen(client, path, **{"Last-Event-ID": told[-1].id})] == ["done"]
    assert client.get(path, headers={"Last-Event-ID": "yesterday"}).status_code == 422


def test_replicates_form_is_narrower_and_needs_no_token(settings: Settings, store: PredictionStore, announce) -> None:
    from tests.app.conftest import CARD

    announce(CARD)
    closed = settings.model_copy(update={"api_tokens": Settings(api_tokens="a-token-of-ann").api_tokens})
    bearer = {"Authorization": "Bearer a-token-of-ann"}
    with api_server(closed) as address, httpx.Client(base_url=address, trust_env=False) as client:
        request = {"input": {"prompt": "x"}, "stream": True}
        body = client.post("/predictions", json=request, headers=bearer).json()
        worker = Worker(store, settings, body["id"])
        worker.claim()
        worker.reach(50, "seed\n")
        worker.chunk(0, [0.5])
        store.run(commands.fail(body["id"], worker.token, error="It broke.", logs="seed\n"))
        told = listen(client, body["urls"]["stream"])
        assert [message.event for message in told] == ["logs", "error", "done"]
        assert json.loads(told[1].data) == {"detail": "It broke."}
        assert all(message.id for message in told)
        # Neither another token nor none opens it.
        wrong = body["urls"]["stream"].partition("=")[0] + "=wrong"
        assert client.get(wrong).status_code == 404
        assert client.get(f"/streams/{body['id']}?token=").status_code == 404
        assert client.get(f"/predictions/{body['id']}/stream").status_code == 401
        assert len(listen(client, f"/predictions/{body['id']}/stream", **bearer)) > 3


def test_urls_to_follow_are_given_where_they_were_asked_for(client: httpx.Client) -> None:
    plain = create(client, stream=False)
    assert sorted(plain["urls"]) == ["cancel", "get"]  # type: ignore[call-overload]
    assert sorted(create(client)["urls"]) == ["audio", "cancel", "get", "stream"]  # type: ignore[call-overload]
    answer = client.get(f"/predictions/{plain['id']}/audio")
    assert answer.status_code == 409
    assert "stream" in answer.json()["detail"]
    # Its events can be followed nevertheless.
    client.post(f"/predictions/{plain['id']}/cancel")
    assert [message.event for message in listen(client, f"/predictions/{plain['id']}/stream")][-1] == "done"


def test_sound_arrives_while_it_grows(client: httpx.Client, worker: Worker) -> None:
    worker.claim()
    worker.chunk(0, [0.0, 0.5, -2.0])
    with client.stream("GET", f"/predictions/{worker.prediction_id}/audio") as answer:
        assert answer.headers["content-type"] == "audio/wav"
        assert "content-length" not in answer.headers
        pieces = answer.iter_raw()
        content = next(pieces)
        assert struct.unpack_from("<I", content, 4) == (UNKNOWN_SIZE,)
        assert struct.unpack("<3h", content[44:]) == (0, 16384, -32767)
        worker.chunk(1, [0.25])
        content += next(pieces)
        worker.succeed()
        content += b"".join(pieces)
    # A reader that believes the header finds the end by itself.
    known = content[:40] + struct.pack("<I", len(content) - 44) + content[44:]
    with wave.open(io.BytesIO(known)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 1, 4)


def test_two_attempts_are_never_mixed(client: httpx.Client, worker: Worker) -> None:
    path = f"/predictions/{worker.prediction_id}/audio"
    worker.claim()
    worker.chunk(0, [0.25])
    with client.stream("GET", path) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        worker.die()
        heard: list[bytes] = []
        listener = threading.Thread(target=lambda: heard.append(client.get(path).content))
        listener.start()
        worker.claim()
        # Its sound ends when another attempt begins.
        assert list(pieces) == []
    assert struct.unpack("<h", first[44:]) == (8192,)
    worker.chunk(0, [0.5])
    worker.chunk(1, [0.75])
    worker.succeed()
    listener.join(20)
    assert struct.unpack("<2h", heard[0][44:]) == (16384, 24575)
    assert client.get(path).content == heard[0]
    told = listen(client, f"/predictions/{worker.prediction_id}/stream")
    assert [json.loads(message.data)["attempt"] for message in told if message.event == "audio"] == [1, 2, 2]


def test_the_sound_goes_on_when_a_worker_that_was_thought_dead_is_not(client: httpx.Client, worker: Worker) -> None:
    path = f"/predictions/{worker.prediction_id}/audio"
    worker.claim()
    worker.chunk(0, [0.25])
    with client.stream("GET", path) as early:
        early_pieces = early.iter_raw()
        content = next(early_pieces)
        worker.die()
        with client.stream("GET", path) as late:
            # Nothing comes yet: another attempt may begin.
            worker.reach(50, "")
            worker.chunk(1, [0.5])
            worker.succeed()
            content_of_late = b"".join(late.iter_raw())
        content += b"".join(early_pieces)
    assert struct.unpack("<2h", content[44:]) == (8192, 16384)
    assert content_of_late == content


def test_many_listeners_share_a_few_connections(client: httpx.Client, store: PredictionStore, worker: Worker) -> None:
    before = len(store.redis.client_list())
    path = f"/predictions/{worker.prediction_id}/stream"
    told: list[list[Message]] = []
    first = threading.Semaphore(0)

    def follow() -> None:
        with client.stream("GET", path, timeout=60) as answer:
            messages = read_events(answer)
            seen = [next(messages)]
            first.release()
            told.append([*seen, *messages])

    listeners = [threading.Thread(target=follow) for _ in range(40)]
    for listener in listeners:
        listener.start()
    for _ in listeners:
        assert first.acquire(timeout=30)
    # Requests that come at the same moment each look up the record; none of them keeps a connection.
    blocked = [item for item in store.redis.client_list() if item["cmd"] == "subscribe"]
    assert len(blocked) == 2
    worker.claim()
    worker.succeed()
    for listener in listeners:
        listener.join(20)
    assert len(told) == 40
    assert {tuple(message.event for message in messages) for messages in told} == {
        ("status", "status", "logs", "progress", "status", "output", "done")
    }
    assert before <= len(store.redis.client_list()) <= before + 40 + READERS


def test_a_deleted_predictions_stream_ends(client: httpx.Client, worker: Worker) -> None:
    told: list[Message] = []
    path = f"/predictions/{worker.prediction_id}"
    with client.stream("GET", f"{path}/stream") as answer:
        messages = read_events(answer)
        told.append(next(messages))
        with httpx.Client(base_url=client.base_url, trust_env=False) as other:
            assert other.delete(path).status_code == 204
        told += messages
    assert told[-1].event == "done"
    assert client.get(f"{path}/stream").status_code == 404


def test_an_idle_stream_is_kept_alive(client: httpx.Client, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    with client.stream("GET", f"/predictions/{worker.prediction_id}/stream") as answer:
        lines = answer.iter_lines()
        wait_until(lambda: next(lines).startswith(": "), seconds=10)
