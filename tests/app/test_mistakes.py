"""Honest mistakes, and the words that mend them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.problems.shown import LONGEST, shown
from predictions.models.card import Announcement
from predictions.settings import Settings
from tests.app.conftest import CARD, api_server

PROBLEM = "application/problem+json"
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PYTHON = ("None", "True", "False", "<class", "dictionary", "b'", "Input should")
"""Words of Python, or of a library, that mean nothing to a client."""


@pytest.fixture
def client(settings: Settings, announce: Callable[[Announcement], None]) -> Iterator[httpx.Client]:
    announce(CARD)
    small = settings.model_copy(update={"max_input_audio_mb": 0.1})
    with api_server(small) as address, httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        yield client


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert not [word for word in PYTHON if word in answer.text]
    assert len(answer.content) < 40_000
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


@pytest.mark.parametrize("path", ["/predictions", "/v1/predictions"])
@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "has no Content-Type"),
        (FORM, "is application/x-www-form-urlencoded"),
        ({"Content-Type": "text/plain"}, "is text/plain"),
    ],
)
def test_a_body_of_another_type(client: httpx.Client, path: str, headers: dict[str, str], says: str) -> None:
    """What `curl -d` sends without a header."""
    body = problem_of(client.post(path, content=b'{"input": {"prompt": "piano"}}', headers=headers), 415)
    assert says in body["detail"]
    assert "Content-Type: application/json" in body["detail"]


@pytest.mark.parametrize("path", ["/files", "/v1/files"])
def test_an_upload_that_is_no_form(client: httpx.Client, path: str) -> None:
    for headers in (JSON, FORM, {}):
        body = problem_of(client.post(path, content=b"{}", headers=headers), 415)
        assert "curl -F content=@music.wav" in body["detail"]
    for form in ({"data": {"content": "music.wav"}, "files": {"other": b"sound"}}, {"files": {"file": b"sound"}}):
        body = problem_of(client.post(path, **form), 422)
        assert "curl -F content=@music.wav" in body["detail"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"input":\n {"prompt": }}', "line 2, column 13"),
        (b"{'input': {}}", "double quotes"),
        (b"{input: {}}", "double quotes"),
        (b'{"input": {"prompt": None}}', "null"),
        (b'{"input": {"prompt": "piano",}}', "comma"),
        (b'{"input": {"prompt": "piano"}', "ends too early"),
        (b'{"input": {}} {}', "line 1, column 15"),
        (b'{"input": {"prompt": "\xff"}}', "UTF-8"),
        (b'{"input": {"seed": ' + b"9" * 5000 + b"}}", "digits"),
        (b"[" * 60_000, "nested"),
    ],
)
def test_broken_json(client: httpx.Client, text: bytes, says: str) -> None:
    for path in ("/predictions", "/v1/predictions"):
        body = problem_of(client.post(path, content=text, headers=JSON), 400)
        assert says in body["detail"]
        assert [error["field"] for error in body["errors"]] == ["body"]


@pytest.mark.parametrize(
    ("sent", "field", "says"),
    [
        ({"prompt": "piano"}, "prompt", 'belongs inside input: {"input": {"prompt": ...}}'),
        ({"promt": "piano"}, "promt", "prompt belongs inside input"),
        ({"input": "piano"}, "input", 'an object, such as {"prompt": "piano"}'),
        ({"input": None}, "input", 'is null: it should be an object, such as {"prompt": "slow piano"}'),
        ({}, "input", 'send {"input": {"prompt": "slow piano"}}'),
        ([], "body", 'an object, such as {"input"'),
        ("piano", "body", 'is "piano": it should be an object, such as {"input"'),
        ({"inputs": {"prompt": "piano"}}, "inputs", "did you mean input?"),
        ({"input": {"prompt": "piano"}, "model": "x"}, "model", "did you mean version?"),
        ({"input": {"prompt": "piano"}, "callback_url": "x"}, "callback_url", "did you mean webhook?"),
        ({"input": {"prompt": "piano", "webhook": "x"}}, "webhook", "belongs beside input"),
        ({"input": {"text": "piano"}}, "text", "did you mean prompt?"),
        ({"input": {"promt": "piano"}}, "promt", "did you mean prompt?"),
        ({"input": {"prompt": "piano", "length": 8}}, "length", "did you mean duration?"),
        ({"input": {"prompt": "piano", "outputFormat": "mp3"}}, "outputFormat", "did you mean output_format?"),
        ({"input": {"prompt": "piano", "cfg_coef": 3}}, "cfg_coef", "did you mean classifier_free_guidance?"),
        ({"input": {"prompt": "piano", "tempo": 120}}, "tempo", "leave it out"),
        ({"input": {"prompt": 5}}, "prompt", "is 5: it should be a string"),
        ({"input": {"prompt": "piano", "continuation": "true"}}, "continuation", "it should be true or false"),
        ({"input": {"prompt": "piano", "continuation": None}}, "continuation", "is null: it should be true or false"),
        ({"input": {"prompt": "piano", "output_format": "MP3"}}, "output_format", 'did you mean "mp3"?'),
        (
            {"input": {"prompt": "piano", "output_format": 3}},
            "output_format",
            'should be "wav", "mp3", "flac" or "wav24"',
        ),
        ({"input": {"prompt": "x" * 2001}}, "prompt", "at most 2000 characters"),
        ({"input": {"prompt": "piano"}, "stream": "yes"}, "stream", 'is "yes": it should be true or false'),
        ({"input": {"prompt": "piano"}, "webhook_events_filter": "start"}, "webhook_events_filter", "a list"),
        ({"input": {"prompt": "piano"}, "webhook_events_filter": []}, "webhook_events_filter", "at least 1 item"),
        (
            {"input": {"prompt": "piano"}, "webhook_events_filter": ["finished"]},
            "webhook_events_filter.0",
            'it should be "start", "output", "logs" or "completed"',
        ),
    ],
)
def test_a_wrong_field(client: httpx.Client, sent: object, field: str, says: str) -> None:
    body = problem_of(client.post("/predictions", json=sent), 422)
    assert f"{field} " in body["detail"]
    assert says in body["detail"], body["detail"]
    assert field in [error["field"] for error in body["errors"]]


def test_a_prompt_beside_input_is_one_mistake(client: httpx.Client) -> None:
    body = problem_of(client.post("/predictions", json={"prompt": "piano", "duration": 3}), 422)
    assert [error["field"] for error in body["errors"]] == ["prompt", "duration"]


def test_what_a_rerun_does_not_take_is_not_suggested(client: httpx.Client) -> None:
    body = problem_of(client.post("/predictions/any/rerun", json={"prompt": "piano"}), 422)
    assert "leave it out" in body["detail"]
    body = problem_of(client.post("/predictions/any/rerun", json={"web_hook": "x"}), 422)
    assert "did you mean webhook?" in body["detail"]


@pytest.mark.parametrize("field", ["duration", "continuation_start", "top_k", "classifier_free_guidance", "seed"])
def test_an_integer_is_a_number_without_a_fraction(client: httpx.Client, field: str) -> None:
    taken = client.post("/predictions", json={"input": {"prompt": "piano", field: 8.0}})
    assert taken.status_code == 202
    assert (taken.json()["input"][field], type(taken.json()["input"][field])) == (8, int)
    for wrong in (8.5, "8", True, [8], 1e300):
        body = problem_of(client.post("/predictions", json={"input": {"prompt": "piano", field: wrong}}), 422)
        assert body["errors"][0]["message"] == f"is {json.dumps(wrong)}"
        assert "integer" in body["errors"][0]["remedy"]


@pytest.mark.parametrize("field", ["temperature", "top_p"])
def test_a_number_is_neither_a_string_nor_a_boolean(client: httpx.Client, field: str) -> None:
    assert client.post("/predictions", json={"input": {"prompt": "piano", field: 1}}).status_code == 202
    for text in ('"1"', "true", "null"):
        sent = f'{{"input": {{"prompt": "piano", "{field}": {text}}}}}'
        body = problem_of(client.post("/predictions", content=sent, headers=JSON), 422)
        assert body["errors"][0]["message"] == f"is {text}"
        assert "number" in body["errors"][0]["remedy"]


@pytest.mark.parametrize("text", ["NaN", "Infinity"])
def test_what_is_no_number_is_no_json(client: httpx.Client, text: str) -> None:
    sent = f'{{"input": {{"prompt": "piano", "top_p": {text}}}}}'
    body = problem_of(client.post("/predictions", content=sent, headers=JSON), 422)
    assert "is not valid JSON: expected value at line 1 column" in body["detail"]


def test_the_same_number_written_otherwise_is_the_same_request(client: httpx.Client) -> None:
    made = [
        client.put("/predictions/one", json={"input": {"prompt": "piano", "duration": duration, "seed": 1}})
        for duration in (8, 8.0)
    ]
    assert [answer.status_code for answer in made] == [202, 202]


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/predict", 404, "Did you mean POST /predictions?"),
        ("POST", "/generate", 404, "Did you mean POST /predictions?"),
        ("POST", "/api/v1/generate", 404, "Did you mean POST /predictions?"),
        ("POST", "/prediction", 404, "POST /predictions"),
        ("GET", "/predicitons/abc", 404, "GET /predictions/{prediction_id}"),
        ("GET", "/v1", 404, "POST /v1/predictions"),
        ("GET", "/api", 404, "POST /predictions"),
        ("GET", "/v2/models", 404, "GET /models"),
        ("GET", "/healthz", 404, "Did you mean GET /health-check?"),
        ("GET", "/swagger", 404, "Did you mean GET /docs?"),
        ("POST", "/upload", 404, "Did you mean POST /files?"),
        ("GET", "/files", 405, "GET /v1/files"),
        ("GET", "/predictions/abc/cancel", 405, "this path takes POST"),
        ("DELETE", "/predictions", 405, "this path takes GET, HEAD, POST"),
        ("GET", "/nothing/like/this/here", 404, "/docs lists every path"),
        ("GET", "/" + "x" * 5000, 404, "/docs lists every path"),
    ],
)
def test_a_wrong_path(client: httpx.Client, method: str, path: str, status: int, says: str) -> None:
    body = problem_of(client.request(method, path), status)
    assert says in body["detail"], body["detail"]
    assert "/docs" in body["detail"]


def test_at_most_20_errors_are_shown_and_no_value_is_written_in_full(client: httpx.Client) -> None:
    wrong: dict[str, Any] = {f"unknown {'x' * 100} {number}": "y" * 1000 for number in range(50)}
    body = problem_of(client.post("/predictions", json={"input": {"prompt": "piano", **wrong}}), 422)
    assert len(body["errors"]) == 20
    assert body["detail"].endswith("; … and 30 more")
    assert max(len(error["field"]) for error in body["errors"]) <= LONGEST


def test_half_a_surrogate_pair_is_refused(client: httpx.Client) -> None:
    for text in (r'{"input": {"prompt": "\ud800"}}', r'{"input": {"prompt": "piano", "\ud800": 1}}'):
        body = problem_of(client.post("/predictions", content=text, headers=JSON), 422)
        assert "escape" in body["detail"]


class Unread(list[int]):
    """A list that fails where more than its first members are read."""

    def __iter__(self) -> Iterator[int]:
        for number in range(sys.maxsize):
            assert number < 2 * LONGEST
            yield number

    def __repr__(self) -> str:
        raise AssertionError("written in full")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("ü", '"ü"'),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ("x" * 1000, '"' + "x" * 58 + "…"),
        (Unread(), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, …"),
    ],
)
def test_a_value_is_shown_as_json_and_no_further_than_it_is_read(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_body_over_the_limit_is_a_problem_too(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 100_000] * 10

    for content in (b"x" * 1_000_000, chunks()):
        body = problem_of(client.post("/predictions", content=content, headers=JSON), 413)
        assert "bytes" in body["detail"]


READABLE = ("/health-check", "/models", "/predictions", "/predictions/{id}", "/files/{file}", "/v1/files", "/v1/models")


def test_head_answers_as_get_does_without_the_body(client: httpx.Client) -> None:
    made = client.post("/predictions", json={"input": {"prompt": "piano"}}).json()["id"]
    file = client.post("/files", files={"content": ("a.wav", b"sound", "audio/wav")}).json()["id"]
    for path in (*READABLE, "/", "/docs", "/openapi.json", "/v1/openapi.json", "/predictions/none"):
        path = path.format(id=made, file=file)
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]


def test_streams_and_what_is_not_read_take_no_head(client: httpx.Client) -> None:
    made = client.post("/predictions", json={"input": {"prompt": "piano"}, "stream": True}).json()["id"]
    for path, allowed in (
        (f"/predictions/{made}/stream", "GET"),
        (f"/predictions/{made}/audio", "GET"),
        ("/files", "POST"),
    ):
        answer = client.head(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert client.get("/predictions/x/cancel").headers["allow"] == "POST"
    assert client.put("/models").headers["allow"] == "GET, HEAD"


def test_a_file_of_this_service_is_known_by_every_name_of_this_machine(client: httpx.Client) -> None:
    file = client.post("/files", files={"content": ("a.wav", b"sound", "audio/wav")}).json()
    port = client.base_url.port
    for host in ("localhost", "127.0.0.1", "[::1]"):
        for prefix in ("", "/v1"):
            url = f"http://{host}:{port}{prefix}/files/{file['id']}"
            assert client.post("/predictions", json={"input": {"input_audio": url}}).status_code == 202, url
    missing = client.post("/predictions", json={"input": {"input_audio": f"http://localhost:{port}/files/none"}})
    assert "There is no file none" in problem_of(missing, 404)["detail"]


def test_what_else_lies_at_this_service_is_to_be_uploaded(settings: Settings, announce: Callable[..., None]) -> None:
    announce(CARD)
    guarded = settings.model_copy(update={"outbound_allow": ()})
    with api_server(guarded) as address, httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        for path in ("/objects/predictions/x/1/output.wav?expires=1&signature=x", "/predictions/x"):
            answer = client.post("/predictions", json={"input": {"input_audio": f"{address}{path}"}})
            assert "POST /files" in problem_of(answer, 422)["detail"]
        elsewhere = client.post("/predictions", json={"input": {"input_audio": "http://127.0.0.1:1/files/x"}})
        assert "private" in problem_of(elsewhere, 422)["detail"]
