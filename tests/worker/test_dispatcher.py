"""The dispatcher: takes work while there is room, whether it is told of any or not, and finishes what it began."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

import pytest

from predictions.errors import StoreUnavailable
from tests.servers import wait_until
from worker.dispatcher import Dispatcher, Work


@contextmanager
def dispatching(take: Callable[[], Work | None], threads: int) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(take, threads)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.close()


def from_queue(waiting: SimpleQueue[Work]) -> Callable[[], Work | None]:
    def take() -> Work | None:
        try:
            return waiting.get_nowait()
        except Empty:
            return None

    return take


def test_work_is_found_without_being_told_of_it() -> None:
    waiting: SimpleQueue[Work] = SimpleQueue()
    done = threading.Event()
    with dispatching(from_queue(waiting), 1):
        waiting.put(done.set)
        assert done.wait(20)


def test_no_more_is_taken_than_there_is_room_for_and_what_began_is_finished() -> None:
    waiting: SimpleQueue[Work] = SimpleQueue()
    running, go_on, done = threading.Semaphore(0), threading.Event(), []

    def work() -> None:
        running.release()
        assert go_on.wait(20)
        done.append(1)

    for _ in range(3):
        waiting.put(work)
    with dispatching(from_queue(waiting), 2) as dispatcher:
        for _ in range(2):
            assert running.acquire(timeout=20)
        dispatcher.tell()
        assert waiting.qsize() == 1
        go_on.set()
        wait_until(lambda: waiting.qsize() == 0, seconds=20)
    assert len(done) == 3


def test_an_absent_store_and_work_that_fails_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("unforeseen")

    def lost() -> None:
        raise StoreUnavailable("Redis is away")

    answers: list[Work | None] = [fail, lost, done.set]
    tried: list[int] = []

    def take() -> Work | None:
        tried.append(1)
        if len(tried) == 1:
            raise StoreUnavailable("Redis is away")
        return answers.pop(0) if answers else None

    with dispatching(take, 1) as dispatcher:
        assert done.wait(20)
        assert not dispatcher.is_stuck
    assert "unforeseen" in caplog.text
    assert "No work can be taken" in caplog.text
    assert "it is done again" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dispatcher_whose_thread_has_died_is_stuck() -> None:
    def take() -> Work | None:
        raise RuntimeError("a bug")

    with dispatching(take, 1) as dispatcher:
        wait_until(lambda: dispatcher.is_stuck, seconds=20)
