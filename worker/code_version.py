"""Which code made a piece of music: the package's version and the revision of its source."""

from __future__ import annotations

import json
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

PACKAGE = "musicgen-server"
ROOT = Path(__file__).parents[1]
"""The checkout, where this is one; else the folder into which packages are installed."""
GIT_SECONDS = 5


def code_version(revision: str = "", root: Path = ROOT) -> str:
    """As 0.1.0+3f2a…: version and revision as PEP 440 joins them; the version alone where no revision is known.

    `revision`: what a build was told; without it, that of the git checkout in `root`, `.dirty` behind it where files
    differ from it, or that from which pip installed the package. Never fails.
    """
    revision = revision or _revision_of_checkout(root) or _revision_of_installation()
    version = _version(root)
    return f"{version}+{revision}" if revision else version


def _version(root: Path) -> str:
    project = root / "pyproject.toml"
    if project.is_file():
        version: str = tomllib.loads(project.read_text())["project"]["version"]
        return version
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "0"


def _revision_of_checkout(root: Path) -> str:
    # Only its own: an installed package may lie inside somebody else's checkout.
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=.dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _revision_of_installation() -> str:
    """What pip wrote down (PEP 610) where it installed from a repository's URL."""
    try:
        text = metadata.distribution(PACKAGE).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return ""
    revision: str = json.loads(text or "{}").get("vcs_info", {}).get("commit_id", "")
    return revision[:12]
