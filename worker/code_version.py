"""Which code made a piece of music: the package's version and the revision of its source."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path

from predictions.version import PACKAGE, ROOT, package_version

GIT_SECONDS = 5


def code_version(revision: str = "", root: Path = ROOT) -> str:
    """Return version and revision, joined as PEP 440 does (`1.2.3+3f2a…`), or the version alone. Never fails.

    `revision` is what a build was told. Without it, the revision is that of the git checkout in `root`, with `.dirty`
    behind it where files differ, or the one from which pip installed the package.
    """
    revision = revision or _revision_of_checkout(root) or _revision_of_installation()
    version = package_version(root)
    return f"{version}+{revision}" if revision else version


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
