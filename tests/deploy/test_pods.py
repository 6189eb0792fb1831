"""The pods of deploy/helm/examples/cpu.yaml as processes here: the arguments and variables that helm rendered, word for
word but for addresses and folders, with a Valkey and an S3 server in the place of those in the cluster.

One song is made from nothing, and another after the model was scaled to zero. The worker that trains does the same with
the table of a dataset. KEDA's questions are asked as it asks them.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from cli.redis_server import server_program
from predictions.settings import PREFIX, Settings
from tests.deploy import charts
from tests.deploy.charts import Object
from tests.finetuning.conftest import tune, write_clip
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, s3_server
from tests.servers import free_port, wait_until

MINUTES = 300.0
SECRETS = {
    "MUSICGEN_SECRET": "a secret that only the tests know",
    "MUSICGEN_API_TOKENS": "a-token-of-the-tests",
    "VALKEY_PASSWORD": "a-password-of-the-tests",
    "MUSICGEN_S3_ACCESS_KEY": ACCESS_KEY,
    "MUSICGEN_S3_SECRET_KEY": SECRET_KEY,
}


@dataclass
class Node:
    """Runs pods as processes."""

    folder: Path
    replacements: dict[str, str]
    """What the manifests say, and what is here in its place."""
    metrics_ports: dict[str, int] = field(default_factory=dict)
    """By component: pods have addresses of their own, processes here do not."""

    @contextmanager
    def run(self, component: str, *program: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a workload's container; SIGTERM ends it, within a minute."""
        [workload] = charts.workloads(charts.rendered("cpu"), component)
        # Of what the kubelet adds, nothing; of this process, only what makes Python run.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        variables = charts.environment(workload, SECRETS)
        known = {name: self.here(value) for name, value in variables.items() if is_known(name)}
        self.metrics_ports[component] = free_port()
        known["MUSICGEN_METRICS_PORT"] = str(self.metrics_ports[component])
        arguments = [self.here(charts.expanded(text, variables)) for text in charts.container(workload)["args"]]
        log = self.folder / f"{component}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*program, *arguments], env={**inherited, **known}, cwd=self.folder, stdout=output, stderr=output
            )
        try:
            yield process
        except BaseException:
            print(log.read_text()[-8000:])
            raise
        finally:
            process.terminate()
            # uvicorn ends by the signal that it was sent, once it has shut down.
            assert process.wait(60) in (0, -signal.SIGTERM), log.read_text()[-8000:]

    def here(self, text: str) -> str:
        for old, new in self.replacements.items():
            text = text.replace(old, new)
        return text


def is_known(name: str) -> bool:
    """Whether this version has the setting, or it is none of ours."""
    return not name.startswith(PREFIX) or name.removeprefix(PREFIX).lower() in Settings.model_fields


@dataclass
class Cluster:
    """What a client and KEDA see."""

    client: httpx.Client
    node: Node
    redis_url: str

    def start(self, component: str) -> Any:
        return self.node.run(component, sys.executable, "-m", "cli.main")

    def post(self) -> httpx.Response:
        return self.client.post("/predictions", json={"input": {"prompt": "soft piano", "duration": 1}})

    def health(self) -> Object:
        body: Object = self.client.get("/health-check").json()
        return body

    def ended(self, prediction: str) -> Object:
        wait_until(lambda: self.read(prediction)["completed_at"] is not None, seconds=MINUTES, every=0.2)
        return self.read(prediction)

    def read(self, prediction: str) -> Object:
        body: Object = self.client.get(f"/predictions/{prediction}").json()
        return body

    def measured(self, component: str = "worker") -> int:
        """What KEDA computes: its formula over the values of its triggers."""
        scaled = charts.named(charts.rendered("cpu"), "ScaledObject", f"music-musicgen-{component}-pocket")
        values = {trigger["name"]: self.told(trigger["metadata"]) for trigger in scaled["spec"]["triggers"]}
        terms = scaled["spec"]["advanced"]["scalingModifiers"]["formula"].split(" + ")
        return sum(values[term] for term in terms)

    def told(self, trigger: dict[str, str]) -> int:
        """What a trigger reads, without a token and under the name of the Service."""
        url = httpx.URL(trigger["url"])
        headers = {"Host": url.host, "Authorization": ""}
        if trigger["format"] == "json":
            return chosen(self.client.get(url.path, headers=headers).json(), trigger["valueLocation"])
        address = f"http://127.0.0.1:{self.node.metrics_ports['api']}{url.path}"
        return sample(httpx.get(address, headers=headers, trust_env=False).text, trigger["valueLocation"])


def chosen(body: Object, location: str) -> int:
    """What a GJSON path of the one form that the chart uses leads to: an item of a list, by its name, and its field."""
    match = re.fullmatch(r'(\w+)\.#\(name=="([^"]+)"\)\.(\w+)', location)
    assert match, location
    found = next(item for item in body[match[1]] if item["name"] == match[2])
    value = found[match[3]]
    assert type(value) is int
    return value


def sample(text: str, location: str) -> int:
    """What a selector of the one form that the chart uses leads to in metrics: a name, and a model."""
    match = re.fullmatch(r'(\w+)\{model="([^"]+)"\}', location)
    assert match, location
    [found] = [
        item.value
        for family in text_string_to_metric_families(text)
        for item in family.samples
        if (item.name, item.labels) == (match[1], {"model": match[2]})
    ]
    return int(found)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, storage: S3Server) -> Iterator[Cluster]:
    """Valkey, the API and the webhook worker run; the model's worker does not."""
    [config] = charts.of_kind(charts.rendered("cpu"), "ConfigMap")
    (tmp_path / "models.toml").write_text(config["data"]["models.toml"])
    (tmp_path / "data").mkdir()
    redis_port, api_port = free_port(), free_port()
    replacements = {
        "music-musicgen-valkey:6379": f"127.0.0.1:{redis_port}",
        "http://music-musicgen-s3:7070": storage.endpoint,
        "http://localhost:7070": storage.endpoint,
        "/etc/musicgen/models": str(tmp_path),
        "/data": str(tmp_path / "data"),
        "8000": str(api_port),
    }
    node = Node(tmp_path, replacements)
    headers = {"Authorization": f"Bearer {SECRETS['MUSICGEN_API_TOKENS']}"}
    address = f"http://127.0.0.1:{api_port}"
    with (
        node.run("valkey", "env", "--chdir", str(tmp_path), *valkey(redis_port)),
        httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client,
    ):
        cluster = Cluster(client, node, f"redis://:{SECRETS['VALKEY_PASSWORD']}@127.0.0.1:{redis_port}/0")
        with cluster.start("api") as process, cluster.start("webhooks"):
            wait_until(lambda: answers(client), seconds=MINUTES, every=0.2, process=process)
            yield cluster


def valkey(port: int) -> tuple[str, ...]:
    """A shell that runs this machine's server, under whatever name, with the rendered options and this port."""
    return ("sh", "-c", f'shift; exec "{server_program()}" "$@" --port {port} --bind 127.0.0.1', "sh")


def answers(client: httpx.Client, url: str = "/health-check") -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_from_nothing_to_music_and_back_from_zero(cluster: Cluster) -> None:
    refused = cluster.post()
    assert refused.status_code == 503, "the first worker has to announce the model: hence initialCooldownPeriod"
    assert cluster.measured() == 0
    with redis.Redis.from_url(cluster.redis_url) as valkey_client:
        kept = valkey_client.config_get("append*")
    assert (kept["appendonly"], kept["appendfsync"]) == ("yes", "always")
    wrong = cluster.redis_url.replace(SECRETS["VALKEY_PASSWORD"], "another")
    with redis.Redis.from_url(wrong) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()

    with cluster.start("worker") as worker:
        wait_until(lambda: cluster.health()["status"] == "ready", seconds=MINUTES, every=0.2, process=worker)
        ended = cluster.ended(cluster.post().json()["id"])
        assert (ended["status"], ended["error"]) == ("succeeded", None)
        assert httpx.get(ended["output"], trust_env=False).status_code == 200

    # KEDA takes the last worker away; what is asked for waits, and that is what brings one back.
    wait_until(lambda: cluster.health()["status"] == "no workers", seconds=MINUTES, every=0.2)
    accepted = cluster.post()
    assert accepted.status_code == 202
    assert cluster.measured() == 1
    with cluster.start("worker"):
        assert cluster.ended(accepted.json()["id"])["status"] == "succeeded"
    assert cluster.measured() == 0


def test_a_worker_that_trains_and_back_from_zero(cluster: Cluster, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "tune.wav", tune(0)).read_bytes()
    dataset = f"data:audio/wav;base64,{base64.b64encode(clip).decode()}"
    order = {"input": {"dataset": dataset, "description": "a tune", "inspect": True}}

    def post() -> httpx.Response:
        return cluster.client.post("/trainings", json=order)

    def read(training: httpx.Response) -> Object:
        body: Object = cluster.client.get(f"/trainings/{training.json()['id']}").json()
        return body

    def ends(training: httpx.Response, process: subprocess.Popen[bytes]) -> None:
        wait_until(lambda: read(training)["completed_at"] is not None, seconds=MINUTES, every=0.2, process=process)
        assert (read(training)["status"], len(read(training)["output"]["table"])) == ("succeeded", 1)

    assert post().status_code == 503, "the first worker has to announce itself: hence initialCooldownPeriod"
    assert cluster.measured("trainer") == 0
    with cluster.start("trainer") as trainer:
        ready = f"http://127.0.0.1:{cluster.node.metrics_ports['trainer']}/health/ready"
        wait_until(lambda: answers(cluster.client, ready), seconds=MINUTES, every=0.2, process=trainer)
        ends(post(), trainer)

    accepted = post()
    assert accepted.status_code == 202
    assert (cluster.measured("trainer"), cluster.measured()) == (1, 0)
    with cluster.start("trainer") as trainer:
        ends(accepted, trainer)
    assert cluster.measured("trainer") == 0
