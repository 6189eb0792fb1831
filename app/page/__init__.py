"""The page at `/` and the API's reference at `/docs`: files built from `page/`, which need no other host.

The page is a client of the public API like any other. It is built by `make setup` and carried in the package; where it
could not be built, the service works without it and says so.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

from predictions.errors import ObjectNotFound
from predictions.storage.protocol import AudioStorage

logger = logging.getLogger(__name__)

BUILT = Path(__file__).parent / "built"
NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>MusicGen</title>
<h1>The page is not built</h1>
<p>The service itself works: see <a href="/openapi.json">its OpenAPI document</a>. To build the page, run
<code>make setup</code>, which needs the npm registry, and start the service again.</p>"""
FOR_EVER = "public, max-age=31536000, immutable"


def page_router(storage: AudioStorage, built: Path = BUILT) -> APIRouter:
    """Return the routes of the page and of the reference. `storage`: where the page may fetch audio from."""
    router = APIRouter(include_in_schema=False)
    origin = storage_origin(storage)
    if not (built / "index.html").is_file():
        logger.warning("The page is not built, and / says how to; the API works without it")

    @router.api_route("/", methods=["GET", "HEAD"])
    def get_page() -> Response:
        """The page."""
        return _document(built / "index.html", origin)

    @router.api_route("/docs", methods=["GET", "HEAD"])
    def get_reference() -> Response:
        """The API's reference, in which every request can be tried."""
        return _document(built / "docs" / "index.html", origin)

    @router.api_route("/page/{path:path}", methods=["GET", "HEAD"])
    def get_file(path: str) -> FileResponse:
        """A file of the page; its name changes with its content."""
        file = (built / path).resolve()
        if not file.is_relative_to(built.resolve()) or not file.is_file():
            raise ObjectNotFound(path)
        return FileResponse(file, headers={"Cache-Control": FOR_EVER, "X-Content-Type-Options": "nosniff"})

    return router


def storage_origin(storage: AudioStorage) -> str:
    """The origin of the audio's URLs; empty where this service serves them itself."""
    parts = urlsplit(storage.url("predictions/any/any/output.wav"))
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def content_security_policy(nonce: str, origin: str) -> str:
    """The policy of both documents: nothing but our own files, and audio from the storage (CSP level 3)."""
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' 'nonce-{nonce}'",
        "img-src": "'self' data: blob:",
        "media-src": f"'self' blob: {origin}",
        "connect-src": f"'self' blob: {origin}",
        "worker-src": "'self' blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}".strip() for name, value in rules.items())


def _document(file: Path, origin: str) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    try:
        text = file.read_text(encoding="utf-8").replace("{{nonce}}", nonce)
    except FileNotFoundError:
        text = NOT_BUILT
    headers = {
        "Content-Security-Policy": content_security_policy(nonce, origin),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        # The microphone is for recording what is to be continued.
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    }
    return HTMLResponse(text, headers=headers)
