"""The code blocks of a Markdown file, run one after the other as its reader would run them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^\s*```", re.MULTILINE)
FILE_NAME = re.compile(r"(?:#|//) (\w+\.(?:py|mjs|ts))\n")
MAKE = re.compile(r"([A-Z_]+=\S+ )*make (?P<target>[a-z-]+)")
MORE = "…"
"""A key that stands for those which are left out."""


@dataclass
class Reader:
    """Somebody who tries everything that a document shows, in a folder, with one shell's variables."""

    folder: Path
    environment: dict[str, str]
    replacements: dict[str, str]
    """What differs here: the service's address, the ports of the receivers."""
    log: str
    """What `musicgen serve` printed."""
    answer: str = ""
    """What the last shell block printed."""
    files: set[str] = field(default_factory=set)
    """Written, and not used yet."""
    shells: list[int] = field(default_factory=list)

    def read(self, document: Path) -> None:
        """Run or check every block; a block that can be neither is an error."""
        text = document.read_text()
        assert len(FENCE.findall(text)) == 2 * len(BLOCK.findall(text)), "a block is not closed, or is indented"
        for match in BLOCK.finditer(text):
            language, block = match.groups()
            for old, new in self.replacements.items():
                block = block.replace(old, new)
            at = f"{document.name}:{text.count(chr(10), 0, match.start()) + 1}"
            self._block(language, block, at)
        assert not self.files, f"shown, but never run: {self.files}"

    def close(self) -> None:
        """End what the document left running."""
        for shell in self.shells:
            with suppress(ProcessLookupError):
                os.killpg(shell, signal.SIGTERM)

    def _block(self, language: str, block: str, at: str) -> None:
        named = FILE_NAME.match(block)
        if language in ("python", "javascript", "typescript") and named:
            (self.folder / named[1]).write_text(block)
            self.files.add(named[1])
        elif language == "bash" and all(MAKE.match(line) for line in block.splitlines()):
            for line in MAKE.finditer(block):
                subprocess.run(["make", "-n", line["target"]], cwd=REPOSITORY, check=True, capture_output=True)
        elif language == "bash":
            self.files = {name for name in self.files if name not in block}
            self.answer = self._shell(block, at)
        elif language == "python":
            # Here, not in a process of its own: torch and transformers are imported only once.
            with chdir(self.folder):
                exec(compile(block, at, "exec"), {"__name__": "__main__"})
        elif language == "json":
            differences = compare(json.loads(block), json.loads(self.answer))
            assert not differences, f"{at}: {differences}"
        elif language == "text":
            for line in filter(None, block.splitlines()):
                assert line in self.log or (REPOSITORY / line.split()[0]).exists(), f"{at}: {line}"
        else:
            raise AssertionError(f"{at}: nothing here runs or checks a block of {language or 'no language'}")

    def _shell(self, block: str, at: str) -> str:
        """What the block prints; it must succeed. Its variables stay for the blocks after it."""
        state = self.folder / "variables"
        shell = subprocess.Popen(
            ["bash", "-c", f"set -eo pipefail\n{block}\nenv -0 > {state}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.shells.append(shell.pid)
        try:
            output, errors = shell.communicate(timeout=120)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{at} does not end: {error.stdout!r} {error.stderr!r}") from error
        assert shell.returncode == 0, f"{at} ended with {shell.returncode}:\n{output}\n{errors}"
        pairs = (item.partition("=") for item in state.read_text().split("\0") if item)
        self.environment = {name: value for name, _, value in pairs}
        return output


def compare(shown: Any, real: Any, at: str = "$") -> list[str]:
    """Where the keys and types of a document's JSON are not those of the answer."""
    if isinstance(shown, dict) and isinstance(real, dict):
        keys = set(shown) ^ set(real) if MORE not in shown else set(shown) - set(real) - {MORE}
        found = [f"{at}.{key} is in one only" for key in sorted(keys)]
        both = [key for key in shown if key in real]
        return found + [line for key in both for line in compare(shown[key], real[key], f"{at}.{key}")]
    if isinstance(shown, list) and isinstance(real, list):
        if not real:
            return [f"{at} is empty"] if shown else []
        return [line for item in shown for line in compare(item, real[0], f"{at}[]")]
    return [] if _kind(shown) == _kind(real) else [f"{at} is {_kind(real)}, shown as {_kind(shown)}"]


def _kind(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if number else type(value).__name__


def shell_environment(*python_paths: Path, node: Path) -> dict[str, str]:
    """The variables that a block starts with: this Python and this Node on the PATH, no proxy, no setting of ours."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(node), os.environ["PATH"]])
    python_path = os.pathsep.join(map(str, [REPOSITORY, *python_paths]))
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path, "NO_PROXY": "*", "no_proxy": "*"}
