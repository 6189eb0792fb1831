"""One process of `musicgen serve`: started, started again when it ends by itself or hangs, and stopped."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from cli.liveness import SILENCE_SECONDS, Check, Watch
from cli.terminal import say

RESTART_SECONDS = 2.0
"""The pause before a restart grows by this much with every death in a row."""
MAX_RESTART_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A process that has run for longer starts with no pause again."""
KEPT_LINES = 10
PR_SET_PDEATHSIG = 1
# Looked up here because only the call itself is safe between fork and exec: a look-up takes locks, which another thread
# may hold at the time of the fork.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclass
class ChildProcess:
    """A process of the service. Whoever holds it calls `restart_if_needed` from time to time."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    check: Check
    silence_seconds: float = SILENCE_SECONDS
    """How long it may give no sign of life once it has given one."""
    keeps_output: bool = False
    """Whether the last lines of its output are kept; all are printed either way."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    """The number of deaths since it last ran steadily."""
    not_before: float = 0.0
    """The time of its next start, by `time.monotonic`; 0 while it runs."""
    _watch: Watch | None = field(default=None, init=False)
    _output: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES), init=False)
    _printer: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it in its own session, so that Ctrl-C reaches only `musicgen serve`, which stops them in order.

        Only the main thread may call it: the kernel ends the process together with the thread that started it.
        """
        self.process = subprocess.Popen(
            self.command,
            env=dict(self.environment),
            start_new_session=True,
            preexec_fn=_end_with_parent,
            stdout=subprocess.PIPE if self.keeps_output else None,
            stderr=subprocess.STDOUT if self.keeps_output else None,
        )
        if self.process.stdout is not None:
            self._printer = threading.Thread(target=self._print, args=(self.process.stdout,), daemon=True)
            self._printer.start()
        self._watch = Watch(self.process, self.check, self.silence_seconds)
        self.started_at = time.monotonic()
        say(f"started {self.name}, process {self.process.pid}")

    @property
    def exit_status(self) -> int | None:
        """The status with which it ended; None while it runs."""
        return None if self.process is None else self.process.poll()

    def last_output(self) -> list[str]:
        """The last lines of its output, once it has ended."""
        self._finish_printing()
        return list(self._output)

    def restart_if_needed(self) -> None:
        """Start it again if it has died, and kill it if it hangs.

        It starts at once the first time, then after longer and longer pauses.
        """
        if self.process is None or time.monotonic() < self.not_before:
            return
        if self.process.poll() is None:
            self._kill_if_stuck(self.process)
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
            self.resume()

    def resume(self) -> None:
        """Let it run if it was stopped: it cannot react to SIGTERM otherwise."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

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
        self._finish_printing()

    def _kill_if_stuck(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it with SIGKILL, because a process that is stopped or hangs does not react to SIGTERM."""
        if self._watch is not None and self._watch.is_stuck:
            say(f"{self.name} has given no sign of life for {self.silence_seconds:.0f} s and is killed")
            process.kill()
            process.wait()

    def _finish_printing(self) -> None:
        """Wait until the output of the ended process is printed, unless a process of its own still has it open."""
        if self._printer is not None:
            self._printer.join(1.0)

    def _print(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                text = line.decode(errors="replace")
                self._output.append(text)
                print(text, end="", flush=True)


def _end_with_parent() -> None:
    """Have the kernel stop this process if its parent is killed: two Redis servers would ruin each other's files.

    Called between fork and exec in a parent with several threads, so it does nothing but call `prctl`.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
