import subprocess
import sys

import pytest

from musicgen_core.engine.scheduler import Scheduler


def test_first_come_first_served_into_the_lowest_free_slot() -> None:
    scheduler: Scheduler[str] = Scheduler(3)
    for item in "abcde":
        scheduler.submit(item)
    assert [scheduler.admit() for _ in range(4)] == [(0, "a"), (1, "b"), (2, "c"), None]
    scheduler.release(2)
    scheduler.release(0)
    assert [scheduler.admit() for _ in range(3)] == [(0, "d"), (2, "e"), None]
    assert dict(scheduler.running) == {1: "b", 0: "d", 2: "e"}


def test_who_may_not_enter_yet_holds_up_those_behind() -> None:
    scheduler: Scheduler[str] = Scheduler(3)
    for item in "abc":
        scheduler.submit(item)
    assert scheduler.admit(lambda item: item != "b") == (0, "a")
    assert scheduler.admit(lambda item: item != "b") is None
    assert scheduler.waiting == ("b", "c")
    assert scheduler.admit() == (1, "b")


def test_release_returns_the_item_and_frees_once() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    scheduler.submit("a")
    scheduler.admit()
    assert scheduler.release(0) == "a"
    with pytest.raises(KeyError):
        scheduler.release(0)


def test_withdraw_keeps_the_order_of_the_others() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    for item in "abc":
        scheduler.submit(item)
    scheduler.withdraw("b")
    assert scheduler.waiting == ("a", "c")
    with pytest.raises(ValueError, match="not in"):
        scheduler.withdraw("b")


def test_idle_only_when_nothing_runs_and_nothing_waits() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    assert scheduler.idle
    scheduler.submit("a")
    assert not scheduler.idle
    scheduler.admit()
    assert not scheduler.idle
    scheduler.release(0)
    assert scheduler.idle


def test_needs_a_slot() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Scheduler(0)


def test_the_view_of_running_items_is_read_only() -> None:
    scheduler: Scheduler[str] = Scheduler(1)
    with pytest.raises(TypeError):
        scheduler.running[0] = "x"  # type: ignore[index]


def test_imports_no_torch() -> None:
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('scheduler', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "assert module.Scheduler(1).idle\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    source = sys.modules[Scheduler.__module__].__file__
    subprocess.run([sys.executable, "-c", program, str(source)], check=True)
