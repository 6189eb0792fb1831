"""The port of metrics and health."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.merged_metrics import MergedMetrics
from predictions.errors import WrongSetting
from predictions.observability.metrics import Exposition, name_build
from predictions.observability.server import Checks, MetricsServer
from predictions.settings import Settings
from tests.servers import free_port


@contextmanager
def served(settings: Settings, checks: Checks | None = None) -> Iterator[None]:
    server = MetricsServer(settings, Exposition(), checks or Checks())
    server.start()
    try:
        yield
    finally:
        server.close()


@pytest.fixture
def port(settings: Settings) -> Settings:
    return settings.model_copy(update={"metrics_port": free_port()})


def test_metrics_and_health_are_shown(port: Settings) -> None:
    name_build()
    wrong: dict[str, str] = {}
    with (
        served(port, Checks(ready=lambda: wrong)),
        httpx.Client(base_url=f"http://127.0.0.1:{port.metrics_port}", trust_env=False) as client,
    ):
        names = {family.name for family in text_string_to_metric_families(client.get("/metrics").text)}
        assert {"musicgen_build_info", "process_start_time_seconds"} <= names
        assert client.get("/health/ready").json() == {"status": "ok", "wrong": {}}
        wrong["engine"] = "is asleep"
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["wrong"]) == (503, wrong)
        assert client.get("/health/live").status_code == 200
        assert client.get("/elsewhere").status_code == 404
        assert client.head("/metrics").content == b""


def test_a_taken_port_is_a_wrong_setting(port: Settings) -> None:
    with served(port), pytest.raises(WrongSetting, match="MUSICGEN_METRICS_PORT"):
        MetricsServer(port, Exposition(), Checks())


def test_without_a_port_nobody_listens(settings: Settings) -> None:
    with served(settings):
        pass


def test_processes_are_shown_together(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("m")
    sockets: Mapping[str, Path] = {"api": folder / "a", "worker": folder / "w", "webhooks": folder / "gone"}
    name_build()
    api, worker = (settings.model_copy(update={"metrics_socket": sockets[name]}) for name in ("api", "worker"))
    with served(api), served(worker, Checks(ready=lambda: {"engine": "has made no step lately"})):
        merged = MergedMetrics(sockets)
        text = Exposition([merged], counted=False).render()[0].decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert {sample.labels["process"] for sample in families["musicgen_build_info"].samples} == {"api", "worker"}
        up = {sample.labels["process"]: sample.value for sample in families["musicgen_process_up"].samples}
        assert up == {"api": 1, "worker": 1, "webhooks": 0}
        assert merged.wrong("/health/ready") == {
            "worker": "engine has made no step lately",
            "webhooks": "does not answer",
        }
