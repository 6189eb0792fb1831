"""Suggestions for requests to paths that do not exist, or that do not take the method."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST = 3
"""Suggestions in one answer."""
LONGEST = 200
"""Characters: a longer path is no typing mistake."""
NEAR = 0.75
VERSIONS = frozenset({"api", "v0", "v1", "v2", "v3"})
"""What other services put before their paths."""

MEANINGS = {
    **dict.fromkeys(
        (
            "predict",
            "generate",
            "generation",
            "generations",
            "infer",
            "inference",
            "invocations",
            "run",
            "create",
            "music",
        ),
        "POST /predictions",
    ),
    **dict.fromkeys(("upload", "uploads", "audio"), "POST /files"),
    **dict.fromkeys(
        ("health", "healthz", "healthcheck", "status", "ping", "ready", "readyz", "live"), "GET /health-check"
    ),
    **dict.fromkeys(("swagger", "redoc", "reference", "help", "documentation"), "GET /docs"),
    **dict.fromkeys(("openapi", "openapi.yaml", "swagger.json", "schema"), "GET /openapi.json"),
    **dict.fromkeys(("index.html", "ui", "app", "home"), "GET /"),
}
"""What other services call our paths, by their first part."""


@dataclass(frozen=True)
class Operation:
    """A method and a path, which may have parameters in braces."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def suggestions(method: str, path: str, known: Iterable[Operation]) -> list[str]:
    """Return the operations that were most likely meant, the likeliest first; none where nothing is near."""
    if len(path) > LONGEST:
        return []
    operations = list(known)
    parts = [part for part in path.lower().split("/") if part]
    if parts and not _without_version(parts):
        return ["POST /v1/predictions", "GET /v1/models"] if "v1" in parts else ["POST /predictions", "GET /models"]
    meant = MEANINGS.get("/".join(_without_version(parts)))
    found = [meant] if meant else [str(item) for item in _by_likeness(method, parts, operations)]
    return list(dict.fromkeys(found))[:MOST]


def _by_likeness(method: str, parts: list[str], known: list[Operation]) -> Iterator[Operation]:
    """Yield the operations whose paths are spelt like this one, with or without a version before them."""
    rated = [(_likeness(parts, item), item.method == method, item) for item in known]
    near = [item for item in rated if item[0] >= NEAR]
    # Where some take the method that was sent, the others were not meant.
    if any(right_method for _, right_method, _ in near):
        near = [item for item in near if item[1]]
    for _, _, item in sorted(near, key=lambda item: -item[0]):
        yield item


def _likeness(parts: list[str], operation: Operation) -> float:
    """Return how alike the path is to the operation's, from 0 to 1. What a parameter stands for does not count."""
    template = operation.path.strip("/").split("/")
    return max(_likeness_of(parts, template), 0.95 * _likeness_of(_without_version(parts), _without_version(template)))


def _likeness_of(parts: list[str], template: list[str]) -> float:
    if len(parts) != len(template):
        # A list is asked for where only its members can be read.
        is_list = len(template) == len(parts) + 1 and template[-1].startswith("{") and parts == template[:-1]
        return 0.9 if is_list else 0.0
    likenesses = [
        difflib.SequenceMatcher(None, part, wanted).ratio()
        for part, wanted in zip(parts, template, strict=True)
        if not wanted.startswith("{")
    ]
    return min(likenesses, default=0.0)


def _without_version(parts: list[str]) -> list[str]:
    while parts and parts[0] in VERSIONS:
        parts = parts[1:]
    return parts
