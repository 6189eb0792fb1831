"""Build a release into dist/: wheel, sdist and notes. `python -m scripts.release v1.2.3`, as the release workflow does.

The tag must be the version in pyproject.toml, and CHANGELOG.md must have a dated section for it: these are the notes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTION = r"^## {version} - \d{{4}}-\d\d-\d\d\n(?P<notes>.*?)(?=^## |\Z)"


class NotReleasable(Exception):
    """The tag, the version and the changelog do not agree."""


def release_notes(tag: str, root: Path = ROOT) -> str:
    """Return the changelog's section for the tag. Raises NotReleasable."""
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if tag != f"v{version}":
        raise NotReleasable(
            f"The tag is {tag}, but the version in pyproject.toml is {version}: the tag must be v{version}."
        )
    pattern = SECTION.format(version=re.escape(version))
    section = re.search(pattern, (root / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    if section is None or not section["notes"].strip():
        raise NotReleasable(f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD` with notes.")
    return section["notes"].strip() + "\n"


def build(target: Path, root: Path = ROOT) -> None:
    """Build wheel and sdist, with the setuptools that constraints.txt pins; the page comes along where it is built."""
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", str(target), str(root)], check=True)


def main(tag: str) -> None:
    """Check the tag, then fill dist/ anew. Raises SystemExit where the tag cannot be released."""
    try:
        notes = release_notes(tag)
    except NotReleasable as error:
        raise SystemExit(str(error)) from error
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    build(target)
    (target / "notes.md").write_text(notes)


if __name__ == "__main__":
    main(sys.argv[1])
