"""Stages beside one another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from levada.steps.stages import Aborted, Stage, in_order, prefetch


def _numbers(until: int, fail: bool = False) -> Iterator[int]:
    yield from range(until)
    if fail:
        raise ValueError("broken")


def test_a_stage_gets_everything_in_order() -> None:
    with Stage[int, list[int]](list, 2) as stage:
        for number in range(100):
            stage.put(number)
    assert stage.result == list(range(100))


def test_an_error_of_a_stage_reaches_whoever_feeds_it() -> None:
    def fail(items: Iterator[int]) -> None:
        next(items)
        raise ValueError("broken")

    def feed() -> None:
        with Stage(fail, 1) as stage:
            for number in range(100):
                stage.put(number)

    with pytest.raises(ValueError, match="broken"):
        feed()


def test_an_error_before_a_stage_lets_it_finish_nothing() -> None:
    finished, aborted = [], []

    def consume(items: Iterator[int]) -> None:
        try:
            finished.append(list(items))
        except Aborted:
            aborted.append(True)
            raise

    def feed() -> None:
        with Stage(consume, 1) as stage:
            stage.put(1)
            raise KeyError

    with pytest.raises(KeyError):
        feed()
    assert (finished, aborted) == ([], [True])


def test_items_are_made_ahead_in_order() -> None:
    assert list(prefetch(_numbers(100), 3)) == list(range(100))


def test_an_error_ahead_arrives_in_its_place() -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(prefetch(_numbers(5, fail=True), 2))
    made = prefetch(_numbers(5, fail=True), 2)
    assert [next(made) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="broken"):
        next(made)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    made = prefetch(_numbers(10_000), 2)
    assert next(made) == 0
    made.close()
    assert threading.active_count() == before


def test_a_thread_that_makes_ahead_keeps_no_process_alive() -> None:
    made = prefetch(_numbers(10_000), 2)
    assert next(made) == 0
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    assert thread.daemon
    made.close()


def test_results_come_in_the_order_of_items_and_no_more_than_asked_are_made_ahead() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            begun.append(number)
            yield number

    with ThreadPoolExecutor(3) as pool:
        made = in_order(pool, lambda number: number * 10, items(), 4)
        assert next(made) == 0
        assert begun == [0, 1, 2, 3]
        assert list(made) == [number * 10 for number in range(1, 20)]
