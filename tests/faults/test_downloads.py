"""Input audio from servers that drip, in real processes: what it keeps from whom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dripping_server import DrippingServer, dripping_server
from tests.faults.deployment import ENDED, Deployment
from tests.faults.report import Report
from tests.servers import wait_until

TOKENS = ("the first token", "the second token")
PLACES_OF_AN_OWNER = 4
END_SECONDS = 90.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    # A download may take ten minutes: what ends here does not end because of that.
    settings = {"MUSICGEN_API_TOKENS": ",".join(TOKENS), "MUSICGEN_DOWNLOAD_TIMEOUT_SECONDS": "600"}
    with Deployment(tmp_path_factory.mktemp("downloads"), **settings) as deployment:
        yield deployment


@pytest.fixture
def server() -> Iterator[DrippingServer]:
    with dripping_server() as server:
        yield server


@pytest.fixture
def clients(service: Deployment) -> Iterator[list[httpx.Client]]:
    """A client of each tenant."""
    made = [
        httpx.Client(base_url=service.base_url(), trust_env=False, headers={"Authorization": f"Bearer {token}"})
        for token in TOKENS
    ]
    yield made
    for client in made:
        client.close()


def read(client: httpx.Client, prediction_id: str) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/predictions/{prediction_id}").json()
    return body


def wait_for_end(client: httpx.Client, prediction_id: str) -> dict[str, Any]:
    wait_until(lambda: read(client, prediction_id)["status"] in ENDED, seconds=END_SECONDS)
    return read(client, prediction_id)


def drip(service: Deployment, client: httpx.Client, server: DrippingServer, count: int) -> list[str]:
    """Ask for predictions whose input audio does not end."""
    return [
        service.post(client, prompt="drips", duration=1, input_audio=f"{server.url}/drip/{n}", continuation=True)
        for n in range(count)
    ]


def test_downloads_that_drip_keep_no_other_waiting(
    service: Deployment,
    server: DrippingServer,
    clients: list[httpx.Client],
    tries: Callable[[int, int], int],
    report: Report,
) -> None:
    """Forty downloads of one tenant; the other's predictions, with audio and without, end while they go on."""
    count = tries(1, 10)
    dripping = drip(service, clients[0], server, 40)
    wait_until(lambda: len(server.read) == PLACES_OF_AN_OWNER, seconds=END_SECONDS)
    recovery, lost = [], 0
    for n in range(count):
        asked_at = time.monotonic()
        audio = {"input_audio": f"{server.url}/whole.wav", "continuation": True}
        made = [service.post(clients[1], prompt=f"another {n}", duration=1, **given) for given in ({}, audio)]
        lost += sum(wait_for_end(clients[1], prediction_id)["status"] != "succeeded" for prediction_id in made)
        recovery.append(time.monotonic() - asked_at)
    still = len(server.read)
    for prediction_id in dripping:
        assert clients[0].delete(f"/predictions/{prediction_id}").status_code == 204
    wait_until(lambda: not server.read, seconds=END_SECONDS)
    report.add("forty downloads of a tenant drip, another's predictions", count, lost=lost, recovery=recovery)
    assert lost == 0
    assert still == PLACES_OF_AN_OWNER


def test_a_worker_told_to_end_leaves_its_downloads_to_the_next(
    service: Deployment, server: DrippingServer, clients: list[httpx.Client], tmp_path: Path
) -> None:
    dripping = drip(service, clients[0], server, 2)
    wait_until(lambda: len(server.read) == 2, seconds=END_SECONDS)
    service.terminate("worker-0", END_SECONDS)
    process = service.members["worker-0"].process
    assert process is not None
    assert process.returncode == 0, service.log_tails()
    wait_until(lambda: len(server.left) == 2, seconds=END_SECONDS)
    assert {read(clients[0], prediction_id)["status"] for prediction_id in dripping} == {"starting"}
    service.start("worker-0")
    wait_until(lambda: len(server.read) == 2, seconds=END_SECONDS)
    other = service.post(clients[1], prompt="beside them, for they are no suspects", duration=1)
    assert wait_for_end(clients[1], other)["status"] == "succeeded"
    for prediction_id in dripping:
        assert clients[0].post(f"/predictions/{prediction_id}/cancel").json()["status"] == "canceled"
    wait_until(lambda: not server.read, seconds=END_SECONDS)
