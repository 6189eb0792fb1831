"""The package's version. Its one source is `version` in pyproject.toml."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

PACKAGE = "musicgen-server"
ROOT = Path(__file__).parents[1]
"""The checkout, where this is one; otherwise the folder into which packages are installed."""
UNKNOWN = "0"


def package_version(root: Path = ROOT) -> str:
    """Return the version of the checkout in `root`, otherwise of the installed package, otherwise `"0"`.

    The checkout comes first: the metadata of an editable installation is as old as the installation.
    """
    project = root / "pyproject.toml"
    if project.is_file():
        version: str = tomllib.loads(project.read_text())["project"]["version"]
        return version
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return UNKNOWN
