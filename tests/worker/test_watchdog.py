"""The watchdog: ends the process when one of its parts is stuck, and not before."""

from __future__ import annotations

import threading

from worker.watchdog import EXIT_STATUS, Watchdog


def test_the_process_ends_when_a_part_is_stuck() -> None:
    events: list[object] = []
    ended, stuck = threading.Event(), threading.Event()

    def end(status: int) -> None:
        events.append(status)
        ended.set()

    watchdog = Watchdog(end)
    watchdog.watch("well part", lambda: False)
    watchdog.watch("engine", stuck.is_set, before_exit=lambda: events.append("finished what runs"))
    watchdog.start()
    assert not ended.wait(1.5)
    stuck.set()
    assert ended.wait(20)
    watchdog.close()
    assert events == ["finished what runs", EXIT_STATUS]
