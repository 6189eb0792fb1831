"""The life of predictions while processes die, clients cancel or delete, and webhooks are due."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from standardwebhooks import Webhook

from predictions.webhooks.signing import derived_key
from tests.e2e.conftest import Service, serve
from tests.e2e.sound import unmarked
from tests.s3_server import s3_server
from tests.servers import free_port, wait_until
from tests.webhook_receiver import receiver


def has_begun(service: Service, prediction_id: str) -> bool:
    progress = service.get(prediction_id)["progress"]
    return progress is not None and progress["completed_steps"] > 0


def test_running_predictions_are_cancelled(service: Service) -> None:
    """Several predictions, because the tiny model may finish one before it is cancelled."""
    running = [service.post(prompt="x", duration=30) for _ in range(4)]
    wait_until(lambda: has_begun(service, running[-1]))
    bodies = [service.client.post(f"/predictions/{item}/cancel").json() for item in running]
    assert bodies[-1]["status"] == "canceled"
    wait_until(lambda: service.client.get("/health-check").json()["running"] == 0)
    # The next one runs, and the cancelled one stays as it is.
    service.generate(prompt="x", duration=1)
    after = service.get(running[-1])
    assert (after["status"], after["output"]) == ("canceled", None)
    assert after["progress"]["completed_steps"] < after["progress"]["total_steps"]


def test_a_deleted_prediction_leaves_nothing(service: Service) -> None:
    body = service.generate(prompt="x", duration=1)
    folder = service.data / "objects" / "predictions" / body["id"]
    assert folder.is_dir()
    assert service.client.delete(f"/predictions/{body['id']}").status_code == 204
    assert not folder.exists()
    assert httpx.get(body["output"], trust_env=False).status_code == 404


def test_a_killed_workers_predictions_succeed_once(tmp_path: Path, model_folder: Path) -> None:
    """Two predictions in turn: if the first has ended when the worker dies, the second has not."""
    settings = {"MUSICGEN_MODEL": str(model_folder), "MUSICGEN_MAX_REQUESTS": "1"}
    with receiver() as hook, serve(tmp_path / "data", **settings) as service:
        request = {
            "input": {"prompt": "x", "duration": 30, "seed": 1},
            "webhook": hook.url,
            "webhook_events_filter": ["start", "completed"],
        }
        ids = [service.client.post("/predictions", json=request).json()["id"] for _ in range(2)]
        service.wait(ids[1], "processing")
        wait_until(lambda: has_begun(service, ids[0]))
        os.kill(service.pid("worker"), signal.SIGKILL)
        bodies = [service.wait(prediction_id) for prediction_id in ids]
        assert [body["status"] for body in bodies] == ["succeeded"] * 2
        assert bodies[1]["metrics"]["attempt"] == 2
        wait_until(lambda: len(hook.received) == 4)
        for prediction_id in ids:
            outputs = list((service.data / "objects" / "predictions" / prediction_id).rglob("output.wav"))
            assert len(outputs) == 1
        events = [json.loads(content) for _, content in hook.received]
        assert sorted(event["id"] for event in events if event["status"] == "succeeded") == sorted(ids)


def test_sigterm_finishes_what_runs_and_keeps_what_waits(tmp_path: Path, model_folder: Path) -> None:
    data, model = tmp_path / "data", str(model_folder)
    with serve(data, MUSICGEN_MODEL=model, MUSICGEN_MAX_REQUESTS="1") as service:
        running = service.post(prompt="x", duration=20)
        service.wait(running, "processing")
        others = [service.post(prompt=str(n), duration=2) for n in range(8)]
    with serve(data, MUSICGEN_MODEL=model) as service:
        assert service.wait(running)["status"] == "succeeded"
        assert {service.wait(item, seconds=120)["status"] for item in others} == {"succeeded"}
        assert service.get(running)["metrics"]["attempt"] == 1


def test_a_killed_service_leaves_no_process_and_loses_nothing(tmp_path: Path, model_folder: Path) -> None:
    data, model = tmp_path / "data", str(model_folder)
    with serve(data, status=-signal.SIGKILL, MUSICGEN_MODEL=model) as service:
        before = service.generate(prompt="x", duration=1)
        waiting = service.post(prompt="x", duration=20)
        children = [service.pid(name) for name in ("redis", "api", "worker", "webhooks")]
        service.process.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in children), seconds=60)
    with serve(data, MUSICGEN_MODEL=model) as service:
        # The killed worker's announcement still held when this one started.
        assert "Loaded" in service.log.read_text().partition("READY")[0]
        after = service.get(before["id"])
        assert (after["status"], after["metrics"]) == ("succeeded", before["metrics"])
        assert service.wait(waiting)["status"] == "succeeded"


def test_webhooks_are_signed_and_tried_again(service: Service) -> None:
    # The secret that `musicgen serve` made, since none was set.
    verifier = Webhook(derived_key((service.data / "secret").read_text().strip()))
    with receiver(500) as hook:
        request = {"input": {"prompt": "x", "duration": 1}, "webhook": hook.url, "webhook_events_filter": ["completed"]}
        prediction_id = service.client.post("/predictions", json=request).json()["id"]
        # The first attempt is answered with 500; the next one follows after about five seconds.
        wait_until(lambda: len(hook.received) == 2)
        for headers, content in hook.received:
            payload = verifier.verify(content, headers)
            assert (payload["id"], payload["status"]) == (prediction_id, "succeeded")
        assert hook.ids() == [f"{prediction_id}-completed"] * 2
        path = f"/predictions/{prediction_id}/webhook-deliveries"
        wait_until(lambda: service.client.get(path).json()["results"][0]["state"] == "delivered")
        [delivery] = service.client.get(path).json()["results"]
        assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 200]
        assert service.client.post(f"{path}/{delivery['id']}/redeliver").status_code == 202
        wait_until(lambda: hook.ids() == [delivery["id"]] * 3)


def test_every_event_of_a_prediction_sends_a_webhook(service: Service) -> None:
    with receiver() as hook:
        request = {"input": {"prompt": "x", "duration": 20}, "webhook": hook.url}
        prediction_id = service.client.post("/predictions", json=request).json()["id"]
        assert service.wait(prediction_id)["status"] == "succeeded"
        wait_until(lambda: {f"{prediction_id}-completed", f"{prediction_id}-output-1"} <= set(hook.ids()))
        told = dict(zip(hook.ids(), (json.loads(body) for _, body in hook.received), strict=True))
        assert told[f"{prediction_id}-start"]["logs"] == ""
        assert told[f"{prediction_id}-logs-1"]["logs"].startswith("Using seed")
        assert told[f"{prediction_id}-output-1"]["output"] is not None
        ended = [name for name, body in told.items() if body["status"] != "processing"]
        assert ended == [f"{prediction_id}-completed"]


def test_retention_deletes_record_and_audio(tmp_path: Path, model_folder: Path) -> None:
    settings = {"MUSICGEN_MODEL": str(model_folder), "MUSICGEN_RETENTION_HOURS": "0.0005"}
    with serve(tmp_path / "data", **settings) as service:
        body = service.generate(prompt="x", duration=1)
        folder = service.data / "objects" / "predictions" / body["id"]
        wait_until(lambda: service.client.get(f"/predictions/{body['id']}").status_code == 404, seconds=60)
        assert not folder.exists()


def test_two_servers_do_not_share_a_data_folder(service: Service) -> None:
    environment = {**os.environ, "PORT": str(free_port()), "MUSICGEN_DATA_DIR": str(service.data)}
    command = [sys.executable, "-m", "cli.main", "serve"]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert "Another `musicgen serve` uses" in second.stderr


def test_outputs_in_s3_are_read_by_presigned_urls(tmp_path: Path, model_folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="s3-", dir="/var/tmp") as folder,
        s3_server(Path(folder)) as server,
        serve(
            tmp_path / "data",
            MUSICGEN_MODEL=str(model_folder),
            MUSICGEN_STORAGE="s3",
            MUSICGEN_S3_ENDPOINT=server.endpoint,
            MUSICGEN_S3_ACCESS_KEY=server.access_key,
            MUSICGEN_S3_SECRET_KEY=server.secret_key,
            MUSICGEN_S3_CREATE_BUCKET="true",
        ) as service,
    ):
        body = service.generate(prompt="x", duration=1)
        assert body["output"].startswith(server.endpoint)
        assert len(unmarked(service.audio(body))) == 44 + 2 * 32_000
        assert service.client.delete(f"/predictions/{body['id']}").status_code == 204
        assert httpx.get(body["output"], trust_env=False).status_code == 404
