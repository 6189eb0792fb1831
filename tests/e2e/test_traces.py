"""Traces of real processes, as a receiver of OTLP gets them: one from a request to each attempt at its webhooks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import serve
from tests.otlp_receiver import Span, TraceReceiver, trace_receiver
from tests.servers import free_port, wait_until
from tests.webhook_receiver import Receiver, receiver

PROMPT = "a prompt that nobody else may read"
TOKEN = "a-token-that-only-its-tenant-knows"
SIGNATURE = "a1b2c3d4e5f6a7b8"
CALLERS_TRACE, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NEVER_MILLISECONDS = "3600000"
"""So seldom are spans exported that they all come when their process ends."""


@dataclass
class Run:
    """What a service did from its start to its end, which has exported its last spans."""

    traces: TraceReceiver
    hook: Receiver
    made: dict[str, dict[str, Any]]
    lines: list[dict[str, Any]]
    log: str

    def spans(self, name: str) -> list[Span]:
        return self.traces.of_prediction(self.made[name]["id"])

    def by_name(self, name: str) -> dict[str, Span]:
        return {span.name: span for span in self.spans(name)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Run]:
    data = tmp_path_factory.mktemp("traces")
    made: dict[str, dict[str, Any]] = {}
    with trace_receiver() as traces, receiver(500) as hook:
        settings = {
            "MUSICGEN_TRACES": "true",
            "MUSICGEN_LOG_FORMAT": "json",
            "MUSICGEN_API_TOKENS": TOKEN,
            "MUSICGEN_MODEL": str(model_folder),
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
            "OTEL_BSP_SCHEDULE_DELAY": NEVER_MILLISECONDS,
        }
        with serve(data, **settings) as service:
            client = service.client
            client.headers["Authorization"] = f"Bearer {TOKEN}"

            def wait(body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
                answer = client.post("/predictions", json=body, headers=headers)
                assert answer.status_code == 202, answer.text
                return service.wait(answer.json()["id"])

            # First, for the worker takes along what it has not exported.
            long = client.post("/predictions", json={"input": {"prompt": PROMPT, "duration": 30}}).json()["id"]
            wait_until(lambda: (service.get(long)["progress"] or {}).get("completed_steps"))
            os.kill(service.pid("worker"), signal.SIGKILL)
            made["retried"] = service.wait(long)
            value = {"prompt": PROMPT, "duration": 1, "output_format": "mp3"}
            webhook = {"webhook": f"{hook.url}?token={SIGNATURE}", "webhook_events_filter": ["completed"]}
            traceparent = f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"
            made["followed"] = wait({"input": value, **webhook}, {"traceparent": traceparent})
            source = f"http://127.0.0.1:{free_port()}/a.wav?signature={SIGNATURE}"
            made["failed"] = wait({"input": {**value, "input_audio": source}})
            client.get("/predictions", params={"token": SIGNATURE})
            # The second attempt follows the first one, which is refused, after some seconds.
            wait_until(lambda: len(hook.received) == 2)
        log = service.log.read_text()
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        yield Run(traces, hook, made, lines, log)


def test_a_trace_leads_from_the_request_to_each_attempt_at_its_webhook(run: Run) -> None:
    spans = run.spans("followed")
    assert {span.trace_id for span in spans} == {CALLERS_TRACE}
    names = {span.span_id: span.name for span in spans}
    assert len(names) == len(spans)
    tree = sorted((span.name, span.kind, span.service, names.get(span.parent_id, span.parent_id)) for span in spans)
    generation = "generate_content local/noise"
    assert tree == sorted(
        [
            ("POST /predictions", "SERVER", "musicgen-api", CALLERS_SPAN),
            ("send generation", "PRODUCER", "musicgen-api", "POST /predictions"),
            ("wait generation", "INTERNAL", "musicgen-worker", "send generation"),
            ("receive generation", "CLIENT", "musicgen-worker", "send generation"),
            ("process generation", "CONSUMER", "musicgen-worker", "send generation"),
            (generation, "INTERNAL", "musicgen-worker", "process generation"),
            ("encode", "INTERNAL", "musicgen-worker", generation),
            ("decode", "INTERNAL", "musicgen-worker", generation),
            ("codec", "INTERNAL", "musicgen-worker", generation),
            ("write file", "INTERNAL", "musicgen-worker", "process generation"),
            ("storage put", "INTERNAL", "musicgen-worker", "process generation"),
            ("POST", "CLIENT", "musicgen-webhooks", "send generation"),
            ("POST", "CLIENT", "musicgen-webhooks", "send generation"),
        ]
    )


def test_the_steps_follow_each_other(run: Run) -> None:
    spans = run.by_name("followed")
    generation = spans["generate_content local/noise"]
    steps = [
        *("wait generation", "receive generation", "encode", "decode", "codec", "write file", "storage put", "POST"),
    ]
    for before, after in pairwise(steps):
        # Moments by `time.monotonic` are converted one by one.
        assert spans[before].ended <= spans[after].began + 0.001, (before, after)
    assert generation.began <= spans["encode"].ended
    assert spans["codec"].ended <= generation.ended + 0.001
    assert generation.ended <= spans["process generation"].ended


def test_attributes_are_those_of_the_conventions(run: Run) -> None:
    body, spans = run.made["followed"], run.by_name("followed")
    request = spans["POST /predictions"].attributes
    assert (request["http.request.method"], request["http.route"]) == ("POST", "/predictions")
    assert (request["http.response.status_code"], request["musicgen.prediction.id"]) == (202, body["id"])
    assert spans["process generation"].attributes == {
        "messaging.system": "redis",
        "messaging.destination.name": "generation",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": body["id"],
        "musicgen.prediction.id": body["id"],
        "musicgen.attempt": 1,
        "musicgen.tenant": spans["wait generation"].attributes["musicgen.tenant"],
        "musicgen.outcome": "succeeded",
    }
    made = spans["generate_content local/noise"].attributes
    assert (made["gen_ai.request.model"], made["musicgen.duration"]) == ("local/noise", 1)
    assert made["gen_ai.request.seed"] == body["input"]["seed"]
    assert spans["decode"].attributes["musicgen.steps"] == body["progress"]["total_steps"]


def test_each_attempt_at_a_webhook_is_told_and_tells_its_receiver(run: Run) -> None:
    attempts = [span for span in run.spans("followed") if span.name == "POST"]
    assert [span.failed for span in attempts] == [True, False]
    assert [span.attributes["http.response.status_code"] for span in attempts] == [500, 200]
    assert [span.attributes["http.request.resend_count"] for span in attempts] == [0, 1]
    assert [span.attributes["musicgen.webhook.verdict"] for span in attempts] == ["retry", "delivered"]
    assert [headers["traceparent"] for headers, _ in run.hook.received] == [span.traceparent for span in attempts]


def test_a_failed_prediction_is_an_error(run: Run) -> None:
    spans = run.by_name("failed")
    assert {name for name, span in spans.items() if span.failed} == {"process generation", "fetch input_audio"}
    assert spans["process generation"].attributes["error.type"] == "input_audio"
    assert spans["process generation"].attributes["musicgen.outcome"] == "failed"
    assert spans["fetch input_audio"].attributes["error.type"] == "RequestError"
    assert spans["fetch input_audio"].parent_id == spans["process generation"].span_id
    assert spans["POST /predictions"].parent_id == ""


def test_another_attempt_is_in_the_same_trace(run: Run) -> None:
    spans = run.spans("retried")
    assert len({span.trace_id for span in spans}) == 1
    assert [span.attributes["musicgen.attempt"] for span in spans if span.name == "process generation"] == [2]
    # The worker that died took what it had not exported with it.
    [wait] = [span for span in spans if span.name == "wait generation"]
    assert wait.attributes["musicgen.attempt"] == 2
    [sent] = [span for span in spans if span.name == "send generation"]
    # Its second wait, which began when its lease had run out, and not with its creation.
    assert wait.began > sent.ended + 1


def test_the_log_names_the_trace(run: Run) -> None:
    lines = [line for line in run.lines if line.get("trace_id") == CALLERS_TRACE]
    assert {(line["process"], line["message"]) for line in lines} == {
        ("api", "Request"),
        ("worker", "Prediction succeeded"),
        ("worker", "Webhook attempted"),
    }
    assert {line["prediction"] for line in lines} == {run.made["followed"]["id"]}


def test_no_secret_is_exported(run: Run) -> None:
    exported = b"".join(run.traces.bodies)
    assert run.made["followed"]["id"].encode() in exported
    for secret in (PROMPT, TOKEN, SIGNATURE, "/hook", "a.wav"):
        assert secret.encode() not in exported
    [listed] = [span for span in run.traces.spans if span.name == "GET /predictions"]
    assert listed.attributes["url.query"] == "REDACTED"


def test_nobody_traces_the_questions_after_health(run: Run) -> None:
    assert not [span.name for span in run.traces.spans if "health" in span.name]


def test_without_the_setting_a_worker_loads_nothing_for_it() -> None:
    """FastAPI and redis-py import parts of OpenTelemetry in any case, but not these."""
    check = (
        "import sys; import worker.main, worker.webhooks, worker.generation.attempt;"
        "from predictions.observability import life; from predictions.settings import Settings;"
        "life.begin_traces(Settings(), 'worker');"
        "print([name for name in sys.modules if name.endswith('.traces') or name.startswith(('opentelemetry.exporter',"
        "'opentelemetry.sdk.trace', 'opentelemetry.proto'))])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
