"""Fine-tunes as clients of the API see them; no worker runs, so everything waits in the queue of its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from predictions.fine_tunes import commands
from predictions.fine_tunes.record import Version, Visibility
from predictions.models.card import Announcement
from predictions.record import commands as record
from predictions.record.prediction import now
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.tenants import Scope
from predictions.token_file import changing
from tests.app.conftest import TUNE, WORDS, api_server
from tests.records import claim
from tests.servers import wait_until

ANN, BOB = "a-token-of-ann", "a-token-of-bob"


def version_of(number: str, base: Announcement = WORDS, base_version: str | None = None) -> Version:
    version = base.version if base_version is None else base_version
    return Version(number * 64, base.name, version, size=10, rank=4, training_id=None, created_at=now())


ONE, TWO = version_of("1"), version_of("2")


@pytest.fixture
def clients(
    several: Settings, announce: Callable[[Announcement, str], None]
) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Ann's and Bob's clients of an API with three models, of which two have been announced."""
    announce(TUNE, "generation:ann/tune")
    announce(WORDS, "generation:bob/words")
    closed = Settings(**{**several.model_dump(), "api_tokens": f"{ANN},{BOB}"})
    with api_server(closed) as address, client_for(address, ANN) as ann, client_for(address, BOB) as bob:
        yield ann, bob


def client_for(address: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)


@pytest.fixture
def ann(clients: tuple[httpx.Client, httpx.Client]) -> httpx.Client:
    return clients[0]


@pytest.fixture
def bob(clients: tuple[httpx.Client, httpx.Client]) -> httpx.Client:
    return clients[1]


def create(client: httpx.Client, name: str = "ann/jazz", visibility: str = "private", **more: Any) -> httpx.Response:
    owner, _, short = name.partition("/")
    body = {"owner": owner, "name": short, "visibility": visibility, "hardware": "local", **more}
    return client.post("/v1/models", json=body)


def add(store: PredictionStore, *versions: Version, name: str = "ann/jazz") -> None:
    tenant = store.run(commands.get(name)).tenant
    for version in versions:
        store.run(commands.add_version(name, tenant, version))


def post(client: httpx.Client, version: str, **value: Any) -> httpx.Response:
    return client.post("/predictions", json={"input": {"prompt": "piano", **value}, "version": version})


def test_a_model_is_created_listed_changed_and_deleted(ann: httpx.Client, bob: httpx.Client) -> None:
    created = create(ann, description="Smoky.")
    assert created.status_code == 201
    body = created.json()
    assert (body["owner"], body["name"], body["visibility"]) == ("ann", "jazz", "private")
    assert (body["description"], body["latest_version"]) == ("Smoky.", None)
    assert create(ann, description="Smoky.").json() == body
    assert ann.get("/v1/models/ann/jazz").json() == body
    assert ann.get("/v1/models").json()["results"][-1] == body
    assert bob.get("/v1/models/ann/jazz").status_code == 404
    changed = ann.patch("/v1/models/ann/jazz", json={"visibility": "public"}).json()
    assert changed == {**body, "visibility": "public"}
    assert bob.get("/v1/models/ann/jazz").json() == changed
    assert ann.patch("/v1/models/ann/jazz", json={"description": ""}).json()["description"] is None
    assert ann.delete("/v1/models/ann/jazz").status_code == 204
    assert ann.get("/v1/models/ann/jazz").status_code == ann.delete("/v1/models/ann/jazz").status_code == 404


@pytest.mark.parametrize("name", ["ann/tune", "bob/words", "bob/late", "bob/mine"])
def test_a_name_that_is_taken_is_refused(ann: httpx.Client, bob: httpx.Client, name: str) -> None:
    create(bob, "bob/mine")
    answer = create(ann, name)
    assert answer.status_code == 409
    assert name in answer.json()["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("owner", "a b"), ("owner", ""), ("name", "a/b"), ("name", "a:b"), ("visibility", "secret"), ("hardware", 3)],
)
def test_a_wrong_field_is_named(ann: httpx.Client, field: str, value: object) -> None:
    body = {"owner": "ann", "name": "jazz", "visibility": "private", "hardware": "cpu", field: value}
    answer = ann.post("/v1/models", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_nobody_else_changes_a_public_one(ann: httpx.Client, bob: httpx.Client, store: PredictionStore) -> None:
    create(ann, visibility="public")
    add(store, ONE)
    assert bob.patch("/v1/models/ann/jazz", json={"visibility": "private"}).status_code == 404
    assert bob.delete(f"/v1/models/ann/jazz/versions/{ONE.id}").status_code == 404
    assert bob.delete("/v1/models/ann/jazz").status_code == 404
    assert ann.get(f"/v1/models/ann/jazz/versions/{ONE.id}").status_code == 200


@pytest.mark.parametrize("reference", ["ann/jazz", f"ann/jazz:{ONE.id}", ONE.id])
def test_a_prediction_of_a_fine_tune_waits_for_its_base(
    ann: httpx.Client, store: PredictionStore, reference: str
) -> None:
    create(ann)
    add(store, ONE)
    answer = post(ann, reference)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["model"], body["version"]) == ("ann/jazz", ONE.id)
    assert body["input"]["adapter_strength"] == 1
    stored = store.run(record.get(body["id"]))
    assert (stored.queue, stored.base, stored.base_version) == ("generation:bob/words", "bob/words", WORDS.version)
    wait_until(lambda: ann.get("/models/bob/words").json()["queued"] == 1)


def test_the_name_alone_means_the_newest_version(ann: httpx.Client, store: PredictionStore) -> None:
    create(ann)
    add(store, ONE, replace(TWO, created_at=now()))
    assert post(ann, "ann/jazz").json()["version"] == TWO.id
    answer = ann.post("/v1/models/ann/jazz/predictions", json={"input": {"prompt": "x"}})
    assert (answer.status_code, answer.json()["version"]) == (201, TWO.id)
    answer = ann.post("/v1/predictions", json={"version": ONE.id, "input": {"prompt": "x"}})
    assert (answer.status_code, answer.json()["version"]) == (201, ONE.id)
    versions = ann.get("/v1/models/ann/jazz/versions").json()["results"]
    assert [version["id"] for version in versions] == [TWO.id, ONE.id]
    assert ann.get("/v1/models/ann/jazz").json()["latest_version"] == versions[0]


def test_what_is_private_does_not_exist_for_others(
    ann: httpx.Client, bob: httpx.Client, store: PredictionStore
) -> None:
    """Whatever others ask, they get the answer that they would get if it did not exist."""
    create(ann)
    add(store, ONE)
    for existing, missing in (("ann/jazz", "ann/none"), (f"ann/jazz:{ONE.id}", f"ann/none:{ONE.id}"), (ONE.id, TWO.id)):
        one, other = post(bob, existing), post(bob, missing)
        assert one.status_code == other.status_code
        assert one.text == other.text.replace(missing, existing)
    for path in ("/models/ann/{}", "/v1/models/ann/{}", "/v1/models/ann/{}/versions"):
        one, other = bob.get(path.format("jazz")), bob.get(path.format("none"))
        assert one.status_code == other.status_code == 404
        assert one.text == other.text.replace("none", "jazz")
    assert "ann/jazz" not in bob.get("/models").text + bob.get("/v1/models").text
    prediction = {"input": {"prompt": "x"}}
    assert bob.post("/v1/models/ann/jazz/predictions", json=prediction).status_code == 404
    # Bob has the same adapter too: then it is his own that he means.
    create(bob, "bob/jazz")
    add(store, ONE, name="bob/jazz")
    assert post(bob, ONE.id).json()["model"] == "bob/jazz"
    assert post(ann, ONE.id).json()["model"] == "ann/jazz"


def test_a_public_one_is_everybodys_to_use(ann: httpx.Client, bob: httpx.Client, store: PredictionStore) -> None:
    create(ann, visibility="public")
    add(store, ONE)
    assert post(bob, ONE.id).json()["model"] == "ann/jazz"
    [listed] = [model for model in bob.get("/models").json()["results"] if model["fine_tune"]]
    assert (listed["name"], listed["versions"]) == ("ann/jazz", [ONE.id])
    assert (listed["abilities"]["max_duration"], listed["workers"], listed["is_default"]) == (10, 1, False)
    assert (listed["fine_tune"]["base"], listed["fine_tune"]["visibility"]) == ("bob/words", "public")
    assert bob.get("/models/ann/jazz").json() == listed
    owns = [client.get("/models/ann/jazz").json()["fine_tune"]["is_own"] for client in (ann, bob)]
    assert owns == [True, False]


def test_abilities_and_defaults_are_the_bases(ann: httpx.Client, store: PredictionStore) -> None:
    create(ann)
    add(store, version_of("1", TUNE))
    assert post(ann, "ann/jazz").json()["input"]["duration"] == 12
    assert ann.get("/models/ann/jazz").json()["defaults"]["duration"] == 12
    create(ann, "ann/words")
    add(store, ONE, name="ann/words")
    [error] = post(ann, "ann/words", duration=11).json()["errors"]
    assert error["field"] == "duration"
    [version] = ann.get("/v1/models/ann/words/versions").json()["results"]
    schema = version["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
    assert schema["duration"]["maximum"] == 10
    assert schema["adapter_strength"]["maximum"] == 2
    [plain] = ann.get("/v1/models/bob/words/versions").json()["results"]
    assert "adapter_strength" not in plain["openapi_schema"]["components"]["schemas"]["Input"]["properties"]


def test_the_strength_is_for_fine_tunes_alone(ann: httpx.Client, store: PredictionStore) -> None:
    create(ann)
    add(store, ONE)
    assert post(ann, "ann/jazz", adapter_strength=0.5).json()["input"]["adapter_strength"] == 0.5
    assert post(ann, "ann/jazz", adapter_strength=2.5).status_code == 422
    [error] = post(ann, "bob/words", adapter_strength=0.5).json()["errors"]
    assert error["field"] == "adapter_strength"
    assert "bob/words is no fine-tune" in error["message"]
    assert "adapter_strength" not in post(ann, "bob/words", adapter_strength=1).json()["input"]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (replace(ONE, base="eve/gone"), "changes eve/gone, which is not served here"),
        (version_of("1", base_version="0" * 64), f"was made for version {'0' * 64} of bob/words"),
        (None, "ann/jazz has no versions yet"),
    ],
)
def test_what_cannot_be_made_says_why(
    ann: httpx.Client, store: PredictionStore, version: Version | None, message: str
) -> None:
    create(ann)
    add(store, *([version] if version else []))
    answer = post(ann, "ann/jazz")
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "version"
    assert message in error["message"]


def test_a_base_that_is_not_up_yet_is_to_be_asked_for_later(ann: httpx.Client, store: PredictionStore) -> None:
    create(ann)
    add(store, replace(ONE, base="bob/late"))
    assert post(ann, "ann/jazz").status_code == 503


def test_the_checksum_of_a_base_is_as_good_as_its_version(
    ann: httpx.Client, store: PredictionStore, announce: Callable[[Announcement, str], None]
) -> None:
    announce(WORDS.model_copy(update={"version": "renamed", "checksum": WORDS.version}), "generation:bob/words")
    create(ann)
    add(store, ONE)
    body = post(ann, "ann/jazz").json()
    assert store.run(record.get(body["id"])).base_version == "renamed"


def test_a_deleted_version_is_gone_with_its_files(ann: httpx.Client, store: PredictionStore, several: Settings) -> None:
    storage = open_storage(several)
    create(ann)
    create(ann, "ann/copy")
    add(store, ONE, TWO)
    add(store, ONE, name="ann/copy")
    for version in (ONE, TWO):
        storage.put(f"{version.prefix}adapter_config.json", b"{}", "application/json")
    path = "/v1/models/ann/jazz/versions/"
    assert ann.delete("/v1/models/ann/jazz").status_code == 409
    for version in (ONE, TWO):
        assert ann.delete(path + version.id).status_code == 204
        assert ann.delete(path + version.id).status_code == 404
        assert post(ann, f"ann/jazz:{version.id}").status_code == 422
    # Another fine-tune still has the first one.
    assert [item.key for item in storage.objects("adapters/")] == [f"{ONE.prefix}adapter_config.json"]
    assert post(ann, ONE.id).json()["model"] == "ann/copy"
    assert ann.delete("/v1/models/ann/jazz").status_code == 204


def test_a_rerun_has_the_same_version_as_long_as_there_is_one(ann: httpx.Client, store: PredictionStore) -> None:
    create(ann)
    add(store, ONE)
    original = post(ann, "ann/jazz", adapter_strength=0.5).json()
    assert store.run(record.fail(original["id"], claim(store, original["id"], 60), error="e", logs=""))
    add(store, replace(TWO, created_at=now()))
    body = ann.post(f"/predictions/{original['id']}/rerun").json()
    assert (body["model"], body["version"], body["input"]) == ("ann/jazz", ONE.id, original["input"])
    ann.delete(f"/v1/models/ann/jazz/versions/{ONE.id}")
    refused = ann.post(f"/predictions/{original['id']}/rerun")
    assert refused.status_code == 409
    assert f"ann/jazz:{ONE.id}, is no longer served" in refused.json()["detail"]


def test_a_token_that_may_not_read_sees_no_private_one(
    several: Settings, store: PredictionStore, announce: Callable[[Announcement, str], None]
) -> None:
    announce(WORDS, "generation:bob/words")
    path = several.data_dir / "tokens.json"
    with changing(path) as file:
        token, whole = file.add("ann", scopes=[Scope.CREATE]), file.add("ann", scopes=[Scope.CREATE, Scope.READ])
        owner = next(iter(file.by_owner()))
    store.run(commands.create("ann/jazz", owner, Visibility.PRIVATE, None))
    add(store, ONE)
    with (
        api_server(several.model_copy(update={"tokens_file": path})) as address,
        client_for(address, token) as blind,
        client_for(address, whole) as ann,
    ):
        assert "ann/jazz" not in blind.get("/models").text
        assert blind.get("/v1/models/ann/jazz").status_code == 404
        assert post(blind, "ann/jazz").status_code == 202
        assert "ann/jazz" in ann.get("/models").text
