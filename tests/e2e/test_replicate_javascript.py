"""Replicate's own JavaScript client, unmodified, against a running service: tests/javascript/replicate.test.mjs."""

from __future__ import annotations

from tests.e2e.conftest import Service
from tests.javascript import node


def test_the_javascript_client(service: Service) -> None:
    model = service.client.get("/models").json()["results"][0]["name"]
    base_url = str(service.client.base_url).rstrip("/")
    said = node("--test", "--test-reporter=tap", "replicate.test.mjs", BASE_URL=base_url, MODEL=model)
    assert "# fail 0" in said
    assert "# pass 0" not in said
