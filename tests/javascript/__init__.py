"""The packages that the tests run under Node, installed once from package-lock.json into build/."""

from __future__ import annotations

import shutil
from pathlib import Path

from sdk.generate import install

SOURCES = Path(__file__).parent
FOLDER = SOURCES.parents[1] / "build" / "tests" / "javascript"


def node_modules() -> Path:
    """The folder with `replicate` and `standardwebhooks`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCES / name, FOLDER)
    install(FOLDER)
    return FOLDER / "node_modules"
