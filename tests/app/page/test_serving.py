"""How the page's files are served, whether they are built or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.page import page_router
from app.problems import add_problem_handlers
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.storage.s3 import S3Storage


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    (folder / "docs").mkdir(parents=True)
    (folder / "index.html").write_text('<meta name="csp-nonce" content="{{nonce}}">page')
    (folder / "docs" / "index.html").write_text("reference")
    (folder / "page-1a2b.js").write_text("run()")
    (tmp_path / "secret").write_text("not to be read")
    return folder


def client(settings: Settings, built: Path) -> TestClient:
    app = FastAPI(docs_url=None)
    add_problem_handlers(app)
    app.include_router(page_router(open_storage(settings), built))
    return TestClient(app)


@pytest.fixture
def page(settings: Settings, built: Path) -> Iterator[TestClient]:
    with client(settings, built) as client_of_page:
        yield client_of_page


def test_the_documents_have_a_strict_policy_and_a_nonce_of_their_own(page: TestClient) -> None:
    first, second = page.get("/"), page.get("/")
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy, "no other host"
    nonce = first.text.partition('content="')[2].partition('"')[0]
    assert f"'nonce-{nonce}'" in policy
    assert first.text != second.text
    assert "set-cookie" not in first.headers
    assert page.get("/docs").text == "reference"
    assert page.head("/").status_code == 200


def test_files_may_be_kept_for_ever_and_documents_not(page: TestClient) -> None:
    script = page.get("/page/page-1a2b.js")
    assert script.text == "run()"
    assert "javascript" in script.headers["content-type"]
    assert "immutable" in script.headers["cache-control"]
    assert page.get("/").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "..%2fsecret", "docs", "none.js", "/etc/passwd"])
def test_nothing_but_the_pages_files_is_read(page: TestClient, path: str) -> None:
    assert page.get(f"/page/{path}").status_code == 404


def test_an_unbuilt_page_says_how_to_build_it(settings: Settings, tmp_path: Path) -> None:
    with client(settings, tmp_path / "nothing") as page:
        answer = page.get("/")
    assert answer.status_code == 200
    assert "make setup" in answer.text


def test_audio_may_come_from_the_storage_alone(settings: Settings, built: Path) -> None:
    app = FastAPI()
    s3 = settings.model_copy(
        update={
            "s3_endpoint": "http://s3:7070",
            "s3_public_endpoint": "https://audio.example:8443",
            "s3_access_key": "k",
        }
    )
    app.include_router(page_router(S3Storage(s3.model_copy(update={"s3_secret_key": s3.secret})), built))
    with TestClient(app) as page:
        policy = page.get("/").headers["content-security-policy"]
    assert "connect-src 'self' blob: https://audio.example:8443" in policy
