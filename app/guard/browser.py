"""Pages of other sites in the browser of somebody who runs the service without tokens.

Without tokens, whoever reaches the service may use it, and a browser on the same machine reaches it on behalf of any
page. A page of another site is told apart by its `Origin`; a page whose own name was pointed at this machine (DNS
rebinding) by the `Host` that the browser sends. Where there are tokens, no page has one, and nothing is checked.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import problem_response
from predictions.settings import Settings, is_loopback

READING = frozenset({"GET", "HEAD", "OPTIONS"})
LOOKED_AT = (b"host", b"origin", b"sec-fetch-site")


class BrowserGuard:
    """Refuses requests by pages of other sites, and requests under names that are not the service's."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        public = urlsplit(settings.public_url or "")
        self._hosts = {settings.host.lower(), (public.hostname or "").lower()} - {""}
        self._origins = {*settings.cors_origins, f"{public.scheme}://{public.netloc}".lower()}
        # Nearly all requests are alike in what is looked at.
        self._problem = lru_cache(maxsize=256)(self._find_problem)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass the request on."""
        if scope["type"] == "http":
            sent = dict(reversed(scope["headers"]))
            problem = self._problem(scope["method"] in READING, *(sent.get(name) for name in LOOKED_AT))
            if problem is not None:
                await problem_response(Request(scope), *problem)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _find_problem(
        self, reads: bool, sent_host: bytes | None, sent_origin: bytes | None, sent_site: bytes | None
    ) -> tuple[int, str, str] | None:
        host = (sent_host or b"").decode("latin-1")
        origin = None if sent_origin is None else sent_origin.decode("latin-1")
        if host and not self._is_ours(host):
            return (
                421,
                "Unknown host",
                f"This service runs without tokens and answers only under its own names, not under {host[:100]!r}. If "
                "that is its name, set MUSICGEN_PUBLIC_URL to its address, or set MUSICGEN_API_TOKENS.",
            )
        if not reads and not self._is_own_page(origin, sent_site, host):
            return (
                403,
                "Foreign page",
                f"This service runs without tokens and does nothing for pages of {(origin or 'another site')[:100]!r}. "
                "If that page is yours, set MUSICGEN_CORS_ORIGINS to its origin, or set MUSICGEN_API_TOKENS.",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        return name in self._hosts or is_loopback(name) or name.endswith(".localhost")

    def _is_own_page(self, origin: str | None, site: bytes | None, host: str) -> bool:
        if origin is None:
            # Browsers send an Origin with whatever changes something; programs that are none send neither header.
            return site in (None, b"none", b"same-origin")
        # The scheme may differ: a proxy speaks HTTPS for us.
        return origin.lower() in self._origins or _authority(origin) == host.lower()


def _host_name(host: str) -> str:
    """Return a Host header without its port; empty where it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _authority(origin: str) -> str:
    """Return host and port of an origin; empty where it has none, such as `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
