"""One process of `musicgen serve`: started, started again when it ends by itself, and stopped."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cli.terminal import say

RESTART_SECONDS = 2.0
"""The pause before a restart grows by this much with every death in a row."""
MAX_RESTART_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A process that has run for longer starts with no pause again."""
PR_SET_PDEATHSIG = 1


@dataclass
class ChildProcess:
    """A process of the service. Whoever holds it calls `restart_if_dead` from time to time."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    """The number of deaths since it last ran steadily."""
    not_before: float = 0.0
    """The time of its next start, by `time.monotonic`; 0 while it runs."""

    def start(self) -> None:
        """Start it in its own session, so that Ctrl-C reaches only `musicgen serve`, which stops them in order."""
        self.process = subprocess.Popen(
            self.command, env=dict(self.environment), start_new_session=True, preexec_fn=_end_with_parent
        )
        self.started_at = time.monotonic()
        say(f"started {self.name}, process {self.process.pid}")

    def restart_if_dead(self) -> None:
        """Start it again if it has died: at once the first time, then after longer and longer pauses."""
        if self.process is None or self.process.poll() is None or time.monotonic() < self.not_before:
            return
        if time.monotonic() - self.started_at > STEADY_SECONDS:
            self.deaths = 0
        if self.not_before == 0.0:
            delay = min(self.deaths * RESTART_SECONDS, MAX_RESTART_SECONDS)
            say(f"{self.name} ended with status {self.process.returncode}; starting it again in {delay:.0f} s")
            self.deaths += 1
            self.not_before = time.monotonic() + delay
        else:
            self.not_before = 0.0
            self.start()

    def terminate(self) -> None:
        """Ask it to stop, with SIGTERM."""
        if self.process is not None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until it has stopped; kill it at the deadline, a time of `time.monotonic`."""
        if self.process is None:
            return
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not stop in time and is killed; its work is repeated after the next start")
            self.process.kill()
            self.process.wait()


def _end_with_parent() -> None:
    """Have the kernel stop this process if its parent is killed: two Redis servers would ruin each other's files.

    Called between fork and exec, which is safe here because the parent has only one thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
