"""The service as its operator sees it: metrics, logs and health of real processes."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Service, serve
from tests.servers import free_port, wait_until

PROMPT = "a prompt that nobody else may read"
TOKEN = "a-token-that-only-its-tenant-knows"
SIGNATURE = "a1b2c3d4e5f6a7b8"
MODEL = {"model": "local/noise"}
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


class Observed:
    """A service with a port of metrics."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self._address = f"http://127.0.0.1:{port}"

    def families(self) -> dict[str, str]:
        """The types of the metrics, by name."""
        return {family.name: family.type for family in self._read()}

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self._read()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (known, has), value in self.samples().items() if known == name and wanted <= has)

    def health(self, path: str) -> httpx.Response:
        return httpx.get(f"{self._address}/health/{path}", trust_env=False, timeout=20)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the log that are JSON: all but those of `musicgen serve` itself, of Redis and of Celery."""
        return [json.loads(line) for line in self.service.log.read_text().splitlines() if line.startswith("{")]

    def _read(self) -> Any:
        answer = httpx.get(f"{self._address}/metrics", trust_env=False, timeout=20)
        return list(text_string_to_metric_families(answer.text))


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Observed]:
    port = free_port()
    settings = {
        "MUSICGEN_METRICS_PORT": str(port),
        "MUSICGEN_METRICS_TENANTS": "true",
        "MUSICGEN_LOG_FORMAT": "json",
        "MUSICGEN_API_TOKENS": TOKEN,
        "MUSICGEN_MODEL": str(model_folder),
    }
    with serve(tmp_path_factory.mktemp("observed"), **settings) as service:
        service.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield Observed(service, port)


@pytest.fixture(scope="module")
def ended(observed: Observed) -> dict[str, dict[str, Any]]:
    """Two predictions that succeeded, one that failed and one that was cancelled."""
    service = observed.service
    source = f"http://127.0.0.1:{free_port()}/a.wav?signature={SIGNATURE}"
    made = {
        "first": service.wait(service.post(prompt=PROMPT, duration=1)),
        "second": service.wait(service.post(prompt=PROMPT, duration=1, output_format="mp3")),
        "failed": service.wait(service.post(prompt=PROMPT, duration=1, input_audio=source)),
    }
    long = service.post(prompt=PROMPT, duration=30)
    service.wait(long, "processing")
    service.client.post(f"/predictions/{long}/cancel")
    made["canceled"] = service.wait(long)
    assert [body["status"] for body in made.values()] == ["succeeded", "succeeded", "failed", "canceled"]
    return made


def test_every_end_is_counted_once(observed: Observed, ended: dict[str, dict[str, Any]]) -> None:
    name = "musicgen_predictions_ended_total"
    assert observed.value(name, status="succeeded", **MODEL) == 2
    assert observed.value(name, status="failed", cause="input_audio", **MODEL) == 1
    assert observed.value(name, status="canceled", cause="client", **MODEL) == 1
    assert observed.value(name) == len(ended) == observed.value("musicgen_predictions_accepted_total", **MODEL)
    assert observed.value("musicgen_leases_taken_total", **MODEL) == 4
    assert observed.value("musicgen_leases_lost_total", reason="canceled", **MODEL) == 1
    assert observed.value("musicgen_predictions_waiting") == observed.value("musicgen_predictions_running") == 0


def test_what_was_made_is_measured(observed: Observed, ended: dict[str, dict[str, Any]]) -> None:
    for name in ("queue_seconds", "generation_seconds", "duration_seconds", "real_time_factor"):
        # What follows the end of a prediction is told a moment later.
        wait_until(lambda name=name: observed.value(f"musicgen_prediction_{name}_count", **MODEL) == 2)
    assert observed.value("musicgen_music_seconds_total", **MODEL) == pytest.approx(2, abs=0.1)
    assert observed.value("musicgen_codec_seconds_count", decoder="codec") == 2
    assert observed.value("musicgen_codec_seconds_sum") > 0
    steps = observed.value("musicgen_engine_steps_total")
    assert steps > 100
    assert observed.value("musicgen_engine_step_seconds_count") == pytest.approx(steps, abs=2)
    assert observed.value("musicgen_engine_admission_seconds_count") >= 3
    assert observed.value("musicgen_engine_slots_in_use") == 0
    assert observed.value("musicgen_storage_operation_duration_seconds_count", operation="put", process="worker") >= 2
    assert observed.value("musicgen_redis_command_duration_seconds_count", command="record/create") == 4
    requests = {"route": "/predictions", "method": "POST", "status": "202"}
    assert observed.value("musicgen_http_request_duration_seconds_count", **requests) == 4
    assert observed.value("musicgen_process_up") == 3


def test_the_operators_document_has_every_metric(observed: Observed, ended: dict[str, dict[str, Any]]) -> None:
    text = OPERATIONS.read_text()
    documented = set(re.findall(r"^\| `(musicgen_\w+)`", text, re.MULTILINE))
    kinds = {"counter": "_total", "gauge": "", "histogram": ""}
    shown = {f"{name}{kinds[kind]}" for name, kind in observed.families().items() if name.startswith("musicgen_")}
    assert shown - documented == set()
    assert {name for name in documented - shown if not name.startswith("musicgen_gpu")} == set()


def test_a_request_can_be_followed_through_the_log(observed: Observed, ended: dict[str, dict[str, Any]]) -> None:
    answer = observed.service.client.post(
        "/predictions", json={"input": {"prompt": PROMPT, "duration": 1}}, headers={"X-Request-ID": "follow-me"}
    )
    observed.service.wait(answer.json()["id"])
    wait_until(lambda: len([line for line in observed.lines() if line.get("request_id") == "follow-me"]) >= 2)
    lines = [line for line in observed.lines() if line.get("request_id") == "follow-me"]
    assert {(line["process"], line["message"]) for line in lines} == {
        ("api", "Request"),
        ("worker", "Prediction succeeded"),
    }
    assert {line["prediction"] for line in lines} == {answer.json()["id"]}
    [request] = [line for line in lines if line["process"] == "api"]
    assert (request["route"], request["method"], request["status"]) == ("/predictions", "POST", 202)
    assert [line["attempt"] for line in lines if line["process"] == "worker"] == [1]
    assert len({line["tenant"] for line in lines}) == 1


def test_no_secret_stands_in_the_log(observed: Observed, ended: dict[str, dict[str, Any]]) -> None:
    client = observed.service.client
    client.post("/predictions", json={"input": {"prompt": PROMPT, "input_audio": "data:audio/wav;base64,UklGRgAA"}})
    client.post("/predictions", json={"input": {"prompt": PROMPT, "duration": "eight"}})
    client.get(f"/predictions/x/stream?token={SIGNATURE}")
    client.get("/predictions", headers={"Authorization": f"Bearer {TOKEN}-wrong"})
    client.get(ended["first"]["output"])
    text = observed.service.log.read_text()
    signature = ended["first"]["output"].rpartition("signature=")[2]
    assert signature
    for secret in (PROMPT, TOKEN, SIGNATURE, signature, "base64", "UklGR"):
        assert secret not in text


def test_all_are_well(observed: Observed) -> None:
    for path in ("live", "ready", "startup"):
        assert observed.health(path).json() == {"status": "ok", "wrong": {}}


def test_a_stopped_worker_is_seen(observed: Observed, ended: dict[str, dict[str, Any]]) -> None:
    worker = observed.service.pid("worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        assert observed.health("ready").json()["wrong"] == {"worker": "does not answer"}
        assert observed.health("live").status_code == 503
        assert observed.value("musicgen_process_up") == 2
        assert observed.value("musicgen_process_up", process="worker") == 0
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: observed.health("ready").status_code == 200)
