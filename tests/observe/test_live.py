"""Every expression of the dashboards and alerts, evaluated by a real Prometheus that asks a real deployment."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis
import torch
import yaml

from scripts import dashboards
from tests.faults.deployment import Deployment
from tests.observe.test_alerts import OBSERVE, RULES
from tests.observe.tools import prometheus, promtool
from tests.servers import free_port, wait_until
from tests.webhook_receiver import receiver

INTERVAL, WINDOW = "1s", "20s"
MINUTES = 300.0
NOT_HERE = () if torch.cuda.is_available() else ("musicgen_gpu_",)
"""What there is on a GPU alone."""


def hastened(rules: str) -> str:
    """The rules as a test can wait for them.

    Windows are WINDOW, conditions need not last, what is late is so after two seconds, and a disk has too little room
    whatever it has. The rules as they are: `tests.observe.test_alerts`.
    """
    for pattern, short in (
        (r"\[\d+m\]", f"[{WINDOW}]"),
        (r"for: \d+m", "for: 0s"),
        (r"(seconds\)) > \d+", r"\1 > 2"),
        (r"(free_bytes\)) < \d+", r"\1 < +Inf"),
    ):
        rules, times = re.subn(pattern, short, rules)
        assert times, pattern
    return rules


@dataclass
class Watched:
    """A deployment, and the Prometheus that watches it."""

    deployment: Deployment
    client: httpx.Client

    def values(self, expression: str) -> list[float]:
        """What the expression is now, without what is no number."""
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def wait_for(self, *alerts: str) -> None:
        wait_until(lambda: set(alerts) <= self.firing(), seconds=MINUTES, every=0.5)

    def wait_until_over(self, *alerts: str) -> None:
        wait_until(lambda: not set(alerts) & self.firing(), seconds=MINUTES, every=0.5)

    def post(self, **body: object) -> httpx.Response:
        return self.deployment.client().post("/predictions", json=body)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two API processes, a worker whose death ends its predictions, and a worker for webhooks."""
    folder = tmp_path_factory.mktemp("watched")
    with Deployment(folder, apis=2, metrics=True, MUSICGEN_MAX_ATTEMPTS="1") as deployment:
        configuration = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        [job] = configuration["scrape_configs"]
        # There are no names here that lead to the processes.
        del job["dns_sd_configs"]
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"__meta_dns_name": name}}
            for name, port in deployment.metrics_ports.items()
        ]
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(configuration))
        (folder / "alerts.yml").write_text(hastened((OBSERVE / "alerts.yml").read_text()))
        promtool("check", "config", path)
        with prometheus(folder, path) as client:
            yield Watched(deployment, client)


@contextmanager
def load(watched: Watched) -> Iterator[None]:
    """Predictions that succeed, fail and are cancelled, refusals, and webhooks that arrive and do not."""
    over, failures = threading.Event(), []

    def ask() -> None:
        try:
            with receiver(500, 410) as hook:
                while not over.wait(0.5):
                    ask_once(watched, hook.url)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not failures, failures


def ask_once(watched: Watched, hook: str) -> None:
    client = watched.deployment.client()
    short = {"prompt": "soft piano", "duration": 1}
    assert watched.post(input={"prompt": "soft piano", "duration": "eight"}).status_code == 422
    assert watched.post(input={**short, "input_audio": f"http://127.0.0.1:{free_port()}/a.wav"}).status_code == 202
    long = watched.post(input={"prompt": "soft piano", "duration": 30}).json()["id"]
    answer = watched.post(input=short, webhook=hook, webhook_events_filter=["completed"]).json()
    with client.stream("GET", f"/predictions/{answer['id']}/stream") as events:
        for _ in events.iter_lines():
            pass
    with suppress(AssertionError):
        # It may have ended meanwhile.
        wait_until(lambda: client.get(f"/predictions/{long}").json()["status"] == "processing", seconds=5)
    client.post(f"/predictions/{long}/cancel")


def test_the_dashboards_are_what_the_script_makes(tmp_path: Path) -> None:
    dashboards.write(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in (OBSERVE / "dashboards").iterdir()}
    assert made == committed, "run: make dashboards"


def test_no_panel_is_without_data(watched: Watched) -> None:
    panels = {
        f"{path.stem}, {panel['title']}": [target["expr"] for target in panel["targets"]]
        for path in (OBSERVE / "dashboards").iterdir()
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] != "row"
    }
    assert len(panels) > 30

    def empty() -> list[str]:
        return [
            f"{panel}: {expression}"
            for panel, expressions in panels.items()
            for expression in expressions
            if not expression.startswith(NOT_HERE) and not watched.values(here(expression))
        ]

    with load(watched):
        try:
            wait_until(lambda: not empty(), seconds=MINUTES, every=1)
        except AssertionError:
            pytest.fail("\n".join(empty()))


def here(expression: str) -> str:
    """The expression as Grafana would send it."""
    return expression.replace("$__rate_interval", WINDOW)


def test_what_every_api_process_shows_is_counted_once(watched: Watched) -> None:
    assert watched.values("count(musicgen_workers)") == [2]
    [title] = [
        p
        for p in json.loads((OBSERVE / "dashboards" / "service.json").read_text())["panels"]
        if p["title"] == "Workers"
    ]
    assert watched.values(title["targets"][0]["expr"]) == [1]


def test_a_dead_worker(watched: Watched) -> None:
    deployment = watched.deployment
    running = watched.post(input={"prompt": "soft piano", "duration": 30}).json()["id"]
    status = f"/predictions/{running}"
    wait_until(lambda: deployment.client().get(status).json()["status"] == "processing", seconds=MINUTES)
    deployment.kill("worker-0")
    watched.post(input={"prompt": "soft piano", "duration": 1})
    watched.wait_for("MusicgenNoWorker", "MusicgenLeasesLost", "MusicgenPredictionsFail", "MusicgenQueueOld")
    deployment.start("worker-0")
    watched.wait_until_over("MusicgenNoWorker", "MusicgenQueueOld", "MusicgenLeasesLost", "MusicgenPredictionsFail")


def test_a_dead_webhook_worker(watched: Watched) -> None:
    watched.deployment.kill("webhooks")
    with receiver() as hook:
        watched.post(input={"prompt": "soft piano", "duration": 1}, webhook=hook.url)
        watched.wait_for("MusicgenNoWebhookWorker", "MusicgenWebhooksLate")
        watched.deployment.start("webhooks")
        watched.wait_until_over("MusicgenNoWebhookWorker", "MusicgenWebhooksLate")


def test_a_full_redis(watched: Watched) -> None:
    def refused() -> bool:
        assert watched.post(input={"prompt": "soft piano", "duration": 1}).status_code == 503
        return {"MusicgenRedisMemoryHigh", "MusicgenRequestsFail"} <= watched.firing()

    with redis.Redis.from_url(watched.deployment.redis_url) as client:
        client.config_set("maxmemory", 1)
        wait_until(refused, seconds=MINUTES, every=0.5)
        client.config_set("maxmemory", 0)
    watched.wait_until_over("MusicgenRedisMemoryHigh", "MusicgenRequestsFail")


def test_a_storage_that_fails(watched: Watched) -> None:
    objects = watched.deployment.data / "objects"
    away = objects.rename(objects.with_name("away"))
    # A link to itself: nobody can write below it, not even root.
    objects.symlink_to(objects.name)
    try:
        watched.post(input={"prompt": "soft piano", "duration": 1})
        watched.wait_for("MusicgenStorageFails")
    finally:
        objects.unlink()
        away.rename(objects)
    watched.wait_until_over("MusicgenStorageFails")


def test_a_full_disk(watched: Watched) -> None:
    watched.wait_for("MusicgenDiskLow")


def test_a_dead_redis(watched: Watched) -> None:
    watched.deployment.kill("redis")
    watched.wait_for("MusicgenRedisDown")
    watched.deployment.start("redis")
    watched.wait_until_over("MusicgenRedisDown")


def test_no_api_process(watched: Watched) -> None:
    for name in ("api-0", "api-1"):
        watched.deployment.kill(name)
    watched.wait_for("MusicgenUnseen")
    for name in ("api-0", "api-1"):
        watched.deployment.start(name)
    watched.wait_until_over("MusicgenUnseen")


def test_every_alert_was_made_to_fire() -> None:
    waited_for = set(re.findall(r'"(Musicgen\w+)"', Path(__file__).read_text()))
    assert waited_for == set(RULES)
