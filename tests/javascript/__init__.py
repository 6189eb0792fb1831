"""What the tests run under Node, in a folder under build/ with the packages of package-lock.json installed once."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from sdk.generate import NODE, install

SOURCES = Path(__file__).parent
FOLDER = SOURCES.parents[1] / "build" / "tests" / "javascript"


def node_modules() -> Path:
    """The folder with `replicate` and `standardwebhooks`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The tests' processes may come to this at the same time.
    with FOLDER.with_name("javascript.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in SOURCES.glob("*.*"):
            shutil.copy(path, FOLDER)
        install(FOLDER)
    return FOLDER / "node_modules"


def node(*arguments: str, **environment: str) -> str:
    """Run node there; returns what it printed, and fails with that where it fails."""
    folder = node_modules().parent
    done = subprocess.run(
        [str(NODE / "node"), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
