"""Fixtures: an HTTP server, an HTTPS server, and the file that a download is saved as."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.network.servers import Server, serving, write_certificate


@pytest.fixture
def server() -> Iterator[Server]:
    yield from serving()


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An HTTPS server whose certificate is trusted here, for the name music.example."""
    certificate = tmp_path / "certificate.pem"
    write_certificate(certificate, "music.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield from serving(context)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloaded"
