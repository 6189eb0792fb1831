"""Requests made up by hypothesis, on every route: none holds up the API, takes much memory, or is answered with 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.guard.conftest import TOKEN
from tests.app.guard.exchange import WatchedApi, in_chunks, with_length

ROUTES = [
    *(("GET", path) for path in ("/", "/docs", "/openapi.json", "/v1/openapi.json", "/health-check", "/models")),
    *(("GET", path) for path in ("/predictions", "/predictions/a", "/predictions/a/stream", "/predictions/a/audio")),
    *(("GET", path) for path in ("/files/a", "/v1/files", "/v1/account", "/v1/models", "/v1/predictions")),
    *(("GET", path) for path in ("/objects/predictions/a/1/output.wav", "/page/a.js", "/models/a/b")),
    *(("POST", path) for path in ("/predictions", "/predictions/a/rerun", "/predictions/a/cancel", "/files")),
    *(("POST", path) for path in ("/v1/predictions", "/v1/models/a/b/predictions", "/v1/files", "/nowhere")),
    *(("POST", path) for path in ("/v1/deployments/tests/melody/predictions", "/v1/models/tests/melody/predictions")),
    ("POST", "/predictions/a/webhook-deliveries/b/redeliver"),
    ("PUT", "/predictions/a-name"),
    ("DELETE", "/predictions/a"),
    ("OPTIONS", "/predictions"),
]
FIELDS = ["prompt", "input_audio", "duration", "continuation", "continuation_start", "continuation_end", "seed"]
FIELDS += ["top_k", "top_p", "temperature", "classifier_free_guidance", "output_format", "normalization_strategy"]
BESIDE = ["input", "version", "stream", "webhook", "webhook_events_filter", "webhook_completed"]

# Surrogates, controls and all other characters; few of them, or very many.
texts = st.one_of(
    st.text(st.characters(), max_size=20),
    st.builds(
        lambda text, times: text * times,
        st.text(st.characters(), min_size=1, max_size=3),
        st.sampled_from([700, 2001, 70_000, 400_000]),
    ),
    st.sampled_from(["http://example.com/", "data:audio/wav;base64,UklGRg==", "data:,", "data:", "nan", "\0", "../.."]),
    st.builds(lambda size: "data:audio/wav;base64," + "A" * size, st.sampled_from([3, 4, 70_000, 3_000_000])),
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.integers(-(10**300), 10**300))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(texts, inner, max_size=4),
        st.builds(
            lambda value, times: [value] * times,
            leaves.filter(lambda value: not isinstance(value, str)),
            st.sampled_from([300, 3000, 30_000]),
        ),
    ),
    max_leaves=8,
)


@dataclass(frozen=True)
class Made:
    """A request that was made up."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    chunk_size: int
    """0: the body's length is told beforehand."""

    def __repr__(self) -> str:
        """Show what a person can read."""
        headers = [(name, value[:60]) for name, value in self.headers]
        shown = f"{self.method} {self.target[:80]} {headers} chunks of {self.chunk_size}"
        return f"{shown}, {len(self.body)} bytes: {self.body[:300]!r}"

    def pieces(self) -> Iterator[bytes]:
        """What is sent."""
        if self.chunk_size:
            return in_chunks(self.method, self.target, self.headers, self.body, self.chunk_size)
        return with_length(self.method, self.target, self.headers, self.body)


@st.composite
def json_bodies(draw: st.DrawFn) -> bytes:
    """A body that is almost right, as JSON that may be damaged."""
    value: Any = {name: draw(values) for name in draw(st.lists(st.sampled_from(FIELDS), unique=True, max_size=4))}
    beside = draw(st.lists(st.sampled_from(BESIDE[1:]), unique=True, max_size=3))
    body: Any = {"input": {"prompt": "piano", **value}, **{name: draw(values) for name in beside}}
    body |= {f"n{i}": i for i in range(draw(st.sampled_from([0, 0, 0, 1, 1500, 20_000])))}
    text = json.dumps(draw(st.sampled_from([body, body, body["input"], list(body)]))).encode()
    depth = draw(st.sampled_from([0, 0, 0, 10, 40, 50_000]))
    text = text.replace(b'"piano"', b"[" * depth + b'"piano"' + b"]" * depth, 1)
    match draw(st.sampled_from(["whole", "whole", "whole", "cut", "bytes", "twice"])):
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
        case "bytes":
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.binary(max_size=20)) + text[at:]
        case "twice":
            return text + text
    return text


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """A multipart form that is almost right."""
    parts = b""
    for _ in range(draw(st.sampled_from([1, 1, 2, 3, 500]))):
        name = draw(st.sampled_from(['"content"', '"metadata"', '"x"', "content", '"a\\"']))
        file = draw(
            st.sampled_from(['; filename="a.wav"', "", '; filename="' + "n" * 3000 + '"', "; filename*=utf-8''%ff"])
        )
        content = draw(
            st.one_of(st.binary(max_size=50), st.builds(bytes, st.sampled_from([70_000, 2_000_000])), json_bodies())
        )
        parts += (
            f"--b\r\nContent-Disposition: form-data; name={name}{file}\r\n\r\n".encode() + content[:2_000_000] + b"\r\n"
        )
        if len(parts) > 4_000_000:
            break
    return parts + draw(st.sampled_from([b"--b--\r\n", b"", b"--b", b"--b\r\n"]))


values_of_headers = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30),
    st.builds(
        lambda text, times: text * times,
        st.sampled_from(["a", ",", ";", "=", '"', "a=b;"]),
        st.sampled_from([500, 9000]),
    ),
)
NAMES = ["Idempotency-Key", "Last-Event-ID", "Host", "Origin", "Range", "X-Forwarded-Proto", "Accept", "Cookie"]
TYPES = ["application/json", "application/json", "application/problem+json; charset=utf-16", "text/plain", "a" * 9000]
TYPES += ["multipart/form-data; boundary=b", "multipart/form-data; boundary=b", "multipart/form-data"]
TYPES += ["multipart/form-data; boundary=b; charset=utf-7", "application/x-www-form-urlencoded"]


@st.composite
def requests(draw: st.DrawFn) -> Made:
    """Any request."""
    method, path = draw(st.sampled_from(ROUTES))
    query = draw(
        st.one_of(st.just(""), st.sampled_from(["limit=1_0", "cursor=bmFu", "token=a", "a=b&" * 2500, "%ff%00=%", "="]))
    )
    kind = draw(st.sampled_from(TYPES))
    token = draw(
        st.sampled_from([f"Bearer {TOKEN}", f"Bearer {TOKEN}", f"Bearer {TOKEN}", "Bearer wrong", "Basic Og=="])
    )
    more = draw(st.lists(st.tuples(st.sampled_from(NAMES), values_of_headers), max_size=2))
    headers = [("Host", "localhost"), ("Authorization", token), ("Content-Type", kind), ("Connection", "close"), *more]
    body = draw(forms() if kind.startswith("multipart") else json_bodies())
    target = f"{path}?{query}" if query else path
    size = draw(st.sampled_from([0, 0, 0, 1, 100, 65_536]))
    return Made(method, target, headers, body[:300_000] if size == 1 else body, size)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)
@given(request=requests())
def test_no_request_hurts(api: WatchedApi, request: Made) -> None:
    status, body = api.check(request.pieces())
    assert status != 500, body
    assert len(body) < 2_000_000
