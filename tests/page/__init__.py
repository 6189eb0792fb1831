"""The page in a browser: what the tests run under Node, in a folder under build/ with the packages of its lock file."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sdk.generate import NODE, install

SOURCES = Path(__file__).parent
FOLDER = SOURCES.parents[1] / "build" / "tests" / "page"
# Chromium is unpacked into the folder for temporary files. This one is emptied when another version is installed.
TEMPORARY = FOLDER / "node_modules" / ".tmp"
UNPACK = "(await import('@sparticuz/chromium')).default.executablePath()"
SECONDS = 900
"""The longest that one file of tests may take on a busy machine."""


def prepare() -> None:
    """Install the packages and unpack the browser, where that has not been done yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The tests' processes may come to this at the same time.
    with FOLDER.with_name("page.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for pattern in ("*.mjs", "*.json", ".npmrc"):
            for path in SOURCES.glob(pattern):
                shutil.copy(path, FOLDER)
        install(FOLDER)
        TEMPORARY.mkdir(exist_ok=True)
        if "BROWSER" not in os.environ:
            node("--input-type=module", "--eval", f"await {UNPACK}")


def node(*arguments: str, **environment: str) -> str:
    """Run node there; returns what it printed, and fails with that where it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(NODE), os.environ["PATH"]])
    inherited = {**os.environ, "PATH": path, "TMPDIR": str(TEMPORARY), "NO_COLOR": "1"}
    # The snippets' clients ask this machine directly.
    direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [str(NODE / "node"), *arguments],
        cwd=FOLDER,
        env={**inherited, **direct, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
