"""The queue played forward: by hand for the plain cases, and against a slow play that looks at every step."""

from __future__ import annotations

import random

import pytest

from predictions.estimates.simulation import Estimate, Work, estimate_all, extrapolate


def step_seconds(together: int) -> float:
    return 0.1 * (1 + together)


def play(
    running: list[Work], waiting: list[Work], *, slots: int = 2, threads: int = 4
) -> dict[str, tuple[float, float]]:
    estimates = estimate_all(running, waiting, slots=slots, threads=threads, step_seconds=step_seconds)
    return {id: (estimate.start_seconds, estimate.finish_seconds) for id, estimate in estimates.items()}


def test_one_alone_decodes_and_becomes_sound() -> None:
    assert play([], [Work("a", 10, 0.5)]) == {"a": (0.0, pytest.approx(2.5))}


def test_one_that_is_left_alone_goes_faster() -> None:
    both = play([Work("a", 10, 0.0), Work("b", 30, 0.0)], [])
    assert both["a"] == (0.0, pytest.approx(10 * 0.3))
    assert both["b"] == (0.0, pytest.approx(10 * 0.3 + 20 * 0.2))


def test_one_without_a_slot_has_started_but_stands_in_line() -> None:
    assert play([], [Work(id, 10, 0.0) for id in "abc"])["c"] == (0.0, pytest.approx(3.0 + 2.0))


def test_the_next_one_starts_when_a_thread_is_free_its_sound_made() -> None:
    a, b = play([], [Work("a", 10, 0.5), Work("b", 10, 0.5)], slots=1, threads=1).values()
    assert a == (0.0, pytest.approx(2.5))
    assert b == (pytest.approx(2.5), pytest.approx(5.0))


def test_what_is_decoded_already_takes_no_slot() -> None:
    both = play([Work("a", 0, 0.7), Work("b", 10, 0.0)], [], slots=1)
    assert both == {"a": (0.0, 0.7), "b": (0.0, pytest.approx(2.0))}


@pytest.mark.parametrize("seed", range(20))
def test_as_a_play_of_every_step(seed: int) -> None:
    """Times beside decoding are whole multiples of what a step takes, so that the slow play can be exact."""
    numbers = random.Random(seed)
    slots, threads = numbers.choice([(1, 1), (2, 4), (3, 5)])
    works = [Work(str(n), numbers.randrange(0, 12), numbers.randrange(0, 9)) for n in range(12)]
    running = works[: numbers.randrange(threads + 1)]
    fast = estimate_all(running, works[len(running) :], slots=slots, threads=threads, step_seconds=lambda _: 1.0)
    slow = play_slowly(running, works[len(running) :], slots, threads)
    assert {id: (estimate.start_seconds, estimate.finish_seconds) for id, estimate in fast.items()} == slow


def play_slowly(running: list[Work], waiting: list[Work], slots: int, threads: int) -> dict[str, tuple[float, float]]:
    """The same by going from second to second, a step taking one, however many share it."""
    starts, ends = {work.id: 0.0 for work in running}, {}
    held, queue, second = [[work, work.steps, work.other] for work in running], list(waiting), 0
    while queue or held:
        changed = True
        while changed:
            ended = [item for item in held if item[1] <= 0 and item[2] <= 0]
            for item in ended:
                held.remove(item)
                ends[item[0].id] = float(second)
            taken = queue[: threads - len(held)]
            del queue[: len(taken)]
            held += [[work, work.steps, work.other] for work in taken]
            starts |= {work.id: float(second) for work in taken}
            changed = bool(ended or taken)
        decoding = [item for item in held if item[1] > 0][:slots]
        for item in held:
            if item in decoding:
                item[1] -= 1
            elif item[1] <= 0:
                item[2] -= 1
        second += 1
    return {id: (start, ends[id]) for id, start in starts.items()}


def test_behind_what_is_known_it_goes_on_as_before() -> None:
    known = [Estimate(start, start + 5) for start in (0.0, 0.0, 2.0, 6.0, 10.0)]
    assert extrapolate(known, 7) == Estimate(22.0, 27.0)
    assert extrapolate(known[:2], 3) == Estimate(0.0, 5.0)
    assert extrapolate(known[:1], 1) == Estimate(0.0, 5.0)
    assert extrapolate([], 3) is None


def test_what_is_left_later_is_never_less_than_nothing() -> None:
    assert Estimate(1.0, 3.0).after(2.0) == Estimate(0.0, 1.0)
    assert Estimate(1.0, 3.0).after(5.0) == Estimate(0.0, 0.0)
