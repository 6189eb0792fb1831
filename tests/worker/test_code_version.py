"""The code's version in a git checkout, in a build, and where no revision is known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from worker.code_version import code_version

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2"\n')
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    return tmp_path


def head(checkout: Path) -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()


def test_a_checkout_tells_its_revision_and_whether_it_was_changed(checkout: Path) -> None:
    assert code_version(root=checkout) == f"1.2+{head(checkout)}"
    (checkout / "pyproject.toml").write_text('[project]\nversion = "1.3"\n')
    assert code_version(root=checkout) == f"1.3+{head(checkout)}.dirty"


def test_what_the_build_was_told_comes_first(checkout: Path) -> None:
    assert code_version("abc", checkout) == "1.2+abc"


def test_somebody_elses_checkout_around_it_says_nothing(checkout: Path) -> None:
    installed = checkout / "site-packages"
    installed.mkdir()
    assert head(checkout) not in code_version(root=installed)


def test_without_git_there_is_only_the_version(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert code_version(root=checkout) == "1.2"
