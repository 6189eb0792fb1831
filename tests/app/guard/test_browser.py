"""Pages of other sites: refused where there are no tokens, let in where the operator says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from predictions.models.card import Announcement
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server

BODY = {"input": {"prompt": "piano"}}
PAGE = "https://page.example"
TOKEN = "a-token-of-ann"


@pytest.fixture
def serve(settings: Settings, announce: Callable[[Announcement], None]) -> Callable[..., Any]:
    announce(CARD)

    @contextmanager
    def serve(**changes: Any) -> Iterator[httpx.Client]:
        changed = Settings(**{**settings.model_dump(), **changes})
        with api_server(changed) as address, httpx.Client(base_url=address, trust_env=False) as client:
            yield client

    return serve


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost", "http://127.0.0.1:1", "https://[", "nonsense"])
def test_a_foreign_page_changes_nothing(serve: Callable[..., Any], origin: str) -> None:
    with serve() as client:
        for method, path in (("POST", "/predictions"), ("PUT", "/predictions/a"), ("DELETE", "/predictions/a")):
            answer = client.request(method, path, headers={"Origin": origin, "Content-Type": "text/plain"})
            assert (answer.status_code, "MUSICGEN_CORS_ORIGINS" in answer.json()["detail"]) == (403, True)
        form = client.post("/files", files={"content": ("a.wav", b"RIFF")}, headers={"Origin": origin})
        assert form.status_code == 403
        assert client.post("/predictions", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_the_pages_of_the_service_itself_work(serve: Callable[..., Any]) -> None:
    with serve() as client:
        port = client.base_url.port
        for name in ("127.0.0.1", "localhost", "music.localhost", "[::1]"):
            headers = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}", "Sec-Fetch-Site": "same-origin"}
            assert client.post("/predictions", json=BODY, headers=headers).status_code == 202
            assert client.get("/", headers=headers).status_code == 200
            assert client.get("/openapi.json", headers=headers).status_code == 200
        assert client.post("/predictions", json=BODY).status_code == 202


@pytest.mark.parametrize("host", ["page.example", "page.example:8000", "127.0.0.1.page.example", "[", "0x7f.1"])
def test_another_name_is_refused(serve: Callable[..., Any], host: str) -> None:
    with serve() as client:
        for path in ("/", "/predictions", "/health-check"):
            answer = client.get(path, headers={"Host": host})
            assert (answer.status_code, "MUSICGEN_PUBLIC_URL" in answer.json()["detail"]) == (421, True)


def test_behind_a_proxy_the_public_name_is_known(serve: Callable[..., Any]) -> None:
    with serve(public_url="https://music.example.com") as client:
        public = {"Origin": "https://music.example.com"}
        assert client.post("/predictions", json=BODY, headers=public | {"Host": "music.example.com"}).status_code == 202
        # A proxy that sends the address that it connects to.
        assert client.post("/predictions", json=BODY, headers=public).status_code == 202
        assert client.post("/predictions", json=BODY, headers={"Origin": PAGE}).status_code == 403


def test_with_tokens_neither_is_looked_at(serve: Callable[..., Any]) -> None:
    with serve(api_tokens=TOKEN) as client:
        headers = {"Authorization": f"Bearer {TOKEN}", "Origin": PAGE, "Host": "page.example"}
        assert client.post("/predictions", json=BODY, headers=headers).status_code == 202


def test_a_file_of_tokens_is_enough_for_that(serve: Callable[..., Any], tmp_path: Path) -> None:
    """A probe or a scaler inside a cluster asks under names that nobody set."""
    file = tmp_path / "tokens.json"
    file.write_text('{"tenants": {}}')
    with serve(tokens_file=file) as client:
        assert client.get("/health-check", headers={"Host": "10.1.2.3:8000"}).status_code == 200
        assert client.post("/predictions", json=BODY, headers={"Origin": PAGE}).status_code == 401


@pytest.mark.parametrize("tokens", ["", TOKEN])
def test_pages_that_the_operator_names_may_use_the_api(serve: Callable[..., Any], tokens: str) -> None:
    with serve(cors_origins=f"{PAGE}, http://localhost:3000", api_tokens=tokens) as client:
        asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        wanted = {"Access-Control-Request-Headers": "authorization, content-type, prefer"}
        preflight = client.options("/predictions", headers=asked | wanted)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
        headers = {"Origin": PAGE, "Authorization": f"Bearer {TOKEN}"}
        answer = client.post("/predictions", json=BODY, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, PAGE)
        events = client.get(f"/predictions/{answer.json()['id']}x/stream", headers=headers)
        assert events.headers["access-control-allow-origin"] == PAGE
        refused = client.options("/predictions", headers=asked | {"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in refused.headers


def test_without_the_setting_no_page_is_let_in(serve: Callable[..., Any]) -> None:
    with serve(api_tokens=TOKEN) as client:
        assert "access-control-allow-origin" not in client.get("/health-check", headers={"Origin": PAGE}).headers


@pytest.mark.parametrize("origins", ["*", "page.example", "https://page.example/path", "https://"])
def test_wrong_origins_stop_the_start(settings: Settings, origins: str) -> None:
    with pytest.raises(ValueError, match=r"CORS_ORIGINS|an origin"):
        Settings(**{**settings.model_dump(), "cors_origins": origins})
