"""`musicgen token`, and what a broken file of tokens does to the start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import main
from predictions import token_file
from predictions.tenants import Scope
from predictions.token_file import digest


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tokens.json"
    monkeypatch.setenv("MUSICGEN_TOKENS_FILE", str(path))
    return path


def test_a_token_is_printed_alone_and_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--weight 2 --waiting 100 --running 3 --requests-per-second 5 --seconds-a-day 3600 --stored-mb 500"
    assert main(["token", "create", "ann", *options.split(), "--expires", "90d", "--scope", "read"]) == 0
    printed = capsys.readouterr()
    token = printed.out.strip()
    assert re.fullmatch(r"mg_[a-z0-9]{8}_[A-Za-z0-9]{40}", token)
    assert "shown this once" in printed.err
    assert token not in path.read_text() + printed.err
    holder = token_file.read(path).holders()[digest(token)]
    assert holder.expires_at is not None
    limits = holder.tenant.limits
    assert (limits.waiting, limits.running, limits.requests_per_second) == (100, 3, 5.0)
    assert (limits.seconds_a_day, limits.stored_mb, holder.tenant.weight) == (3600.0, 500.0, 2.0)
    assert holder.tenant.scopes == {Scope.READ}


def test_another_token_changes_only_what_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["token", "create", "ann", "--weight", "2", "--waiting", "100"])
    main(["token", "create", "ann", "--running", "3"])
    assert "Tenant ann: 2 token(s), weight 2, waiting=100,running=3." in capsys.readouterr().err
    [tenant] = token_file.read(path).by_owner().values()
    assert (tenant.weight, tenant.limits.waiting, tenant.limits.running) == (2.0, 100, 3)


def test_the_list_shows_no_secret(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["token", "create", "ann", "--expires", "2w"])
    main(["token", "create", "bob", "--waiting", "5"])
    first, second = capsys.readouterr().out.split()
    assert main(["token", "list"]) == 0
    shown = capsys.readouterr().out
    head, ann, bob = shown.splitlines()
    assert head.split() == ["ID", "TENANT", "WEIGHT", "LIMITS", "SCOPES", "CREATED", "EXPIRES"]
    assert ann.startswith(first.split("_")[1])
    assert "no limits" in ann
    assert "waiting=5" in bob
    assert bob.endswith("never")
    for token in (first, second):
        assert token.split("_")[2] not in shown
        assert digest(token) not in shown


def test_a_token_is_revoked_by_its_id(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["token", "create", "ann"])
    token_id = capsys.readouterr().out.split("_")[1]
    assert main(["token", "revoke", token_id]) == 0
    assert capsys.readouterr().out == f"Token {token_id} of ann is revoked.\n"
    assert token_file.read(path).holders() == {}
    with pytest.raises(SystemExit, match=f"There is no token {token_id}; `musicgen token list`"):
        main(["token", "revoke", token_id])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["create", "a b"], "tenants.a b"),
        (["create", "ann", "--weight", "0"], "greater than 0"),
        (["create", "ann", "--requests-per-second", "nan"], "tenants.ann.limits.requests_per_second"),
        (["create", "ann", "--stored-mb", "inf"], "tenants.ann.limits.stored_mb"),
        (["create", "ann", "--weight", "nan"], "tenants.ann.weight"),
    ],
)
def test_wrong_values_are_refused_in_one_line(path: Path, arguments: list[str], problem: str) -> None:
    with pytest.raises(SystemExit, match=problem) as ended:
        main(["token", *arguments])
    assert "\n" not in str(ended.value)
    assert not path.exists()


@pytest.mark.parametrize("expires", ["90", "0d", "-1d", "d", "1y"])
def test_a_wrong_time_says_what_to_give(expires: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["token", "create", "ann", f"--expires={expires}"])
    assert "give a number and h, d or w" in capsys.readouterr().err


def test_without_the_setting_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSICGEN_TOKENS_FILE")
    with pytest.raises(SystemExit, match="Set MUSICGEN_TOKENS_FILE"):
        main(["token", "list"])


@pytest.mark.parametrize("command", ["serve", "api"])
def test_a_broken_file_stops_the_start_in_one_line(path: Path, tmp_path: Path, command: str) -> None:
    path.write_text("{")
    environment = {**os.environ, "MUSICGEN_DATA_DIR": str(tmp_path / "data"), "MUSICGEN_SECRET": "x" * 32, "PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 78
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"Wrong setting: MUSICGEN_TOKENS_FILE: {path}: Invalid JSON")
