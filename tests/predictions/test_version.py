"""The version has one source: pyproject.toml."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from predictions.version import PACKAGE, ROOT, package_version
from sdk.generate import DOCUMENT, typescript_package

SOURCES = ("*.py", "*.lua", "*.sh", "*.ts", "package.json", "Dockerfile.*", "docker-compose.yml")
FOLDERS = (
    "app",
    "benchmarks",
    "cli",
    "finetuning",
    "musicgen_core",
    "predictions",
    "reference",
    "scripts",
    "sdk",
    "training",
    "worker",
)


def test_it_is_read_from_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert package_version(tmp_path) == "1.2.3"


def test_elsewhere_the_installed_package_says_it(tmp_path: Path) -> None:
    assert package_version(tmp_path) == metadata.version(PACKAGE)


def test_the_api_and_the_clients_have_it() -> None:
    version = json.loads(DOCUMENT.read_text())["info"]["version"]
    assert version == package_version()
    assert json.loads(typescript_package())["version"] == version


def test_no_source_repeats_it() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    literal = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])")
    assert not [str(path.relative_to(ROOT)) for path in sources() if literal.search(path.read_text())]


def sources() -> Iterator[Path]:
    for pattern in SOURCES:
        yield from ROOT.glob(pattern)
        for folder in FOLDERS:
            yield from (path for path in ROOT.glob(f"{folder}/**/{pattern}") if "node_modules" not in path.parts)
