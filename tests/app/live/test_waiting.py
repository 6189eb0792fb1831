"""`Prefer: wait`: the answer comes when the prediction ends, or when the time is over."""

from __future__ import annotations

import json
import threading

import httpx

from predictions.record import commands
from predictions.record.prediction import Progress
from predictions.record.store import PredictionStore
from tests.records import claim


def test_prefer_wait_answers_when_it_ends(client: httpx.Client, store: PredictionStore) -> None:
    def work() -> None:
        prediction_id = json.loads(json.loads(store.redis.brpop("generation", 10)[1])["body"])[0][0]
        attempt = claim(store, prediction_id, 30.0)
        done = Progress(8, 8)
        store.run(commands.succeed(prediction_id, attempt, output_key="a/b.wav", metrics={}, logs="", progress=done))

    worker = threading.Thread(target=work)
    worker.start()
    answer = client.post("/predictions", json={"input": {"prompt": "piano"}}, headers={"Prefer": "wait=20"}, timeout=30)
    worker.join()
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "succeeded"
    assert body["progress"] == {"completed_steps": 8, "total_steps": 8, "fraction": 1.0}
    assert "/objects/a/b.wav?" in body["output"]


def test_prefer_wait_gives_up_in_time(client: httpx.Client) -> None:
    answer = client.post(
        "/predictions", json={"input": {"prompt": "piano"}}, headers={"Prefer": "respond-async, wait=1"}
    )
    assert answer.status_code == 202
    assert answer.json()["status"] == "starting"
