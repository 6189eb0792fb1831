"""The file of tokens: what may stand in it, and how it is written."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from predictions import token_file
from predictions.tenants import Limits, Scope
from predictions.token_file import TokenFileError, digest, plain_tenant

TOKEN = {"sha256": "0" * 64, "scopes": ["read"], "created_at": "2026-11-27T12:00:00Z"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def make(path: Path, name: str = "ann", **options: Any) -> str:
    with token_file.changing(path) as file:
        return file.add(name, scopes=options.pop("scopes", [Scope.READ]), **options)


def test_a_token_stands_for_its_tenant_and_is_not_in_the_file(path: Path) -> None:
    expires = datetime.now(UTC) + timedelta(days=1)
    token = make(path, expires_at=expires, tenant={"weight": 2.0, "waiting": 7, "stored_mb": 1.5})
    prefix, token_id, secret = token.split("_")
    assert (prefix, len(token_id), len(secret)) == ("mg", 8, 40)
    assert secret not in path.read_text()
    holder = token_file.read(path).holders()[digest(token)]
    assert holder.expires_at == expires
    assert (holder.tenant.name, holder.tenant.weight, holder.tenant.scopes) == ("ann", 2.0, {Scope.READ})
    assert holder.tenant.limits == Limits(waiting=7, stored_mb=1.5)
    assert token_id not in holder.tenant.owner


def test_tokens_of_one_name_are_one_tenants(path: Path) -> None:
    first = make(path, tenant={"weight": 2.0})
    second = make(path, scopes=[Scope.CREATE], tenant={"running": 3})
    other = make(path, "bob")
    holders = token_file.read(path).holders()
    ann, too, bob = (holders[digest(token)].tenant for token in (first, second, other))
    assert (
        (ann.owner, ann.weight, ann.limits) == (too.owner, too.weight, too.limits) == (ann.owner, 2.0, Limits(None, 3))
    )
    assert ann.scopes != too.scopes
    assert bob.owner != ann.owner


def test_a_revoked_token_is_gone_and_its_tenant_stays(path: Path) -> None:
    token = make(path, tenant={"weight": 2.0})
    with token_file.changing(path) as file:
        assert file.remove("other") is None
        assert file.remove(token.split("_")[1]) == "ann"
    file = token_file.read(path)
    assert file.holders() == {}
    assert [(tenant.name, tenant.weight) for tenant in file.by_owner().values()] == [("ann", 2.0)]


def test_only_its_owner_may_read_the_file(path: Path) -> None:
    make(path)
    path.chmod(0o644)
    make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writers_wait_for_each_other(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda number: make(path, f"tenant{number % 3}"), range(40)))
    assert set(token_file.read(path).holders()) == {digest(token) for token in tokens}


def test_after_an_error_the_file_is_as_it_was(path: Path) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(TokenFileError, match=r"tenants.ann.weight: Input should be greater than 0"):
        make(path, tenant={"weight": -1.0})
    with pytest.raises(TokenFileError, match="should match pattern"):
        make(path, "a name with spaces")
    assert path.read_bytes() == before


def test_what_a_killed_writer_left_is_in_nobodys_way(path: Path) -> None:
    path.with_name("tokens.json.new").write_text("half a fi")
    make(path)
    assert len(token_file.read(path).holders()) == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ({"tenants": {"ann": {"wieght": 2}}}, "tenants.ann.wieght: Extra inputs"),
        ({"tenants": {"ann": {"weight": "2"}}}, "tenants.ann.weight: Input should be a valid number"),
        ({"tenants": {"ann": {"weight": 0}}}, "tenants.ann.weight: Input should be greater than 0"),
        ({"tenants": {"ann": {"limits": {"waiting": 1.5}}}}, "tenants.ann.limits.waiting"),
        ({"tenants": {"ann": {"tokens": {"a": {**TOKEN, "scopes": ["all"]}}}}}, "tenants.ann.tokens.a.scopes.0"),
        ({"tenants": {"ann": {"tokens": {"a": {**TOKEN, "scopes": []}}}}}, "tenants.ann.tokens.a.scopes"),
        ({"tenants": {"ann": {"tokens": {"a": {**TOKEN, "sha256": "mg_abc"}}}}}, "tenants.ann.tokens.a.sha256"),
        ({"tenants": {"ann": {"tokens": {"a": {**TOKEN, "expires_at": "2026-01-01"}}}}}, "expires_at"),
        ({"tenants": {"ann": {"tokens": {"a": TOKEN, "b": TOKEN}}}}, f"the sha256 {'0' * 64} stands in it twice"),
        ({"tenants": {name: {"owner": "a" * 32} for name in ("ann", "bob")}}, "the owner a+ stands in it twice"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(path: Path, content: Any, problem: str) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(TokenFileError, match=problem) as error:
        token_file.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_says_how_to_make_it(path: Path) -> None:
    with pytest.raises(TokenFileError, match="`musicgen token create NAME` makes it"):
        token_file.read(path)


def test_a_tenant_can_take_over_what_a_token_of_the_plain_list_owns(path: Path) -> None:
    plain = plain_tenant(digest("a-token-of-ann"))
    path.write_text(json.dumps({"tenants": {"ann": {"owner": plain.owner}}}))
    assert token_file.read(path).by_owner()[plain.owner].name == "ann"
    assert plain.name.removeprefix("token-") not in digest("a-token-of-ann")
