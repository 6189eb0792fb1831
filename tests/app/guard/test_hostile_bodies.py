"""What large and hostile requests do to the API's process, one by one: nothing, within 50 ms and 64 MB."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable

import pytest

from tests.app.guard.conftest import OTHER_TOKEN, TOKEN
from tests.app.guard.exchange import WatchedApi, head, in_chunks, with_length

MB = 1024 * 1024
HOST = ("Host", "localhost")
ANN = ("Authorization", f"Bearer {TOKEN}")
JSON = [HOST, ANN, ("Content-Type", "application/json")]
FORM = [HOST, ANN, ("Content-Type", "multipart/form-data; boundary=b")]


def audio(content: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(content).decode()


def request_with(uri: str) -> bytes:
    return json.dumps({"input": {"prompt": 'an "étude"', "input_audio": uri, "duration": 2}}).encode()


def post(api: WatchedApi, body: bytes, path: str = "/predictions") -> tuple[int, bytes]:
    return api.check(with_length("POST", path, JSON, body))


LARGE: dict[str, tuple[Callable[[], bytes], int]] = {
    "an http URL of 40 MB": (lambda: request_with("http://example.com/" + "a" * 40 * MB), 413),
    "an http URL of 2,001 characters": (lambda: request_with("http://example.com/".ljust(2001, "a")), 422),
    "a media type of 20 MB": (lambda: request_with("data:" + "a" * 20 * MB + ";base64,AAAA"), 413),
    "a media type of 20 KB": (lambda: request_with("data:" + "a" * 20_000 + ";base64,AAAA"), 422),
    "a data URI without an end": (lambda: request_with(audio(os.urandom(MB)))[:900_000], 400),
    "a data URI with an escape for each character": (
        lambda: request_with("data:audio/wav;base64," + "#" * 4 * MB).replace(b"#", b"\\u0041"),
        202,
    ),
    "a data URI with every byte percent-encoded": (lambda: request_with("data:audio/wav," + "%41" * 10 * MB), 202),
    "a data URI with its slashes escaped": (lambda: request_with(audio(os.urandom(MB))).replace(b"/", b"\\/"), 202),
    "a data URI with broken base64 at its end": (lambda: request_with(audio(os.urandom(30 * MB)) + "!"), 422),
    "a data URI of more than is allowed": (lambda: request_with(audio(b"a" * 33 * MB)), 422),
    "a million quotation marks": (lambda: b'{"input":' + b'"",' * MB, 413),
    "1.9 MB of unknown names": (lambda: json.dumps({f"name{i}": i for i in range(120_000)}).encode(), 413),
    "64 KB of unknown names": (lambda: json.dumps({f"a{i}": 1 for i in range(5000)}).encode(), 422),
    "999 unknown names": (lambda: json.dumps({f"a{i}": 1 for i in range(999)}).encode(), 422),
    "a million events": (lambda: json.dumps({"webhook_events_filter": ["start"] * MB}).encode(), 413),
    "900 wrong events": (lambda: json.dumps({"webhook_events_filter": ["no"] * 900}).encode(), 422),
    "64 KB of brackets": (lambda: b"[" * 60_000, 400),
    "100 levels": (lambda: b'{"input":' + b"[" * 100 + b"]" * 100 + b"}", 422),
    "an integer of 60,000 digits": (lambda: b'{"input":{"prompt":"a","seed":' + b"9" * 60_000 + b"}}", 400),
    "an integer of 4,000 digits": (lambda: b'{"input":{"prompt":"a","seed":' + b"9" * 4000 + b"}}", 422),
    "an infinite number": (lambda: b'{"input":{"prompt":"a","top_p":1e999}}', 422),
    "half of a surrogate pair": (lambda: b'{"input":{"prompt":"\\ud800"}}', 422),
    "broken UTF-8": (lambda: b'{"input":{"prompt":"\xff"}}', 400),
    "a name of 60 KB": (lambda: json.dumps({"a" * 60_000: 1}).encode(), 422),
}


@pytest.mark.parametrize("path", ["/predictions", "/v1/predictions"])
def test_a_hostile_json_body_hurts_nobody(api: WatchedApi, path: str) -> None:
    accepted = {"/predictions": 202, "/v1/predictions": 201}[path]
    for name, (body, status) in LARGE.items():
        answered, text = post(api, body(), path)
        wanted = accepted if status == 202 else status
        assert answered == wanted or (path.startswith("/v1") and "names" in name), (name, answered, text[:500])
        assert len(text) < 400_000, name


def test_the_largest_audio_that_is_allowed_is_taken(api: WatchedApi) -> None:
    content = os.urandom(32 * MB)
    status, body = post(api, request_with(audio(content)))
    assert status == 202
    file = json.loads(body)["input"]["input_audio"].partition("/files/")[2]
    stored = json.loads(api.check([head("GET", f"/v1/files/{file}", [HOST, ANN])])[1])
    assert (stored["size"], stored["content_type"]) == (len(content), "audio/wav")


def test_the_same_long_audio_under_one_key_is_one_prediction(api: WatchedApi) -> None:
    def create(content: bytes) -> tuple[int, bytes]:
        headers = [*JSON, ("Idempotency-Key", "mine")]
        return api.check(with_length("POST", "/predictions", headers, request_with(audio(content))))

    first, again, other = create(b"a" * MB), create(b"a" * MB), create(b"b" * MB)
    assert (first[0], again[0], other[0]) == (202, 202, 422)
    assert json.loads(first[1])["id"] == json.loads(again[1])["id"]


@pytest.mark.parametrize("path", ["/predictions", "/predictions/a/rerun", "/v1/predictions", "/files", "/v1/files"])
def test_without_a_token_a_body_is_not_read(api: WatchedApi, path: str) -> None:
    headers = [HOST, ("Authorization", "Bearer wrong-token"), ("Content-Type", "application/json")]
    body = request_with(audio(b"a" * 30 * MB))
    assert api.check(with_length("POST", path, headers, body))[0] == 401
    # Not one byte of it needs to come.
    assert api.check([head("POST", path, [*headers, ("Content-Length", "42000000")])])[0] == 401


def test_a_body_without_use_for_audio_is_small(api: WatchedApi) -> None:
    body = json.dumps({"webhook": audio(b"a" * MB)}).encode()
    assert api.check(with_length("POST", "/predictions/a/rerun", JSON, body))[0] == 413
    plain = [HOST, ANN, ("Content-Type", "text/plain")]
    assert api.check(with_length("POST", "/predictions", plain, request_with(audio(b"a" * MB))))[0] == 413


def test_a_body_in_tiny_chunks(api: WatchedApi) -> None:
    body = request_with(audio(os.urandom(300_000)))
    assert api.check(in_chunks("POST", "/predictions", JSON, body, 1))[0] == 202


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


FILE = '; filename="a.wav"'
FORMS: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "the largest file": (lambda: part("content", os.urandom(MB) * 256, FILE) + b"--b--\r\n", {201}),
    "too large a file": (lambda: part("content", b"a" * 257 * MB, FILE) + b"--b--\r\n", {413}),
    "10,000 files": (lambda: part("content", b"a", FILE) * 10_000 + b"--b--\r\n", {400}),
    "10,000 fields": (lambda: part("metadata", b"{}") * 10_000 + b"--b--\r\n", {400}),
    "a field of 10 MB": (lambda: part("metadata", b"a" * 10 * MB) + b"--b--\r\n", {400}),
    "10 MB of line ends": (lambda: part("content", b"\r\n" * 5 * MB, FILE) + b"--b--\r\n", {201}),
    "10 MB of almost boundaries": (lambda: part("content", b"\r\n--" * 3 * MB, FILE) + b"--b--\r\n", {201}),
    "10 MB of headers": (lambda: b"--b\r\n" + b"a: b\r\n" * 2 * MB, {400}),
    "no end": (lambda: part("content", b"a" * MB, FILE), {422}),
    "not a form": (lambda: os.urandom(MB), {400}),
}


@pytest.mark.parametrize("path", ["/files", "/v1/files"])
def test_a_hostile_form_hurts_nobody(api: WatchedApi, path: str) -> None:
    for name, (body, statuses) in FORMS.items():
        status, text = api.check(with_length("POST", path, FORM, body()))
        assert status in statuses, (name, status, text[:500])


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=b; charset=punycode", "application/x-www-form-urlencoded"]
)
def test_other_forms_are_refused(api: WatchedApi, kind: str) -> None:
    headers = [HOST, ANN, ("Content-Type", kind)]
    body = part("metadata", b"a-" * 20_000) + part("content", b"a", FILE) + b"--b--\r\n"
    assert api.check(with_length("POST", "/v1/files", headers, body))[0] == 415


METADATA = {
    "half of a surrogate pair": b'{"a": "\\ud800"}',
    "900 lists": b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "an infinite number": b'{"a": 1e999}',
    "a long text": json.dumps({"a": "b" * 5000}).encode(),
    "no object": b"[1]",
    "broken UTF-8": b'{"a": "\xff\xfe"}',
}


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("more", ["", '; filename="metadata"'])
def test_hostile_metadata_is_refused_and_nothing_is_kept(api: WatchedApi, name: str, more: str) -> None:
    def listed() -> int:
        status, files = api.check([head("GET", "/v1/files", [HOST, ANN])])
        assert status == 200
        return len(json.loads(files)["results"])

    before = listed()
    body = part("content", b"RIFF", FILE) + part("metadata", METADATA[name], more) + b"--b--\r\n"
    status, text = api.check(with_length("POST", "/v1/files", FORM, body))
    # A field that is not UTF-8 is taken for Latin-1, as browsers' forms once were.
    assert status == (201 if name == "broken UTF-8" and not more else 422), text
    assert status == 201 or listed() == before


def test_names_and_types_of_files_are_kept_short_and_whole(api: WatchedApi) -> None:
    body = part("content", b"RIFF", f'; filename="{"n" * 3000}"\r\nContent-Type: audio/{"x" * 900}') + b"--b--\r\n"
    status, text = api.check(with_length("POST", "/files", FORM, body))
    file = json.loads(text)
    assert (status, len(file["name"]), file["content_type"]) == (201, 255, "application/octet-stream")


@pytest.mark.parametrize("cursor", ["nan", "1_0", "１", "inf", "1e5", "-1", " 1", "1.5.5"])
def test_a_cursor_that_is_not_ours_is_refused(api: WatchedApi, cursor: str) -> None:
    for text in (cursor, f"{cursor} abc", "MS4w*"):
        encoded = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        for given in (encoded, "%EF%BC%91"):
            path = f"/predictions?cursor={given}"
            assert api.check([head("GET", path, [HOST, ANN])])[0] == 422


def test_the_cursor_of_a_page_leads_to_the_next(api: WatchedApi) -> None:
    bob = ("Authorization", f"Bearer {OTHER_TOKEN}")
    for _ in range(3):
        body = b'{"input":{"prompt":"a"}}'
        assert api.check(with_length("POST", "/predictions", [HOST, bob, JSON[2]], body))[0] == 202
    found = set()
    path = "/predictions?limit=1"
    for _ in range(3):
        page = json.loads(api.check([head("GET", path, [HOST, bob])])[1])
        found |= {item["id"] for item in page["results"]}
        path = (page["next"] or "").partition("localhost")[2]
    assert (len(found), path) == (3, "")


@pytest.mark.parametrize("url", ["nonsense", "javascript:alert(1)", "http://10.0.0.1/"])
def test_the_older_form_of_a_webhook_is_checked_too(api: WatchedApi, url: str) -> None:
    for more in ({}, {"webhook": "https://example.com/hook"}):
        body = json.dumps({"input": {"prompt": "a"}, "webhook_completed": url, **more}).encode()
        status, text = post(api, body, "/v1/predictions")
        assert status == 422, text


def test_an_event_is_named_once(api: WatchedApi) -> None:
    body = {"input": {"prompt": "a"}, "webhook": "https://example.com/", "webhook_events_filter": ["start", "start"]}
    assert post(api, json.dumps(body).encode())[0] == 422


def test_headers_and_requests_ahead_are_bounded(api: WatchedApi) -> None:
    many = head("GET", "/health-check", [HOST, *[(f"a{i}", "b") for i in range(200)]])
    assert api.check([many])[0] == 431
    assert api.check([b"GET /health-check HTTP/1.1\r\n" + b"a:\r\n" * 100_000])[0] == 431
    assert api.check([head("GET", "/health-check", [HOST, ("a", "b" * 40_000)])])[0] == 431
    endless = (b"GET /health-check HTTP/1.1\r\nHost: x\r\na: ", *([b"b" * 65536] * 1000))
    assert api.check(endless)[0] in (0, 431)
    assert api.check([head("GET", "/health-check?" + "a" * 9000, [HOST])])[0] == 414
    assert api.check([head("GET", "/health-check?" + "a=1&" * 2000, [HOST])])[0] == 200
    api.check([head("GET", "/", [HOST]) * 20_000])
    assert api.check([head("GET", "/health-check", [HOST])])[0] == 200
