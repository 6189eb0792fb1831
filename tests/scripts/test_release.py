"""A release: its tag, its notes, and what the wheel holds."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from predictions.version import ROOT, package_version
from scripts.release import NotReleasable, build, release_notes

PACKAGES = ("app", "cli", "finetuning", "musicgen_core", "predictions", "worker")
CHANGELOG = """# Changelog

## Unreleased

- Tomorrow's.

## 1.2.3 - 2026-01-02

### Added

- Today's.

## 1.2.2 - 2026-01-01

- Yesterday's.

## 1.2.1 - 2025-12-31
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def set_version(project: Path, version: str) -> None:
    (project / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')


def test_the_notes_are_the_versions_section(project: Path) -> None:
    set_version(project, "1.2.3")
    assert release_notes("v1.2.3", project) == "### Added\n\n- Today's.\n"
    set_version(project, "1.2.2")
    assert release_notes("v1.2.2", project) == "- Yesterday's.\n"


@pytest.mark.parametrize("tag", ["v1.2.2", "1.2.3", "v1.2.3-rc1"])
def test_another_tag_than_the_version_is_refused(project: Path, tag: str) -> None:
    set_version(project, "1.2.3")
    with pytest.raises(NotReleasable, match=r"must be v1\.2\.3"):
        release_notes(tag, project)


@pytest.mark.parametrize("version", ["1.2.4", "1.2.1", "1.2"])
def test_a_version_without_notes_is_refused(project: Path, version: str) -> None:
    set_version(project, version)
    with pytest.raises(NotReleasable, match=r"CHANGELOG\.md has no section"):
        release_notes(f"v{version}", project)


def test_this_version_has_notes() -> None:
    assert release_notes(f"v{package_version()}")


def test_the_wheel_holds_everything_that_the_packages_are_made_of(tmp_path: Path) -> None:
    """Lua scripts, typing markers and weights too, of which setuptools must be told."""
    source, target = tmp_path / "source", tmp_path / "dist"
    expected = copy_sources(source)
    build(target, source)
    (wheel,) = target.glob("*.whl")
    (sdist,) = target.glob("*.tar.gz")
    assert (wheel.name.split("-")[1], sdist.name) == (package_version(), f"musicgen_server-{package_version()}.tar.gz")
    found = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= found
    if any(map(shutil.which, ("cc", "gcc", "clang"))):
        assert "musicgen_core/kernels/libkernels.so" in found


def copy_sources(target: Path) -> set[str]:
    """Copy what is packaged, so that nothing left by an earlier build takes part; returns the packages' files."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    files = {
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_file() and path.suffix not in {".c", ".h"}
    }
    (target / "scripts").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "setup.py", "scripts/build_backend.py"):
        shutil.copy(ROOT / name, target / name)
    return files
